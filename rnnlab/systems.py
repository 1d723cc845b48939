"""The ground of all dynamics: what a system is, its derivative, and systems made from a system."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rnnlab.integrate import LEAST, integrate


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


@runtime_checkable
class VectorField(Protocol):
    """A dynamical system in continuous time, dx/dt = f(x), time in units of its own.

    Rows are independent, nothing is mutated. Equilibria, their stability and limit cycles are found on the
    field itself; `Flow` makes it a `System`, which moves on by a fixed time.
    """

    def velocity(self, x: Tensor) -> Tensor:
        """dx/dt: `(*batch, state)` to `(*batch, state)`."""
        ...


@runtime_checkable
class Sequence(Protocol):
    """A system that changes with time, x_{t+1} = F_t(x_t), for a limited time: a network driven by inputs."""

    def at(self, time: int) -> System:
        """The map of time step `time`, in 0..len - 1."""
        ...

    def __len__(self) -> int: ...


class Reduction(Protocol):
    """A smaller system whose fixed points are, one by one, those of the system it was made from.

    The cell state of an LSTM at a fixed point follows from h, so h alone need be searched. Besides what a
    `System` has to step (and may have: `push`, `jacobian`):
    """

    def step(self, x: Tensor) -> Tensor:
        """The small map, `(*batch, small)`."""
        ...

    def restrict(self, x: Tensor) -> Tensor:
        """Coordinates kept of full states: `(*batch, state)` to `(*batch, small)`."""
        ...

    def lift(self, z: Tensor) -> Tensor:
        """The full states, `(*batch, state)`, that belong to fixed points `(*batch, small)`."""
        ...


def law(system: System | VectorField) -> Callable[[Tensor], Tensor]:
    """The function that makes the dynamics: `step` of a map, `velocity` of a vector field.

    Raises:
        TypeError: It has neither.
    """
    found = getattr(system, "step", None) or getattr(system, "velocity", None)
    if found is None:
        raise TypeError(
            f"a {type(system).__name__} is no dynamical system: give an object with step(x) and observe(x), "
            "or with velocity(x)."
        )
    return found


def is_flow(system: System | VectorField) -> bool:
    """Whether time is continuous: a vector field, without a `step`."""
    law(system)
    return getattr(system, "step", None) is None


def observe(system: System | VectorField, x: Tensor) -> Tensor:
    """What is seen of states `(*batch, state)`: what the system shows, else the states themselves."""
    show = getattr(system, "observe", None)
    return x if show is None else show(x)


def push(system: System | VectorField, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """States and tangent vectors, moved together: (F(x), DF(x) frame).

    One forward-mode derivative serves the whole batch and all columns: the states are mapped once and only
    the tangents are carried k times. A system that knows its derivative in closed form gives it by a method
    `push(x, frame)` of its own, which is then used instead. For a vector field F is the velocity.

    Args:
        system: The system; its law consists of differentiable operations.
        x: States, `(*batch, state)`.
        frame: Tangent vectors as columns, `(*batch, state, k)`.

    Returns:
        F(x) `(*batch, state)` and DF(x) frame `(*batch, state, k)`.

    Raises:
        ValueError: `frame` does not fit `x`.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> push(Logistic(4.0), torch.tensor([0.25]).double(), torch.ones(1, 1).double())
        (tensor([0.7500], dtype=torch.float64), tensor([[2.]], dtype=torch.float64))
    """
    if frame.ndim != x.ndim + 1 or frame.shape[:-1] != x.shape:
        raise ValueError(
            f"frame of shape {tuple(frame.shape)} does not fit states of shape {tuple(x.shape)}: "
            "give (*batch, state, k), with the tangent vectors as columns."
        )
    own = getattr(system, "push", None)
    if own is not None:
        return own(x, frame)
    rule = law(system)

    # forward mode takes no expanded tensors, and of a part of a larger one makes tangents of the whole's size
    x = x.clone(memory_format=torch.contiguous_format)

    def along(vector: Tensor) -> Any:
        return torch.func.jvp(rule, (x,), (vector,))

    apart: Any = (None, 0)  # not -1: torch fails on it where the tangent is that of a constant
    image, moved = torch.func.vmap(along, in_dims=-1, out_dims=apart)(frame)
    return image, moved.movedim(0, -1)


def tangent(system: System | VectorField, x: Tensor, frame: Tensor) -> Tensor:
    """The derivative at `x`, applied to the columns of `frame`: the second half of `push`.

    Args:
        system: The system.
        x: States, `(*batch, state)`.
        frame: Tangent vectors as columns, `(*batch, state, k)`.

    Returns:
        DF(x) frame, `(*batch, state, k)`.

    Raises:
        ValueError: `frame` does not fit `x`.
    """
    return push(system, x, frame)[1]


def jacobian(system: System | VectorField, x: Tensor) -> Tensor:
    """The matrices DF(x), `(*batch, state, state)`, at states `(*batch, state)`.

    A system may give them by a method `jacobian(x)` of its own.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Henon
        >>> jacobian(Henon(1.4, 0.3), torch.ones(2).double())
        tensor([[-2.8000,  1.0000],
                [ 0.3000,  0.0000]], dtype=torch.float64)
    """
    own = getattr(system, "jacobian", None)
    if own is not None:
        return own(x)
    size = x.shape[-1]
    eye = torch.eye(size, dtype=x.dtype, device=x.device)
    return tangent(system, x, eye.expand(*x.shape, size))


def reduced(system: System | VectorField) -> Reduction | None:
    """The smaller system with the same fixed points, where the system offers one (a method `reduced()`)."""
    own = getattr(system, "reduced", None)
    return None if own is None else own()


def bounds(system: System | VectorField) -> tuple[Tensor, Tensor] | None:
    """A box that every orbit enters and none leaves, where the system knows one (a method `bounds()`).

    Returns:
        Its lower and upper corners, each `(state,)` or, where rows differ by an input, `(*batch, state)`.
        All fixed points and periodic orbits lie in it.
    """
    own = getattr(system, "bounds", None)
    return None if own is None else own()


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

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return push(self.system, x, frame)

    def jacobian(self, x: Tensor) -> Tensor:
        return jacobian(self.system, x)

    def reduced(self) -> Reduction | None:
        return reduced(self.system)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        return bounds(self.system)

    def lipschitz(self) -> Tensor | None:
        own = getattr(self.system, "lipschitz", None)
        return None if own is None else own()


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

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(self.n):
            x, frame = push(self.system, x, frame)
        return x, frame

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        return bounds(self.system)


class ContinuousTime:
    """The vector field dx/dt = F(x) - x, of which a system is one Euler step of length one.

    For a gated recurrent unit this is the continuous limit of Jordan et al. (2019), eq. 7. Field and system
    share their fixed points, not their stability: a point is stable for the field where all eigenvalues of DF
    have a real part below 1, for the system where they lie in the unit circle.

    Args:
        system: The system, in discrete time.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Logistic
        >>> field = ContinuousTime(Logistic(3.5))  # its fixed point 1 - 1 / 3.5 is unstable under the map
        >>> jacobian(field, torch.tensor([1 - 1 / 3.5]).double()).round(decimals=8)
        tensor([[-2.5000]], dtype=torch.float64)
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def velocity(self, x: Tensor) -> Tensor:
        return self.system.step(x) - x

    def observe(self, x: Tensor) -> Tensor:
        return self.system.observe(x)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        image, moved = push(self.system, x, frame)
        return image - x, moved - frame

    def jacobian(self, x: Tensor) -> Tensor:
        return jacobian(self.system, x) - torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        return bounds(self.system)


class Flow:
    """A vector field as a system: one step moves on by the time `dt`.

    Runge and Kutta's method of order four with a fixed step `dt / substeps`, so that the step is a smooth
    map, whose derivative `push` gives exactly. With a `tolerance` the step is solved as exactly as that says
    instead, by `rnnlab.integrate.integrate`, and its derivative by the variational equations; this takes
    some milliseconds a step, and rows of a batch, which share the solver's steps, are independent to within
    the tolerance only.

    Args:
        field: The vector field, with `velocity(x)`.
        dt: Time that one step takes, in the field's units; may be negative.
        substeps: Steps of the integrator in one step of the system.
        tolerance: Largest error of each of the solver's own steps. Default: the fixed step.

    Raises:
        TypeError: `field` has no `velocity`.
        ValueError: `dt` is zero or not finite, `substeps` no whole number of at least 1, `tolerance` not
            between 3e-14 and 1, or both are given.

    Example:
        >>> import torch
        >>> from rnnlab.maps import Hopf
        >>> turn = Flow(Hopf(mu=1.0, omega=2 * torch.pi), dt=0.25, substeps=100)
        >>> turn.step(torch.tensor([1.0, 0.0]).double()).round(decimals=6).abs()
        tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(
        self, field: VectorField, dt: float, substeps: int = 1, *, tolerance: float | None = None
    ) -> None:
        if not isinstance(field, VectorField):
            raise TypeError(f"a {type(field).__name__} is no vector field: give an object with velocity(x).")
        if not math.isfinite(dt) or dt == 0:
            raise ValueError(f"dt={dt} is not possible: give a finite time other than zero.")
        if not isinstance(substeps, int) or isinstance(substeps, bool) or substeps < 1:
            raise ValueError(f"substeps={substeps!r} is not possible: give a whole number of at least 1.")
        if tolerance is not None and substeps != 1:
            raise ValueError(
                f"substeps={substeps} is not possible with a tolerance, which chooses them: give one of both."
            )
        if tolerance is not None and not LEAST <= tolerance < 1:
            raise ValueError(f"tolerance={tolerance} is not possible: give a number from {LEAST} to 1.")
        self.field = field
        self.dt = dt
        self.substeps = substeps
        self.tolerance = tolerance

    def finer(self) -> Flow:
        """The same flow by steps half as long, or a tolerance of a hundredth: to tell the error of this."""
        if self.tolerance is None:
            return Flow(self.field, self.dt, 2 * self.substeps)
        return Flow(self.field, self.dt, tolerance=max(self.tolerance / 100, LEAST))

    def step(self, x: Tensor) -> Tensor:
        if self.tolerance is not None:
            return self._solve(self.field, x)
        h = self.dt / self.substeps
        for _ in range(self.substeps):
            k1 = self.field.velocity(x)
            k2 = self.field.velocity(x + h / 2 * k1)
            k3 = self.field.velocity(x + h / 2 * k2)
            k4 = self.field.velocity(x + h * k3)
            x = x + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return x

    def observe(self, x: Tensor) -> Tensor:
        return observe(self.field, x)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        if self.tolerance is not None:
            # the equations are linear in the frame, whose columns are solved at the size 1
            size = torch.linalg.vector_norm(frame, dim=-2, keepdim=True)
            unit = torch.where(size > 0, frame / size, 0.0)
            end = self._solve(_Variational(self.field, x.shape[-1]), torch.cat((x, unit.flatten(-2)), -1))
            return end[..., : x.shape[-1]], end[..., x.shape[-1] :].reshape(frame.shape) * size
        h = self.dt / self.substeps
        for _ in range(self.substeps):
            k1, d1 = push(self.field, x, frame)
            k2, d2 = push(self.field, x + h / 2 * k1, frame + h / 2 * d1)
            k3, d3 = push(self.field, x + h / 2 * k2, frame + h / 2 * d2)
            k4, d4 = push(self.field, x + h * k3, frame + h * d3)
            x, frame = x + h / 6 * (k1 + 2 * (k2 + k3) + k4), frame + h / 6 * (d1 + 2 * (d2 + d3) + d4)
        return x, frame

    def _solve(self, field: VectorField, x: Tensor) -> Tensor:
        assert self.tolerance is not None
        return integrate(field, x, x.new_tensor([self.dt]), tolerance=self.tolerance)[0]


class _Variational:
    """A vector field with tangent vectors that it carries along, `(*batch, state + state * k)`."""

    def __init__(self, field: VectorField, size: int) -> None:
        self.field, self.size = field, size

    def velocity(self, x: Tensor) -> Tensor:
        frame = x[..., self.size :].unflatten(-1, (self.size, -1))
        rate, turned = push(self.field, x[..., : self.size], frame)
        return torch.cat((rate, turned.flatten(-2)), -1)
