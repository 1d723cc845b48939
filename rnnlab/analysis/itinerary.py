"""What is said along the way? Itineraries: the symbols that orbits go through, and when they repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from rnnlab.analysis.states import batch_axes, check_states, to_numpy
from rnnlab.systems import System

_SPREAD = 1.25  # growth of the times at which a state is kept to wait for its return
_DIRECTIONS = 16  # in which states are recorded
_STRETCHES = 4  # of a loop, from each of which to the next states must come closer by half
_ROUNDING = 1e-12  # relative distance of states that is no distance


@torch.no_grad()
def itinerary(
    system: System, x0: Tensor, *, steps: int = 1600, repeats: int = 3, share: float = 0.25
) -> xr.Dataset:
    """The symbols along each orbit, and whether they end in a loop.

    Symbols are whole numbers, so that a loop is one exactly or not at all. Whether it goes on for ever only
    the states can tell. The verdict is one of

    - **proven**: the state itself has come back, bit for bit. What is computed then repeats for ever.
    - **converging**: the end of the record repeats, at least `repeats` times and for at least `share` of all
      steps, and the states run into a cycle: from each quarter of the loop to the next the largest distance
      of states one cycle apart falls to a half or less, or is rounding. Going on like this they have no
      further to go than they went in the last quarter, and the margins would stay above zero if they lost as
      much again. (Quarters are of whole cycles: a cycle seen less than five times has fewer parts.)
    - **repeating**: the end of the record repeats as above, but the states do not say that it will go on:
      they part, drift, come together too slowly to tell, go round on a torus or wander, or their way may
      lead past the border to another symbol. Each of these has ended many a loop.
    - **undecided**: no loop. The symbols may be chaotic, or the transient or the loop too long for so many
      steps.
    - **diverged**: the state has left the finite numbers.

    All but the first are what the record shows; a longer one may show more. Of several periods the one counts
    that explains the longest end of the record, so that a long stretch of `a b a b` in a longer loop is not
    the loop.

    The system has, beside `step(x)`, a method `symbol(x)`, states `(*batch, state)` to whole numbers
    `(*batch)`. It may have `margin(x)`, how far the symbol is from being another, zero for a tie; and
    `follow(x)`, which gives symbols, margins and next states at once where they have most of the work in
    common. `rnnlab.autonomous.Greedy` makes one of a network.

    Once all states have come back no more steps are computed: the rest of the record is known. Memory:
    17 numbers a step and orbit.

    Args:
        system: The system.
        x0: Initial states, `(sample, state)` or `(probe, sample, state)`, float64.
        steps: Length of the record, which begins with the symbols of `x0`.
        repeats: How often a loop must be seen, at least 3.
        share: For which share of the steps, in (0, 1].

    Returns:
        A dataset with

        - `symbol` `(probe, sample, time)`; -1 once diverged;
        - `kind` `(probe, sample)`: "proven", "converging", "repeating", "undecided" or "diverged";
        - `period` `(probe, sample)`: of the loop of symbols, the shortest; 0 where there is none;
        - `transient` `(probe, sample)`: steps before the loop, the earliest time from which the record
          repeats; -1 where there is none;
        - `state_period` `(probe, sample)`: after how many steps the state came back or nearly does, a
          multiple of the period; 0 without a loop, and where it only repeats;
        - `first_distance`, `last_distance` `(probe, sample)`: largest distance of states one cycle apart
          in the first and in the last part of what repeats, where it only repeats the cycle along which
          states come closest; estimated from 16 random directions where states are longer; NaN without a
          loop, and of one that was proven before it was seen twice;

        and of a system with margins

        - `margin` `(probe, sample)`: the smallest one in the last cycle; NaN without a loop;
        - `ties` `(probe, sample)`: steps of the record with margin zero.

    Raises:
        TypeError: The system has no `symbol`.
        ValueError: An option is out of range; `x0` can't be used; symbols are no whole numbers, one a state.

    References:
        D. Lind, B. Marcus, "An introduction to symbolic dynamics and coding", Cambridge, 1995. Periods of
        the end of a record: the Z algorithm, D. Gusfield, "Algorithms on strings, trees and sequences",
        Cambridge, 1997, section 1.3. Returns of states: R. P. Brent, "An improved Monte Carlo factorization
        algorithm", BIT 20, 1980.

    Example:
        The digits of 1/6 = 0.1666...

        >>> import torch
        >>> class Digits:
        ...     def step(self, x): return 10 * x % 6
        ...     def observe(self, x): return x / 6
        ...     def symbol(self, x): return (10 * x[..., 0] // 6).long()
        >>> found = itinerary(Digits(), torch.ones(1, 1).double(), steps=40)
        >>> found.symbol[0, :5].values.tolist(), found.transient.item(), found.period.item()
        ([1, 6, 6, 6, 6], 1, 1)
        >>> found.kind.item()
        'proven'
    """
    for name, value, least in (("steps", steps, 1), ("repeats", repeats, 3)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} is not possible: give a whole number of at least {least}.")
    if not 0 < share <= 1:
        raise ValueError(f"share={share!r} is not possible: give a number above 0 and up to 1.")
    if not hasattr(system, "symbol"):
        raise TypeError(
            f"a {type(system).__name__} has no symbols: give a system with symbol(x), such as Greedy(model)."
        )
    check_states(system, x0)
    record = _follow(system, x0, steps)

    found: dict[str, np.ndarray] = {
        "kind": np.full(record.rows, "undecided", dtype="U10"),
        "period": np.zeros(record.rows, int),
        "transient": np.full(record.rows, -1),
        "state_period": np.zeros(record.rows, int),
        "first_distance": np.full(record.rows, np.nan),
        "last_distance": np.full(record.rows, np.nan),
    }
    if record.margin is not None:
        found["margin"] = np.full(record.rows, np.nan)
        found["ties"] = (record.margin == 0).sum(-1)
    for row in range(record.rows):
        if record.diverged[row]:
            found["kind"][row] = "diverged"
            continue
        symbol = record.symbol[row]
        cycle = record.cycle(row)
        period = _shortest(cycle) if len(cycle) else _of_the_end(symbol, repeats, share * steps)
        if not period:
            continue
        start = _start(symbol, period)
        sketch = record.sketch[row, start:]
        margin = None if record.margin is None else record.margin[row, start:]
        around = len(cycle) or _closest(sketch, period, repeats)
        distance = _distances(sketch, around)
        if len(cycle):
            kind = "proven"
        else:
            kind = "converging" if _closes(distance, record.scale[row], margin, around) else "repeating"
        found["kind"][row] = kind
        found["period"][row], found["transient"][row] = period, start
        found["state_period"][row] = 0 if kind == "repeating" else around
        if len(distance):
            found["first_distance"][row], found["last_distance"][row] = distance[0], distance[-1]
        if margin is not None:
            found["margin"][row] = margin[-around:].min()

    axes, shape = batch_axes(x0), x0.shape[:-1]
    units = {name: {"units": "time steps"} for name in ("period", "transient", "state_period")}
    return xr.Dataset(
        {
            "symbol": ((*axes, "time"), record.symbol.reshape(*shape, steps)),
            **{name: (axes, values.reshape(shape), units.get(name, {})) for name, values in found.items()},
        },
        coords={"time": ("time", np.arange(steps), {"units": "time steps"})},
        attrs={"analysis": "itinerary", "steps": steps, "repeats": repeats, "share": share},
    )


class _Record(NamedTuple):
    """What is kept of the orbits, one a row."""

    symbol: np.ndarray  # (row, time)
    margin: np.ndarray | None  # (row, time)
    sketch: np.ndarray  # (row, time, direction): states
    scale: np.ndarray  # (row): largest number among these
    since: np.ndarray  # (row): when the state was first that which came back
    state_period: np.ndarray  # (row)
    diverged: np.ndarray  # (row)

    @property
    def rows(self) -> int:
        return len(self.symbol)

    def cycle(self, row: int) -> np.ndarray:
        """The symbols between a state and its return; none if it did not return."""
        start = self.since[row]
        return self.symbol[row, start : start + self.state_period[row]]


def _follow(system: Any, x: Tensor, steps: int) -> _Record:
    rows, size = x.shape[:-1].numel(), x.shape[-1]
    directions = _directions(size).to(x.device)
    since = torch.zeros(rows, dtype=torch.int64, device=x.device)
    period = torch.zeros_like(since)
    diverged = torch.zeros_like(since, dtype=torch.bool)
    symbols, margins, sketches = [], [], []
    kept, kept_at = x, 0
    for time in range(steps + 1):
        diverged |= ~x.isfinite().all(-1).flatten()
        if time:
            back = (x.view(torch.int64) == kept.view(torch.int64)).all(-1).flatten() & (period == 0)
            since[back], period[back] = kept_at, time - kept_at
        if time == steps or bool(((period > 0) | diverged).all()):
            break
        if time >= _SPREAD * kept_at:
            kept, kept_at = x, time
        symbol, margin, following = _moment(system, x)
        if not time:
            _check_symbols(symbol, x)
        symbols.append(symbol.flatten().long().masked_fill(diverged, -1))
        sketches.append(x.flatten(0, -2) @ directions)
        if margin is not None:
            margins.append(margin.flatten())
        x = following
    # what was not computed repeats what was
    start, length, lost = (to_numpy(values) for values in (since, period, diverged))
    time, made = np.arange(steps), len(symbols)
    again = start[:, None] + (time - start[:, None]) % np.maximum(length, 1)[:, None]
    known = np.where(time < made, time, np.where(lost[:, None], made - 1, again))
    row = np.arange(rows)[:, None]

    def whole(parts: list[Tensor]) -> np.ndarray:
        return to_numpy(torch.stack(parts, 1))[row, known]

    sketch = whole(sketches)
    symbol = whole(symbols)
    symbol[lost[:, None] & (time >= made)] = -1
    scale = np.abs(sketch).max((1, 2))
    return _Record(symbol, whole(margins) if margins else None, sketch, scale, start, length, lost)


def _moment(system: Any, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Symbols, margins and next states."""
    if hasattr(system, "follow"):
        return system.follow(x)
    margin = getattr(system, "margin", None)
    return system.symbol(x), None if margin is None else margin(x), system.step(x)


def _check_symbols(symbol: Any, x: Tensor) -> None:
    fits = isinstance(symbol, Tensor) and symbol.shape == x.shape[:-1] and not symbol.is_floating_point()
    if not fits or bool((symbol < 0).any()):
        said = (
            f"shape {tuple(symbol.shape)} and type {symbol.dtype}" if isinstance(symbol, Tensor) else symbol
        )
        raise ValueError(
            f"the symbols of states {tuple(x.shape)} are {said}: give one whole number from 0 on for each."
        )


def _directions(size: int) -> Tensor:
    """What states are multiplied by for the record: all of them, or random directions that keep lengths."""
    if size <= _DIRECTIONS:
        return torch.eye(size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(size, _DIRECTIONS, generator=generator, dtype=torch.float64)
    return numbers / _DIRECTIONS**0.5


def _shortest(cycle: np.ndarray) -> int:
    """The shortest period of a cycle: a divisor of its length."""
    length = len(cycle)
    return next(p for p in range(1, length + 1) if not length % p and (cycle[p:] == cycle[:-p]).all())


def _of_the_end(symbol: np.ndarray, repeats: int, least: float) -> int:
    """The period that explains the longest end of a record, the shortest if several do; 0 if none does."""
    backwards = _prefixes(symbol[::-1].tolist())
    period = np.arange(1, len(symbol) // repeats + 1)
    length = period + backwards[period] if len(period) else period
    length = np.where(length >= np.maximum(repeats * period, least), length, 0)
    return int(period[length.argmax()]) if length.any() else 0


def _prefixes(word: list[int]) -> np.ndarray:
    """How many symbols from each place on are those that the word begins with (the Z algorithm)."""
    size = len(word)
    found = [size] + [0] * (size - 1)
    left = right = 0  # the match that reaches furthest
    for i in range(1, size):
        match = min(right - i, found[i - left]) if i < right else 0
        while i + match < size and word[match] == word[i + match]:
            match += 1
        found[i] = match
        if i + match > right:
            left, right = i, i + match
    return np.array(found)


def _start(symbol: np.ndarray, period: int) -> int:
    """The earliest time from which the record repeats."""
    breaks = np.flatnonzero(symbol[period:] != symbol[:-period])
    return int(breaks[-1]) + 1 if len(breaks) else 0


def _closest(sketch: np.ndarray, period: int, repeats: int) -> int:
    """The multiple of the period, seen often enough, after which the last states come closest."""
    multiples = period * np.arange(1, max(len(sketch) // (repeats * period), 1) + 1)
    distance = np.linalg.norm(sketch[-1 - multiples] - sketch[-1], axis=-1)
    return int(multiples[(distance <= 2 * distance.min()).argmax()])


def _stretch(length: int, period: int) -> tuple[int, int]:
    """How many stretches of whole cycles there are in so many steps, the same in each, and their length."""
    count = min(_STRETCHES, length // period)
    return count, (length // period // count) * period if count else 0


def _distances(sketch: np.ndarray, period: int) -> np.ndarray:
    """Largest distance of states one cycle apart in each stretch, from the first to the last."""
    distance = np.linalg.norm(sketch[period:] - sketch[:-period], axis=-1)
    count, size = _stretch(len(distance), period)
    return distance[len(distance) - count * size :].reshape(count, -1).max(-1) if count else distance[:0]


def _closes(distance: np.ndarray, scale: float, margin: np.ndarray | None, period: int) -> bool:
    """Whether states come together fast enough to end before any margin does."""
    floor = _ROUNDING * max(scale, 1.0)
    if not (distance[1:] <= np.maximum(distance[:-1] / 2, floor)).all():
        return False
    if margin is None:
        return True
    _, size = _stretch(len(margin) - period, period)
    last = margin[-period:]
    lost = margin[-period - size :][:period] - last  # over the last stretch, at each place of the loop
    return bool((last > lost.clip(0)).all())
