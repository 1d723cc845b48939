"""The W&B logger, against what the other side (a stand-in for the server, W&B's own reader) really saw."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers import WandbError, WandbLogger
from tests.tiny import Direct, Tiny, trainer
from tests.wandb_server import Server

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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, wandb_home: Path) -> Iterator[Server]:
    """A server that answers, and a key for it."""
    server = Server()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    yield server
    server.close()


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed of W&B, by it or by us."""
    out, err = capsys.readouterr()
    return [line for line in (out + err).splitlines() if "W&B" in line or "wandb" in line]


def sync(line: str, **environment: str) -> None:
    """Run the command that a line ends with."""
    _, wandb, *arguments = shlex.split(line.partition("To upload it")[2])
    command = [sys.executable, "-m", wandb, *arguments]
    subprocess.run(command, check=True, timeout=60, capture_output=True, env=os.environ | environment)


def logged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the server has got, without what W&B adds."""
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows]


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
def test_an_online_run_and_what_the_server_got(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Any, place: str
) -> None:
    if place == "netrc":
        monkeypatch.delenv("WANDB_API_KEY")
        netrc = Path(os.environ["HOME"]) / ".netrc"
        netrc.write_text(f"machine {server.url.removeprefix('http://')} login user password {KEY}\n")
        netrc.chmod(0o600)
    (tmp_path / "sweep" / "jobs").mkdir(parents=True)
    (tmp_path / "sweep" / "jobs" / "0.json").touch()
    logger = WandbLogger(tmp_path / "sweep" / "lstm_sine_seed1_0123abcd", job_type="lstm")
    logger.log_hyperparams({"seed": 3})
    module = Tiny()
    trainer(logger, 2).fit(module)
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(tmp_path / "picture.png")
    logger.log_image("figure", [str(tmp_path / "picture.png")], step=2)
    run_id = logger.experiment.id
    logger.close()
    assert said(capsys) == [f"W&B: {server.url}/me/rnnlab/runs/{run_id}"]
    assert list(server.rows) == [run_id]
    assert [row["train/loss"] for row in server.rows[run_id] if "train/loss" in row] == [
        seen["train/loss"] for seen in module.seen
    ]
    first = server.runs[run_id][0]
    assert {key: first[key] for key in ("displayName", "groupName", "jobType")} == {
        "displayName": "lstm_sine_seed1_0123abcd",
        "groupName": "sweep",
        "jobType": "lstm",
    }
    assert json.loads(server.runs[run_id][-1]["config"])["seed"] == {"value": 3}
    (image,) = [name for name in server.files if name.startswith("media/images/figure")]
    assert server.files[image] == (tmp_path / "picture.png").read_bytes()


@pytest.mark.parametrize("fault", ["closed", "silent", "slow", 401, 500])
def test_a_server_that_can_not_be_had_means_offline(
    tmp_path: Path, server: Server, capsys: Any, fault: Any
) -> None:
    logger = WandbLogger(tmp_path, mode="offline")
    logger.log_metrics({"a": 1.0}, step=1)
    run_id = logger.experiment.id
    logger.close()
    said(capsys)

    server.mood = {"silent": None, "slow": 200, "closed": 200}.get(fault, fault)
    server.delay = 3.0 if fault == "slow" else 0.0
    if fault == "closed":
        server.close()
    logger = WandbLogger(tmp_path, init_timeout=1, finish_timeout=1)
    logger.log_metrics({"a": 2.0}, step=2)
    logger.close()
    assert [history(run) for run in records(tmp_path)] == [[{"a": 1.0, "epoch": 1}], [{"a": 2.0, "epoch": 2}]]
    assert (tmp_path / "wandb" / "run-id.txt").read_text().strip() == run_id
    (line,) = said(capsys)
    reasons = {401: "refused it", "closed": "can't be reached"}
    why = reasons.get(fault, "gave no answer")
    assert line.startswith("W&B: this run is offline because")
    assert f"{server.url} {why}" in line
    assert KEY not in line

    healthy = Server()
    sync(line, WANDB_BASE_URL=healthy.url)
    healthy.close()
    assert list(healthy.runs) == [run_id]
    assert {row["a"] for row in healthy.rows[run_id]} == {1.0, 2.0}


@pytest.mark.parametrize("fault", ["closed", "silent", 401, 500])
def test_a_server_that_is_lost_while_training(
    tmp_path: Path, server: Server, capsys: Any, fault: Any
) -> None:
    logger = WandbLogger(tmp_path, finish_timeout=1)
    logger.log_metrics({"a": 1.0}, step=1)
    run_id = logger.experiment.id
    server.mood = {"silent": None, "closed": 200}.get(fault, fault)
    if fault == "closed":
        server.close()
    logger.log_metrics({"a": 2.0}, step=2)
    logger.close()
    online, line = said(capsys)
    assert online == f"W&B: {server.url}/me/rnnlab/runs/{run_id}"
    reason = "refused" if fault == 401 else "not within 1 s"
    assert line.startswith(f"W&B: not all of this run could be sent ({reason}). To upload it: wandb sync")

    healthy = Server()
    sync(line, WANDB_BASE_URL=healthy.url)
    healthy.close()
    assert logged(healthy.rows[run_id]) == [{"a": 1.0, "epoch": 1}, {"a": 2.0, "epoch": 2}]


def test_the_runs_of_a_sweep_are_uploaded_by_one_command(tmp_path: Path, server: Server) -> None:
    for value, name in enumerate(("one", "two")):
        logger = WandbLogger(tmp_path / name, mode="offline")
        logger.log_metrics({"a": value}, step=1)
        logger.close()
    sync(f"To upload it: wandb sync {tmp_path / 'one' / 'wandb'} {tmp_path / 'two' / 'wandb'}")
    names = {server.runs[run_id][0]["displayName"]: logged(rows) for run_id, rows in server.rows.items()}
    assert names == {"one": [{"a": 0, "epoch": 1}], "two": [{"a": 1, "epoch": 1}]}


def of_service() -> list[int]:
    """The processes of wandb's own that this one has started."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return [int(pid) for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_wandb_itself_is_killed_and_the_next_run_is_well(tmp_path: Path, server: Server, capsys: Any) -> None:
    logger = WandbLogger(tmp_path / "one")
    logger.log_metrics({"a": 1.0}, step=1)
    (pid,) = of_service()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for epoch in range(2, 6):
        logger.log_metrics({"a": float(epoch)}, step=epoch)
    logger.log_hyperparams({"seed": 1})
    logger.close()
    _, line = said(capsys)
    assert line.startswith("W&B: the rest of this run is not recorded there (its process is gone")

    logger = WandbLogger(tmp_path / "two")
    logger.log_metrics({"a": 1.0}, step=1)
    run_id = logger.experiment.id
    logger.close()
    assert logged(server.rows[run_id]) == [{"a": 1.0, "epoch": 1}]


def test_wandb_was_killed_between_two_runs(tmp_path: Path, server: Server, capsys: Any) -> None:
    first = WandbLogger(tmp_path / "one")
    first.log_metrics({"a": 1.0}, step=1)
    first.close()
    (pid,) = of_service()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    second = WandbLogger(tmp_path / "two")
    second.log_metrics({"a": 1.0}, step=1)
    second.close()
    assert said(capsys)[-1].startswith("W&B: this run is offline because wandb's own process has died.")
    assert [history(run) for run in records(tmp_path / "two")] == [[{"a": 1.0, "epoch": 1}]]


def test_a_malformed_key_means_offline(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    logger = WandbLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close()
    (line,) = said(capsys)
    assert "offline because" in line
    assert "WANDB_API_KEY" in line
    assert "`wandb login`" in line


@pytest.mark.parametrize("wish", [{"project": "a/b"}, {"project": "x" * 200}])
def test_what_wandb_takes_from_no_one(tmp_path: Path, wandb_home: Path, wish: dict[str, str]) -> None:
    with pytest.raises(
        WandbError, match=r"W&B takes no such run: .*project.*mode=offline|logger=none"
    ) as error:
        WandbLogger(tmp_path, **wish).log_metrics({"a": 1.0}, step=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", [None, "silent"])
def test_the_run_of_an_agent_is_joined(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Any, fault: str | None
) -> None:
    agent = {"WANDB_SWEEP_ID": "sw1", "WANDB_RUN_ID": "agents1", "WANDB_PROJECT": "theirs"}
    for name, value in agent.items():
        monkeypatch.setenv(name, value)
    if fault:
        server.mood = None
    logger = WandbLogger(tmp_path / "run", project="ours", init_timeout=1)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close()
    line = said(capsys)[-1]
    if fault:
        healthy = Server()
        sync(line, WANDB_BASE_URL=healthy.url)
        healthy.close()
        server = healthy
    assert list(server.runs) == ["agents1"]
    first = server.runs["agents1"][0]
    assert (first["project"], first["sweep"]) == ("theirs", "sw1")
    assert first["displayName"] in (None, "")  # which W&B makes
    assert logged(server.rows["agents1"]) == [{"a": 1.0, "epoch": 1}]


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
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    logger = WandbLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=1)
    logger.close()
    assert len(records(tmp_path)) == (mode == "offline")
    assert server.requests == []


def test_a_wandb_that_breaks_at_the_end_does_not_break_the_run(
    tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(exit_code: int) -> None:
        raise RuntimeError("of its own")

    logger = WandbLogger(tmp_path)
    run = logger.experiment
    with monkeypatch.context() as broken:
        broken.setattr(run, "finish", finish)
        logger.close()
    assert f"RuntimeError). To upload it: wandb sync {tmp_path / 'wandb'}" in capsys.readouterr().out
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


def test_a_run_is_named_after_its_directory_and_grouped_by_its_sweep(tmp_path: Path) -> None:
    def named(folder: str, **options: Any) -> tuple[Any, Any]:
        made = WandbLogger(tmp_path / folder, **options)._wandb_init
        return made["name"], made["group"]

    (tmp_path / "lengths" / "jobs").mkdir(parents=True)
    assert named("lengths/gru_sine_seed1_00c0ffee") == ("gru_sine_seed1_00c0ffee", None)
    (tmp_path / "lengths" / "jobs" / "0.json").touch()
    assert named("lengths/gru_sine_seed1_00c0ffee") == ("gru_sine_seed1_00c0ffee", "lengths")
    assert named("lengths/gru_sine_seed1_00c0ffee", name="a", group="b") == ("a", "b")
    assert named("alone") == ("alone", None)
