"""Pictures of many runs side by side, arranged by parameters; they stay where they are, in the runs."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from rnnlab import sweeps
from rnnlab.report.parts import fold, text
from rnnlab.report.sweep.tables import axes, combinations, level, seed_name
from rnnlab.report.words import number

FIRST = "bifurcation"  # what is shown to begin with, where there is such a picture
COLUMNS = 8  # of a table; where there are more, or it has many gaps, combinations follow one another
LISTED = 24  # of such a row; more of them open below it
Key = tuple[Any, ...]


def pictures(runs: pd.DataFrame, varied: sweeps.Varied, out: Path) -> str:
    """One picture for each combination of parameters, that of its median seed; the others to open.

    Which of the runs' pictures is shown is changed by a script; without one it is the first.

    Args:
        runs: Of `rnnlab.sweeps.read_sweep`.
        varied: Of `rnnlab.sweeps.varied`.
        out: Where the page will be: pictures are found by their paths from there.
    """
    there = {path: _names(Path(path)) for path in runs["path"].unique()}
    counts = Counter(name for names in there.values() for name in names)
    if not counts:
        return "<p>No run has left a picture yet (figures/*.png).</p>"
    names = sorted(counts, key=lambda name: (not name.startswith(FIRST), name))
    # of an ensemble, over its members
    best: dict[Any, float] = runs.groupby("path")["best"].median().to_dict()
    singles = runs.drop_duplicates("path")
    facts = dict(zip(singles.index, singles.to_dict("records"), strict=True))
    groups = {
        key: _median_first({i: best[facts[i]["path"]] for i in own if i in facts})
        for key, own in combinations(varied.values).items()
    }
    groups = {key: own for key, own in groups.items() if own}
    sign = -1 if runs["mode"].iloc[0] == "max" else 1
    firsts = {key: sign * best[facts[own[0]]["path"]] for key, own in groups.items()}
    order = sorted(groups, key=lambda key: (math.isnan(firsts[key]), firsts[key]))
    crossed = _is_crossed(list(groups), varied)
    cells = {}
    for key in groups if crossed else order:
        shots = [
            _shot(facts[i], best[facts[i]["path"]], there[facts[i]["path"]], names, out) for i in groups[key]
        ]
        cells[key] = _folded(shots)
    shown = _cross(cells, varied) if crossed else _list(cells, varied)
    columns = len({key[_place(varied)] for key in cells}) if crossed else 3
    options = "".join(
        f'<option value="{text(name)}">{text(name.removesuffix(".png"))} '
        f"({counts[name]} of {len(there)})</option>"
        for name in names
    )
    tools = (
        f'<form class="tools" hidden><label>picture <select name="picture">{options}</select></label>'
        '<label>size <input type="range" name="size" min="10" max="80" value="30"/></label></form>'
    )
    words = ["Of each combination the seed whose best value is the median; the others open below it."]
    words = words if any(len(own) > 1 for own in groups.values()) else []
    words += [] if crossed else ["In the order of the best values, from good to bad."]
    words += ["A click leads to the page of the run."]
    return f'<p>{" ".join(words)}</p>{tools}<div class="gallery" style="--columns: {columns}">{shown}</div>'


def _names(run_dir: Path) -> list[str]:
    try:
        with os.scandir(run_dir / "figures") as entries:
            return sorted(e.name for e in entries if e.name.endswith(".png") and not e.name.startswith("."))
    except OSError:
        return []


def _median_first(best: Mapping[int, float]) -> list[int]:
    """Runs, that with the median value first; those without a value last.

    >>> _median_first({0: 0.5, 1: float("nan"), 2: 0.1, 3: 0.3})
    [3, 2, 0, 1]
    """
    there = sorted((i for i in best if best[i] == best[i]), key=lambda i: best[i])
    middle = there[(len(there) - 1) // 2 :][:1]
    return [*middle, *(i for i in there if i not in middle), *(i for i in best if i not in there)]


def _shot(row: Mapping[Any, Any], best: float, there: Sequence[str], names: Sequence[str], out: Path) -> str:
    """One run's picture, or that it has none; the script finds in it which others there are."""
    folder = quote(os.path.relpath(row["path"], out))
    first = names[0]
    has = " ".join(str(i) for i, name in enumerate(names) if name in there)
    missing = first not in there
    page = Path(row["path"]) / "report.html"
    said = ", ".join(filter(None, [seed_name(row), number(best) or "no value", _state(row)]))
    image = (
        f'<img loading="lazy" alt="{text(first)} of {text(row["job"])}"{" hidden" if missing else ""} '
        f'src="{"" if missing else text(f"{folder}/figures/{quote(first)}")}"/>'
    )
    if page.is_file():
        image = f'<a href="{text(folder)}/report.html">{image}</a>'
    return (
        f'<figure data-run="{text(folder)}" data-has="{has}">{image}'
        f'<p class="missing"{"" if missing else " hidden"}>no {text(first)}</p>'
        f"<figcaption>{text(said)}</figcaption></figure>"
    )


def _state(row: Mapping[Any, Any]) -> str:
    return "" if row["state"] == "finished" else str(row["state"])


def _folded(shots: Sequence[str]) -> str:
    if len(shots) == 1:
        return shots[0]
    title = f"{len(shots) - 1} other seed{'s' * (len(shots) > 2)}"
    return f"{shots[0]}<details><summary>{title}</summary>{''.join(shots[1:])}</details>"


def _is_crossed(keys: Sequence[Key], varied: sweeps.Varied) -> bool:
    """Whether a table with the first parameter in columns would be narrow enough and more than half full."""
    if not len(varied.values.columns):
        return False
    place = _place(varied)
    columns = {key[place] for key in keys}
    rows = {key[:place] + key[place + 1 :] for key in keys}
    return len(columns) <= COLUMNS and 2 * len(keys) > len(columns) * len(rows)


def _place(varied: sweeps.Varied) -> int:
    return list(varied.values).index(axes(varied)[0])


def _cross(cells: Mapping[Key, str], varied: sweeps.Varied) -> str:
    place = _place(varied)
    names = list(map(str, varied.values))
    across, down = names[place], names[:place] + names[place + 1 :]
    there = {key[place] for key in cells}
    columns = [value for value in varied.values[across].cat.categories if value in there]
    rows = dict.fromkeys(key[:place] + key[place + 1 :] for key in cells)
    corner = "<td></td>" if down else ""
    head = "".join(f'<th scope="col">{text(f"{across} = {level(value)}")}</th>' for value in columns)
    body = []
    for row in rows:
        said = "<br>".join(text(f"{name} = {level(value)}") for name, value in zip(down, row, strict=True))
        side = f'<th scope="row">{said}</th>' if down else ""
        found = (cells.get((*row[:place], value, *row[place:]), "") for value in columns)
        body.append(f"<tr>{side}{''.join(f'<td>{cell}</td>' for cell in found)}</tr>")
    return f"<table><thead><tr>{corner}{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _list(cells: Mapping[Key, str], varied: sweeps.Varied) -> str:
    parts = []
    for key, cell in cells.items():
        said = ", ".join(f"{name} = {level(value)}" for name, value in zip(varied.values, key, strict=True))
        parts.append(f"<li><b>{text(said)}</b>{cell}</li>")
    first, more = (f"<ol>{''.join(some)}</ol>" for some in (parts[:LISTED], parts[LISTED:]))
    return first + fold(f"{len(parts) - LISTED} more", more, len(parts), LISTED) * (len(parts) > LISTED)
