"""Loggers, against what was logged and what the other side (a server, a reader, a killer) really saw."""

import csv
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers import MetricsCSV, TensorBoardLogger, WandbLogger
from tests.tiny import Direct, Tiny, trainer

Table = list[dict[str, str]]


def read(path: Path) -> Table:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(path: Path) -> list[dict[str, float]]:
    return [{k: float(v) for k, v in row.items() if v} for row in read(path)]


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
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("train", [f"logger={choice}", f"run_dir={tmp_path}/run", "model=gru"])
    loggers = list(instantiate(config.logger).values())
    assert [type(logger) for logger in loggers] == kinds
    assert all(Path(logger.save_dir) == tmp_path / "run" for logger in loggers)
    if choice == "wandb":
        assert loggers[0]._wandb_init["job_type"] == "rnnlab.cells.GRU"
    assert not (tmp_path / "run").exists()
