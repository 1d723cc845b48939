"""What a datamodule owes the house."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnnlab.objectives import Objective


class Probes(NamedTuple):
    """Constant inputs worth looking at.

    Attributes:
        inputs: `(probe, *input)`.
        names: One short name each, as a person would say it ("omega = 0.218").
    """

    inputs: Tensor
    names: tuple[str, ...]


class Watched(NamedTuple):
    """What is looked at of a network's states.

    Attributes:
        function: States `(*batch, state)` to `(*batch, observable)`.
        names: One short name an observable.
    """

    function: Callable[[Tensor], Tensor]
    names: tuple[str, ...]


class SequenceBatches:
    """Batches of equally long sequences held in memory, cut by column and shared among processes.

    A batch is a pair `(inputs, targets)` with time first. `batch_size` is that of the whole job: with two
    processes each sees half of every batch, so the number of processes does not change what is learned.
    The order of a shuffled epoch depends on `seed` and the epoch alone, so a resumed run sees what the
    unbroken one would have seen.

    Args:
        inputs: `(time, sequence, *input)`.
        targets: `(*, sequence, ...)`, with the sequences on axis 1 (axis 0 if `targets_axis` is 0, for one
            label a sequence).
        batch_size: Sequences in a batch, over all processes.
        shuffle: Draw a new order every epoch.
        seed: Seed of the order.
        rank, world_size: This process and how many there are.

    Raises:
        ValueError: `batch_size` is not in 1..sequences, or can't be shared evenly.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        targets_axis: int = 1,
    ) -> None:
        sequences = inputs.shape[1]
        if not 1 <= batch_size <= sequences:
            raise ValueError(f"batch_size={batch_size} is not possible: there are {sequences} sequences.")
        if batch_size % world_size or (sequences % batch_size) % world_size:
            raise ValueError(
                f"batch_size={batch_size} of {sequences} sequences can't be shared evenly "
                f"by {world_size} processes."
            )
        self.inputs, self.targets, self.targets_axis = inputs, targets, targets_axis
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.inputs.shape[1] // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        sequences = self.inputs.shape[1]
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(sequences, generator=generator)
        else:
            order = torch.arange(sequences)
        for batch in order.split(self.batch_size):
            mine = batch[self.rank :: self.world_size]
            yield self.inputs[:, mine], self.targets.index_select(self.targets_axis, mine)


class Task(pl.LightningDataModule, abc.ABC):
    """A data set, the objective it is learned by, and the inputs at which the network should be looked at.

    Sizes are known before data are read, so that the model can be built from them.

    Attributes:
        input_size: Length of one input vector.
        output_size: Length of one output vector.
        output_names: A short name for each output, such as the class it speaks for. Default: numbers.
        input_bound: Largest norm of an input vector.
        input_norm: Which norm: infinity, the largest absolute value of a component, or 1, the sum of them;
            one-hot inputs have norm 1 in both, and the latter says more.
        objective: What is minimised.
        baselines: What a trivial answer scores, by the name of the metric; drawn into training curves.
        symbols: Inputs are no vectors but whole numbers from 0 to `input_size` - 1.
        vocabulary: What those numbers stand for, and classes too: words, say.
        contiguous: Each batch of an epoch goes on where the one before stopped: the state is carried over.
    """

    input_size: int
    output_size: int
    output_names: tuple[str, ...] = ()
    input_bound: float = 1.0
    input_norm: float = math.inf
    objective: Objective
    baselines: dict[str, float]
    symbols: bool = False
    vocabulary: tuple[str, ...] = ()
    contiguous: bool = False

    @abc.abstractmethod
    def probes(self) -> Probes:
        """The constant inputs worth looking at."""

    def excerpts(self) -> Probes:
        """Stretches of data that drive the network, inputs `(excerpt, time, *input)`, with names.

        Raises:
            NotImplementedError: The task has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no stretches of data to drive a network with.")

    def watch(self, model: Any) -> Watched | None:
        """What analyses look at, in a frozen copy of the network. Default: its outputs."""
        return None

    @property
    def shape(self) -> dict[str, Any]:
        """What a `RecurrentModel` must know of the task to be made."""
        shape: dict[str, Any] = {
            "input_size": self.input_size,
            "output_size": self.output_size,
            "input_bound": self.input_bound,
            "input_norm": self.input_norm,
        }
        return shape | {"symbols": True} if self.symbols else shape

    @property
    def has_test_data(self) -> bool:
        """Whether there is a test set to run once training is done."""
        return type(self).test_dataloader is not pl.LightningDataModule.test_dataloader

    @property
    def share(self) -> tuple[int, int]:
        """This process and how many there are, `(rank, world_size)`."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
