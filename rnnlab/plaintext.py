"""Tables and facts as plain text, no wider than a screen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

NAMES = {"best_epoch": "at", "seconds": "time", "best_epoch_min": "from", "best_epoch_max": "to"}
APART = ("problems", "logs")  # each on a line of its own
LISTED = 20  # of several of a kind
SHORTEST = 6  # characters of a text that is cut to fit the screen


def layout(frame: pd.DataFrame, width: int | None, spare: Sequence[str] = ()) -> str:
    """A table in plain text, numbers to the right.

    Args:
        frame: A row for each line.
        width: Of the screen, in characters: texts are cut in the middle, the longest first. None: as wide as
            it is.
        spare: Columns that can be left out where that is not enough, the last first; a line says so.

    Example:
        >>> runs = pd.DataFrame({"job": ["lstm_sine_seed1", "b"], "lr": [0.1, 0.2], "best": [0.5, 0.25]})
        >>> print(layout(runs, 21))
        job          lr  best
        lstm_~eed1  0.1   0.5
        b           0.2  0.25
        >>> print(layout(runs, 14, spare=["lr"]).splitlines()[-1])
        not shown: lr
    """
    heads = {str(name): NAMES.get(str(name), str(name)) for name in frame}
    cells = {name: [heads[name], *(_cell(value, name) for value in frame[name])] for name in heads}
    numeric = {name for name in heads if all(_is_number(value) for value in frame[name])}
    widths = {name: max(map(len, column)) for name, column in cells.items()}
    left_out: list[str] = []

    def excess() -> int:
        return 0 if width is None else sum(widths.values()) + 2 * (len(widths) - 1) - width

    def shortest(name: str) -> int:
        return widths[name] if name in numeric else min(widths[name], max(SHORTEST, len(heads[name])))

    for name in reversed(spare):
        if excess() > sum(widths[other] - shortest(other) for other in widths):
            del widths[name]
            left_out.insert(0, name)
    while excess() > 0 and (long := [name for name in widths if widths[name] > shortest(name)]):
        widths[max(long, key=widths.__getitem__)] -= 1
    lines = []
    for i in range(len(frame) + 1):
        fitted = [
            cells[name][i].rjust(size) if name in numeric else _cut(cells[name][i], size).ljust(size)
            for name, size in widths.items()
        ]
        lines.append("  ".join(fitted).rstrip())
    if left_out:
        lines.append(f"not shown: {', '.join(left_out)}")
    return "\n".join(line[:width] for line in lines)


def _cut(text: str, width: int) -> str:
    """A text without its middle, if it is too long.

    >>> _cut("abcdefgh", 6)
    'abc~gh'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}~{text[len(text) - tail :]}"


def _cell(value: Any, name: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if name == "seconds":
        return duration(float(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value).partition("\n")[0]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def duration(seconds: float) -> str:
    """A span of time, short.

    >>> duration(4.25), duration(200), duration(7300)
    ('4.2s', '3m20s', '2h01m')
    """
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def facts(found: Mapping[str, Any]) -> str:
    """One fact a line; of several of a kind one line each. What there is not is left out.

    >>> print(facts({"state": "finished", "error": None, "looks": {"lyapunov": 3, "orbits": 4}}))
    state  finished
    looks  lyapunov: 3
           orbits: 4
    """
    lines: list[tuple[str, str]] = []
    for name, value in found.items():
        head = NAMES.get(name, name)
        if isinstance(value, Mapping):
            parts = [f"{key}: {_words(entry)}" for key, entry in value.items()]
        elif name in APART:
            parts = list(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            parts = [_words(value)] if value else []
        else:
            parts = [cell] if (cell := _cell(value, name)) != "-" else []
        lines += [(head if i == 0 else "", part) for i, part in enumerate(parts)]
    wide = max(len(head) for head, _ in lines)
    return "\n".join(f"{head:{wide}}  {part}" for head, part in lines)


def _words(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = [f"{len(value) - LISTED} more"] if len(value) > LISTED else []
        return ", ".join([*(_cell(entry, "") for entry in value[:LISTED]), *more])
    return _cell(value, "")


def as_json(found: Any) -> str:
    """Anything as JSON, with null for what is no finite number.

    >>> as_json([math.nan, 0.5]).split()
    ['[', 'null,', '0.5', ']']
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(found), indent=1)
