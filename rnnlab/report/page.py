"""The skeleton of the page and its style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from rnnlab import members
from rnnlab.figures import training
from rnnlab.report.parts import clock, duration, images, plotly, section, table, text
from rnnlab.report.record import Record
from rnnlab.report.sections import SECTIONS, show


def render(record: Record) -> str:
    """The whole page."""
    body = [_header(record), *_analyses(record), _training(record), _timings(record), _origin(record)]
    body.insert(1, "".join(f'<p class="note">{text(problem)}</p>' for problem in record.problems))
    refresh = '<meta http-equiv="refresh" content="30">' if record.state == "running" else ""
    scripts = ""
    if any("Plotly.newPlot" in part for part in body):
        from plotly.offline import get_plotlyjs

        scripts = f"<script>{get_plotlyjs()}</script>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{text(record.run_dir.resolve().name)}</title><style>{STYLE}</style>{scripts}</head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


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
    pictures = record.pictures
    names = record.store.names if record.store is not None else ()
    order = list(SECTIONS)
    for name in sorted(names, key=lambda name: order.index(name) if name in order else len(order)):
        own = [path for path in pictures if path.stem == name or path.stem.startswith(f"{name}_")]
        pictures = [path for path in pictures if path not in own]
        try:
            assert record.store is not None
            rows = record.store.read(members.NAME).load() if members.NAME in names else None
            content = show(name, record.store.read(name), rows)
        except Exception as error:  # the rest of the page is worth having
            content = f'<p class="note">{text(f"{name} could not be shown: {error}".splitlines()[0])}</p>'
        yield section(name.replace("_", " ").capitalize(), content + images(own))
    if pictures:
        yield section("Pictures", images(pictures))
    if not set(names) - {members.NAME}:
        yield section("Analyses", "<p>No analysis has been stored yet.</p>")


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
    shown = {"state", "started", "ended", "error", "timings", "baselines"}
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


STYLE = """
:root { color-scheme: light dark; --ink: #222; --dim: #666; --paper: #fff; --card: #f4f5f7; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --dim: #a0a0a0; --paper: #16181c; --card: #22252b; --line: #3a3e46; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .4rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .6rem; margin: 1rem 0; }
dl div { background: var(--card); border-radius: 8px; padding: .6rem .8rem; }
dt, figcaption { color: var(--dim); font-size: .85rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.state { border-radius: 99px; padding: .1rem .7rem; color: #fff; font-size: .9rem; font-weight: 600; }
.finished { background: #00734f; } .running { background: #0072b2; }
.failed { background: #b3261e; } .silent, .stopped { background: #a34700; }
.note { background: var(--card); border-left: 4px solid #d55e00; padding: .5rem .8rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--dim); font-weight: 600; }
summary { cursor: pointer; }
pre { background: var(--card); border-radius: 8px; padding: .8rem; overflow-x: auto; font-size: .85rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 8px; }
.plot { margin: .5rem 0; }
"""
