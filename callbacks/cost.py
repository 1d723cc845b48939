"""Looking at the cost of sequences, where `AnalysisCallback` looks at the dynamics under held inputs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor

from callbacks.analysis import AnalysisCallback, undisturbed
from rnnlab.autonomous import Network, freeze
from rnnlab.ensemble import Ensemble
from rnnlab.labelled import concatenate
from rnnlab.objectives import Objective
from rnnlab.shares import join_rows, shared
from rnnlab.task import Probes

BATCHES = 32  # from which the sequences to look at are chosen


class CostCallback(AnalysisCallback):
    """Looks every few epochs at the cost of some training sequences, and at what it depends on.

    A look is `analysis(network, inputs, targets, objective)`: a float64 copy of the network whose parameters
    may be differentiated by, sequences `(time, sequence, ...)` spread evenly over the first training batches,
    always the same, and the objective that is minimised. Training is not touched.

    Args:
        name: Name of the analysis in the store, the figures and the log.
        analysis: From a network, inputs, targets and the objective to a labelled dataset.
        sequences: How many sequences are looked at.
        shared: The result has an axis `sequence`, and several processes share the sequences out. Default:
            all sequences belong together; the analysis itself may share out what it does, by `rnnlab.shares`.
        **options: Further arguments of `AnalysisCallback`, but those on held inputs and initial states.

    Raises:
        ValueError: `sequences` is below 1; while training, there are fewer sequences.
    """

    def __init__(
        self,
        name: str,
        analysis: Callable[..., xr.Dataset],
        *,
        sequences: int = 8,
        shared: bool = False,
        **options: Any,
    ) -> None:
        if type(sequences) is not int or sequences < 1:
            raise ValueError(f"sequences={sequences!r} is not possible: give a whole number of at least 1.")
        super().__init__(name, analysis, probes=Probes(torch.zeros(0), ()), **options)
        self.sequences, self.shared = sequences, shared
        self._batch: tuple[Tensor, Tensor] | None = None
        self._objective: Objective | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the sequences to look at; the order that training sees them in is not touched."""
        with undisturbed():
            self._batch = self._take(trainer)
        self._objective = pl_module.objective  # type: ignore[assignment]
        super().on_train_start(trainer, pl_module)

    def _take(self, trainer: pl.Trainer) -> tuple[Tensor, Tensor]:
        task: Any = getattr(trainer, "datamodule", None)
        if task is None:
            raise ValueError(f"{type(self).__name__} knows no sequences: train with a datamodule.")
        owner, task.trainer = task.trainer, None  # every process takes from all sequences, not from its share
        try:
            batches = list(islice(task.train_dataloader(), BATCHES))
        finally:
            task.trainer = owner
        # the end of a text is shorter
        batches = [batch for batch in batches if len(batch[0]) == len(batches[0][0])]
        inputs, targets = (torch.cat([batch[i] for batch in batches], 1) for i in range(2))
        if inputs.shape[1] < self.sequences:
            raise ValueError(
                f"sequences={self.sequences} is not possible: there are {inputs.shape[1]} to look at."
            )
        chosen = torch.linspace(0, inputs.shape[1] - 1, self.sequences).round().long()
        return inputs[:, chosen], targets[:, chosen]

    def _analyse(self, model: Network, device: torch.device, epoch: int) -> xr.Dataset:
        assert self._batch is not None
        if device.type == "mps":  # which knows no float64
            device = torch.device("cpu")
        inputs, targets = (
            values.to(device, torch.float64 if values.is_floating_point() else values.dtype)
            for values in self._batch
        )
        frozen = freeze(model)

        def look(rows: slice) -> xr.Dataset:
            some = inputs[:, rows], targets[:, rows], self._objective
            if not isinstance(frozen, Ensemble):
                return self.analysis(frozen, *some)
            seen = [self.analysis(member, *some) for member in frozen.unstack()]
            return concatenate([each.expand_dims("member") for each in seen], "member")

        with torch.enable_grad():
            if not self.shared:
                return look(slice(None))
            return join_rows(shared(look, self.sequences, in_step=True), "sequence")
