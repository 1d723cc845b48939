"""The run's page, kept up to date while training goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn


class Page(pl.Callback):
    """Rewrites `report.html` every so often, so that a browser left open on it shows training live.

    Args:
        interval: Shortest time between two versions, seconds; grows so that writing takes at most a
            twentieth of the time.
    """

    def __init__(self, *, interval: float = 30.0) -> None:
        self.interval = interval
        self.seconds = {"page": 0.0}
        self._next = time.perf_counter() + min(5.0, interval)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the page when it is time."""
        if not trainer.is_global_zero or time.perf_counter() < self._next:
            return
        from rnnlab.report import write_report

        started = time.perf_counter()
        try:
            write_report(Path(trainer.default_root_dir))
        except Exception as error:  # other ranks wait for this one at the next update
            rank_zero_warn(f"report.html could not be written ({type(error).__name__}: {error}).")
        cost = time.perf_counter() - started
        self.seconds["page"] += cost
        self._next = time.perf_counter() + max(self.interval, 20 * cost)
