"""Callbacks for runs in many processes: one fails as it is told, one writes down what its rank saw."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytorch_lightning as pl


class Fault(pl.Callback):
    """Ends or stops one rank at the beginning of an epoch, once.

    Args:
        does: "nothing", or "raise_1", "kill_0", "freeze_1": what happens, and to which rank.
        epoch: In which epoch, from 0.

    That it has happened is put down in the folder FAULTS of the environment.
    """

    def __init__(self, does: str, epoch: int = 2) -> None:
        self.does, self.folder, self.epoch = does, Path(os.environ["FAULTS"]), epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        deed, _, rank = self.does.partition("_")
        if trainer.current_epoch < self.epoch or rank != str(trainer.global_rank):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            (self.folder / self.does).touch(exist_ok=False)
        except FileExistsError:
            return
        if deed == "raise":
            raise RuntimeError("a fault on purpose")
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[deed])


class Witness(pl.Callback):
    """Writes into the run's directory, for each rank, who it is and how fast it learns."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seen = {
            "pid": os.getpid(),
            "world_size": trainer.world_size,
            "first": trainer.is_global_zero,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        path = Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(seen))
        path.with_suffix(".part").replace(path)
