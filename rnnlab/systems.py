"""The ground of all dynamics: what a system is, its derivative, and systems made from a system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class System(Protocol):
    """A dynamical system in discrete time, x' = F(x), seen through y = g(x).

    Rows are independent: `step` maps every state of a batch by the same F, whatever stands beside it.
    Nothing is mutated. That is all any analysis asks for.
    """

    def step(self, x: Tensor) -> Tensor:
        """Next states: `(*batch, state)` to `(*batch, state)`."""
        ...

    def observe(self, x: Tensor) -> Tensor:
        """What is seen of the states: `(*batch, state)` to `(*batch, observable)`."""
        ...


def tangent(system: System, x: Tensor, frame: Tensor) -> Tensor:
    """The derivative of `step` at `x`, applied to the columns of `frame`.

    One forward-mode derivative serves the whole batch and all columns: the states are mapped once and only
    the tangents are carried k times. A system that knows its derivative in closed form gives it by a method
    `tangent(x, frame)` of its own, which is then used instead.

    Args:
        system: The system; its `step` consists of differentiable operations.
        x: States, `(*batch, state)`.
        frame: Tangent vectors as columns, `(*batch, state, k)`.

    Returns:
        DF(x) frame, `(*batch, state, k)`.

    Raises:
        ValueError: `frame` does not fit `x`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> tangent(Logistic(4.0), torch.tensor([0.25]).double(), torch.ones(1, 1).double())
        tensor([[2.]], dtype=torch.float64)
    """
    if frame.ndim != x.ndim + 1 or frame.shape[:-1] != x.shape:
        raise ValueError(
            f"frame of shape {tuple(frame.shape)} does not fit states of shape {tuple(x.shape)}: "
            "give (*batch, state, k), with the tangent vectors as columns."
        )
    own = getattr(system, "tangent", None)
    if own is not None:
        return own(x, frame)

    def along(vector: Tensor) -> Tensor:
        return torch.func.jvp(system.step, (x,), (vector,))[1]

    return torch.func.vmap(along, in_dims=-1, out_dims=-1)(frame)


def jacobian(system: System, x: Tensor) -> Tensor:
    """The matrices DF(x), `(*batch, state, state)`, at states `(*batch, state)`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Henon
        >>> jacobian(Henon(1.4, 0.3), torch.ones(2).double())
        tensor([[-2.8000,  1.0000],
                [ 0.3000,  0.0000]], dtype=torch.float64)
    """
    size = x.shape[-1]
    eye = torch.eye(size, dtype=x.dtype, device=x.device)
    return tangent(system, x, eye.expand(*x.shape, size))


class Observed:
    """The same dynamics seen through another function: x' = F(x), y = `function`(x).

    Args:
        system: The system.
        function: States `(*batch, state)` to `(*batch, observable)`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Henon
        >>> first = Observed(Henon(1.4, 0.3), lambda x: x[..., :1])
        >>> first.observe(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(self, system: System, function: Callable[[Tensor], Tensor]) -> None:
        self.system = system
        self.function = function

    def step(self, x: Tensor) -> Tensor:
        return self.system.step(x)

    def observe(self, x: Tensor) -> Tensor:
        return self.function(x)

    def tangent(self, x: Tensor, frame: Tensor) -> Tensor:
        return tangent(self.system, x, frame)


class Iterated:
    """The n-th iterate of a system, x' = F(F(...F(x))).

    Its fixed points are the points of those orbits whose period divides n.

    Args:
        system: The system.
        n: How many steps make one.

    Raises:
        ValueError: `n` is not a whole number of at least 1.
    """

    def __init__(self, system: System, n: int) -> None:
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n={n!r} is not possible: give a whole number of at least 1.")
        self.system = system
        self.n = n

    def step(self, x: Tensor) -> Tensor:
        for _ in range(self.n):
            x = self.system.step(x)
        return x

    def observe(self, x: Tensor) -> Tensor:
        return self.system.observe(x)

    def tangent(self, x: Tensor, frame: Tensor) -> Tensor:
        for _ in range(self.n):
            x, frame = self.system.step(x), tangent(self.system, x, frame)
        return frame
