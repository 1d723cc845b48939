"""The one contract every recurrent cell keeps."""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn


def check_sizes(**sizes: int) -> None:
    """Refuse anything but whole numbers of at least 1, by name.

    Raises:
        ValueError: A size is not a whole number of at least 1.
    """
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}={size!r} is not possible: sizes are whole numbers of at least 1.")


class Cell(nn.Module, abc.ABC):
    """One step of a recurrent network on one flat state vector.

    Whatever a cell remembers is packed into a single vector: an LSTM packs hidden and cell state, a stack
    packs all its layers. Give `step` and the network can be trained, saved, watched and analysed; nothing
    downstream asks what kind of cell it is.

    Attributes:
        input_size: Length of one input vector.
        state_size: Length of the flat state vector.
        output_size: Length of what the cell shows to the next layer.
        input_bound: Largest absolute value an input component will have. Only certificates (such as that
            of `StableLSTM`) use it.
    """

    input_size: int
    state_size: int
    output_size: int
    input_bound: float = 1.0

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
