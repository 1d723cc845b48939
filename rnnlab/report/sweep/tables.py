"""The tables of the page: best values folded over seeds, and every run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnlab import sweeps
from rnnlab.ledger import LOG
from rnnlab.report.parts import Cell, Html, duration, fold, link, table, text
from rnnlab.report.words import number

CHOICES = 12  # numbers with more values are filtered by a range


def best(summary: pd.DataFrame, runs: pd.DataFrame, varied: sweeps.Varied, out: Path) -> str:
    """The summary, crossed where two parameters vary; each row opens to show its seeds."""
    names = list(varied.values)
    groups = combinations(varied.values)
    rows = [
        (
            *(Cell(level(row[name]), row[name]) for name in names),
            Cell(_mean(row), row["mean"]),
            Cell(f"{number(row['min'])} to {number(row['max'])}" if row["seeds"] > 1 else "", row["min"]),
            Cell(_opening(row, runs.loc[groups[tuple(row[name] for name in names)]], out), row["seeds"]),
            Cell(_epochs(row), row["best_epoch"]),
            Cell(number(row["epochs"]), row["epochs"]),
            row["remarks"],
        )
        for row in summary.to_dict("records")
    ]
    heads = ("mean ± sd", "min to max", "seeds", "at epoch", "epochs", "remarks")
    plain = table((*names, *heads), rows, name="summary")
    words = (
        "<p>Mean and standard deviation over seeds of the best value of each run, and the median of the "
        "epochs at which it was first reached. A run that has not finished counts as far as it came. "
        f"The same numbers: {link('table.csv', 'table.csv')}.</p>"
    )
    if len(names) != 2:
        return words + fold(f"{len(rows)} rows", plain, len(rows), most=60)
    column, row = axes(varied)
    cells = {(one[row], one[column]): _crossed(one) for one in summary.to_dict("records")}
    heads = tuple(level(value) for value in varied.values[column].cat.categories)
    crossed = [
        (
            Html(f"<b>{text(level(value))}</b>"),
            *(cells.get((value, c), "") for c in varied.values[column].cat.categories),
        )
        for value in varied.values[row].cat.categories
    ]
    return words + table((row, *heads), crossed) + fold("as rows, with their seeds", plain, length=1, most=0)


def axes(varied: sweeps.Varied) -> list[str]:
    """The parameters: that of columns and colours, then those of rows and panels; classes first."""

    def ordered(name: str) -> bool:
        return all(isinstance(value, int | float) for value in varied.values[name].cat.categories)

    return sorted(
        map(str, varied.values), key=lambda n: (not varied.keys[n].endswith("_target_"), ordered(n))
    )


def combinations(parameters: pd.DataFrame) -> dict[tuple[Any, ...], list[Any]]:
    """The rows of each combination of parameters, in the order of the parameters."""
    names = list(parameters)
    ordered = parameters.sort_values(names, kind="stable") if names else parameters
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for i, *values in ordered.itertuples(name=None):
        groups.setdefault(tuple(values), []).append(i)
    return groups


def runs(found: pd.DataFrame, parameters: pd.DataFrame, out: Path) -> str:
    """Every run, with a link to its page, to sort and to filter."""
    rows = []
    for _, own in found.groupby("path", sort=False):
        row: dict[Any, Any] = own.iloc[0].to_dict()
        state, value, seed = row["state"], number(row["best"]), str(row.get("seed"))
        if len(own) > 1:
            state = ", ".join(f"{n} {s}" for s, n in own["state"].value_counts().items())
            low, high = own["best"].agg(["min", "max"])
            value = f"{number(low)} to {number(high)}"
            seed = f"{own['seed'].min()} to {own['seed'].max()}"
        log = to_log(row, out)
        rows.append(
            (
                to_page(row, row["job"], out),
                *(Cell(level(v), v) for v in parameters.loc[own.index[0]]),
                Cell(seed, row.get("seed")),
                Cell(_with_error(state, row["error"]), row["state"]),
                Cell(value, own["best"].mean()),
                Cell(number(row["best_epoch"], 6) if len(own) == 1 else "", row["best_epoch"]),
                Cell(number(row["epochs"], 6), row["epochs"]),
                Cell(duration(row["seconds"]) if row["seconds"] == row["seconds"] else "", row["seconds"]),
                Html(f'<span class="cell">{commit(row["commit"])}</span>'),
                *filter(None, [log]),
            )
        )
    heads = ("run", *parameters, "seed", "state", "best", "at epoch", "epochs", "time", "commit")
    if any(len(row) > len(heads) for row in rows):
        heads = (*heads, "output")
    shown = _filters(found, parameters) + table(heads, rows, name="runs")
    return fold(f"{len(rows)} runs", shown, len(rows), most=40)


def _with_error(state: str, error: str | None) -> str:
    said = text(f"{state}: {error}")
    return Html(f'<span class="error" title="{said}">{said}</span>') if error else state


def to_page(row: Mapping[Any, Any], label: str, out: Path) -> Html | str:
    """A link to a run's own page, if there is one."""
    page = Path(row["path"]) / "report.html"
    return link(os.path.relpath(page, out), label) if page.is_file() else label


def to_log(row: Mapping[Any, Any], out: Path) -> Html | str:
    """A link to all that a run printed, if that was kept."""
    log = Path(row["path"]) / LOG
    return link(os.path.relpath(log, out), LOG) if log.is_file() else ""


def _filters(found: pd.DataFrame, parameters: pd.DataFrame) -> str:
    """What to choose runs by; shown where there is a script to do it."""
    parts = ['<label>text <input type="search" name="words" placeholder="words of a row"/></label>']
    choices = {str(name): list(values.cat.categories) for name, values in parameters.items()}
    columns = {name: column for column, name in enumerate((*choices, "seed", "state"), 1)}
    for name, values in (choices | {"state": sorted(set(found["state"]))}).items():
        # with a word before it: a parameter may be called as something a form has itself, such as length
        place = f'data-column="{columns[name]}"'
        numbers = [value for value in values if isinstance(value, int | float)]
        if len(numbers) > CHOICES:
            low, high = (
                f'<input type="number" step="any" name="{end} {text(name)}" data-end="{end}" {place} '
                f'aria-label="{end} {text(name)}" placeholder="{text(level(value))}"/>'
                for end, value in (("lowest", min(numbers)), ("highest", max(numbers)))
            )
            parts.append(f"<fieldset><legend>{text(name)}</legend>{low} to {high}</fieldset>")
        elif len(values) > 1:
            options = "".join(
                f'<option value="{text(value)}">{text(level(value))}</option>' for value in values
            )
            parts.append(
                f'<label>{text(name)} <select name="one {text(name)}" {place}>'
                f'<option value="">all</option>{options}</select></label>'
            )
    return (
        f'<form class="filter" data-table="runs" hidden>{"".join(parts)}'
        '<button type="reset">all runs</button><output></output></form>'
    )


def _opening(row: Mapping[Any, Any], own: pd.DataFrame, out: Path) -> Html | str:
    """How many seeds; opened, each of them."""
    if len(own) == 1:
        return _seeds(row)
    lines = [
        Html(f"{to_page(one, seed_name(one), out)} {text(number(one['best']) or one['state'])}")
        for one in own.to_dict("records")
    ]
    items = "".join(f"<li>{line}</li>" for line in lines)
    return Html(f"<details><summary>{text(_seeds(row))}</summary><ul>{items}</ul></details>")


def seed_name(row: Mapping[Any, Any]) -> str:
    """What tells a run from others with the same parameters."""
    return f"seed {row['seed']}" if row.get("seed") is not None else str(row["job"])


def _crossed(row: Mapping[Any, Any]) -> Html:
    lines = [f"{_seeds(row)} seed{'s' * (row['seeds'] != 1)}"]
    if row["seeds"] > 1:
        lines[0] = f"{number(row['min'])} to {number(row['max'])}, {lines[0]}"
    if row["seeds"]:
        lines.append(f"epoch {_epochs(row)}")
    if row["remarks"]:
        lines.append(row["remarks"])
    small = "".join(f"<br><small>{text(line)}</small>" for line in lines)
    return Html(f'<span class="cell">{text(_mean(row) or "?")}{small}</span>')


def _mean(row: Mapping[Any, Any]) -> str:
    return number(row["mean"]) + (f" ± {number(row['sd'], 2)}" if row["seeds"] > 1 else "")


def _seeds(row: Mapping[Any, Any]) -> str:
    return f"{row['seeds']}" if row["seeds"] == row["runs"] else f"{row['seeds']} of {row['runs']}"


def _epochs(row: Mapping[Any, Any]) -> str:
    low, middle, high = (number(row[name], 6) for name in ("best_epoch_min", "best_epoch", "best_epoch_max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def level(value: Any) -> str:
    """A parameter's value as it is written."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def commit(name: Any) -> str:
    """A commit, short; text for HTML."""
    if not isinstance(name, str):
        return ""
    name, _, dirty = name.partition("-")
    return text(name[:7]) + (" with changes" if dirty else "")
