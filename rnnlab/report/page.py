"""The skeleton of the page and its style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnlab import members
from rnnlab.figures import training
from rnnlab.ledger import FOLDER
from rnnlab.report import words
from rnnlab.report.parts import clock, document, duration, images, plotly, section, table, text
from rnnlab.report.sections import SECTIONS, show
from rnnlab.traces import Record


def render(record: Record) -> str:
    """The whole page; those of a sweep's jobs share what draws their plots."""
    sweep_dir = record.run_dir.resolve().parent
    folder = sweep_dir if (sweep_dir / FOLDER).is_dir() else None
    body = [_header(record), *_analyses(record), _training(record), _timings(record), _origin(record)]
    body.insert(1, "".join(f'<p class="note">{text(problem)}</p>' for problem in record.problems))
    running = record.state == "running"
    return document(record.run_dir.resolve().name, body, renewing=running, folder=folder)


def _header(record: Record) -> str:
    config, metrics = record.config, record.metrics
    facts = {
        "model": _kind(config.get("model")),
        "task": _kind(config.get("task")),
        "seed": config.get("seed"),
    }
    if size := config.get("ensemble"):
        first = int(config.get("seed") or 0)
        facts |= {"seed": f"{first} to {first + size - 1}", "ensemble": f"{size} members"}
    bound = (
        (config.get("trainer") or {}).get("max_epochs") if isinstance(config.get("trainer"), dict) else None
    )
    done = int(np.max(metrics.index)) if len(metrics) else 0
    if done or bound:
        facts["epochs"] = f"{done} of {bound}" if bound else f"{done}"
    if best := _best(record):
        of = "median " if size else ""
        facts[f"best {of}{best[0]}"] = f"{best[1]:.4g} at epoch {best[2]}"
    cards = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in facts.items()
        if value is not None
    )
    state = record.state
    last = clock(record.last_sign)
    sentence = {
        "finished": text(record.status.get("ended") or last),
        "failed": text(record.status.get("ended") or last),
        "stopped": text(record.status.get("ended") or last),
        "running": f"last number at {last}; this page renews itself",
        "silent": f"killed or still running: last number at {last}",
        "foreign": f"last look at {last}",
    }[state]
    badge = {"silent": "unfinished", "foreign": "analyses"}.get(state, state)
    error = record.status.get("error")
    problem = f'<p class="note">{text(error)}</p>' if error else ""
    return (
        f"<header><h1>{text(record.run_dir.resolve().name)}</h1>"
        f'<p><span class="state {state}">{badge}</span> '
        f"{sentence}. Page made {clock(datetime.now(UTC).timestamp())}.</p>"
        f"{problem}<dl>{cards}</dl></header>"
    )


def _kind(section: Any) -> str | None:
    """A name for a section of the config: its own, else the class of its cell, else its class."""
    if not isinstance(section, Mapping):
        return None if section is None else str(section)
    cell = section.get("cell")
    inner = cell.get("_target_") if isinstance(cell, Mapping) else None
    name = section.get("name") or inner or section.get("_target_")
    return None if name is None else str(name).rpartition(".")[2]


def _best(record: Record) -> tuple[str, float, int] | None:
    checkpoint = record.config.get("checkpoint")
    checkpoint = checkpoint if isinstance(checkpoint, Mapping) else {}
    name = str(checkpoint.get("monitor", "train/loss"))
    values = pd.Series(record.metrics.get(name, []), dtype=float).dropna()
    if not len(values):
        return None
    best = values.idxmax() if checkpoint.get("mode") == "max" else values.idxmin()
    return name, float(values.loc[best]), int(best)  # type: ignore[arg-type]


def _analyses(record: Record) -> Iterable[str]:
    """A section for each analysis; what is stored of several modes stands in columns of one section."""
    names = record.store.names if record.store is not None else ()
    pictures: dict[str, list[Path]] = {}
    for path in record.pictures:
        # bifurcation_generation_3d is of bifurcation_generation, not of bifurcation
        owners = [name for name in names if path.stem == name or path.stem.startswith(f"{name}_")]
        pictures.setdefault(max(owners, key=len, default=""), []).append(path)
    order = list(SECTIONS)
    bases = dict.fromkeys(_base(name) for name in names)
    for base in sorted(bases, key=lambda base: order.index(base) if base in order else len(order)):
        title = base.replace("_", " ").capitalize()
        modes = {base + end: said for end, said in words.MODES.items() if base + end in names}
        both = [path for path in pictures.get(base, ()) if path.stem.startswith(f"{base}_modes")]
        parts = [
            _analysis(record, name, base) + images(p for p in pictures.get(name, ()) if p not in both)
            for name in modes
        ]
        if list(modes) == [base]:
            yield section(title, images(both) + parts[0])
            continue
        columns = zip(modes.values(), parts, strict=True)
        columns = [
            f'<div><h3 class="mode">{name.capitalize()}</h3><p>{sentence}</p>{part}</div>'
            for (name, sentence), part in columns
        ]
        title += f": {', '.join(name for name, _ in modes.values())}"
        # how many is said beforehand: plots take the width that is there when they are read
        kind = "modes three" if len(columns) == 3 else "modes"
        yield section(title, images(both) + f'<div class="{kind}">{"".join(columns)}</div>')
    if pictures.get(""):
        yield section("Pictures", images(pictures[""]))
    if not set(names) - {members.NAME}:
        yield section("Analyses", "<p>No analysis has been stored yet.</p>")


def _base(name: str) -> str:
    """The analysis that is stored under a name, whatever the mode."""
    for end in filter(None, words.MODES):
        name = name.removesuffix(end)
    return name


def _analysis(record: Record, name: str, base: str) -> str:
    """What is stored under a name, shown as the analysis it is of."""
    try:
        assert record.store is not None
        rows = record.store.read(members.NAME).load() if members.NAME in record.store else None
        return show(base, record.store.read(name), rows)
    except Exception as error:  # the rest of the page is worth having
        return f'<p class="note">{text(f"{name} could not be shown: {error}".splitlines()[0])}</p>'


def _training(record: Record) -> str:
    analyses = record.store.names if record.store is not None else ()
    shown = record.metrics.loc[:, [str(name).partition("/")[0] not in analyses for name in record.metrics]]
    if record.state == "foreign" and not len(shown):
        return ""
    if not shown.count().sum():
        return section("Training", "<p>No epoch has ended yet.</p>")
    baselines = record.status.get("baselines")
    medians = "<p>Medians over the members that have not stopped; _min is the best of them.</p>"
    return section(
        "Training",
        (medians if record.config.get("ensemble") else "")
        + plotly(training.interactive(shown, baselines or {})),
    )


def _timings(record: Record) -> str:
    timings = record.status.get("timings")
    rows = []
    if isinstance(timings, Mapping) and timings:
        total = sum(float(seconds) for seconds in timings.values())
        rows = [
            (name, duration(float(s)), f"{100 * float(s) / (total or 1):.0f} %")
            for name, s in timings.items()
        ]
        rows.append(("all", duration(total), ""))
    return section("Time spent", table(("on", "time", "share"), rows)) if rows else ""


def _origin(record: Record) -> str:
    shown = {"state", "started", "ended", "error", "timings", "baselines", "shape"}
    rows = [("started", record.status["started"])] if record.status.get("started") else []
    for key, value in record.status.items():
        if key not in shown and value is not None:
            nested = value.items() if isinstance(value, Mapping) else [("", value)]
            rows += [(f"{key} {name}".strip(), _flat(item)) for name, item in nested]
    facts = table(("", ""), rows) if rows else "<p>The run left no record of its origin.</p>"
    config = (
        f"<details><summary>config.yaml</summary><pre>{text(record.config_text)}</pre></details>"
        if record.config_text
        else "<p>There is no config.yaml.</p>"
    )
    return section("Configuration", config) + section("Origin", facts)


def _flat(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
