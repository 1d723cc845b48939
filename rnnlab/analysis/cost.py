"""The cost of sequences as a function of all weights of a network: what smoothness and landscapes look at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

TOGETHER = 2**13  # weights up to which many networks side by side are faster than one after the other
ENTRIES = 2**24  # numbers held at once by networks side by side


class Cost:
    """V_N(theta), Ribeiro et al. (2020), eq. 2: the mean loss over N time steps and all sequences.

    theta holds all parameters of the network, one after the other; the network itself is not touched. A sum
    over time and sequences is divided by their number.

    A horizon of N steps are the first N, from the network's initial state. An objective that is asked at the
    end only, such as `rnnlab.objectives.LastStep`, has fewer targets than inputs: its horizon are the last N
    inputs, before which the network is in its initial state, so that the answer stays what was to be learned
    and the way back to its causes has N steps.

    Args:
        network: An `nn.Module` in float64, as `freeze` makes one. Called with inputs `(time, sequence, ...)`
            it gives `(outputs, state)`, as `RecurrentModel` does; one that cannot be called is run by
            `step(x, u)` and `read(x)` from the zero state of length `state_size`.
        inputs: `(time, sequence, ...)`.
        targets: `(time, sequence, ...)`, or fewer time steps, that belong to the last of the inputs.
        objective: From outputs and targets to scalars by name, "loss" among them; its attribute `reduction`
            says whether that is a mean or a sum.

    Attributes:
        network: A copy of the network, in eval mode.
        theta: Its parameters, `(parameter,)`.
        steps: The longest horizon.
        shortest: The shortest one: as many steps as are asked for.

    Raises:
        TypeError: The network is no module, cannot be run, or does not give outputs and a state.
        ValueError: It has no parameters, or they are not float64; inputs and targets do not fit.

    Example:
        >>> from rnnlab.objectives import MeanSquaredError
        >>> class Integrator(nn.Module):
        ...     state_size = 1
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.a = nn.Parameter(torch.ones(1).double())
        ...     def step(self, x, u): return self.a * x + u
        ...     def read(self, x): return x
        >>> u, z = torch.ones(3, 1, 1).double(), torch.zeros(3, 1, 1).double()
        >>> cost = Cost(Integrator(), u, z, MeanSquaredError())
        >>> value, gradient = cost.gradients(cost.theta[None])  # x = 1, 1 + a, 1 + a + a^2
        >>> round(value.item(), 6), round(gradient.item(), 6)  # (1 + 4 + 9) / 3, (4 + 18) / 3
        (4.666667, 7.333333)
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        objective: Callable[[Tensor, Tensor], Mapping[str, Tensor]],
    ) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"a {type(network).__name__} has no parameters: give an nn.Module.")
        named = {n: p.detach() for n, p in network.named_parameters() if p.is_floating_point()}
        if not named:
            raise ValueError(f"the {type(network).__name__} has no parameters: its cost depends on nothing.")
        for name, parameter in named.items():
            if parameter.dtype != torch.float64:
                raise ValueError(
                    f"{name} of type {parameter.dtype} is not possible: give float64, as freeze(model) makes."
                )
        if inputs.ndim < 2 or targets.ndim < 2 or inputs.shape[1] != targets.shape[1]:
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)} do not fit targets of shape {tuple(targets.shape)}: "
                "give (time, sequence, ...) for both."
            )
        if not 1 <= len(targets) <= len(inputs):
            raise ValueError(
                f"{len(targets)} time steps of targets do not fit {len(inputs)} of inputs: give as many, or "
                "those of the last steps."
            )
        self.callable = type(network).forward is not nn.Module.forward
        self.stepwise = all(hasattr(network, name) for name in ("step", "read", "state_size"))
        if not (self.callable or self.stepwise):
            raise TypeError(f"a {type(network).__name__} cannot be run: give it forward, or step and read.")
        self.inputs, self.targets, self.objective = inputs, targets, objective
        self.steps, self.shortest = len(inputs), 1 if len(targets) == len(inputs) else len(targets)
        self.theta = torch.cat([p.flatten() for p in named.values()])
        self._shapes = {name: p.shape for name, p in named.items()}
        self.network: Any = copy.deepcopy(network).eval().requires_grad_(False)
        self._methods = _Methods(self.network)
        self._side_by_side = len(self.theta) <= TOGETHER and self._steps_as_it_runs()

    def call(self, theta: Tensor, method: str, *arguments: Any) -> Any:
        """A method of the network with the weights `theta`."""
        parts = theta.split([shape.numel() for shape in self._shapes.values()])
        weights = {
            f"network.{name}": part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return functional_call(self._methods, weights, (method, *arguments))

    def at(self, theta: Tensor, horizon: int | None = None, *, stepwise: bool = False) -> Tensor:
        """V_N of one vector of weights, differentiable once.

        Args:
            theta: `(parameter,)`.
            horizon: N. Default: all steps.
            stepwise: Run the network by its `step`, where it has a choice.

        Raises:
            ValueError: There are not so many steps, or the objective asks for more.
        """
        n = self.steps if horizon is None else horizon
        if not isinstance(n, int) or isinstance(n, bool) or not self.shortest <= n <= self.steps:
            raise ValueError(
                f"horizon {n!r} is not possible: give a whole number of steps from {self.shortest} to "
                f"{self.steps}."
            )
        inputs, targets = self.inputs[-n:], self.targets
        if len(targets) == self.steps:
            inputs, targets = self.inputs[:n], targets[:n]
        outputs = self.call(theta, "unrolled" if stepwise or not self.callable else "forwarded", inputs)
        loss = self.objective(outputs, targets)["loss"]
        if getattr(self.objective, "reduction", "mean") == "sum":
            loss = loss / (targets.shape[0] * targets.shape[1])
        return loss

    @torch.no_grad()
    def values(self, points: Tensor, horizon: int | None = None) -> Tensor:
        """V_N at many vectors of weights `(point, parameter)`: `(point,)`."""
        together = self._attempt(lambda theta: self.at(theta, horizon, stepwise=True), points)
        if together is not None:
            return together
        return torch.stack([self.at(theta, horizon) for theta in points])

    @torch.enable_grad()
    def gradients(self, points: Tensor, horizon: int | None = None) -> tuple[Tensor, Tensor]:
        """V_N and its gradients at `(point, parameter)`: `(point,)` and `(point, parameter)`."""
        function = grad_and_value(lambda theta: self.at(theta, horizon, stepwise=True))
        together = self._attempt(function, points)
        if together is not None:
            return together[1], together[0]
        values, gradients = points.new_empty(len(points)), torch.empty_like(points)
        for i, point in enumerate(points):
            theta = point.detach().requires_grad_()
            value = self.at(theta, horizon)
            (gradients[i],) = torch.autograd.grad(value, theta, materialize_grads=True)
            values[i] = value.detach()
        return values, gradients

    @torch.no_grad()
    def _steps_as_it_runs(self) -> bool:
        """Whether the network run by its steps does what it does when called."""
        if not (self.callable and self.stepwise):
            return self.stepwise
        steps, whole = (self.call(self.theta, way, self.inputs) for way in ("unrolled", "forwarded"))
        return steps.shape == whole.shape and torch.allclose(steps, whole, rtol=1e-6, equal_nan=True)

    def _attempt(self, function: Any, points: Tensor) -> Any:
        """The function at all points side by side; None for networks that are better taken one by one."""
        if not self._side_by_side:
            return None
        state = getattr(self.network, "state_size", 1)
        each = len(self.theta) + 16 * self.steps * self.inputs.shape[1] * state
        try:
            return vmap(function, chunk_size=max(1, ENTRIES // each))(points)
        except RuntimeError:  # an operation of the network that torch cannot batch
            self._side_by_side = False
            return None


class _Methods(nn.Module):
    """Ways to run a network as a `forward`, which is all that `functional_call` calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, method: str, *arguments: Any) -> Any:
        return getattr(self, method)(*arguments)

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        return self.network.step(x, u)

    def forwarded(self, inputs: Tensor) -> Tensor:
        found = self.network(inputs)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], Tensor):
            raise TypeError(
                f"{type(self.network).__name__}(inputs) gives a {type(found).__name__}: it must give "
                "(outputs, state), with outputs (time, sequence, output)."
            )
        return found[0]

    def unrolled(self, inputs: Tensor) -> Tensor:
        x = torch.zeros(inputs.shape[1], self.network.state_size, dtype=torch.float64, device=inputs.device)
        outputs = []
        for u in inputs:
            x = self.network.step(x, u)
            outputs.append(self.network.read(x))
        return torch.stack(outputs)
