"""Sine waves from a constant input (Sussillo and Barak 2013; Ribeiro et al. 2020, section 5.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnnlab.objectives import MeanSquaredError, Objective
from rnnlab.task import Probes, SequenceBatches, Task


class Sine(Task):
    """The input is a constant angular frequency, the target the sine of the accumulated phase.

    u_t = omega and y_t = sin(omega t) for t = 1..length, with omega evenly spaced over [low, high].
    Answering 0 throughout costs 0.5006 mean squared error at the defaults.

    Args:
        num_sequences: Number of frequencies.
        length: Time steps in a sequence.
        low, high: Range of omega, radians per time step.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch; the paper's authors keep contiguous
            blocks of frequencies together.
        num_probes: How many constant inputs to look at, evenly spaced over the range.
        seed: Seed of the shuffling.
        objective: Default: mean squared error, averaged.

    Raises:
        ValueError: A size is below 1, or the range is empty.

    Example:
        >>> task = Sine(num_sequences=10, length=5, batch_size=2)
        >>> inputs, targets = next(iter(task.train_dataloader()))
        >>> inputs.shape, targets.shape
        (torch.Size([5, 2, 1]), torch.Size([5, 2, 1]))
    """

    input_size = 1
    output_size = 1

    def __init__(
        self,
        *,
        num_sequences: int = 100,
        length: int = 400,
        low: float = math.pi / 16,
        high: float = math.pi / 8,
        batch_size: int = 10,
        shuffle: bool = False,
        num_probes: int = 10,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        for name, size in (
            ("num_sequences", num_sequences),
            ("length", length),
            ("batch_size", batch_size),
            ("num_probes", num_probes),
        ):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name}={size!r} is not possible: give a whole number of at least 1.")
        if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high):
            raise ValueError(f"low={low}, high={high} is not a range: give two numbers, low below high.")
        if batch_size > num_sequences:
            raise ValueError(f"batch_size={batch_size} is not possible: there are {num_sequences} sequences.")
        self.num_sequences, self.length, self.low, self.high = num_sequences, length, low, high
        self.batch_size, self.shuffle, self.num_probes, self.seed = batch_size, shuffle, num_probes, seed
        self.objective: Objective = objective or MeanSquaredError()
        self.input_bound = max(abs(low), abs(high))
        self.baselines = {"train/mse": self.sequences()[1].square().mean().item()}

    def sequences(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the whole set, each `(length, num_sequences, 1)`."""
        omega = torch.linspace(self.low, self.high, self.num_sequences, dtype=torch.float64)
        time = torch.arange(1, self.length + 1, dtype=torch.float64)
        inputs = omega.expand(self.length, -1)
        targets = torch.sin(time[:, None] * omega)
        return inputs[..., None].float(), targets[..., None].float()

    def train_dataloader(self) -> SequenceBatches:
        """Batches `(inputs, targets)`, time first."""
        rank, world_size = self.share
        return SequenceBatches(
            *self.sequences(),
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

    def probes(self) -> Probes:
        """Constant frequencies over the range."""
        omega = torch.linspace(self.low, self.high, self.num_probes, dtype=torch.float64)
        return Probes(omega[:, None], tuple(f"ω = {w:.3f}" for w in omega.tolist()))
