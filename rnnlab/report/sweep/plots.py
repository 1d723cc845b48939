"""The plots of the page: importance of parameters, parallel coordinates, histories."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab import sweeps
from rnnlab.figures import histories, parallel, style
from rnnlab.figures.training import DECADES
from rnnlab.importance import LEVEL, importance
from rnnlab.report.parts import Html, images, plotly, table, text
from rnnlab.report.sweep.tables import axes, level


def effects(sweep: sweeps.Sweep, varied: sweeps.Varied) -> str:
    """How much of the variance of the best values each parameter explains, with bars."""
    best = sweep.table["best"].to_numpy(float)
    there = best[np.isfinite(best)]
    logarithmic = bool(len(there) and there.min() > 0 and math.log10(there.max() / there.min()) > DECADES)
    found = importance(np.log10(best) if logarithmic else best, varied.values)
    monitor = sweep.table["monitor"].iloc[0]
    what = text(f"{'the logarithm of ' * logarithmic}the best {monitor} over {found.runs} runs")
    if left := len(best) - found.runs:
        what += f" ({left} without a value {'is' if left == 1 else 'are'} left out)"
    repeated = found.seeds == found.seeds
    if found.undecided:
        said = f"<p>Undecided: {text(found.undecided)}.</p>"
        noise = f"<p>Seeds alone explain {_percent(found.seeds)} of the variance of {what}.</p>"
        return said + noise * repeated
    rows: list[tuple[Any, ...]] = []
    for name, row in found.effects.sort_values("share", ascending=False).to_dict("index").items():
        decided = row["p"] <= LEVEL
        verdict = f"{'more than chance' if decided else 'undecided'} (p = {row['p']:.2g})"
        bar = _bar(row["share"], row["chance"], decided)
        rows.append((name, bar, _percent(row["share"]), _percent(row["chance"]), verdict))
    together = "what parameters do together"
    if repeated:
        rows.append(("seeds", _bar(found.seeds), _percent(found.seeds), "", "runs with equal parameters"))
    else:
        together += ", and seeds: no two runs differ in these alone"
    rows.append(("rest", _bar(found.rest), _percent(found.rest), "", together))
    return (
        f"<p>Shares of the variance of {what}. What a parameter explains alone is its main effect, less what "
        "one without any effect would have on average. The line marks what such a one exceeds in one sweep "
        "of twenty.</p>"
        f'<div class="effects">{table(("parameter", "", "share", "by chance up to", ""), rows)}</div>'
    )


def _percent(share: float) -> str:
    if share > 1:
        return "100 %"
    return "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _bar(share: float, chance: float | None = None, decided: bool = True) -> Html:
    width = 100 * min(max(share, 0), 1)
    mark = "" if chance is None else f'<i style="left:{100 * min(max(chance, 0), 1):.1f}%"></i>'
    kind = "" if decided else " undecided"
    return Html(f'<span class="bar{kind}"><b style="width:{width:.1f}%"></b>{mark}</span>')


def glance(sweep: sweeps.Sweep, varied: sweeps.Varied) -> str:
    """Parallel coordinates of parameters and best values."""
    if not len(varied.values.columns):
        return "<p>The runs have the same parameters.</p>"
    monitor = str(sweep.table["monitor"].iloc[0])
    figure = parallel.coordinates(
        varied.values.loc[:, axes(varied)],
        sweep.table["best"].to_numpy(float),
        monitor,
        largest=sweep.table["mode"].iloc[0] == "max",
    )
    words = (
        "<p>A line for each run, bright where it is good, grey without a value. Drag along an axis to choose "
        "a range, click beside it to let go; drag a name to move its axis.</p>"
    )
    room = 110 * (len(varied.values.columns) + 1)
    return f'{words}<div class="wide"><div style="min-width: {room}px">{plotly(figure)}</div></div>'


def training(sweep: sweeps.Sweep, varied: sweeps.Varied, folder: Path) -> Iterable[str]:
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
        yield f'<p class="note">The best {histories.PANELS} of {panels} panels are drawn.</p>'
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
    names = list(map(str, varied.values))
    if len(names) > 1:
        first = axes(varied)[0]
        names = [first, *(name for name in names if name != first)]
    order = varied.values.sort_values(names, kind="stable").index if names else sweep.table.index
    seeds = [key for key in sweep.table if sweeps.is_seed(key)]
    told = [key for key in seeds if key == "seed" or len(set(sweep.table[key])) > 1]
    lines = []
    reached: dict[str, list[float]] = {}
    for i in order:
        row, values = sweep.table.loc[i], varied.values.loc[i]
        kind = level(values[names[0]]) if names else ""
        panel = ", ".join(f"{name} = {level(values[name])}" for name in names[1:])
        seed = ", ".join(f"{key} {row[key]}" for key in told)
        reached.setdefault(panel, []).append(row["best"])
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
    if len(reached) > histories.PANELS:  # not all can be drawn: the best to begin with
        sign = -1 if sweep.table["mode"].iloc[0] == "max" else 1
        place = {panel: np.nan_to_num(sign * np.mean(best), nan=np.inf) for panel, best in reached.items()}
        lines.sort(key=lambda line: place[line.panel])
    return lines
