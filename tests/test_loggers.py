"""Loggers, against what was logged and what the other side (a server, a reader, a killer) really saw."""

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers import MetricsCSV, TensorBoardLogger, WandbError, WandbLogger

Table = list[dict[str, str]]


def read(path: Path) -> Table:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(path: Path) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items() if v} for row in read(path)]


# --- a tiny training ---------------------------------------------------------------------------------


class Tiny(pl.LightningModule):
    """Logs as any LightningModule does, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, dtype=torch.float64)
        torch.nn.init.constant_(self.layer.weight, 0.1)
        torch.nn.init.constant_(self.layer.bias, 0.0)
        self.seen: list[dict[str, float]] = []

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(
            torch.linspace(0, 1, 3, dtype=torch.float64)[:, None], batch_size=3
        )

    val_dataloader = test_dataloader = train_dataloader

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - batch).square().mean()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.seen.append({"train/loss": loss.item()})
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))
        self.seen[-1]["val/loss"] = float(self.loss(batch))

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Direct(Tiny):
    """Logs as the house's learner does: itself, once an epoch, before a checkpoint is saved."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.last = self.loss(batch)
        return self.last

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def on_train_epoch_end(self) -> None:
        epoch = self.current_epoch + 1
        for logger in self.loggers:
            logger.log_metrics({"epoch": epoch, "train/loss": self.last.item()}, step=epoch)


class Looks(pl.Callback):
    """Looks before the first epoch and after every second one."""

    def look(self, trainer: pl.Trainer, epoch: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"epoch": epoch, "look/value": epoch / 3}, step=epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.look(trainer, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % 2:
            self.look(trainer, trainer.current_epoch + 1)


class Saves(Checkpoint):
    """Saves every epoch, and keeps what the record held at that moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded: list[Table] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.recorded.append(read(self.folder / "metrics.csv"))
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch + 1}.ckpt")


def trainer(loggers: Any, epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=loggers,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=bool([c for c in callbacks if isinstance(c, Checkpoint)]),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


# --- metrics.csv -------------------------------------------------------------------------------------


def test_a_lightning_run_gives_one_row_an_epoch_in_full(tmp_path: Path) -> None:
    module = Tiny()
    run = trainer(MetricsCSV(tmp_path), 4)
    run.fit(module)
    rows = numbers(tmp_path / "metrics.csv")
    assert [row.pop("epoch") for row in rows] == [1, 2, 3, 4]
    assert rows == module.seen


def test_a_test_after_training_joins_the_last_row(tmp_path: Path) -> None:
    module = Tiny()
    run = trainer(MetricsCSV(tmp_path), 3)
    run.fit(module)
    before = read(tmp_path / "metrics.csv")
    run.test(module, verbose=False)
    after = read(tmp_path / "metrics.csv")
    assert [row.pop("test/loss") for row in after] == ["", "", repr(module.seen[-1]["val/loss"])]
    assert after == before


def test_the_row_is_on_disk_before_the_checkpoint(tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    trainer(MetricsCSV(tmp_path), 4, Looks(), saves).fit(Direct())
    for epoch, recorded in enumerate(saves.recorded, start=1):
        assert [int(row["epoch"]) for row in recorded] == list(range(epoch + 1))
        assert recorded[-1]["train/loss"] != ""
        assert (recorded[-1]["look/value"] != "") == (epoch % 2 == 0)
    assert recorded[0] == {"epoch": "0", "look/value": "0.0", "train/loss": ""}


def test_a_resumed_run_leaves_the_record_of_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trainer(MetricsCSV(whole), 6, Looks()).fit(Direct())
    trainer(MetricsCSV(broken), 4, Looks(), Saves(broken)).fit(Direct())
    assert len(read(broken / "metrics.csv")) == 5
    resumed = trainer(MetricsCSV(broken), 6, Looks())
    resumed.fit(Direct(), ckpt_path=str(broken / "3.ckpt"), weights_only=False)
    assert (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_rows_past_the_checkpoint_are_dropped_at_once(tmp_path: Path) -> None:
    trainer(MetricsCSV(tmp_path), 5, Saves(tmp_path)).fit(Direct())

    class Stop(RuntimeError): ...

    class StopsAfterOne(Direct):
        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            raise Stop

    with pytest.raises(Stop):
        trainer(MetricsCSV(tmp_path), 5).fit(
            StopsAfterOne(), ckpt_path=str(tmp_path / "2.ckpt"), weights_only=False
        )
    assert [row["epoch"] for row in read(tmp_path / "metrics.csv")] == ["1", "2", "3"]


@settings(max_examples=50, deadline=None)
@given(value=st.floats())
def test_every_float_comes_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    folder = tmp_path_factory.mktemp("floats")
    MetricsCSV(folder).log_metrics({"a": value, "b": torch.tensor(value, dtype=torch.float64)}, step=1)
    (row,) = read(folder / "metrics.csv")
    for name in "ab":
        back = float(row[name])
        assert math.isnan(back) if math.isnan(value) else back.hex() == value.hex()


def test_new_columns_and_old_rows(tmp_path: Path) -> None:
    record = MetricsCSV(tmp_path)
    record.log_metrics({"a": 1.0}, step=1)
    record.log_metrics({"b, with a comma": 2.0}, step=2)
    MetricsCSV(tmp_path).log_metrics({"c": 3.0, "a": 4.0}, step=2)
    MetricsCSV(tmp_path).log_metrics({"a": 5.0}, step=3)
    assert numbers(tmp_path / "metrics.csv") == [
        {"epoch": 1, "a": 1.0},
        {"epoch": 2, "a": 4.0, "b, with a comma": 2.0, "c": 3.0},
        {"epoch": 3, "a": 5.0},
    ]
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_truncate(tmp_path: Path) -> None:
    record = MetricsCSV(tmp_path)
    for epoch in range(1, 6):
        record.log_metrics({"a": epoch / 7}, step=epoch)
    kept = (tmp_path / "metrics.csv").read_text().splitlines()[:4]
    record.truncate(3)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == kept
    record.log_metrics({"a": 0.5}, step=4)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [*kept, "4,0.5"]
    record.truncate(0)
    record.log_metrics({"a": 0.5}, step=1)
    assert numbers(tmp_path / "metrics.csv") == [{"epoch": 1, "a": 0.5}]


def test_a_half_written_line_is_cut_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    record = MetricsCSV(tmp_path)
    for epoch in (1, 2):
        record.log_metrics({"a": epoch / 3, "b": 1e-300}, step=epoch)
    content = path.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        MetricsCSV(tmp_path).log_metrics({"a": 0.25}, step=9)
        whole = content[:end].decode().count("\n")
        rows = numbers(path)
        assert rows[:-1] == [{"epoch": e, "a": e / 3, "b": 1e-300} for e in (1, 2)][: max(whole - 1, 0)]
        assert rows[-1] == {"epoch": 9, "a": 0.25}


@pytest.mark.parametrize("content", ["time,a\n1,2\n", "epoch,a\none,2\n", "epoch,a\n1,2,3\n", "epoch,a\n\n"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    record = MetricsCSV(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="move it"):
            record.log_metrics({"a": 1.0}, step=1)
    assert (tmp_path / "metrics.csv").read_text() == content


@pytest.mark.parametrize("value", ["high", None, torch.zeros(2), [1.0]])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"train/loss=.* can't be logged"):
        MetricsCSV(tmp_path).log_metrics({"train/loss": value}, step=1)
    assert not (tmp_path / "metrics.csv").exists()


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MetricsCSV(tmp_path).log_metrics({"a": 1.0}, step=1)
    content = (tmp_path / "metrics.csv").read_bytes()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    record = MetricsCSV(tmp_path)
    record.log_metrics({"a": 2.0}, step=2)
    record.truncate(0)
    assert (tmp_path / "metrics.csv").read_bytes() == content


KILLED = """
import math, sys
from rnnlab.loggers import MetricsCSV
record = MetricsCSV(sys.argv[1])
epoch = 0
while True:
    epoch += 1
    if epoch % 3 == 0:
        record.log_metrics({"look": -math.sqrt(epoch)}, step=epoch)
    record.log_metrics({"root": math.sqrt(epoch), f"column {epoch // 500}": 1.0}, step=epoch)
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 1700])
def test_sigkill_loses_no_finished_epoch(tmp_path: Path, lines: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.wait()
    finished = int([line for line in said if line.endswith("\n")][-1])
    MetricsCSV(tmp_path).log_metrics({"root": 0.0}, step=10**9)  # opens, and cuts what is half written
    rows = numbers(tmp_path / "metrics.csv")[:-1]
    assert [row["epoch"] for row in rows[:finished]] == list(range(1, finished + 1))
    assert all(row["root"] == math.sqrt(row["epoch"]) for row in rows[:finished])
    assert len(rows) <= finished + 1


# --- W&B ---------------------------------------------------------------------------------------------

KEY = "k" * 40


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No key, no settings, no W&B variables, and a W&B session of its own."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "netrc"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    import wandb

    wandb.teardown()
    yield home
    wandb.teardown()


def records(run_dir: Path) -> list[list[dict[str, Any]]]:
    """What W&B's own reader finds, run by run in the order they were made."""
    found = []
    for folder in sorted((run_dir / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_ctime_ns):
        (log,) = folder.glob("*.wandb")
        wandb = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
        text = subprocess.run(wandb, capture_output=True, text=True, check=True).stdout
        found.append([json.loads(line) for line in text.splitlines()])
    return found


def of_type(run: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in run if record["type"] == kind]


def history(run: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items = [record["item"] for record in of_type(run, "history")]
    return [{k: v for k, v in item.items() if not k.startswith("_")} for item in items]


class Server:
    """A stand-in for W&B on this machine.

    Args:
        status: What every request is answered with; None for silence; 200 for just enough of W&B's own
            answers that a run can start. `lose()` makes it silent.
    """

    def __init__(self, status: int | None) -> None:
        self.requests: list[str] = []
        self.released, self.silent = threading.Event(), status is None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server.requests.append(self.path)
                if server.silent:
                    server.released.wait()
                    return
                self.send_response(status or 200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer(body) if status == 200 else REFUSAL).encode())

            do_GET = do_POST

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def lose(self) -> None:
        self.silent = True

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()


REFUSAL = {"errors": [{"message": "user is not logged in"}]}


def answer(body: bytes) -> dict[str, Any]:
    if b"upsertBucket" not in body:
        return {"data": {}}
    project = {"id": "UA==", "name": "rnnlab", "entity": {"id": "RQ==", "name": "me"}}
    bucket = {"id": "QQ==", "name": json.loads(body)["variables"]["name"], "config": "{}", "project": project}
    return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}


@pytest.fixture
def refusing() -> Iterator[Server]:
    server = Server(401)
    yield server
    server.close()


@pytest.fixture
def mute() -> Iterator[Server]:
    server = Server(None)
    yield server
    server.close()


def test_nothing_is_imported_before_the_first_use() -> None:
    use = "import sys; from rnnlab.loggers import WandbLogger; WandbLogger('x')"
    check = "sys.exit('wandb' in sys.modules or 'tensorboard' in sys.modules)"
    subprocess.run([sys.executable, "-c", f"{use}; {check}"], check=True)


def test_an_offline_run_read_back(
    tmp_path: Path, wandb_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = dict(os.environ)
    logger = WandbLogger(tmp_path / "study")
    module = Tiny()
    run = trainer(logger, 2)
    logger.log_hyperparams({"seed": 3, "model": {"size": 8}})
    run.fit(module)
    run.test(module, verbose=False)
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "page.html").write_text("<p>interactive</p>")
    logger.log_image("figure", [str(tmp_path / "picture.png")], step=2)
    logger.log_html("page", tmp_path / "page.html", step=2)
    logger.close()

    (records_,) = records(tmp_path / "study")
    logged = history(records_)
    assert [row for row in logged if "val/loss" in row] == [
        {"epoch": epoch, "val/loss": seen["val/loss"]} for epoch, seen in enumerate(module.seen, start=1)
    ]
    assert [row for row in logged if "train/loss" in row] == [
        {"epoch": epoch, "train/loss": seen["train/loss"]} for epoch, seen in enumerate(module.seen, start=1)
    ]
    assert [row for row in logged if "test/loss" in row] == [
        {"epoch": 2, "test/loss": module.seen[1]["val/loss"]}
    ]
    config = [update for record in of_type(records_, "config") for update in [record.get("update", {})]]
    assert {"seed": 3, "model": {"size": 8}}.items() <= {k: v for c in config for k, v in c.items()}.items()
    axes = {(m.get("name") or m.get("glob_name")): m.get("step_metric") for m in of_type(records_, "metric")}
    assert axes == {"epoch": None, "*": "epoch"}
    assert [record["exit_code"] for record in of_type(records_, "exit")] == [0]
    (media,) = (tmp_path / "study" / "wandb").glob("offline-run-*/files/media")
    assert [path.read_text() for path in media.glob("html/*")] == ["<p>interactive</p>"]
    assert [Image.open(path).size for path in media.glob("images/*")] == [(6, 4)]

    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if "W&B" in line or "wandb" in line] == [
        f"W&B: this run is offline. To upload it: wandb sync {tmp_path / 'study' / 'wandb'}"
    ]
    assert "wandb" not in said.err
    assert dict(os.environ) == environment


def test_two_runs_in_one_process_are_two_and_the_users_own_is_a_third(
    tmp_path: Path, wandb_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    own = wandb.init(mode="offline", dir=str(tmp_path), project="own")
    capsys.readouterr()
    loggers = [WandbLogger(tmp_path / name) for name in ("one", "two")]
    for value, logger in enumerate(loggers):
        logger.log_metrics({"a": value}, step=1)
    loggers[0].close()
    assert (
        len({own.id, loggers[1].experiment.id, (tmp_path / "one/wandb/run-id.txt").read_text().strip()}) == 3
    )
    assert wandb.run is own
    loggers[1].close()
    assert capsys.readouterr().err == ""  # W&B is silent even where its session was begun by another
    own.log({"mine": 1})
    own.finish()
    for value, name in enumerate(("one", "two")):
        (run,) = records(tmp_path / name)
        assert history(run) == [{"a": value, "epoch": 1}]
    (run,) = records(tmp_path)
    assert history(run) == [{"mine": 1}]


def test_a_resumed_run_goes_on_with_the_same_id(tmp_path: Path, wandb_home: Path) -> None:
    for epoch in (1, 2):
        logger = WandbLogger(tmp_path)
        logger.log_metrics({"a": epoch}, step=epoch)
        logger.close()
    first, second = records(tmp_path)
    assert of_type(first, "run")[0]["run_id"] == of_type(second, "run")[0]["run_id"]
    assert history(first) + history(second) == [{"a": 1, "epoch": 1}, {"a": 2, "epoch": 2}]


def test_a_run_that_fails_is_finished_as_failed(tmp_path: Path, wandb_home: Path) -> None:
    class Fails(Direct):
        def on_train_epoch_end(self) -> None:
            super().on_train_epoch_end()
            raise RuntimeError("no more")

    logger = WandbLogger(tmp_path)
    with pytest.raises(RuntimeError, match="no more"):
        trainer(logger, 3).fit(Fails())
    (run,) = records(tmp_path)
    assert [record["exit_code"] for record in of_type(run, "exit")] == [1]
    assert [row["epoch"] for row in history(run)] == [1]


@pytest.mark.parametrize("place", ["variable", "netrc"])
def test_a_refused_key(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, refusing: Server, place: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", refusing.url)
    if place == "variable":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    else:
        entry = f"machine {refusing.url.removeprefix('http://')} login user password {KEY}\n"
        (wandb_home / ".netrc").write_text(entry)
        (wandb_home / ".netrc").chmod(0o600)
    with pytest.raises(
        WandbError, match=r"refused.*not logged in.*wandb login.*mode=offline.*logger=none"
    ) as error:
        WandbLogger(tmp_path / "run", init_timeout=5).log_metrics({"a": 1.0}, step=1)
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    assert refusing.requests
    assert os.listdir(tmp_path / "run") == []


def test_a_malformed_key(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, refusing: Server
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", refusing.url)
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(WandbError, match=r"WANDB_API_KEY.*wandb login"):
        WandbLogger(tmp_path, init_timeout=5).log_metrics({"a": 1.0}, step=1)


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_online_without_a_key(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    if mode == "auto":
        monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(WandbError, match=r"mode=online.*no key.*wandb login"):
        WandbLogger(tmp_path / "run", mode=mode).log_metrics({"a": 1.0}, step=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_is_honoured_though_there_is_a_key(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, refusing: Server, mode: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", refusing.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = WandbLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close()
    assert len(records(tmp_path)) == (mode == "offline")
    assert refusing.requests == []


def closed_port() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("network", ["mute", "closed"])
def test_no_answer_means_offline(
    tmp_path: Path,
    wandb_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mute: Server,
    network: str,
) -> None:
    before = WandbLogger(tmp_path)
    before.log_metrics({"a": 1.0}, step=1)
    run_id = before.experiment.id
    before.close()
    capsys.readouterr()

    url = mute.url if network == "mute" else closed_port()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", url)
    logger = WandbLogger(tmp_path, init_timeout=1, finish_timeout=1)
    logger.log_metrics({"a": 2.0}, step=2)
    logger.close()
    assert [history(run) for run in records(tmp_path)] == [[{"a": 1.0, "epoch": 1}], [{"a": 2.0, "epoch": 2}]]
    assert (tmp_path / "wandb" / "run-id.txt").read_text().strip() == run_id
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert line.startswith(f"W&B: this run is offline because {url} gave no answer.")
    assert line.endswith(f"wandb sync --id {run_id} {tmp_path / 'wandb'}")


def test_a_server_lost_mid_run_does_not_hold_up_the_end(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(200)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    logger = WandbLogger(tmp_path / "run", finish_timeout=1)
    logger.log_metrics({"a": 1.0}, step=1)
    server.lose()
    logger.log_metrics({"a": 2.0}, step=2)
    run = logger.experiment
    logger.close()
    server.close()
    assert [line for line in capsys.readouterr().out.splitlines() if "W&B" in line] == [
        f"W&B: {server.url}/me/rnnlab/runs/{run.id}",
        "W&B: not all of this run could be sent (TimeoutError). "
        f"To upload it: wandb sync --include-online {tmp_path / 'run' / 'wandb'}",
    ]


def test_a_wandb_that_breaks_at_the_end_does_not_break_the_run(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(exit_code: int) -> None:
        raise ConnectionResetError("its service is gone")

    logger = WandbLogger(tmp_path)
    run = logger.experiment
    with monkeypatch.context() as broken:
        broken.setattr(run, "finish", finish)
        logger.close()
    assert f"ConnectionResetError). To upload it: wandb sync {tmp_path / 'wandb'}" in capsys.readouterr().out
    run.finish()


def test_only_the_first_process_opens_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = WandbLogger(tmp_path / "run")
    logger.log_metrics({"a": 1.0}, step=1)
    logger.experiment.log({"a": 1.0})
    logger.close()
    assert not (tmp_path / "run").exists()


def test_arguments_that_are_not_possible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mode='on'.*auto, online, offline, disabled"):
        WandbLogger(tmp_path, mode="on")
    with pytest.raises(ValueError, match=r"finish_timeout=0 .*positive"):
        WandbLogger(tmp_path, finish_timeout=0)


def test_a_run_is_named_after_its_directory(tmp_path: Path) -> None:
    assert WandbLogger(tmp_path / "sine")._wandb_init["name"] == "sine"
    assert WandbLogger(tmp_path / "sweep" / "12")._wandb_init["name"] == "sweep-12"


# --- TensorBoard -------------------------------------------------------------------------------------


def test_tensorboard_by_epoch_with_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    module = Tiny()
    trainer(logger, 3).fit(module)
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    logger.log_image("figure", [tmp_path / "picture.png"], step=3)
    logger.finalize("success")

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/loss", "val/loss"]
    for name in ("train/loss", "val/loss"):
        assert [(e.step, e.value) for e in events.Scalars(name)] == [
            (epoch, pytest.approx(seen[name], rel=1e-6)) for epoch, seen in enumerate(module.seen, start=1)
        ]
    (image,) = events.Images("figure")
    (tmp_path / "back.png").write_bytes(image.encoded_image_string)
    assert image.step == 3
    assert (np.asarray(Image.open(tmp_path / "back.png")) == picture).all()


def test_tensorboard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "rnnlab\[tensorboard\]"'):
        TensorBoardLogger(tmp_path)


# --- conf --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "kinds"),
    [("wandb", [WandbLogger]), ("tensorboard", [TensorBoardLogger]), ("csv", []), ("none", [])],
)
def test_the_logger_configs_build_what_they_name(tmp_path: Path, choice: str, kinds: list[type]) -> None:
    import conf

    path = Path(conf.__file__).parent / "logger" / f"{choice}.yaml"
    config = OmegaConf.create({"run_dir": str(tmp_path / "run"), "logger": OmegaConf.load(path)})
    loggers = list(instantiate(config.logger).values())
    assert [type(logger) for logger in loggers] == kinds
    assert all(Path(logger.save_dir) == tmp_path / "run" for logger in loggers)
    assert not (tmp_path / "run").exists()
