"""The page of several runs: the table of what they reached, their histories, links to each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rnnlab import sweeps
from rnnlab.figures import histories, style
from rnnlab.report.parts import (
    Html,
    clock,
    document,
    duration,
    fold,
    images,
    link,
    plotly,
    publish,
    section,
    table,
    text,
)
from rnnlab.report.words import number


def write_sweep_report(
    *folders: str | Path, out: str | Path | None = None, monitor: str | None = None, mode: str | None = None
) -> Path:
    """Make `report.html`, `table.csv` and `figures/history_*.png` of a sweep, or of any runs.

    Args:
        folders: Directories of sweeps or runs, whatever became of them.
        out: Where to; made if it is not there. A single sweep's own directory if it is left out.
        monitor: The number to compare, in place of each run's `checkpoint.monitor`.
        mode: `min` or `max`: which of its values is best.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: A directory is not there, or no run is in it.
        ValueError: `out` is missing or that of a run, or the runs do not monitor the same number.
        OSError: `out` cannot be written.

    Example:
        >>> write_sweep_report("runs/lstm", "runs/ornn", out="comparison")  # doctest: +SKIP
        PosixPath('comparison/report.html')
    """
    if out is None and len(folders) > 1:
        raise ValueError(f"{len(folders)} directories need one for their page: give --out DIR (out=DIR).")
    out = Path(next(iter(folders), "") if out is None else out)
    sweep = sweeps.read_sweep(*folders, monitor=monitor, mode=mode)
    if (out / "config.yaml").exists():
        raise ValueError(
            f"{out} is that of a run, whose own page it holds: give another --out DIR (out=DIR)."
        )
    out.mkdir(parents=True, exist_ok=True)
    varied = sweeps.varied(sweep.table)
    summary = sweeps.summarise(sweep.table, varied.values)
    body = [
        _header(out.resolve().name, sweep, varied),
        section(f"Best {sweep.table['monitor'].iloc[0]}", _table(summary, varied)),
        section("Training histories", "".join(_histories(sweep, varied, out / "figures"))),
        section("Runs", _runs(sweep.table, varied.values, out)),
    ]
    publish(summary.rename(columns=varied.keys).to_csv(index=False), out / "table.csv")
    return publish(document(out.resolve().name, body), out / "report.html")


def _header(name: str, sweep: sweeps.Sweep, varied: sweeps.Varied) -> str:
    diverged = sweep.table["state"] == "diverged"  # a member only
    runs = pd.concat([sweep.table.loc[~diverged], sweep.table.loc[diverged]]).drop_duplicates("path")
    counts = runs["state"].value_counts()
    badges = " ".join(f'<span class="state {text(s)}">{n} {text(s)}</span>' for s, n in counts.items())
    monitor, mode = sweep.table["monitor"].iloc[0], sweep.table["mode"].iloc[0]
    facts = {"runs": len(runs), "compared": f"{monitor}, {mode}imum over epochs"}
    if len(sweep.table) > len(runs):
        facts["members of ensembles"] = (sweep.table["member"] >= 0).to_numpy().sum()
    for parameter, values in varied.values.items():
        levels = [_level(value) for value in values.cat.categories]
        shown = levels if len(levels) <= 6 else [levels[0], "...", levels[-1], f"({len(levels)} values)"]
        facts[str(parameter)] = ", ".join(shown)
    cards = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts.items())
    notes = [*sweep.problems, *_remarks(sweep.table, varied)]
    return (
        f"<header><h1>{text(name)}</h1><p>{badges} Page made {clock(datetime.now(UTC).timestamp())}.</p>"
        f"<dl>{cards}</dl></header>" + "".join(f'<p class="note">{text(note)}.</p>' for note in notes)
    )


def _remarks(runs: pd.DataFrame, varied: sweeps.Varied) -> Iterable[str]:
    """What a reader of the table should know."""
    for parameter in varied.values:
        if also := [key for key, other in varied.follows.items() if other == parameter]:
            yield f"With {parameter} differ as well: {', '.join(also)}"
    commits = runs["commit"].dropna().unique()
    if len(commits) > 1:
        yield f"The runs are of {len(commits)} commits: {', '.join(_commit(c) for c in commits[:10])}"
    seeds = [key for key in runs if sweeps.is_seed(key)]
    same = pd.concat([varied.values.astype(str), runs[seeds].astype(str)], axis=1)
    if again := int(same.duplicated().sum()):
        yield f"{again} of the runs have the same parameters and seed as another; all are counted"
    if (runs["member"] >= 0).to_numpy().any():
        yield "Each member of an ensemble counts as a seed; its numbers are of the epochs that were recorded"


def _table(summary: pd.DataFrame, varied: sweeps.Varied) -> str:
    """The summary, crossed where two parameters vary."""
    names = list(varied.values)
    rows = [
        (
            *(_level(row[name]) for name in names),
            _mean(row),
            f"{number(row['min'])} to {number(row['max'])}" if row["seeds"] > 1 else "",
            _seeds(row),
            _epochs(row),
            number(row["epochs"]),
            row["remarks"],
        )
        for row in summary.to_dict("records")
    ]
    heads = ("mean ± sd", "min to max", "seeds", "at epoch", "epochs", "remarks")
    plain = table((*names, *heads), rows)
    words = (
        "<p>Mean and standard deviation over seeds of the best value of each run, and the median of the "
        "epochs at which it was first reached. A run that has not finished counts as far as it came. "
        f"The same numbers: {link('table.csv', 'table.csv')}.</p>"
    )
    if len(names) != 2:
        return words + fold(f"{len(rows)} rows", plain, len(rows), most=60)
    column, row = _axes(varied)
    cells = {(one[row], one[column]): _cell(one) for one in summary.to_dict("records")}
    heads = tuple(_level(value) for value in varied.values[column].cat.categories)
    crossed = [
        (
            Html(f"<b>{text(_level(level))}</b>"),
            *(cells.get((level, c), "") for c in varied.values[column].cat.categories),
        )
        for level in varied.values[row].cat.categories
    ]
    return words + table((row, *heads), crossed) + fold("as rows", plain, length=1, most=0)


def _axes(varied: sweeps.Varied) -> tuple[str, str]:
    """Of two parameters, that of the columns and colours, and that of the rows and panels: classes first."""
    names = sorted(
        varied.values, key=lambda name: (not varied.keys[name].endswith("_target_"), _ordered(varied, name))
    )
    return names[0], names[1]


def _ordered(varied: sweeps.Varied, name: str) -> bool:
    return all(isinstance(value, int | float) for value in varied.values[name].cat.categories)


def _cell(row: Mapping[Any, Any]) -> Html:
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


def _level(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _commit(commit: Any) -> str:
    if not isinstance(commit, str):
        return ""
    name, _, dirty = commit.partition("-")
    return text(name[:7]) + (" with changes" if dirty else "")


def _histories(sweep: sweeps.Sweep, varied: sweeps.Varied, folder: Path) -> Iterable[str]:
    """A picture to zoom for each quantity, and what each seed did, as files as well."""
    lines = _lines(sweep, varied)
    if not lines:
        yield "<p>No epoch has ended yet.</p>"
        return
    yield (
        "<p>Thin: single seeds; thick: their median, in which a run that has finished counts on with its "
        "last value. A circle ends a run that has not finished. Click a name to hide it.</p>"
    )
    panels = len({line.panel for line in lines})
    if panels > histories.PANELS:
        yield f'<p class="note">The first {histories.PANELS} of {panels} panels are drawn.</p>'
    monitor = str(sweep.table["monitor"].iloc[0])
    quantities: dict[str, list[str]] = {}
    for name in dict.fromkeys([monitor, *(line.name for line in lines)]):
        quantities.setdefault(name.rpartition("/")[2], []).append(name)
    for quantity, names in quantities.items():
        first = [line for line in lines if line.name == names[0]]
        if not first:
            continue
        yield f"<h3>{text(names[0])}</h3>" + plotly(histories.interactive(first, names[0]))
        style.save_png(histories.curves(first, names[0]), folder / f"history_{quantity}.png")
        seeds = {line.seed for line in first}
        if len(names) > 1 or len(seeds) > 1:
            own = [line for name in names for line in lines if line.name == name]
            path = style.save_png(histories.seeds(own, quantity), folder / f"history_{quantity}_seeds.png")
            shown = f", the first {histories.SEEDS} of {len(seeds)}" if len(seeds) > histories.SEEDS else ""
            title = f"{quantity} seed by seed{shown}"
            yield f"<details><summary>{text(title)}</summary>{images([path])}</details>"


def _lines(sweep: sweeps.Sweep, varied: sweeps.Varied) -> list[histories.Line]:
    """All histories in the order of the parameters: colour by the first, panels by the others."""
    names = list(varied.values)
    if len(names) > 1:
        first = _axes(varied)[0]
        names = [first, *(name for name in names if name != first)]
    order = varied.values.sort_values(names, kind="stable").index if names else sweep.table.index
    seeds = [key for key in sweep.table if sweeps.is_seed(key)]
    told = [key for key in seeds if key == "seed" or len(set(sweep.table[key])) > 1]
    lines = []
    for i in order:
        row, values = sweep.table.loc[i], varied.values.loc[i]
        kind = _level(values[names[0]]) if names else ""
        panel = ", ".join(f"{name} = {_level(values[name])}" for name in names[1:])
        seed = ", ".join(f"{key} {row[key]}" for key in told)
        lines += [
            histories.Line(
                history[name],
                kind=kind,
                panel=panel,
                seed=seed,
                name=name,
                finished=row["state"] == "finished",
                baseline=sweep.baselines[i].get(name),
            )
            for history in [sweep.histories[i]]
            for name in history
            if history[name].notna().to_numpy().any()
        ]
    return lines


def _runs(runs: pd.DataFrame, parameters: pd.DataFrame, out: Path) -> str:
    rows = []
    for _, own in runs.groupby("path", sort=False):
        row: dict[Any, Any] = own.iloc[0].to_dict()
        page = Path(row["path"]) / "report.html"
        name = link(os.path.relpath(page, out), row["job"]) if page.is_file() else row["job"]
        state, best, seed = row["state"], number(row["best"]), str(row.get("seed"))
        if len(own) > 1:
            state = ", ".join(f"{n} {s}" for s, n in own["state"].value_counts().items())
            low, high = own["best"].agg(["min", "max"])
            best = f"{number(low)} to {number(high)}"
            seed = f"{own['seed'].min()} to {own['seed'].max()}"
        rows.append(
            (
                name,
                *(_level(value) for value in parameters.loc[own.index[0]]),
                seed,
                f"{state}: {row['error']}" if row["error"] else state,
                best,
                number(row["best_epoch"], 6) if len(own) == 1 else "",
                number(row["epochs"], 6),
                duration(row["seconds"]) if row["seconds"] == row["seconds"] else "",
                Html(f'<span class="cell">{_commit(row["commit"])}</span>'),
            )
        )
    heads = ("run", *parameters, "seed", "state", "best", "at epoch", "epochs", "time", "commit")
    return fold(f"{len(rows)} runs", table(heads, rows), len(rows), most=40)
