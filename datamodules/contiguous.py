"""Batches of one long text, each going on where the one before stopped."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a target that is not asked, as torch's cross entropy has it


class ContiguousBatches:
    """A text cut into columns that are read side by side, some steps at a time.

    The text is learned word by word: a target is a word, its input the word before, and what comes before the
    first is `start`. The columns are stretches of the text of equal length, one after the other. A batch is a
    pair `(inputs, targets)` of int64 `(time, column)`; its first step follows the last of the batch before,
    so the state can be carried over. With several processes each reads its own block of neighbouring columns:
    the same ones in every batch, and together what one process would read.

    Args:
        words: The text as numbers, `(word,)`.
        start: What stands before the first word.
        columns: How many columns, over all processes.
        steps: Words of a column in a batch; the last batch may have fewer.
        complete: Whether every word is a target: the end of the last columns is then filled by `start`, with
            targets of -100. Otherwise the last words, fewer than there are columns, are left out.
        parts: In how many epochs the text is gone through once: epoch e reads part e mod `parts`. Parts are
            equally long; where that can't be, neighbours share a batch.
        rank, world_size: This process and how many there are.

    Raises:
        ValueError: `columns` is not in 1..words or can't be shared evenly, `steps` is below 1, or there are
            fewer batches than `parts`.

    Example:
        >>> for inputs, targets in ContiguousBatches(torch.arange(1, 8), start=0, columns=2, steps=2):
        ...     print(inputs.tolist(), targets.tolist())
        [[0, 3], [1, 4]] [[1, 4], [2, 5]]
        [[2, 5]] [[3, 6]]
    """

    def __init__(
        self,
        words: Tensor,
        *,
        start: int,
        columns: int,
        steps: int,
        complete: bool = False,
        parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        count = len(words)
        if not 1 <= columns <= count:
            raise ValueError(f"{columns} columns are not possible: the text has {count} words.")
        if columns % world_size:
            raise ValueError(f"{columns} columns can't be shared evenly by {world_size} processes.")
        if steps < 1:
            raise ValueError(f"steps={steps} is not possible: give a whole number of at least 1.")
        self.steps, self.parts, self.epoch = steps, parts, 0
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch
        self.length = -(-count // columns) if complete else count // columns
        batches = -(-self.length // steps)
        if not 1 <= parts <= batches:
            raise ValueError(
                f"{parts} epochs for once through the text are not possible: it has {batches} batches."
            )
        size = self.length * columns
        before = torch.cat([words.new_tensor([start]), words[:-1]])
        mine = columns // world_size
        block = slice(rank * mine, (rank + 1) * mine)
        self.inputs, self.targets = (
            F.pad(numbers[:size], (0, max(size - count, 0)), value=filler).view(columns, -1)[block].T
            for numbers, filler in ((before, start), (words, IGNORED))
        )

    def set_epoch(self, epoch: int) -> None:
        """Choose the part of the text; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // (self.steps * self.parts))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = -(-self.length // self.steps)
        part = self.epoch % self.parts
        first = part * (batches - len(self)) // max(self.parts - 1, 1)
        for batch in range(first, first + len(self)):
            stretch = slice(batch * self.steps, (batch + 1) * self.steps)
            yield self.inputs[stretch].long(), self.targets[stretch].long()
