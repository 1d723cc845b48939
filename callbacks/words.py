"""What a network of language says when it listens to itself, and when it begins to repeat itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis import itinerary
from rnnlab.autonomous import Greedy, Network

SHOWN = 40  # words of a text that are kept


class Words(AnalysisCallback):
    """The text that follows each held word when the likeliest word is fed back, epoch by epoch.

    Each text begins with a probe and one of several states: the first is zero, where texts of this network
    begin in training, the others are random. Stored is what `rnnlab.analysis.itinerary` finds, with the
    words themselves: `opening`, the first of them, and `loop`, one round of what repeats, begun where the
    numbers of its words come first in the order of dictionaries, so that equal loops are equal texts. Both
    end in " ..." after 40 words.

    Args:
        every: Look after every so many epochs.
        samples: Initial states for every word, the first of them zero.
        std: Standard deviation of the random ones; the paper's authors take 100 for hidden and cell state
            alike, which a network needs some hundred words to forget.
        seed: Seed of the random states.
        steps: Words said from each state, at most: a text whose state has come back is known.
        repeats: How often a loop must be seen.
        share: For which share of the words.
        **options: Further arguments of `AnalysisCallback`.

    Raises:
        ValueError: An option is out of range; when training starts, the task has no symbols.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 1,
        samples: int = 4,
        std: float = 100.0,
        seed: int = 0,
        steps: int = 1600,
        repeats: int = 3,
        share: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(
            "words",
            partial(itinerary, steps=steps, repeats=repeats, share=share),
            every=every,
            samples=samples,
            std=std,
            seed=seed,
            **{"draw": draw, "summary": summary, "share": "row"} | options,
        )
        self._vocabulary: Sequence[str] = ()

    def meet(self, task: Any, run_dir: Path) -> None:
        """Ask the task for its words too."""
        if not getattr(task, "symbols", False):
            raise ValueError(
                f"callbacks.words is not possible with {type(task).__name__}, whose inputs are no words: "
                "leave it out, or train with task=wikitext2."
            )
        self._vocabulary = getattr(task, "vocabulary", ())
        super().meet(task, run_dir)

    def initial_states(self, state_size: int, epoch: int = 0) -> Tensor:
        """`(sample, state)` in float64: zero, then random ones."""
        states = super().initial_states(state_size, epoch)
        states[0] = 0
        return states

    def _system(self, model: Network, u: Tensor, states: Tensor) -> tuple[Greedy, Tensor]:
        greedy = Greedy(model)
        return greedy, greedy.start(states, u)

    def _analyse(self, model: Network, device: torch.device, epoch: int) -> xr.Dataset:
        return told(super()._analyse(model, device, epoch), self._vocabulary)


def told(found: xr.Dataset, vocabulary: Sequence[str]) -> xr.Dataset:
    """What `itinerary` found, with `opening` and `loop` in words.

    Args:
        found: Its dataset.
        vocabulary: The words that symbols stand for. Without any the numbers are written.

    Example:
        >>> found = xr.Dataset({
        ...     "symbol": (("sample", "time"), [[2, 1, 0, 1, 0]]), "transient": ("sample", [1]),
        ...     "period": ("sample", [2]),
        ... })
        >>> text = told(found, ["the", "of", "History"])
        >>> text.opening.item(), text.loop.item()
        ('History of the of the', 'the of')
    """
    symbol = found["symbol"].transpose(..., "time")
    axes, shape = symbol.dims[:-1], symbol.shape[:-1]
    said = symbol.values.reshape(-1, symbol.shape[-1])
    transient, period = (found[name].transpose(*axes).values.ravel() for name in ("transient", "period"))
    opening = [_text(row, vocabulary) for row in said]
    rounds = [row[t : t + p] for row, t, p in zip(said, transient, period, strict=True)]
    loop = [_text(_first_rotation(row.tolist()), vocabulary) for row in rounds]
    return found.assign(
        opening=(axes, np.array(opening).reshape(shape)), loop=(axes, np.array(loop).reshape(shape))
    )


def _text(symbols: Iterable[int], vocabulary: Sequence[str]) -> str:
    numbers = [int(i) for i in symbols if i >= 0]
    words = [vocabulary[i] if vocabulary else str(i) for i in numbers[:SHOWN]]
    return " ".join(words) + (" ..." if len(numbers) > SHOWN else "")


def _first_rotation(loop: list[int]) -> list[int]:
    """The rotation that comes first in the order of dictionaries."""
    start = min(range(len(loop)), key=lambda i: loop[i:] + loop[:i], default=0)
    return loop[start:] + loop[:start]


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look: shares of texts that end in a loop, and of those proven to; medians; loops.

    A text without a loop counts as one with as many words before it as were said: a median below that number
    is that of all texts. The median period is that of the texts with a loop, or NaN.
    """
    kind = look["kind"]
    repeats = look["period"] > 0
    period = look["period"].where(repeats)
    loops = {(p, text) for p, text in zip(period.values.flat, look["loop"].values.flat, strict=True) if p > 0}
    return {
        "periodic": float(repeats.mean()),
        "proven": float((kind == "proven").mean()),
        "words_before": float(look["transient"].where(repeats, look.sizes["time"]).median()),
        "period": float(period.median()),
        "loops": float(len(loops)),
    }


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """Words before the loop and its period over epochs, and the loops of the last look as text."""
    from rnnlab.figures import words

    return {"words": words.over_epochs(looks), "words_loops": words.loops(looks)}
