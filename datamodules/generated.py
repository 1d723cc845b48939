"""What tasks have in common whose sequences are made from a seed."""

from __future__ import annotations

import abc
from typing import Literal

import torch
from torch import Tensor

from rnnlab.task import SequenceBatches, Task

Part = Literal["train", "val"]


class Generated(Task):
    """A task whose sequences are drawn at random, once: the same in every process, and for every network.

    A subclass draws them in `_draw`. Training and validation have random streams of their own, so that
    neither the size nor the draws of one change the other.

    Args:
        num_sequences: Sequences to learn from.
        num_validation: Further sequences to validate with.
        length: Time steps of a sequence.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch.
        seed: Seed of the sequences and of the shuffling.

    Raises:
        ValueError: A size is no whole number of at least 1, the seed none of at least 0, or `batch_size` is
            above `num_sequences`.
    """

    def __init__(
        self,
        *,
        num_sequences: int,
        num_validation: int,
        length: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(
            num_sequences=num_sequences, num_validation=num_validation, length=length, batch_size=batch_size
        )
        if batch_size > num_sequences:
            raise ValueError(f"batch_size={batch_size} is not possible: there are {num_sequences} sequences.")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed={seed!r} is not possible: give a whole number of at least 0.")
        self.num_sequences, self.num_validation, self.length = num_sequences, num_validation, length
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed

    @abc.abstractmethod
    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` sequences: inputs `(time, count, input)` and targets with the sequences on axis 1."""

    def sequences(self, part: Part = "train") -> tuple[Tensor, Tensor]:
        """Inputs and targets of a whole part, as batches have them."""
        count = self.num_sequences if part == "train" else self.num_validation
        generator = torch.Generator().manual_seed(2 * self.seed + (part == "val"))
        return self._draw(count, generator)

    def train_dataloader(self) -> SequenceBatches:
        """Batches `(inputs, targets)`, time first."""
        return self._batches("train", self.batch_size, self.shuffle)

    def val_dataloader(self) -> SequenceBatches:
        """One batch of all sequences of validation."""
        return self._batches("val", self.num_validation, False)

    def _batches(self, part: Part, batch_size: int, shuffle: bool) -> SequenceBatches:
        rank, world_size = self.share
        return SequenceBatches(
            *self.sequences(part),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )


def check_sizes(**sizes: int) -> None:
    """Refuse what is no whole number of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}={size!r} is not possible: give a whole number of at least 1.")


def one_hot(symbols: Tensor, count: int) -> Tensor:
    """Symbols `(...)` as vectors `(..., count)` of zeros and a one."""
    return torch.nn.functional.one_hot(symbols, count).float()
