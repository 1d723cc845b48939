"""Temporal order: which of two relevant symbols came first (Hochreiter and Schmidhuber 1997, task 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.generated import Generated, one_hot
from rnnlab.objectives import CrossEntropy, LastStep, Objective
from rnnlab.task import Probes

SYMBOLS = ("p", "q", "a", "b", "c", "d")
CLASSES = ("pp", "pq", "qp", "qq")


class Symbols(Generated):
    """A sequence of symbols is to be classified by two of them, p or q each, among many that mean nothing.

    Distractors a, b, c and d are drawn uniformly. At two places, uniform within their ranges, stands a p or
    a q; the answer, asked at the last step, is which: (p, p), (p, q), (q, p) or (q, q). Symbols come as
    one-hot vectors in the order p, q, a, b, c, d. Guessing is right in a quarter of all cases.

    References:
        S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997), task 6a.
        A. H. Ribeiro et al., Beyond exploding and vanishing gradients, AISTATS (2020), section 5.2.

    Args:
        num_sequences: Sequences to learn from.
        num_validation: Further sequences to validate with.
        length: Symbols in a sequence.
        first: First and last possible place of the first relevant symbol, counted from 1.
        second: The same of the second.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch.
        seed: Seed of the sequences and of the shuffling.
        objective: Default: cross entropy at the last step.

    Raises:
        ValueError: A size is out of range, or the places do not follow one another within the sequence.

    Example:
        >>> task = Symbols(num_sequences=8, length=60, batch_size=4)
        >>> inputs, classes = next(iter(task.train_dataloader()))
        >>> inputs.shape, inputs[:, :, :2].sum().item(), classes.shape
        (torch.Size([60, 4, 6]), 8.0, torch.Size([1, 4]))
    """

    input_size = len(SYMBOLS)
    output_size = len(CLASSES)
    output_names = CLASSES
    input_bound = 1.0
    input_norm = 1

    def __init__(
        self,
        *,
        num_sequences: int = 1000,
        num_validation: int = 1000,
        length: int = 100,
        first: Sequence[int] = (10, 18),
        second: Sequence[int] = (40, 49),
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
        places = [*first, *second]
        whole = all(isinstance(place, int) and not isinstance(place, bool) for place in places)
        if not whole or [len(first), len(second)] != [2, 2]:
            raise ValueError(f"first={first}, second={second} is not possible: give two whole numbers each.")
        if not 1 <= places[0] <= places[1] < places[2] <= places[3] <= length:
            raise ValueError(
                f"first={list(first)}, second={list(second)} is not possible with length={length}: "
                "give places that follow one another, from 1 to the length."
            )
        self.first, self.second = tuple(first), tuple(second)
        self.objective: Objective = objective or LastStep(CrossEntropy())
        # always answering (p, p)
        self.baselines = {
            f"{part}/accuracy": (self.sequences(part)[1] == 0).double().mean().item()
            for part in ("train", "val")
        }

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        def whole(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high + 1, shape, generator=generator)

        symbols = whole(2, len(SYMBOLS) - 1, self.length, count)
        relevant = whole(0, 1, 2, count)
        for kind, places in zip(relevant, (self.first, self.second), strict=True):
            symbols[whole(*places, count) - 1, torch.arange(count)] = kind
        return one_hot(symbols, len(SYMBOLS)), (2 * relevant[0] + relevant[1])[None]

    def probes(self) -> Probes:
        """Each symbol, held."""
        return Probes(torch.eye(len(SYMBOLS), dtype=torch.float64), SYMBOLS)
