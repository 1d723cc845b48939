"""Loss and metrics as one call."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

from torch import Tensor
from torch.nn import functional as F

from rnnlab.softmax import cross_entropy_sum

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


class LinearOutputs(NamedTuple):
    """Outputs that are not multiplied out, features @ weight.T + bias: those of a large vocabulary.

    Attributes:
        features: What goes into the linear readout, `(time, batch, hidden)`.
        weight: Its matrix, `(output, hidden)`.
        bias: `(output,)`, or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None


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
        self.reduction: Reduction = _known(reduction)

    def __call__(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compare `(time, batch, output)` predictions with targets of the same shape."""
        squared = (outputs - targets).square()
        total = squared.sum()
        mean = total / squared[..., 0].numel()
        return {"loss": mean if self.reduction == "mean" else total, "mse": mean.detach()}


class CrossEntropy:
    """Cross entropy of classes, in nats, with outputs taken for logits, and the share of right answers.

    Args:
        reduction: "mean" over time and batch, or "sum".
        scored: How many steps at the end count for `accuracy`. Default: all.

    Raises:
        ValueError: `reduction` is something else, or `scored` no whole number of at least 1.

    Example:
        >>> import torch
        >>> scores = CrossEntropy()(torch.zeros(4, 2, 8), torch.zeros(4, 2, dtype=torch.int64))
        >>> round(scores["loss"].item(), 4), scores["accuracy"].item()
        (2.0794, 1.0)
    """

    def __init__(self, *, reduction: Reduction = "mean", scored: int | None = None) -> None:
        self.reduction: Reduction = _known(reduction)
        if scored is not None and (not isinstance(scored, int) or isinstance(scored, bool) or scored < 1):
            raise ValueError(
                f"scored={scored!r} is not possible: give a whole number of at least 1, or null."
            )
        self.scored = scored

    def __call__(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compare logits `(time, batch, class)` with classes `(time, batch)`."""
        total = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="sum")
        mean = total / targets.numel()
        last = slice(None if self.scored is None else -self.scored, None)
        right = (outputs[last].argmax(-1) == targets[last]).to(outputs.dtype).mean()
        loss = mean if self.reduction == "mean" else total
        return {"loss": loss, "cross_entropy": mean.detach(), "accuracy": right}


class TokenCrossEntropy:
    """Cross entropy of the next word among many, in nats, without the logits of all words in memory at once.

    The mean is over the words that are asked: targets of -100 are not. So the mean over an epoch, and
    `perplexity`, its exponential, are over all words of the text, however it was cut.

    Args:
        reduction: "mean" over words, or "sum".

    Raises:
        ValueError: `reduction` is something else.

    Example:
        >>> import torch
        >>> nothing = LinearOutputs(torch.zeros(4, 2, 3), torch.zeros(8, 3), None)
        >>> scores = TokenCrossEntropy()(nothing, torch.tensor([[1, 2], [3, 4], [5, 6], [7, -100]]))
        >>> round(scores["loss"].exp().item(), 4), scores["weight"].item()
        (8.0, 7.0)
    """

    reads = True  # takes outputs that are not multiplied out

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = _known(reduction)

    def __call__(self, outputs: LinearOutputs | Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compare outputs, or logits `(time, batch, class)`, with classes `(time, batch)`."""
        if isinstance(outputs, LinearOutputs):
            total = cross_entropy_sum(*outputs, targets)
        else:
            total = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="sum")
        count = (targets != -100).sum().to(total.dtype)
        mean = total / count.clamp(min=1)
        loss = mean if self.reduction == "mean" else total
        return {"loss": loss, "cross_entropy": mean.detach(), "weight": count}

    def conclude(self, means: dict[str, float]) -> dict[str, float]:
        """What follows from the means over an epoch: the perplexity, infinite where it is no float64."""
        nats = means["cross_entropy"]
        return {"perplexity": math.exp(nats) if nats < 700 else math.inf}


class LastStep:
    """An objective that is asked at the end of sequences only.

    Args:
        objective: What is asked there.

    Example:
        >>> import torch
        >>> LastStep(MeanSquaredError())(torch.arange(4.0).view(4, 1, 1), torch.ones(1, 1, 1))["mse"].item()
        4.0
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.reduction: Reduction = objective.reduction

    def __call__(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compare outputs `(time, batch, output)` with targets of the last step, `(1, batch, ...)`."""
        return self.objective(outputs[-1:], targets)


def _known(reduction: Reduction) -> Reduction:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r} is not possible: choose mean or sum.")
    return reduction
