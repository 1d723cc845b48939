"""The page as a whole: its head, its remarks, how far the sweep is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from rnnlab import sweeps
from rnnlab.ledger import Ledger
from rnnlab.report.parts import clock, document, publish, section, text
from rnnlab.report.sweep import gallery, plots, script, tables
from rnnlab.traces import SILENCE

ORDER = ("finished", "skipped", "running", "failed", "stopped", "unfinished", "diverged")
ERRORS = 10  # different ones that are listed


def write_sweep_report(
    *folders: str | Path, out: str | Path | None = None, monitor: str | None = None, mode: str | None = None
) -> Path:
    """Make `report.html`, `table.csv` and `figures/history_*.png` of a sweep, or of any runs.

    The page needs no network, and the runs' directories only for their pictures and the links to them. While
    jobs are running it loads itself again every half minute; who started the sweep makes it anew.

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
    jobs = _job_states(sweep.table, folders)
    going = "running" in jobs or "running" in set(sweep.table["state"])
    body = [
        _header(out.resolve().name, sweep, varied, going),
        _progress(jobs),
        _failures(sweep.table, out),
        section(f"Best {sweep.table['monitor'].iloc[0]}", tables.best(summary, sweep.table, varied, out)),
        section("Which parameter matters", plots.effects(sweep, varied)),
        section("All runs at a glance", plots.glance(sweep, varied)),
        section("Training histories", "".join(plots.training(sweep, varied, out / "figures"))),
        section("Pictures side by side", gallery.pictures(sweep.table, varied, out)),
        section("Runs", tables.runs(sweep.table, varied.values, out)),
        f"<script>{script.SCRIPT}</script>",
    ]
    publish(summary.rename(columns=varied.keys).to_csv(index=False), out / "table.csv")
    page = document(out.resolve().name, body, renewing=going, style=script.STYLE)
    return publish(page, out / "report.html")


def _header(name: str, sweep: sweeps.Sweep, varied: sweeps.Varied, going: bool) -> str:
    diverged = sweep.table["state"] == "diverged"  # a member only
    runs = pd.concat([sweep.table.loc[~diverged], sweep.table.loc[diverged]]).drop_duplicates("path")
    counts = runs["state"].value_counts()
    badges = " ".join(f'<span class="state {text(s)}">{n} {text(s)}</span>' for s, n in counts.items())
    monitor, mode = sweep.table["monitor"].iloc[0], sweep.table["mode"].iloc[0]
    facts = {"runs": len(runs), "compared": f"{monitor}, {mode}imum over epochs"}
    if len(sweep.table) > len(runs):
        facts["members of ensembles"] = (sweep.table["member"] >= 0).to_numpy().sum()
    for parameter, values in varied.values.items():
        levels = [tables.level(value) for value in values.cat.categories]
        shown = levels if len(levels) <= 6 else [levels[0], "...", levels[-1], f"({len(levels)} values)"]
        facts[str(parameter)] = ", ".join(shown)
    cards = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts.items())
    notes = [*sweep.problems, *_remarks(sweep.table, varied)]
    renews = " It renews itself while the sweep is going on." if going else ""
    return (
        f"<header><h1>{text(name)}</h1><p>{badges} Page made {clock(datetime.now(UTC).timestamp())}.{renews}"
        f"</p><dl>{cards}</dl></header>" + "".join(f'<p class="note">{text(note)}.</p>' for note in notes)
    )


def _remarks(runs: pd.DataFrame, varied: sweeps.Varied) -> Iterable[str]:
    """What a reader of the table should know."""
    for parameter in varied.values:
        if also := [key for key, other in varied.follows.items() if other == parameter]:
            yield f"With {parameter} differ as well: {', '.join(also)}"
    commits = runs["commit"].dropna().unique()
    if len(commits) > 1:
        yield f"The runs are of {len(commits)} commits: {', '.join(tables.commit(c) for c in commits[:10])}"
    seeds = [key for key in runs if sweeps.is_seed(key)]
    same = pd.concat([varied.values.astype(str), runs[seeds].astype(str)], axis=1)
    if again := int(same.duplicated().sum()):
        yield f"{again} of the runs have the same parameters and seed as another; all are counted"
    if (runs["member"] >= 0).to_numpy().any():
        yield "Each member of an ensemble counts as a seed; its numbers are of the epochs that were recorded"


def _job_states(runs: pd.DataFrame, folders: Iterable[str | Path]) -> Counter[str]:
    """How the jobs of the last command stand, counted; one that was killed cannot tell, but falls silent."""
    states = {Path(path).name: state for path, state in zip(runs["path"], runs["state"], strict=True)}
    counts: Counter[str] = Counter()
    for entry in (entry for folder in folders for entry in Ledger(folder).read()):
        state = str(entry["state"])
        if state == "running" and states.get(entry["run"]) != "running" and not _begun_lately(entry):
            state = "unfinished"
        counts[state] += 1
    return counts


def _begun_lately(entry: Mapping[str, Any]) -> bool:
    """Whether a job may still be preparing itself."""
    try:
        begun = datetime.fromisoformat(entry["started"])
        return (datetime.now(UTC) - begun).total_seconds() < SILENCE
    except (KeyError, TypeError, ValueError):
        return False


def _progress(jobs: Counter[str]) -> str:
    if not jobs:
        return ""
    said = {"skipped": "finished before"}
    parts = [f"{jobs[state]} {said.get(state, state)}" for state in ORDER if state in jobs]
    return f"<p>Jobs of the last command: {jobs.total()} have begun, {', '.join(parts)}.</p>"


def _failures(runs: pd.DataFrame, out: Path) -> str:
    """What went wrong, once for all runs of which it is told, with links to these and to their output."""
    wrong = runs.loc[runs["error"].notna()].drop_duplicates("path")
    if not len(wrong):
        return ""
    parts = []
    for error, own in sorted(wrong.groupby("error", sort=False), key=lambda group: -len(group[1])):
        before = own["epochs"].tolist().count(0)
        when = " before the first epoch" if before == len(own) else f" ({before} before the first epoch)"
        title = f"{len(own)} run{'s' * (len(own) > 1)}{when * bool(before)}: {error}"
        items = "".join(
            f"<li>{tables.to_page(row, row['job'], out)} {tables.to_log(row, out)}</li>"
            for row in own.to_dict("records")
        )
        parts.append(f'<details class="note"><summary>{text(title)}</summary><ul>{items}</ul></details>')
    more = f"<p>{len(parts) - ERRORS} other errors are in the table of the runs.</p>" * (len(parts) > ERRORS)
    return section("What failed", "".join(parts[:ERRORS]) + more)
