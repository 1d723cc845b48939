"""The ground of all dynamics: what a system is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

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
