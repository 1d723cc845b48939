"""Networks as dynamical systems: the bridge between what is trained and what is analysed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from rnnlab.cells import GRU, LSTM, Elman, Stack
from rnnlab.cells.base import Cell, Reduced, pushforward
from rnnlab.gru_flow import GRUFlow as GRUFlow
from rnnlab.gru_flow import gru_flow as gru_flow
from rnnlab.systems import Reduction

Module = TypeVar("Module", bound=nn.Module)


@runtime_checkable
class Network(Protocol):
    """What a network must offer to be analysed; `RecurrentModel` does, and so may yours.

    Attributes:
        state_size: Length of the flat state vector.
    """

    @property
    def state_size(self) -> int: ...

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Next states `(*batch, state)` from states and inputs `(*batch, *input)`."""
        ...

    def read(self, x: Tensor) -> Tensor:
        """Outputs `(*batch, output)` at states `(*batch, state)`."""
        ...


def freeze(model: Module) -> Module:
    """A copy of a network to look at: in float64, in eval mode, without gradients.

    The network itself is left as it is, its mode, gradients and the state of the random generators included.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> frozen = freeze(model)
        >>> frozen.weight.dtype, frozen.weight.requires_grad, model.weight.requires_grad
        (torch.float64, False, True)
    """
    frozen = copy.deepcopy(model)
    if any(parameter.device.type == "mps" for parameter in frozen.parameters()):
        frozen = frozen.cpu()  # Apple's GPUs know no float64
    return frozen.double().eval().requires_grad_(False)


def _own(model: Network, name: str) -> Any:
    """The model's method `name`, unless it was given another `step` by a subclass or a wrapper since."""
    for place in (model, *type(model).__mro__):
        members = getattr(place, "__dict__", {})
        if name in members:
            break
        if "step" in members:
            return None
    return getattr(model, name, None)


def _push(
    model: Network, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The model's own `push`, else forward mode through its step."""
    own = _own(model, "push")
    if own is not None:
        return own(x, u, dx, du)
    if du is None:
        return pushforward(lambda x: model.step(x, u), (x,), (dx,))
    return pushforward(model.step, (x, u), (dx, du))


def input_jacobian(model: Network, x: Tensor, u: Tensor) -> Tensor:
    """The derivative of the next states by the inputs, dF/du.

    Args:
        model: The network.
        x: States, `(*batch, state)`.
        u: Inputs, vectors `(*batch, input)`; leading axes broadcast against those of `x`.

    Returns:
        `(*batch, state, input)`.

    Raises:
        ValueError: The inputs are symbols.

    Example:
        >>> network = wrap_torch(nn.RNN(2, 8))
        >>> input_jacobian(network, torch.zeros(5, 8), torch.ones(2)).shape
        torch.Size([5, 8, 2])
    """
    if not u.is_floating_point():
        raise ValueError(f"inputs of type {u.dtype} have no derivative: give vectors of real numbers.")
    u = u.to(x.dtype)
    size = u.shape[-1]
    eye = torch.eye(size, dtype=u.dtype, device=u.device).expand(*u.shape, size)
    return pushforward(lambda u: model.step(x, u), (u,), (eye,))[1]


class HeldInput:
    """The network whose input is held: x' = step(x, u), y = read(x).

    Args:
        model: The network.
        u: The input, `(*batch, *input)`, whose leading axes broadcast against those of the states: for
            states `(probe, sample, state)` give `(probe, 1, *input)`. Floating-point inputs take the type
            of the states.

    Example:
        >>> import torch
        >>> class Integrator:
        ...     state_size = 1
        ...     def step(self, x, u): return 0.5 * x + u
        ...     def read(self, x): return x
        >>> HeldInput(Integrator(), torch.ones(1)).step(torch.tensor([2.0]))
        tensor([2.])

    What the network knows of its dynamics is handed on: closed forms `push(x, u, dx, du)` and
    `jacobian(x, u)`, and `reduced(u)`, `bounds(low, high)`, `lipschitz(low, high)` as a `Cell` has them.
    """

    def __init__(self, model: Network, u: Tensor) -> None:
        self.model = model
        self.u = u

    def step(self, x: Tensor) -> Tensor:
        return self.model.step(x, _typed(self.u, x.dtype))

    def observe(self, x: Tensor) -> Tensor:
        return self.model.read(x)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return _push(self.model, x, _typed(self.u, x.dtype), frame)

    def jacobian(self, x: Tensor) -> Tensor:
        own = _own(self.model, "jacobian")
        if own is not None:
            return own(x, _typed(self.u, x.dtype))
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return self.push(x, eye.expand(*x.shape, x.shape[-1]))[1]

    def reduced(self) -> Reduction | None:
        """A smaller system with the same fixed points; None if the network offers none."""
        own = _own(self.model, "reduced")
        return None if own is None else own(_typed(self.u, _dtype(self.model)))

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Corners of a box where orbits end, `(*batch, state)`; None if the network knows none."""
        return _of_inputs(self.model, "bounds", self.u, self.u)

    def lipschitz(self) -> Tensor | None:
        """Certified upper bound on the Lipschitz constant of `step`, `(*batch)`; None if not known.

        In the Euclidean norm, on the box of `bounds`, or on the whole space if there is none.
        """
        return _of_inputs(self.model, "lipschitz", self.u, self.u)


def _typed(u: Tensor, dtype: torch.dtype) -> Tensor:
    """Inputs in the type of the states; symbols stay as they are."""
    return u.to(dtype) if u.is_floating_point() else u


def _dtype(model: Network) -> torch.dtype:
    """The type of the model's weights, float64 if it has none."""
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    return next((weight.dtype for weight in weights if weight.is_floating_point()), torch.float64)


def _of_inputs(model: Network, name: str, low: Tensor, high: Tensor) -> Any:
    own, dtype = _own(model, name), _dtype(model)
    return None if own is None else own(_typed(low, dtype), _typed(high, dtype))


class InputSet:
    """The network under any inputs of a box: for what holds whatever comes in, held or changing with time.

    Args:
        model: The network.
        low: Smallest value of each input component, `(*batch, input)`.
        high: Largest value of each, of the same shape.

    Raises:
        ValueError: The corners are not finite vectors of one shape, or one of `low` is above that of `high`.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch._C.Generator object at ...>
        >>> network = freeze(wrap_torch(nn.RNN(1, 1)))
        >>> every = InputSet(network, -torch.ones(1), torch.ones(1))
        >>> bool(every.lipschitz() < 1), every.bounds()[0].shape
        (True, torch.Size([1]))
    """

    def __init__(self, model: Network, low: Tensor, high: Tensor) -> None:
        if (
            low.shape != high.shape
            or not low.ndim
            or not (low.is_floating_point() and high.is_floating_point())
        ):
            raise ValueError(
                f"corners of shapes {tuple(low.shape)} and {tuple(high.shape)}, types {low.dtype} and "
                f"{high.dtype}, are no box of inputs: give vectors of real numbers, (*batch, input)."
            )
        if not (low.isfinite() & high.isfinite() & (low <= high)).all():
            raise ValueError(f"low={low.tolist()}, high={high.tolist()} is no box: give low <= high, finite.")
        self.model = model
        self.low = low
        self.high = high

    def at(self, u: Tensor) -> HeldInput:
        """The system with one input of the box held."""
        return HeldInput(self.model, u)

    def sample(self, generator: torch.Generator, count: int) -> list[HeldInput]:
        """Systems with inputs drawn uniformly in the box."""
        shape = (count, *self.low.shape)
        shares = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
        inputs = torch.lerp(self.low.double(), self.high.double(), shares.to(self.low.device))
        return [self.at(u) for u in inputs]

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Corners of a box where orbits end, `(*batch, state)`; None if the network knows none."""
        return _of_inputs(self.model, "bounds", self.low, self.high)

    def lipschitz(self) -> Tensor | None:
        """Certified upper bound on the Lipschitz constants of all steps, `(*batch)`; None if not known.

        In the Euclidean norm, on the box of `bounds`, or on the whole space if there is none. Below 1, any
        two orbits under the same inputs come together at least as fast as its powers.
        """
        return _of_inputs(self.model, "lipschitz", self.low, self.high)


class Driven:
    """The network driven by inputs: x' = step(x, u_t), a `Sequence` of systems.

    Args:
        model: The network.
        inputs: `(time, *batch, *input)`; leading axes of each broadcast against those of the states.

    Example:
        >>> driven = Driven(wrap_torch(nn.GRU(1, 8)), torch.zeros(100, 1))
        >>> len(driven), driven.at(99).step(torch.ones(5, 8)).shape
        (100, torch.Size([5, 8]))
    """

    def __init__(self, model: Network, inputs: Tensor) -> None:
        self.model = model
        self.inputs = inputs

    def at(self, time: int) -> HeldInput:
        """The map of one time step.

        Raises:
            IndexError: There is no input for it.
        """
        if not 0 <= time < len(self):
            raise IndexError(f"time {time} has no input: there are {len(self)}, counted from 0.")
        return HeldInput(self.model, self.inputs[time])

    def __len__(self) -> int:
        return len(self.inputs)


class ClosedLoop:
    """The network that feeds on its own output: x' = step(x, feedback(y)), y' = read(x').

    The state is (x, y) in one vector, so that the first input may differ from what the network would read
    off x; `start` makes one.

    Args:
        model: The network.
        feedback: The next input from the output, `(*batch, output)` to `(*batch, *input)`. Default: itself.
    """

    def __init__(self, model: Network, feedback: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        self.model = model
        self.feedback = feedback

    def start(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The state `(*batch, state + output)` of the loop; `y` defaults to what the network reads off x."""
        return torch.cat((x, self.model.read(x) if y is None else y), -1)

    def step(self, x: Tensor) -> Tensor:
        state = x[..., : self.model.state_size]
        return self.start(self.model.step(state, self.feedback(self.observe(x))))

    def observe(self, x: Tensor) -> Tensor:
        return x[..., self.model.state_size :]

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        size = self.model.state_size
        u, du = pushforward(self.feedback, (self.observe(x),), (frame[..., size:, :],))
        x, frame = _push(self.model, x[..., :size], u, frame[..., :size, :], du)
        y, dy = pushforward(self.model.read, (x,), (frame,))
        return torch.cat((x, y), -1), torch.cat((frame, dy), -2)


class Greedy:
    """The network of a language that is fed its own likeliest word: x' = step(x, word(x)), y = read(x).

    The state is that of the network alone, for the word follows from it. The map is smooth where one word is
    likeliest and jumps where two are: derivatives are those with the word held, and `margin` tells how far
    the next word is from being another.

    Args:
        model: The network; its inputs are the numbers of symbols, its outputs one logit for each.

    Example:
        >>> class Parrot:
        ...     state_size = 3
        ...     def step(self, x, u): return 0.5 * x + nn.functional.one_hot(u, 3)
        ...     def read(self, x): return x
        >>> system = Greedy(Parrot())
        >>> x = system.start(torch.zeros(1, 3), torch.tensor([2]))
        >>> system.symbol(x).item(), system.step(x).tolist()
        (2, [[0.0, 0.0, 1.5]])
    """

    def __init__(self, model: Network) -> None:
        self.model = model

    def start(self, x: Tensor, u: Tensor) -> Tensor:
        """States after the first words `u` `(*batch)`, which are given from outside."""
        return self.model.step(x, u.expand(x.shape[:-1]))

    def symbol(self, x: Tensor) -> Tensor:
        """The likeliest next word `(*batch)`; of words that are equally likely, that of the lowest number."""
        return likeliest(self.model.read(x))

    def margin(self, x: Tensor) -> Tensor:
        """By how much the likeliest word's logit is above the second's, `(*batch)`; zero for a tie."""
        return _lead(self.model.read(x))

    def follow(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`symbol`, `margin` and `step` at once, for which the outputs are read once."""
        y = self.model.read(x)
        symbol = likeliest(y)
        return symbol, _lead(y), self.model.step(x, symbol)

    def step(self, x: Tensor) -> Tensor:
        return self.model.step(x, self.symbol(x))

    def observe(self, x: Tensor) -> Tensor:
        return self.model.read(x)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return _push(self.model, x, self.symbol(x), frame)

    def jacobian(self, x: Tensor) -> Tensor:
        return HeldInput(self.model, self.symbol(x)).jacobian(x)


def likeliest(y: Tensor) -> Tensor:
    """The lowest index of those with the largest output: `(*batch, output)` to `(*batch)`.

    Which of several equal values `argmax` gives is not laid down, and may differ between devices.
    """
    first = torch.arange(y.shape[-1], device=y.device)
    return torch.where(y == y.amax(-1, keepdim=True), first, y.shape[-1] - 1).amin(-1)


def _lead(y: Tensor) -> Tensor:
    """By how much the largest output is above the second."""
    first, second = y.topk(2, dim=-1).values.unbind(-1)
    return first - second


class Wrapped(nn.Module):
    """A cell and a readout as a `Network`; `wrap_torch` makes one."""

    def __init__(self, cell: Cell, readout: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.cell = cell
        self.readout = nn.Identity() if readout is None else readout

    @property
    def state_size(self) -> int:
        return self.cell.state_size

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return self.cell.step(x, u)

    def read(self, x: Tensor) -> Tensor:
        return self.readout(self.cell.output(x))

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.cell.push(x, u, dx, du)

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        return self.cell.jacobian(x, u)

    def reduced(self, u: Tensor) -> Reduced | None:
        return self.cell.reduced(u)

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor] | None:
        return self.cell.bounds(low, high)

    def lipschitz(self, low: Tensor, high: Tensor) -> Tensor | None:
        return self.cell.lipschitz(low, high)


def wrap_torch(
    module: nn.LSTM | nn.GRU | nn.RNN, readout: Callable[[Tensor], Tensor] | None = None
) -> Wrapped:
    """Turn a recurrent module of torch into a `Network`, ready for `freeze` and `HeldInput`.

    The state is that of the layers one after the other, the lowest first: h, or h and c for an LSTM.

    Args:
        module: One direction, any number of layers. Its weights are copied.
        readout: Outputs from the top layer's h, `(*batch, hidden)` to `(*batch, output)`. Default: h itself.

    Raises:
        TypeError: `module` is none of the three.
        ValueError: It is bidirectional or has projections.

    Example:
        >>> network = wrap_torch(nn.GRU(1, 8, num_layers=2), nn.Linear(8, 1))
        >>> network.state_size, network.read(network.step(torch.zeros(5, 16), torch.ones(1))).shape
        (16, torch.Size([5, 1]))
    """
    make: Callable[[int, int], Cell]
    if isinstance(module, nn.LSTM):
        make = LSTM
    elif isinstance(module, nn.GRU):
        make = partial(GRU, reset="after")
    elif isinstance(module, nn.RNN):
        make = partial(Elman, nonlinearity=module.nonlinearity)
    else:
        raise TypeError(
            f"module of type {type(module).__name__} is not possible: give nn.LSTM, nn.GRU or nn.RNN."
        )
    if module.bidirectional:
        raise ValueError(
            "bidirectional=True is not possible: a network that reads backwards is no dynamical system."
        )
    if module.proj_size:
        raise ValueError(f"proj_size={module.proj_size} is not possible: give an LSTM without projections.")
    like, layers = next(module.parameters()), []
    for number in range(module.num_layers):
        cell = make(module.hidden_size if number else module.input_size, module.hidden_size)
        layers.append(cell.to(like.device, like.dtype))
        with torch.no_grad():
            for name, parameter in cell.named_parameters():
                given = getattr(module, f"{name}_l{number}", None)  # there are no biases under bias=False
                parameter.zero_() if given is None else parameter.copy_(given)
    return Wrapped(layers[0] if len(layers) == 1 else Stack(layers), readout).train(module.training)
