"""Adding: the sum of two marked numbers among many (Hochreiter and Schmidhuber 1997, task 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.generated import Generated
from rnnlab.objectives import LastStep, MeanSquaredError, Objective
from rnnlab.task import Probes


class Adding(Generated):
    """A number from [0, 1] and a mark, 0 or 1, at each step; asked at the last is the sum of the two marked.

    One of them is in the first half of the sequence, one in the second. Always answering 1 costs 1/6.

    References:
        S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997), task 4.
        M. Arjovsky, A. Shah and Y. Bengio, Unitary evolution recurrent neural networks, ICML (2016).

    Args:
        num_sequences: Sequences to learn from.
        num_validation: Further sequences to validate with.
        length: Time steps of a sequence, at least 2.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch.
        seed: Seed of the sequences and of the shuffling.
        objective: Default: squared error at the last step.

    Raises:
        ValueError: A size is out of range.

    Example:
        >>> task = Adding(num_sequences=4, batch_size=4, length=10)
        >>> inputs, sums = next(iter(task.train_dataloader()))
        >>> torch.allclose((inputs[..., :1] * inputs[..., 1:]).sum(0), sums[0])
        True
    """

    input_size = 2
    output_size = 1
    input_bound = 1.0

    def __init__(
        self,
        *,
        num_sequences: int = 1000,
        num_validation: int = 1000,
        length: int = 100,
        batch_size: int = 100,
        shuffle: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(
            num_sequences=num_sequences,
            num_validation=num_validation,
            length=length,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
        )
        if length < 2:
            raise ValueError(f"length={length} is not possible: two numbers take at least 2 steps.")
        self.objective: Objective = objective or LastStep(MeanSquaredError())
        self.baselines = {
            f"{part}/mse": (self.sequences(part)[1] - 1).square().mean().item() for part in ("train", "val")
        }

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        numbers = torch.rand(self.length, count, generator=generator)
        marks = torch.zeros_like(numbers)
        half = self.length // 2
        for low, high in ((0, half), (half, self.length)):
            marks[torch.randint(low, high, (count,), generator=generator), torch.arange(count)] = 1
        return torch.stack((numbers, marks), -1), (numbers * marks).sum(0)[None, :, None]

    def probes(self) -> Probes:
        """Numbers that are not to be added, held."""
        numbers = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
        inputs = torch.stack((numbers, torch.zeros_like(numbers)), -1)
        return Probes(inputs, tuple(f"unmarked {number:g}" for number in numbers.tolist()))
