"""Curves of networks: what to follow a bifurcation along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rnnlab.autonomous import freeze


class Reweighted:
    """A network with other weights, which may carry derivatives; the network itself stays as it is.

    Args:
        model: The network, a module.
        weights: Parameters and buffers by name, as in its `state_dict`.
    """

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        self.model = _Methods(model)
        self.weights = {f"model.{name}": value for name, value in weights.items()}

    @property
    def state_size(self) -> int:
        return int(self.model.model.state_size)  # type: ignore[arg-type]

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return functional_call(self.model, self.weights, ("step", x, u))

    def read(self, x: Tensor) -> Tensor:
        return functional_call(self.model, self.weights, ("read", x))


class _Methods(nn.Module):
    """Any method of a module as its `forward`, which is all that `functional_call` calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, name: str, *args: Tensor) -> Any:
        return getattr(self.model, name)(*args)


def between(a: nn.Module, b: nn.Module) -> Callable[[float | Tensor], Reweighted]:
    """The straight line between the weights of two networks, for instance before and after training.

    Args:
        a: Where the line starts: a network as analyses want it (`RecurrentModel`, what `wrap_torch` makes),
            of any floating-point type. It is copied, not touched.
        b: Where it ends; of the same build.

    Returns:
        From s, a number or a tensor without axes in [0, 1], the network with weights (1 - s) a + s b, in
        float64, differentiable in s. Buffers of floating-point numbers are blended alike.

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
    first, last = model.state_dict(), other.state_dict()
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

    def network(s: float | Tensor) -> Reweighted:
        return Reweighted(
            model,
            {
                name: value.lerp(last[name], torch.as_tensor(s, dtype=value.dtype))
                if value.is_floating_point()
                else value
                for name, value in first.items()
            },
        )

    return network
