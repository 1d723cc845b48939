"""One line that says how far training is."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from callbacks.analysis import AnalysisCallback


class Progress(ProgressBar):
    """A bar over epochs with the newest numbers; in a log file, a line every `interval` seconds instead.

    Epochs of recurrent networks on small tasks take milliseconds to seconds, so a bar over batches would
    flicker and cost more than it shows.

    Args:
        interval: Seconds between lines where the output is not a terminal.
    """

    def __init__(self, *, interval: float = 15.0) -> None:
        super().__init__()
        self.interval = interval
        self._bar: tqdm | None = None
        self._enabled = True
        self._said_at = 0.0

    def disable(self) -> None:
        """Say nothing; Lightning calls it on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar where training starts or goes on."""
        if self._enabled and trainer.is_global_zero:
            self._said_at = time.monotonic()
            self._bar = tqdm(
                total=None if trainer.max_epochs in (None, -1) else trainer.max_epochs,
                initial=trainer.current_epoch,
                unit="epoch",
                desc="training",
                dynamic_ncols=True,
                disable=not sys.stderr.isatty(),
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move on by one epoch."""
        if self._bar is None:
            return
        if not self._bar.disable:
            self._bar.set_postfix_str(self._numbers(trainer), refresh=False)
            self._bar.update()
        elif time.monotonic() - self._said_at > self.interval:
            self._said_at = time.monotonic()
            print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {self._numbers(trainer)}",
                flush=True,
            )

    def _numbers(self, trainer: pl.Trainer) -> str:
        metrics = {
            k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("train/", "val/"))
        }
        shown = [f"{name} {value:.4g}" for name, value in metrics.items()]
        looks = sum(c.looks for c in getattr(trainer, "callbacks", []) if isinstance(c, AnalysisCallback))
        return ", ".join(shown + ([f"{looks} looks"] if looks else []))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar so that the error stands on a line of its own."""
        self._close()

    def _close(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
