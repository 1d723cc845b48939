"""The best checkpoint, the last, and those of a run's history."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from rnnlab.checkpoints import kept


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt`, and on request one every so many epochs for good.

    Args:
        folder: Where they are kept.
        every: Save after every so many epochs, and after the last, also where training is stopped early.
        keep: Keep `epoch_000000.ckpt` of the untrained network and one after every so many epochs, for
            looking at what happened between them and for branching off. Default: none.
        monitor: The number that decides which is best.
        mode: "min" or "max".

    Raises:
        ValueError: An argument is out of range, or, while training, `monitor` is not logged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 1,
        keep: int | None = None,
        monitor: str = "train/loss",
        mode: str = "min",
    ) -> None:
        super().__init__()
        for key, value, null in (("every", every, ""), ("keep", keep, ", or null for none")):
            if not (value is None and null) and (type(value) is not int or value < 1):
                raise ValueError(
                    f"checkpoint.{key}={value!r} is not possible: give a whole number of at least 1{null}."
                )
        if mode not in ("min", "max"):
            raise ValueError(f"checkpoint.mode={mode!r} is not possible: choose min or max.")
        self.folder, self.every, self.keep = Path(folder), every, keep
        self.monitor, self.mode = monitor, mode
        self.best = math.inf if mode == "min" else -math.inf
        self._stopped_by: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the network as it was before training; a run that had been stopped early is not trained on."""
        if self.keep is not None and trainer.current_epoch == 0:
            trainer.save_checkpoint(kept(self.folder, 0), weights_only=False)
        if self._stopped_by and self._stopped_by == _stoppers(trainer):  # it was killed after its last epoch
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when it is time; runs after every other callback and after the epoch's row is on record."""
        epoch = trainer.current_epoch + 1
        keeps = self.keep is not None and epoch % self.keep == 0
        last = epoch == trainer.max_epochs or trainer.should_stop
        if epoch % self.every and not keeps and not last:
            return
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ValueError(f"checkpoint.monitor={self.monitor} is not logged: choose one of {names}.")
        self._stopped_by = _stoppers(trainer) if trainer.should_stop else []
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best if self.mode == "min" else value > self.best:
            self.best = value
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
            if trainer.is_global_zero:
                _put_copy(self.folder / "best.ckpt", self.folder / "last.ckpt")
        else:
            trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        if keeps and trainer.is_global_zero:
            _put_copy(self.folder / "last.ckpt", kept(self.folder, epoch))

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and what has stopped training early."""
        return {"best": self.best, "stopped_by": self._stopped_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both back."""
        self.best = state_dict["best"]
        self._stopped_by = state_dict.get("stopped_by", [])


def _stoppers(trainer: pl.Trainer) -> list[Any]:
    """What stops training early, as told: whoever changes it wants to go on."""
    return [
        [stop.monitor, stop.mode, stop.patience, stop.min_delta, stop.stopping_threshold]
        for stop in trainer.early_stopping_callbacks
    ]


def _put_copy(source: Path, target: Path) -> None:
    """Put a second name for `source` in the place of `target`, in one move; both are only ever replaced."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # a file system without links
        shutil.copyfile(source, partial)
    partial.replace(target)
