"""Curves of networks: what to follow a bifurcation along."""

from __future__ import annotations

import copy
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rnnlab.autonomous import _own, freeze


class Reweighted:
    """A network with other weights, which may carry derivatives; the network itself stays as it is.

    Closed forms of the derivative, `push` and `jacobian`, are handed on where the network has them.

    Args:
        model: The network, a module.
        weights: Parameters and buffers by name, as in its `state_dict`.
    """

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        self.state_size = int(model.state_size)  # type: ignore[arg-type]
        self._model = _Methods(model)
        self._weights = {f"model.{name}": value for name, value in weights.items()}
        for name in ("push", "jacobian"):
            if _own(model, name) is not None:  # type: ignore[arg-type]
                setattr(self, name, partial(self._call, name))

    def _call(self, name: str, *args: Tensor | None) -> Any:
        return functional_call(self._model, self._weights, (name, *args))

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return self._call("step", x, u)

    def read(self, x: Tensor) -> Tensor:
        return self._call("read", x)


class _Methods(nn.Module):
    """Any method of a module as its `forward`, which is all that `functional_call` calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, name: str, *args: Tensor | None) -> Any:
        return getattr(self.model, name)(*args)


Line = Callable[[float | Tensor], Any]  # networks over a real parameter


def between(a: nn.Module, b: nn.Module) -> Line:
    """The straight line between the weights of two networks, for instance before and after training.

    Args:
        a: Where the line starts: a network as analyses want it (`RecurrentModel`, what `wrap_torch` makes),
            of any floating-point type. It is copied, not touched.
        b: Where it ends; of the same build.

    Returns:
        From s in [0, 1] the network with weights (1 - s) a + s b, in float64; buffers of floating-point
        numbers are blended alike. From a number it is a network like a and b, with all that they can do; from
        a tensor without axes one that can step and read, differentiable in s.

    Raises:
        ValueError: The two differ in the names or shapes of their parameters and buffers, or in buffers of
            whole numbers.

    Example:
        >>> from rnnlab.autonomous import HeldInput, wrap_torch
        >>> family = between(wrap_torch(nn.GRU(1, 3)), wrap_torch(nn.GRU(1, 3)))
        >>> half = HeldInput(family(0.5), torch.zeros(1))  # ready for continuation, as a function of s
        >>> half.step(torch.zeros(4, 3).double()).shape
        torch.Size([4, 3])
    """
    model, other = freeze(a), freeze(b)
    return _line(model, model.state_dict(), other.state_dict())


def _line(model: nn.Module, first: dict[str, Tensor], last: dict[str, Tensor]) -> Line:
    """Networks like a frozen one, with weights on the line between two sets of them."""
    _check_alike(first, last)

    def blend(s: Tensor) -> dict[str, Tensor]:
        return {
            name: value.lerp(last[name], s.to(value.dtype)) if value.is_floating_point() else value
            for name, value in first.items()
        }

    def network(s: float | Tensor) -> Any:
        if isinstance(s, Tensor):
            return Reweighted(model, blend(s))
        made = copy.deepcopy(model)
        made.load_state_dict(blend(torch.tensor(s, dtype=torch.float64)))
        return made

    return network


def _check_alike(first: dict[str, Tensor], last: dict[str, Tensor]) -> None:
    mine, theirs = (
        {name: tuple(value.shape) for name, value in weights.items()} for weights in (first, last)
    )
    if mine != theirs:
        odd = next(name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name))
        raise ValueError(
            f"{odd} has shape {mine.get(odd)} in a and {theirs.get(odd)} in b: "
            "give two networks of the same build."
        )
    for name, value in first.items():
        if not value.is_floating_point() and not torch.equal(value, last[name]):
            raise ValueError(f"{name} holds no real numbers and differs between a and b: make them equal.")


def through(models: Sequence[nn.Module], epochs: Sequence[float]) -> Polyline:
    """The networks of a training joined by straight lines: a curve of networks over real epochs.

    Args:
        models: At least two networks of one build, such as `Run.load` gives for `Run.epochs_kept`; they are
            not touched.
        epochs: Epoch of each, rising.

    Raises:
        ValueError: The epochs do not rise or are not one for each network, or two networks that follow each
            other differ as `between` does not allow.

    Example:
        >>> from rnnlab.autonomous import wrap_torch
        >>> path = through([wrap_torch(nn.GRU(1, 3)) for _ in range(3)], [0, 10, 15])
        >>> path(12.5).state_size, len(path.pieces)
        (3, 2)
    """
    return Polyline(models, epochs)


class Polyline:
    """What `through` makes; called with an epoch (as `between` with s) it gives the network there.

    Attributes:
        epochs: Where the lines meet.
        pieces: For each line, networks over epochs, which go on beyond its ends without a bend.
    """

    def __init__(self, models: Sequence[nn.Module], epochs: Sequence[float]) -> None:
        if len(models) != len(epochs) or len(models) < 2:
            raise ValueError(
                f"{len(models)} networks and {len(epochs)} epochs make no curve: give at least two of each."
            )
        self.epochs = [float(epoch) for epoch in epochs]
        for a, b in pairwise(self.epochs):
            if not (math.isfinite(a) and math.isfinite(b) and a < b):
                raise ValueError(f"epochs {a:g}, {b:g} are not possible: give finite numbers that rise.")
        model, weights = freeze(models[0]), [freeze(model).state_dict() for model in models]
        self._lines = [_line(model, first, last) for first, last in pairwise(weights)]
        self.pieces: list[Line] = [partial(self._at, number) for number in range(len(self._lines))]

    def _at(self, number: int, epoch: float | Tensor) -> Any:
        start, stop = self.epochs[number : number + 2]
        return self._lines[number]((epoch - start) / (stop - start))

    def __call__(self, epoch: float | Tensor) -> Any:
        if not self.epochs[0] <= float(epoch) <= self.epochs[-1]:
            first, last = self.epochs[0], self.epochs[-1]
            raise ValueError(f"epoch={float(epoch)} is not possible: give one from {first:g} to {last:g}.")
        return self.pieces[min(bisect_right(self.epochs, float(epoch)), len(self.pieces)) - 1](epoch)
