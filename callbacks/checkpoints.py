"""Best and last checkpoints."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt`.

    Args:
        folder: Where they are kept.
        every: Save after every so many epochs, and after the last.
        monitor: The number that decides which is best.
        mode: "min" or "max".

    Raises:
        ValueError: An argument is out of range, or, while training, `monitor` is not logged.
    """

    def __init__(
        self, folder: str | Path, *, every: int = 1, monitor: str = "train/loss", mode: str = "min"
    ) -> None:
        super().__init__()
        if not isinstance(every, int) or every < 1:
            raise ValueError(
                f"checkpoint.every={every!r} is not possible: give a whole number of at least 1."
            )
        if mode not in ("min", "max"):
            raise ValueError(f"checkpoint.mode={mode!r} is not possible: choose min or max.")
        self.folder, self.every, self.monitor, self.mode = Path(folder), every, monitor, mode
        self.best = math.inf if mode == "min" else -math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when it is time; runs after every other callback and after the epoch's row is on record."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every and epoch != trainer.max_epochs:
            return
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ValueError(f"checkpoint.monitor={self.monitor} is not logged: choose one of {names}.")
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best if self.mode == "min" else value > self.best:
            self.best = value
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=False)
            if trainer.is_global_zero:
                _put_copy(self.folder / "best.ckpt", self.folder / "last.ckpt")
        else:
            trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the best value."""
        self.best = state_dict["best"]


def _put_copy(source: Path, target: Path) -> None:
    """Put a second name for `source` in the place of `target`, in one move; both are only ever replaced."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # a file system without links
        shutil.copyfile(source, partial)
    partial.replace(target)
