"""Many runs as one table: what differs between them, and how good each kind is over its seeds.

Read from what runs leave in their directories, without building a network or loading a checkpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from rnnlab import members
from rnnlab.ledger import Ledger
from rnnlab.parameters import BOOKKEEPING, RESULTS, Varied, is_seed, summarise, varied
from rnnlab.traces import LOADER, Record

__all__ = [
    "BOOKKEEPING",
    "RESULTS",
    "Sweep",
    "Varied",
    "collect",
    "find_runs",
    "is_seed",
    "numbers",
    "read_sweep",
    "summarise",
    "varied",
]
CONFIG = "config.yaml"
SHOWN = 10  # of jobs that left nothing


class Sweep(NamedTuple):
    """What several runs have left.

    Attributes:
        table: A row for each run, or for each member of an ensemble: first the columns `RESULTS`, then the
            keys of all configs, such as `task.length`; None where a config has no such key. `member` is -1
            for a single network; `state` is finished, failed, stopped, running, unfinished (killed, or
            running without new numbers) or, of a member, diverged. `best` is the best finite value of
            `monitor`, `best_epoch` the first epoch that had it, `epochs` the last that there is.
        histories: For each row, that which is monitored, the same of the other data, and what there is a
            baseline of, over epochs.
        baselines: For each row, what a trivial answer costs.
        problems: What could not be read, and jobs that left nothing.
    """

    table: pd.DataFrame
    histories: list[pd.DataFrame]
    baselines: list[dict[str, float]]
    problems: list[str]


def find_runs(folder: str | Path) -> list[Path]:
    """The runs in a directory: itself if it is one, else those in it and those in its directories.

    Args:
        folder: Directory of a run, of a sweep, or of several of them.

    Returns:
        Their directories; numbers within names are in the order of numbers.

    Raises:
        FileNotFoundError: There is no such directory, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: give the directory of a run or of a sweep.")
    if (folder / CONFIG).exists():
        return [folder]
    found: list[Path] = []
    for path in folder.iterdir():
        found += [path] if (path / CONFIG).exists() else [inner.parent for inner in path.glob(f"*/{CONFIG}")]
    if found:
        return sorted(found, key=_natural)
    raise FileNotFoundError(
        f"{folder} holds no run and no sweep: there is no {CONFIG} in it, nor in its directories."
    )


def read_sweep(*folders: str | Path, monitor: str | None = None, mode: str | None = None) -> Sweep:
    """Read runs, sweeps of them, or both, to compare what they reached.

    Args:
        folders: Directories of runs or sweeps.
        monitor: The number to compare, in place of each run's `checkpoint.monitor`.
        mode: `min` or `max`: which of its values is best; to be given with `monitor`.

    Raises:
        FileNotFoundError: One of them is not there, or no run is in it.
        ValueError: The runs do not all monitor the same number, none has the one that is asked for, or no
            config can be read.

    Example:
        >>> sweep = read_sweep("sweeps/2030-01-01_00-00-00")  # doctest: +SKIP
        >>> summarise(sweep.table, varied(sweep.table).values)  # doctest: +SKIP
    """
    sweep = collect(*folders, monitor=monitor, mode=mode)
    kinds: Any = sweep.table.drop_duplicates(["monitor", "mode"])
    if len(kinds) > 1:
        said = ", ".join(f"{row.job} monitors {row.monitor} ({row.mode})" for row in kinds[:3].itertuples())
        raise ValueError(f"{said}: give runs that have these in common, or --monitor NAME --mode min or max.")
    return sweep


def collect(*folders: str | Path, monitor: str | None = None, mode: str | None = None) -> Sweep:
    """As `read_sweep`, also of runs that do not all monitor the same number."""
    if not folders:
        raise ValueError("no directory is given: give those of runs or of a sweep.")
    if (monitor is None) != (mode is None) or mode not in (None, "min", "max"):
        raise ValueError(
            f"monitor={monitor}, mode={mode} is not possible: give both, and mode as min or max."
        )
    given = [(Path(folder), path) for folder in folders for path in find_runs(folder)]
    found = {path.resolve(): path for _, path in given}
    base = Path(folders[0]).resolve() if len(folders) == 1 else _common(list(found))
    swept = dict.fromkeys(path.parent for folder, path in given if path != folder)
    ledgers = {folder: Ledger(folder).read() for folder in swept}
    problems = [line for folder, entries in ledgers.items() for line in _missing_jobs(folder, entries)]
    number = {folder / str(e.get("run")): e["job"] for folder, entries in ledgers.items() for e in entries}
    # each sweep in the order of its command, which the names of directories do not know
    places = {path: i for i, path in enumerate(dict.fromkeys(_sweep_or_run(*pair) for pair in given))}
    rank = {path: (places[_sweep_or_run(folder, path)], number.get(path, math.inf)) for folder, path in given}
    ordered = sorted(found.items(), key=lambda item: rank[item[1]])
    rows: list[dict[str, Any]] = []
    histories: list[pd.DataFrame] = []
    baselines: list[dict[str, float]] = []
    for place, path in ordered:
        inside = place != base and place.is_relative_to(base)  # a link may lead elsewhere
        job = place.relative_to(base).as_posix() if inside else path.name or place.name
        record = Record(path)
        if record.config:
            for row, history in _rows(record, monitor, mode):
                rows.append({"job": job, **row})
                histories.append(history)
                baselines.append(_numbers(record.status.get("baselines")))
        elif not record.problems:
            problems.append(f"{job}: {CONFIG} is empty")
        problems += [f"{job}: {problem}" for problem in record.problems]
    if not rows:
        raise ValueError(f"none of {len(found)} runs can be read: {problems[0]}.")
    if monitor is not None and not any(monitor in history for history in histories):
        raise ValueError(f"monitor={monitor} is not possible: no run has such a column in its metrics.csv.")
    keys = dict.fromkeys(key for row in rows for key in row if key not in RESULTS)
    columns = {key: [row.get(key) for row in rows] for key in (*RESULTS, *keys)}
    table = pd.DataFrame({key: pd.Series(values, dtype=_dtype(key)) for key, values in columns.items()})
    return Sweep(table, histories, baselines, problems)


def _sweep_or_run(folder: Path, path: Path) -> Path:
    """What a run that was found in a directory belongs to: its sweep; itself where it was given alone."""
    return path if path == folder else path.parent


def _natural(path: Path) -> list[tuple[int, float, str]]:
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]


def _common(paths: list[Path]) -> Path:
    """The deepest directory that holds all of them."""
    base = paths[0].parent
    while not all(path.is_relative_to(base) for path in paths):
        base = base.parent
    return base


def _missing_jobs(folder: Path, entries: list[dict[str, Any]]) -> list[str]:
    """In words, the jobs of a sweep that left no config: not begun, or ended before."""
    asked = _asked(folder)
    if not entries:  # a sweep of before there were ledgers: its directories are numbers
        there = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
        there = {number for number in there if (folder / str(number) / CONFIG).is_file()}
        asked = max([asked, *(number + 1 for number in there)])
        gone = [number for number in range(asked) if number not in there] if asked else []
        return _listed(gone, asked, "left nothing, not begun or failed before training")
    lines = []
    for entry in entries:
        if not (entry.get("run") and (folder / str(entry["run"]) / CONFIG).is_file()):
            said = f"{entry.get('state')}{f': {error}' if (error := entry.get('error')) else ''}"
            lines.append(
                f"job {entry['job']} ({' '.join(entry.get('overrides', []))}) has left nothing, {said}"
            )
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"{len(lines) - SHOWN} more jobs have left nothing"]
    begun = {entry["job"] for entry in entries}
    return lines + _listed([job for job in range(asked) if job not in begun], asked, "not begun")


def _listed(jobs: list[int], asked: int, what: str) -> list[str]:
    if not jobs:
        return []
    which = ", ".join(map(str, jobs[:SHOWN])) + (f" and {len(jobs) - SHOWN} more" if jobs[SHOWN:] else "")
    return [f"{len(jobs)} of {asked} jobs {'has' if len(jobs) == 1 else 'have'} {what}: {which}"]


def _asked(folder: Path) -> int:
    """How many jobs Hydra was asked for, as far as plain lists of choices tell; else 0."""
    try:
        given = yaml.load((folder / "multirun.yaml").read_text(encoding="utf-8"), Loader=LOADER)
        overrides = [str(override) for override in given["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return 0
    if any(re.search(r"[\[\](){}'\"]", override) for override in overrides):
        return 0
    return math.prod(override.count(",") + 1 for override in overrides)


def _dtype(key: str) -> type:
    return {"member": int, "best": float, "best_epoch": float, "epochs": float, "seconds": float}.get(
        key, object
    )


def _rows(
    record: Record, monitor: str | None, mode: str | None
) -> Iterable[tuple[dict[str, Any], pd.DataFrame]]:
    """What is known of one run, or of each member of an ensemble, and its numbers over epochs."""
    config = record.config
    checkpoint = config.get("checkpoint")
    checkpoint = checkpoint if isinstance(checkpoint, Mapping) else {}
    monitor = monitor or str(checkpoint.get("monitor", "train/loss"))
    mode = mode or str(checkpoint.get("mode", "min"))
    status = record.status
    git = status.get("git")
    git = git if isinstance(git, Mapping) else {}
    commit = git.get("commit") and f"{git['commit']}{'-dirty' * bool(git.get('dirty'))}"
    timings = _numbers(status.get("timings"))
    shared = {
        **_flat(config),
        "path": str(record.run_dir),
        "state": {"silent": "unfinished"}.get(record.state, record.state),
        "error": status.get("error"),
        "monitor": monitor,
        "mode": mode,
        "seconds": sum(timings.values()) if timings else math.nan,
        "commit": commit,
    }
    keep = [monitor, *_others(monitor), *_numbers(status.get("baselines"))]
    own = numbers(record)
    for member, metrics in own.items():
        row = shared | {"member": member}
        if member >= 0:
            row["seed"] = int(config.get("seed") or 0) + member
            if "alive" in metrics and 0 in metrics["alive"].to_numpy():
                row["state"] = "diverged"
        yield _with_best(row, metrics, keep)


def numbers(record: Record) -> dict[int, pd.DataFrame]:
    """Losses and the like of one run by epoch, each a column: of its network, or of each member.

    Args:
        record: What a run left. Where the numbers of its members cannot be read, that is added to its
            problems, and they have none.

    Returns:
        Of a single network `{-1: metrics}`; of an ensemble a table for each member by its number.
    """
    size = record.config.get("ensemble")
    if size is None:
        return {-1: record.metrics}
    found: dict[str, np.ndarray] = {}
    epochs = np.empty(0, int)
    try:
        assert record.store is not None
        looks = record.store.read(members.NAME).load()
        found, epochs = members.numbers(looks), looks["epoch"].values
    except (AssertionError, ValueError, OSError):
        record.problems.append("the numbers of its members could not be read")
    return {
        i: pd.DataFrame({name: values[:, i] for name, values in found.items()}, index=epochs)
        for i in range(size)
    }


def _with_best(
    row: dict[str, Any], metrics: pd.DataFrame, keep: Iterable[str]
) -> tuple[dict[str, Any], pd.DataFrame]:
    values = np.asarray(metrics.get(row["monitor"], np.full(len(metrics), np.nan)), dtype=float)
    there = np.flatnonzero(np.isfinite(values))
    best: Any = None
    if len(there):
        best = there[values[there].argmax() if row["mode"] == "max" else values[there].argmin()]
    row |= {
        "best": math.nan if best is None else values[best],
        "best_epoch": math.nan if best is None else metrics.index[best],
        "epochs": metrics.index.max() if len(metrics) else 0,
    }
    # float32: of hundreds of runs these are for pictures
    kept = {name: metrics[name].to_numpy(np.float32) for name in dict.fromkeys(keep) if name in metrics}
    return row, pd.DataFrame(kept, index=metrics.index)


def _others(monitor: str) -> list[str]:
    """The same quantity on other data."""
    head, _, tail = monitor.partition("/")
    return [f"{part}/{tail}" for part in ("train", "val") if part != head] if tail else []


def _numbers(found: Any) -> dict[str, float]:
    return {str(k): float(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A config as one level, without callbacks that only look.

    >>> _flat({"task": {"_target_": "datamodules.Sine", "first": [10, 18]}, "seed": 1})
    {'task._target_': 'datamodules.Sine', 'task.first': '[10, 18]', 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            looks = path == "callbacks." and str(value.get("_target_", "callbacks.")).startswith("callbacks.")
            if not looks:
                flat |= _flat(value, f"{name}.")
        else:
            flat[name] = str(value) if isinstance(value, list) else value
    return flat
