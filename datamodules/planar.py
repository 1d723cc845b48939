"""Forecasts of a planar vector field from one noisy observation (Jordan et al. 2019, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rnnlab.objectives import MeanSquaredError, Objective
from rnnlab.systems import Flow, VectorField
from rnnlab.task import Probes, SequenceBatches, Task

Part = Literal["train", "val"]


class Series(NamedTuple):
    """Time series in float64.

    Attributes:
        states: Where the system was, `(length + 1, series, 2)`.
        observed: The same with the noise of observation.
    """

    states: Tensor
    observed: Tensor


class Planar(Task):
    """A field in the plane is observed once, with noise, and what follows is to be told.

    The input is the observation w(0) at the first step and zero from then on, so that the network runs on
    its own; the target after k steps is the observation w(k), k = 1..length, a time `dt` apart. The mean over
    series and steps of the squared norm of the error is the paper's eq. 14. Data are made from the seed when
    the task is, the same in every process; validation has starts, forces and noise of its own.

    A field of your own is an object with `velocity(x)`; where its solution is known, a method
    `solution(x, t)` may replace the integrator. A yaml names it under `field`, beside `dt` and the box:

        class Oscillator:                # datamodules/oscillator.py
            def velocity(self, x):       # (*batch, 2) -> (*batch, 2), rows independent
                return torch.stack((x[..., 1], -x[..., 0]), -1)

        _target_: datamodules.Planar     # conf/task/oscillator.yaml
        field: {_target_: datamodules.oscillator.Oscillator}
        dt: 0.1
        low: [-1, -1]
        high: [1, 1]

    References:
        I. D. Jordan, P. A. Sokol and I. M. Park, Gated recurrent units viewed through the lens of
        continuous time dynamical systems (2019).

    Args:
        field: The field, without any random force; kept as the attribute `field`.
        dt: Time between observations, in the field's units.
        low, high: Corners of the box in which series start, uniformly.
        num_sequences: Number of series to learn from.
        num_validation: Number of further series to validate with.
        length: How many steps are told.
        noise_variance: Variance of each component of the noise, independent at every observation.
        substeps: Steps of Runge and Kutta's method between observations. Default: the closed form.
        batch_size: Series in a batch, over all processes. Default: all.
        shuffle: Whether series change batches from epoch to epoch.
        seed: Seed of starts, forces, noise and shuffling.
        objective: Default: mean squared error, averaged.

    Raises:
        TypeError: `field` has no `velocity`.
        ValueError: An argument is out of range, there is no closed form, or a series runs to infinity.

    Example:
        >>> from rnnlab.maps import Hopf
        >>> task = Planar(Hopf(mu=1.0, omega=2.0), dt=0.2, low=(-1, -1), high=(1, 1), substeps=5)
        >>> inputs, targets = next(iter(task.train_dataloader()))
        >>> inputs.shape, inputs[1:].abs().max().item(), targets.shape
        (torch.Size([29, 667, 2]), 0.0, torch.Size([29, 667, 2]))
    """

    input_size = 2
    output_size = 2

    def __init__(
        self,
        field: VectorField,
        *,
        dt: float,
        low: Sequence[float],
        high: Sequence[float],
        num_sequences: int = 667,
        num_validation: int = 333,
        length: int = 29,
        noise_variance: float = 0.1,
        substeps: int | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        batch_size = num_sequences if batch_size is None else batch_size
        for name, size in (
            ("num_sequences", num_sequences),
            ("num_validation", num_validation),
            ("length", length),
            ("batch_size", batch_size),
            ("substeps", 1 if substeps is None else substeps),
        ):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{name}={size!r} is not possible: give a whole number of at least 1.")
        if batch_size > num_sequences:
            raise ValueError(f"batch_size={batch_size} is not possible: there are {num_sequences} sequences.")
        if not isinstance(seed, int):
            raise ValueError(f"seed={seed!r} is not possible: give a whole number.")
        check_positive(dt=dt)
        check_variance(noise_variance=noise_variance)
        if not isinstance(field, VectorField):
            raise TypeError(f"a {type(field).__name__} is no vector field: give an object with velocity(x).")
        if substeps is None and not hasattr(field, "solution"):
            raise ValueError(
                f"substeps={substeps} is not possible: a {type(field).__name__} has no closed form "
                "solution(x, t); give a number of steps for the integrator."
            )
        self.field, self.dt, self.substeps = field, dt, substeps
        self.low, self.high = _corners(low, high)
        shape = tuple(field.velocity(self.low[None]).shape)
        if shape != (1, 2):
            raise ValueError(
                f"a {type(field).__name__} is no planar field: its velocity at states of shape (1, 2) "
                f"has the shape {shape}."
            )
        self.length, self.noise_variance = length, noise_variance
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.objective: Objective = objective or MeanSquaredError()
        # one stream each, so that neither the size nor the draws of one part change the other
        self.series: dict[str, Series] = {
            "train": self._observe(num_sequences, 2 * seed),
            "val": self._observe(num_validation, 2 * seed + 1),
        }
        self.input_bound = max(part.observed[0].abs().max().item() for part in self.series.values())
        mean = self.series["train"].observed[1:].mean((0, 1))  # the best answer that is always the same
        self.baselines = {
            f"{name}/mse": (part.observed[1:] - mean).square().sum(-1).mean().item()
            for name, part in self.series.items()
        }

    def forced(self, count: int, generator: torch.Generator) -> VectorField:
        """The field that holds during one step for `count` states; here, without forces, always the same."""
        return self.field

    def _follow(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """States `(length + 1, *batch, 2)` from starts `(*batch, 2)`."""
        states = [x]
        for _ in range(self.length):
            field: Any = self.forced(len(x), generator)
            if self.substeps is None:
                states.append(field.solution(states[-1], self.dt))
            else:
                states.append(Flow(field, self.dt, self.substeps).step(states[-1]))
        followed = torch.stack(states)
        if not followed.isfinite().all():
            raise ValueError(
                f"dt={self.dt}, low={self.low.tolist()}, high={self.high.tolist()} is not possible: a series "
                f"of {self.length} steps runs to infinity. Give a smaller dt or box, or more substeps."
            )
        return followed

    def _observe(self, count: int, seed: int) -> Series:
        generator = torch.Generator().manual_seed(seed)
        start = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        states = self._follow(self.low + (self.high - self.low) * start, generator)
        noise = torch.randn(states.shape, generator=generator, dtype=torch.float64)
        return Series(states, states + math.sqrt(self.noise_variance) * noise)

    def sequences(self, part: Part = "train") -> tuple[Tensor, Tensor]:
        """Inputs and targets of a whole part, each `(length, series, 2)`."""
        observed = self.series[part].observed.float()
        inputs = torch.zeros_like(observed[1:])
        inputs[0] = observed[0]
        return inputs, observed[1:]

    def train_dataloader(self) -> SequenceBatches:
        """Batches `(inputs, targets)`, time first."""
        return self._batches("train", self.batch_size, self.shuffle)

    def val_dataloader(self) -> SequenceBatches:
        """One batch of all series of validation."""
        return self._batches("val", self.series["val"].states.shape[1], False)

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

    def probes(self) -> Probes:
        """Silence: the input under which the network forecasts on its own."""
        return Probes(torch.zeros(1, 2, dtype=torch.float64), ("silence",))

    def floor(self, futures: int = 64) -> float:
        """The expected mean squared error of the best forecast there can be from w(0).

        Given w(0), the start is normal about it, cut off at the box. The spread of the states that follow,
        and the noise of what is observed of them, nobody can tell. An estimate over the starts to learn from,
        with further forces; the error on one finite set of series scatters about it.

        Args:
            futures: How many of them are followed for each series.

        Raises:
            ValueError: `futures` is no whole number of at least 2.
        """
        if not isinstance(futures, int) or futures < 2:
            raise ValueError(f"futures={futures!r} is not possible: give a whole number of at least 2.")
        generator = torch.Generator().manual_seed(self.seed)
        start = self.series["train"].observed[0].expand(futures, -1, -1)
        if self.noise_variance:
            std = math.sqrt(self.noise_variance)
            below, above = ((corner - start) / std for corner in (self.low, self.high))
            below, above = torch.special.ndtr(below), torch.special.ndtr(above)
            share = torch.rand(start.shape, generator=generator, dtype=torch.float64)
            start = start + std * torch.special.ndtri(below + (above - below) * share)
            start = start.clamp(self.low, self.high)
        followed = self._follow(start.flatten(0, 1), generator)[1:].unflatten(1, (futures, -1))
        return followed.var(1).sum(-1).mean().item() + 2 * self.noise_variance


def check_positive(**numbers: float) -> None:
    """Refuse what is no positive, finite number."""
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 < number < math.inf:
            raise ValueError(f"{name}={number!r} is not possible: give a positive, finite number.")


def check_variance(**numbers: float) -> None:
    """Refuse what is no variance: a finite number of at least 0."""
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not 0 <= number < math.inf:
            raise ValueError(
                f"{name}={number!r} is not possible: a variance is a finite number of at least 0."
            )


def _corners(low: Sequence[float], high: Sequence[float]) -> tuple[Tensor, Tensor]:
    for corner in (low, high):
        if not isinstance(corner, Sequence) or [
            isinstance(x, int | float) and math.isfinite(x) for x in corner
        ] != [True, True]:
            raise ValueError(f"low={low}, high={high} is no box: give two finite numbers each.")
    below, above = (torch.tensor(list(corner), dtype=torch.float64) for corner in (low, high))
    if not (below < above).all():
        raise ValueError(f"low={low}, high={high} is no box: low has to be below high in both components.")
    return below, above
