"""Loss and metrics as one call."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

Reduction = Literal["mean", "sum"]


class Objective(Protocol):
    """What is minimised, and what is worth knowing beside it.

    Attributes:
        reduction: Whether "loss" is a mean or a sum over the batch. It decides how gradients of several
            processes are put together.
    """

    reduction: Reduction

    def __call__(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised."""
        ...


class MeanSquaredError:
    """Squared error of a prediction, summed over output components.

    Args:
        reduction: "mean" over time and batch, as Ribeiro et al. (2020) print their eq. 2, or "sum", as they
            ran it. With gradient clipping the two train differently: their sum is clipped at every update.

    Raises:
        ValueError: `reduction` is something else.

    Example:
        >>> import torch
        >>> loss = MeanSquaredError(reduction="sum")(torch.ones(4, 2, 1), torch.zeros(4, 2, 1))
        >>> loss["loss"].item(), loss["mse"].item()
        (8.0, 1.0)
    """

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction={reduction!r} is not possible: choose mean or sum.")
        self.reduction: Reduction = reduction

    def __call__(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compare `(time, batch, output)` predictions with targets of the same shape."""
        squared = (outputs - targets).square()
        total = squared.sum()
        mean = total / squared[..., 0].numel()
        return {"loss": mean if self.reduction == "mean" else total, "mse": mean.detach()}
