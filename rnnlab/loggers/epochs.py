"""What a logger's x axis means here: the number of finished epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn


class CountsEpochs:
    """Mixin for Lightning loggers whose x axis is the number of finished epochs.

    Lightning counts the running epoch from zero, and gives batches as the step. Here whatever is logged
    within the first epoch, by whomever, belongs to 1, and the untrained network is 0.
    """

    trainer: pl.Trainer | None = None

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Remember the trainer: this call, made before every fit and test, is the only one that shows it."""
        self.trainer = model.trainer

    @property
    def fitting(self) -> bool:
        """Whether the trainer's present or last task is to fit."""
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    def finished_epochs(self, metrics: Mapping[str, Any], step: int | None) -> int:
        """The x value of a call `log_metrics(metrics, step)`.

        Within an epoch that is the epoch's own number, else `metrics["epoch"]`, else `step`, else 0.
        """
        if self.trainer is not None and self.fitting:
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            if progress.started > progress.completed:
                return progress.completed + 1
        return int(metrics.get("epoch", step or 0))
