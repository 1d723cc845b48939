"""A run's page: everything that is known of a run in one file that opens offline.

    python -m rnnlab.report RUN_DIR

It reads what the run left in its directory and nothing else, so it works for a run that is finished, still
running or was killed.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import yaml

from rnnlab.figures import bifurcation, training
from rnnlab.store import Store

SILENCE = 600  # seconds without a new number after which a run counts as killed
FEW = 12  # series that still make a readable panel


def write_report(run_dir: str | Path) -> Path:
    """Make `report.html` of a run, in one move: a browser finds the old page or the new one.

    Args:
        run_dir: Directory of the run: `config.yaml`, and as far as they are there `metrics.csv`,
            `status.json`, `analysis.zarr` and `figures/*.png`. What cannot be read is named on the page.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: There is no such directory, or no run in it.
        OSError: The page cannot be written.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"{run_dir} is not there: give the directory of a run.")
    if not any((run_dir / name).is_file() for name in ("config.yaml", "metrics.csv", "status.json")):
        raise FileNotFoundError(
            f"{run_dir} holds no run: there is neither config.yaml nor metrics.csv in it."
        )
    page = _page(_Record(run_dir))
    path = run_dir / "report.html"
    partial = run_dir / f".report.html.{os.getpid()}"
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def describe(look: xr.Dataset) -> list[tuple[str, str, str]]:
    """What each probe does now, in words.

    Args:
        look: One look of `rnnlab.analysis.orbit`.

    Returns:
        For each probe and observable: its name, what it does, the range of y.

    Example:
        >>> y = np.array([[[[0.5], [0.5]]], [[[0.1], [0.9]]]])
        >>> describe(xr.Dataset({
        ...     "y": (("probe", "sample", "time", "observable"), y),
        ...     "settled": (("probe", "sample"), [[True], [True]]),
        ...     "period": (("probe", "sample"), [[1], [2]]),
        ... }))
        [('probe 0', 'fixed point y = 0.5', '0.5'), ('probe 1', 'period 2', '0.1 to 0.9')]
    """
    axes = ("probe", "sample", "time", "observable")
    look = look.expand_dims([dim for dim in axes if dim not in look["y"].dims])
    y = look["y"].transpose("probe", "observable", "sample", "time")
    verdicts = {
        name: look[name].broadcast_like(y.isel(time=0, drop=True)).transpose("probe", "observable", "sample")
        for name in ("settled", "period", "diverged")
        if name in look
    }
    rows = []
    for p in range(y.sizes["probe"]):
        for o in range(y.sizes["observable"]):
            name = str(y["probe"].values[p]) if "probe" in y.coords else f"probe {p}"
            if y.sizes["observable"] > 1:
                name += f", {y['observable'].values[o]}" if "observable" in y.coords else f", y[{o}]"
            orbits = y.values[p, o]
            words = _words(orbits, {key: value.values[p, o] for key, value in verdicts.items()})
            finite = orbits[np.isfinite(orbits)]
            rows.append((name, words, _range(finite)))
    return rows


def _words(orbits: np.ndarray, verdicts: Mapping[str, np.ndarray]) -> str:
    """What the orbits `(sample, time)` of one probe do."""
    count = len(orbits)
    settled = verdicts.get("settled", np.ones(count, bool)).astype(bool)
    period = verdicts.get("period", np.zeros(count, int))
    diverged = verdicts.get("diverged", np.zeros(count, bool)).astype(bool)
    kinds: dict[str, int] = {}
    points: list[float] = []
    for i in range(count):
        if diverged[i] or not np.isfinite(orbits[i]).all():
            kind = "diverges"
        elif not settled[i]:
            kind = "not settled"
        elif period[i] == 1:
            kind = "fixed point"
            value = float(orbits[i].mean())
            if not any(abs(value - point) <= 1e-3 * max(abs(point), 1e-3) for point in points):
                points.append(value)
        elif period[i] > 1:
            kind = f"period {period[i]}"
        else:
            kind = "oscillation (quasi-periodic or long period)"
        kinds[kind] = kinds.get(kind, 0) + 1
    said = []
    for kind, times in kinds.items():
        if kind == "fixed point":
            kind = f"fixed point{'s' * (len(points) > 1)} y = {', '.join(f'{v:.3g}' for v in sorted(points))}"
        said.append(kind if times == count else f"{kind} ({times} of {count} initial states)")
    return "; ".join(said)


def _range(values: np.ndarray) -> str:
    if not values.size:
        return "no finite value"
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


class _Record:
    """What a run left in its directory. Whatever is missing or broken is empty, and said in `problems`."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.problems: list[str] = []

    @cached_property
    def config_text(self) -> str:
        return self._read("config.yaml", lambda path: path.read_text(encoding="utf-8"), "")

    @cached_property
    def config(self) -> dict[str, Any]:
        found = self._read("config.yaml", lambda path: yaml.safe_load(path.read_text(encoding="utf-8")), {})
        return found if isinstance(found, dict) else {}

    @cached_property
    def status(self) -> dict[str, Any]:
        found = self._read("status.json", lambda path: json.loads(path.read_text(encoding="utf-8")), {})
        return found if isinstance(found, dict) else {}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        def read(path: Path) -> pd.DataFrame:
            # a row that a killed run did not finish may end within a number
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
            frame = pd.DataFrame(pd.read_csv(io.StringIO(whole), on_bad_lines="skip"))
            frame = pd.DataFrame(frame.apply(pd.to_numeric, errors="coerce"))
            return frame.dropna(subset=["epoch"]).groupby("epoch").last()

        return self._read("metrics.csv", read, pd.DataFrame())

    @cached_property
    def store(self) -> Store | None:
        return self._read("analysis.zarr", Store, None)

    @property
    def pictures(self) -> list[Path]:
        return sorted((self.run_dir / "figures").glob("[!.]*.png"))

    @property
    def last_sign(self) -> float:
        """When the run wrote its last number, seconds since 1970."""
        files = [self.run_dir / name for name in ("metrics.csv", "status.json", "config.yaml")]
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    @property
    def state(self) -> str:
        """`finished`, `failed`, `stopped`, `running`, or `silent`: killed, or running without new numbers."""
        said = self.status.get("state")
        if said in ("finished", "failed", "stopped"):
            return str(said)
        fresh = datetime.now(UTC).timestamp() - self.last_sign < SILENCE
        return "running" if said == "running" and fresh else "silent"

    def _read(self, name: str, read: Callable[[Path], Any], missing: Any) -> Any:
        path = self.run_dir / name
        if not path.exists():
            return missing
        try:
            return read(path)
        except Exception as error:  # the rest of the page is worth having
            self.problems.append(f"{name} could not be read: {error}".splitlines()[0])
            return missing


def _page(record: _Record) -> str:
    body = [_header(record), *_analyses(record), _training(record), _timings(record), _origin(record)]
    body.insert(1, "".join(f'<p class="note">{_text(problem)}</p>' for problem in record.problems))
    refresh = '<meta http-equiv="refresh" content="30">' if record.state == "running" else ""
    scripts = ""
    if any("Plotly.newPlot" in part for part in body):
        from plotly.offline import get_plotlyjs

        scripts = f"<script>{get_plotlyjs()}</script>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{_text(record.run_dir.resolve().name)}</title><style>{STYLE}</style>{scripts}</head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(record: _Record) -> str:
    config, metrics = record.config, record.metrics
    facts = {
        "model": _kind(config.get("model")),
        "task": _kind(config.get("task")),
        "seed": config.get("seed"),
    }
    bound = (
        (config.get("trainer") or {}).get("max_epochs") if isinstance(config.get("trainer"), dict) else None
    )
    done = int(np.max(metrics.index)) if len(metrics) else 0
    facts["epochs"] = f"{done} of {bound}" if bound else f"{done}"
    if best := _best(record):
        facts[f"best {best[0]}"] = f"{best[1]:.4g} at epoch {best[2]}"
    cards = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in facts.items()
        if value is not None
    )
    state = record.state
    last = _time(record.last_sign)
    sentence = {
        "finished": _text(record.status.get("ended") or last),
        "failed": _text(record.status.get("ended") or last),
        "stopped": _text(record.status.get("ended") or last),
        "running": f"last number at {last}; this page renews itself",
        "silent": f"killed or still running: last number at {last}",
    }[state]
    error = record.status.get("error")
    problem = f'<p class="note">{_text(error)}</p>' if error else ""
    return (
        f"<header><h1>{_text(record.run_dir.resolve().name)}</h1>"
        f'<p><span class="state {state}">{"unfinished" if state == "silent" else state}</span> '
        f"{sentence}. Page made {_time(datetime.now(UTC).timestamp())}.</p>"
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


def _best(record: _Record) -> tuple[str, float, int] | None:
    checkpoint = record.config.get("checkpoint")
    checkpoint = checkpoint if isinstance(checkpoint, Mapping) else {}
    name = str(checkpoint.get("monitor", "train/loss"))
    values = pd.Series(record.metrics.get(name, []), dtype=float).dropna()
    if not len(values):
        return None
    best = values.idxmax() if checkpoint.get("mode") == "max" else values.idxmin()
    return name, float(values.loc[best]), int(best)  # type: ignore[arg-type]


def _analyses(record: _Record) -> Iterable[str]:
    pictures = record.pictures
    names = record.store.names if record.store is not None else ()
    for name in names:
        own = [path for path in pictures if path.stem == name or path.stem.startswith(f"{name}_")]
        pictures = [path for path in pictures if path not in own]
        try:
            assert record.store is not None
            dataset = record.store.read(name).load()
            content = SECTIONS.get(name, _generic)(dataset)
        except Exception as error:  # the rest of the page is worth having
            content = f'<p class="note">{_text(f"{name} could not be shown: {error}".splitlines()[0])}</p>'
        yield _section(name.replace("_", " ").capitalize(), content + _images(own))
    if pictures:
        yield _section("Pictures", _images(pictures))
    if not names:
        yield _section("Analyses", "<p>No analysis has been stored yet.</p>")


def _bifurcation(dataset: xr.Dataset) -> str:
    """The diagrams to turn, and what each probe did at the last look."""
    last = dataset.isel(epoch=-1, drop=True)
    table = _table(("probe", "what it does now", "range of y"), describe(last))
    finite = np.isfinite(dataset["y"].values).any()
    diagrams = "".join(
        (f"<h3>{_text(name)}</h3>" if name else "") + _plotly(bifurcation.interactive(dataset, observable=i))
        for i, name in enumerate(_observables(dataset)[:FEW])
    )
    return (
        f"<p>Where the network goes under each constant input, once it has settled, over "
        f"{dataset.sizes['epoch']} looks at epochs {int(dataset.epoch[0])} to {int(dataset.epoch[-1])}. "
        "A fixed point is one dot, a cycle of period p are p dots, an oscillation is a closed loop.</p>"
        f"{diagrams if finite else '<p>No orbit stayed finite.</p>'}"
        f"<h3>At epoch {int(dataset.epoch[-1])}</h3>{table}"
    )


def _observables(dataset: xr.Dataset) -> list[str]:
    count = dataset["y"].sizes.get("observable", 1)
    if count == 1:
        return [""]
    if "observable" in dataset.coords:
        return [str(name) for name in dataset["observable"].values]
    return [f"y[{i}]" for i in range(count)]


def _generic(dataset: xr.Dataset) -> str:
    """Any analysis: what is in it, and lines for all that is few numbers a look."""
    rows = [
        (name, ", ".join(f"{dim} {size}" for dim, size in variable.sizes.items()), variable.dtype)
        for name, variable in dataset.data_vars.items()
    ]
    series: dict[str, Any] = {}
    for name, variable in dataset.data_vars.items():
        values = np.abs(variable.values) if variable.dtype.kind == "c" else variable.values
        if values.dtype.kind not in "biuf" or not 0 < values[0].size <= FEW:
            continue
        flat = values.reshape(len(values), -1).astype(float)
        labels = [""] if flat.shape[1] == 1 else [f"/{i}" for i in _labels(variable)]
        series |= {f"{name}{label}": flat[:, i] for i, label in enumerate(labels)}
    frame = pd.DataFrame(series, index=pd.Index(dataset.epoch.values, name="epoch"))
    lines = _plotly(training.interactive(frame)) if frame.count().sum() else ""
    return lines + _table(("variable", "axes", "type"), rows)


def _labels(variable: xr.DataArray) -> list[str]:
    axis = variable.dims[1]
    if variable.ndim == 2 and axis in variable.coords:
        return [str(label) for label in variable[axis].values]
    return [str(i) for i in range(int(np.prod(variable.shape[1:])))]


# how an analysis is shown, by its name in the store; all others are shown by `_generic`
SECTIONS: dict[str, Callable[[xr.Dataset], str]] = {"bifurcation": _bifurcation}


def _training(record: _Record) -> str:
    analyses = record.store.names if record.store is not None else ()
    shown = record.metrics.loc[:, [str(name).partition("/")[0] not in analyses for name in record.metrics]]
    if not shown.count().sum():
        return _section("Training", "<p>No epoch has ended yet.</p>")
    baselines = record.status.get("baselines")
    return _section("Training", _plotly(training.interactive(shown, baselines or {})))


def _timings(record: _Record) -> str:
    timings = record.status.get("timings")
    rows = []
    if isinstance(timings, Mapping) and timings:
        total = sum(float(seconds) for seconds in timings.values())
        rows = [
            (name, _duration(float(s)), f"{100 * float(s) / (total or 1):.0f} %")
            for name, s in timings.items()
        ]
        rows.append(("all", _duration(total), ""))
    return _section("Time spent", _table(("on", "time", "share"), rows)) if rows else ""


def _origin(record: _Record) -> str:
    shown = {"state", "started", "ended", "error", "timings", "baselines"}
    rows = [("started", record.status["started"])] if record.status.get("started") else []
    for key, value in record.status.items():
        if key not in shown and value is not None:
            nested = value.items() if isinstance(value, Mapping) else [("", value)]
            rows += [(f"{key} {name}".strip(), _flat(item)) for name, item in nested]
    table = _table(("", ""), rows) if rows else "<p>The run left no record of its origin.</p>"
    config = (
        f"<details><summary>config.yaml</summary><pre>{_text(record.config_text)}</pre></details>"
        if record.config_text
        else "<p>There is no config.yaml.</p>"
    )
    return _section("Configuration", config) + _section("Origin", table)


def _flat(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    top = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def _images(paths: Iterable[Path]) -> str:
    parts = []
    for path in paths:
        data = base64.b64encode(path.read_bytes()).decode()
        name = _text(path.name)
        parts.append(
            f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>figures/{name}</figcaption></figure>"
        )
    return "".join(parts)


def _plotly(figure: Any) -> str:
    config = {"displaylogo": False, "responsive": True}
    return f'<div class="plot">{figure.to_html(full_html=False, include_plotlyjs=False, config=config)}</div>'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
.wide { overflow-x: auto; }
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


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab.report", description="Make report.html of a run.")
    parser.add_argument("run_dir", type=Path, help="directory of a run: finished, running or killed")
    try:
        print(write_report(parser.parse_args(arguments).run_dir))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
