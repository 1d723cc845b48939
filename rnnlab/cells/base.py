"""The one contract every recurrent cell keeps."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlab.cells.ranges import Box


def check_sizes(**sizes: int) -> None:
    """Refuse anything but whole numbers of at least 1, by name.

    Raises:
        ValueError: A size is not a whole number of at least 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}={size!r} is not possible: sizes are whole numbers of at least 1.")


def pushforward(
    function: Callable[..., Tensor], points: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Values of a function and its derivatives along tangent vectors, in forward mode.

    Args:
        function: Of as many tensors as there are points, in differentiable operations.
        points: Where, each `(*batch, size)`.
        frames: Tangent vectors to the points as columns, each `(*batch, size, k)`.

    Returns:
        The value `(*batch, out)` and the derivatives `(*batch, out, k)`.

    Example:
        >>> pushforward(torch.sin, (torch.zeros(1),), (torch.ones(1, 2),))
        (tensor([0.]), tensor([[1., 1.]]))
    """
    # forward mode takes no expanded tensors, and of a part of a larger one makes tangents of the whole's size
    points = tuple(point.clone(memory_format=torch.contiguous_format) for point in points)

    def along(*vectors: Tensor) -> Any:
        return torch.func.jvp(function, points, vectors)

    # the values are the same for all tangents, but inside another vmap torch may say otherwise; and where a
    # tangent is the same for all (that of a constant), torch knows no out_dims=-1
    values, tangents = torch.func.vmap(along, in_dims=-1, out_dims=(0, 0))(*frames)
    return values[0], tangents.movedim(0, -1)


def product(weight: Tensor, frame: Tensor) -> Tensor:
    """weight @ frame, `(rows, size)` by `(*batch, size, k)`, as one product for the whole batch."""
    return F.linear(frame.mT.contiguous(), weight).mT


class Cell(nn.Module, abc.ABC):
    """One step of a recurrent network on one flat state vector.

    Whatever a cell remembers is packed into a single vector: an LSTM packs hidden and cell state, a stack
    packs all its layers. Give `step` and the network can be trained, saved, watched and analysed; nothing
    downstream asks what kind of cell it is.

    What a cell knows of its dynamics besides (`push`, `jacobian`, `reduction`, `bounds`, `gains`) makes
    analyses faster or sharper. All of it has a default, and a subclass that changes `step` gets the
    defaults back, for what was said of the old step need not hold for the new one.

    Attributes:
        input_size: Length of one input vector.
        state_size: Length of the flat state vector.
        output_size: Length of what the cell shows to the next layer.
        input_bound: Largest norm an input vector will have. Only certificates (such as that of
            `StableLSTM`) use it.
        input_norm: Which norm: infinity, the largest absolute value of a component, or 1, the sum of them.
    """

    input_size: int
    state_size: int
    output_size: int
    input_bound: float = 1.0
    input_norm: float = math.inf

    _SAID_OF: ClassVar[dict[str, tuple[str, ...]]] = {
        "step": ("push", "jacobian", "reduction", "bounds", "gains"),
        "output": ("push_output", "output_bounds", "reduction"),
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for law, names in cls._SAID_OF.items():
            for name in names:
                if law in vars(cls) and name not in vars(cls):
                    setattr(cls, name, getattr(Cell, name))

    def __init__(self, input_size: int, state_size: int, output_size: int) -> None:
        super().__init__()
        check_sizes(input_size=input_size, state_size=state_size, output_size=output_size)
        self.input_size = input_size
        self.state_size = state_size
        self.output_size = output_size

    @abc.abstractmethod
    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Advance the state by one time step, in plain differentiable operations.

        Args:
            x: States, `(*batch, state)`.
            u: Inputs, `(*batch, input)`; leading axes broadcast against those of `x`.

        Returns:
            Next states, `(*batch, state)`.
        """

    def output(self, x: Tensor) -> Tensor:
        """What the cell shows of its state: `(*batch, state)` to `(*batch, output)`."""
        return x

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of states and of tangent vectors: x' and dx' = (d step/dx) dx + (d step/du) du.

        By default forward mode through `step`; our cells have it in closed form.

        Args:
            x: States, `(*batch, state)`.
            u: Inputs, `(*batch, input)`; leading axes broadcast against those of `x`.
            dx: Tangent vectors to the states as columns, `(*batch, state, k)`.
            du: Those to the inputs, `(*batch, input, k)`. Default: zero.

        Returns:
            Next states `(*batch, state)` and tangent vectors `(*batch, state, k)`.
        """
        if du is None:
            return pushforward(lambda x: self.step(x, u), (x,), (dx,))
        return pushforward(self.step, (x, u), (dx, du))

    def push_output(self, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        """The same for `output`: y `(*batch, output)` and dy `(*batch, output, k)`."""
        if type(self).output is Cell.output:
            return x, dx
        return pushforward(self.output, (x,), (dx,))

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        """The matrices of d step/dx, `(*batch, state, state)`, at states and inputs as `step` takes them."""
        eye = torch.eye(self.state_size, dtype=x.dtype, device=x.device)
        return self.push(x, u, eye.expand(*x.shape, self.state_size))[1]

    def reduction(self) -> Reduction | None:
        """A cell with fewer state variables that has the same fixed points under any held input.

        Returns:
            The smaller cell, on the same parameters; None where nothing is gained.
        """
        return None

    def reduced(self, u: Tensor) -> Reduced | None:
        """The `reduction` under inputs `u` `(*batch, input)` that are held, as a system; None without one."""
        cell = self.reduction()
        return None if cell is None else Reduced(cell, u)

    def bounds(self, low: Tensor, high: Tensor) -> Box | None:
        """A box of states that every orbit ends in, whatever its inputs within a box of inputs.

        No orbit leaves it, so that all fixed points and periodic orbits lie in it.

        Args:
            low: Smallest value of each input component, `(*batch, input)`.
            high: Largest value of each.

        Returns:
            Its corners, each `(*batch, state)` in float64; None where none is known.
        """
        return None

    def output_bounds(self, box: Box) -> Box | None:
        """A box of the outputs that states in `box` give, corners `(*batch, output)`.

        Known only where the output is a part of the state as it stands, else None.
        """
        return box if type(self).output is Cell.output else None

    def gains(self, low: Tensor, high: Tensor, box: Box | None) -> tuple[Tensor, Tensor] | None:
        """Certified upper bounds on the Lipschitz constants of `step` in the state and in the input.

        In the Euclidean norm, between any two states in `box` and any two inputs from `low` to `high`.

        Args:
            low: Smallest value of each input component, `(*batch, input)`.
            high: Largest value of each.
            box: Corners of a box of states, `(*batch, state)`. It must be mapped into itself, as is that of
                `bounds`. None is the whole space.

        Returns:
            Two tensors `(*batch)` in float64; None where nothing is known.
        """
        return None

    def lipschitz(self, low: Tensor, high: Tensor) -> Tensor | None:
        """Certified upper bound on the Lipschitz constant of `step` in the state.

        In the Euclidean norm, on the box of `bounds`, or on the whole space where there is none. Below 1,
        the cell forgets its initial state under any inputs from `low` to `high`.

        Args:
            low: Smallest value of each input component, `(*batch, input)`.
            high: Largest value of each.

        Returns:
            `(*batch)` in float64; None where nothing is known.
        """
        found = self.gains(low, high, self.bounds(low, high))
        return None if found is None else found[0]

    def scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Run over a whole sequence: the fast path, equal to `step` repeated.

        Args:
            us: Inputs, `(time, batch, input)`.
            x0: Initial states, `(batch, state)`.

        Returns:
            Outputs after each step, `(time, batch, output)`, and the last states, `(batch, state)`.
        """
        x, outputs = x0, []
        for u in us:
            x = self.step(x, u)
            outputs.append(self.output(x))
        return torch.stack(outputs), x

    def initial_state(self, *batch: int) -> Tensor:
        """Zero states of shape `(*batch, state)`, like the parameters in type and device."""
        like = next(self.parameters())
        return like.new_zeros(*batch, self.state_size)

    def constrain(self) -> None:
        """Put the parameters back where they must be; called at the start and after each optimiser step."""

    def certificates(self) -> dict[str, float]:
        """Numbers that certify what `constrain` promises, by name, for the log. Default: none."""
        return {}


class Reduction(Cell):
    """A smaller cell whose fixed points are, one by one, those of another under the same held input."""

    @abc.abstractmethod
    def restrict(self, x: Tensor) -> Tensor:
        """Coordinates kept of the states of the other: `(*batch, other)` to `(*batch, state)`."""

    @abc.abstractmethod
    def lift(self, z: Tensor, u: Tensor) -> Tensor:
        """States of the other, `(*batch, other)`, that belong to fixed points `(*batch, state)`."""


class Reduced:
    """A `Reduction` whose input is held: a system on the small state.

    Args:
        cell: The smaller cell.
        u: The input, `(*batch, input)`, held.
    """

    def __init__(self, cell: Reduction, u: Tensor) -> None:
        self.cell = cell
        self.u = u

    def step(self, x: Tensor) -> Tensor:
        """The small map, `(*batch, small)`."""
        return self.cell.step(x, self.u)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """States `(*batch, small)` and tangent vectors `(*batch, small, k)`, one step on."""
        return self.cell.push(x, self.u, frame)

    def jacobian(self, x: Tensor) -> Tensor:
        """`(*batch, small, small)` at states `(*batch, small)`."""
        return self.cell.jacobian(x, self.u)

    def restrict(self, x: Tensor) -> Tensor:
        """Coordinates kept of full states: `(*batch, state)` to `(*batch, small)`."""
        return self.cell.restrict(x)

    def lift(self, z: Tensor) -> Tensor:
        """The full states, `(*batch, state)`, that belong to fixed points `(*batch, small)`."""
        return self.cell.lift(z, self.u)
