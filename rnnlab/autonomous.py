"""Networks as dynamical systems: the bridge between what is trained and what is analysed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from rnnlab.cells import GRU, LSTM, Elman, Stack
from rnnlab.cells.base import Cell

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
    """

    def __init__(self, model: Network, u: Tensor) -> None:
        self.model = model
        self.u = u

    def step(self, x: Tensor) -> Tensor:
        return self.model.step(x, self.u.to(x.dtype) if self.u.is_floating_point() else self.u)

    def observe(self, x: Tensor) -> Tensor:
        return self.model.read(x)


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
