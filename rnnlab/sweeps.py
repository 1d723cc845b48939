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
from rnnlab.traces import LOADER, Record

# what is known of each run; the other columns of a table are keys of the configs
RESULTS = (
    "job",
    "path",
    "member",
    "state",
    "error",
    "monitor",
    "mode",
    "best",
    "best_epoch",
    "epochs",
    "seconds",
    "commit",
)
# what changes no number of the training
BOOKKEEPING = re.compile(
    r"(run_dir|ckpt_path|threads|ensemble|logger|logger\..*|checkpoint\.(every|keep)"
    r"|optim\.record_every|trainer\.enable_.*)"
)


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
    """The runs in a directory: itself if it is one, else those in it, else those one level below.

    Args:
        folder: Directory of a run, of a sweep, or of several sweeps.

    Returns:
        Their directories; numbers within names are in the order of numbers.

    Raises:
        FileNotFoundError: There is no such directory, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: give the directory of a run or of a sweep.")
    for depth in ("config.yaml", "*/config.yaml", "*/*/config.yaml"):
        if found := [path.parent for path in folder.glob(depth)]:
            return sorted(found, key=_natural)
    raise FileNotFoundError(
        f"{folder} holds no run and no sweep: there is no config.yaml in it, nor in its directories."
    )


def read_sweep(*folders: str | Path, monitor: str | None = None, mode: str | None = None) -> Sweep:
    """Read runs, sweeps of them, or both.

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
    if not folders:
        raise ValueError("no directory is given: give those of runs or of a sweep.")
    if (monitor is None) != (mode is None) or mode not in (None, "min", "max"):
        raise ValueError(
            f"monitor={monitor}, mode={mode} is not possible: give both, and mode as min or max."
        )
    found = {path.resolve(): path for folder in folders for path in find_runs(folder)}
    base = Path(folders[0]).resolve() if len(folders) == 1 else _common(list(found))
    swept = {path.parent for folder in folders for path in find_runs(folder) if path != Path(folder)}
    problems = [line for folder in sorted(swept) for line in _missing_jobs(folder)]
    rows: list[dict[str, Any]] = []
    histories: list[pd.DataFrame] = []
    baselines: list[dict[str, float]] = []
    for place, path in found.items():
        inside = place != base and place.is_relative_to(base)  # a link may lead elsewhere
        job = place.relative_to(base).as_posix() if inside else path.name or place.name
        record = Record(path)
        if record.config:
            for row, history in _rows(record, monitor, mode):
                rows.append({"job": job, **row})
                histories.append(history)
                baselines.append(_numbers(record.status.get("baselines")))
        elif not record.problems:
            problems.append(f"{job}: config.yaml is empty")
        problems += [f"{job}: {problem}" for problem in record.problems]
    if not rows:
        raise ValueError(f"none of {len(found)} runs can be read: {problems[0]}.")
    _check_one_monitor(rows, histories, monitor)
    keys = dict.fromkeys(key for row in rows for key in row if key not in RESULTS)
    columns = {key: [row.get(key) for row in rows] for key in (*RESULTS, *keys)}
    table = pd.DataFrame({key: pd.Series(values, dtype=_dtype(key)) for key, values in columns.items()})
    return Sweep(table, histories, baselines, problems)


def _natural(path: Path) -> list[tuple[int, float, str]]:
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]


def _common(paths: list[Path]) -> Path:
    """The deepest directory that holds all of them."""
    base = paths[0].parent
    while not all(path.is_relative_to(base) for path in paths):
        base = base.parent
    return base


def _missing_jobs(folder: Path) -> list[str]:
    """In a word, the jobs of one of Hydra's sweeps that left no config: not begun, or failed before."""
    if not (folder / "multirun.yaml").is_file():
        return []
    there = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
    there = {number for number in there if (folder / str(number) / "config.yaml").is_file()}
    asked = max(there, default=-1) + 1
    try:
        given = yaml.load((folder / "multirun.yaml").read_text(encoding="utf-8"), Loader=LOADER)
        overrides = [str(override) for override in given["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        overrides = []
    if not any(re.search(r"[\[\](){}'\"]", override) for override in overrides):  # plain lists of choices
        asked = max(asked, math.prod(override.count(",") + 1 for override in overrides))
    gone = [str(number) for number in range(asked) if number not in there]
    if not gone:
        return []
    which = ", ".join(gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
    verb = "has left nothing" if len(gone) == 1 else "have left nothing"
    return [f"{len(gone)} of {asked} jobs {verb}, not begun or failed before training: {which}"]


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
    size = config.get("ensemble")
    if size is None:
        yield _with_best(shared | {"member": -1}, record.metrics, keep)
        return
    found: dict[str, np.ndarray] = {}
    epochs = np.empty(0, int)
    try:
        assert record.store is not None
        looks = record.store.read(members.NAME).load()
        found, epochs = members.numbers(looks), looks["epoch"].values
    except (AssertionError, ValueError, OSError):
        record.problems.append("the numbers of its members could not be read")
    for i in range(size):
        own = pd.DataFrame({name: values[:, i] for name, values in found.items()}, index=epochs)
        row = shared | {"member": i, "seed": int(config.get("seed") or 0) + i}
        if "alive" in found and (found["alive"][:, i] == 0).any():
            row["state"] = "diverged"
        yield _with_best(row, own, keep)


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
    kept = [name for name in dict.fromkeys(keep) if name in metrics]
    # float32: of hundreds of runs these are for pictures
    return row, pd.DataFrame(metrics[kept]).astype(np.float32)


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


def _check_one_monitor(
    rows: list[dict[str, Any]], histories: list[pd.DataFrame], monitor: str | None
) -> None:
    kinds = {}
    for row in rows:
        kinds.setdefault((row["monitor"], row["mode"]), row["job"])
    if len(kinds) > 1:
        said = ", ".join(f"{job} monitors {name} ({mode})" for (name, mode), job in list(kinds.items())[:3])
        raise ValueError(f"{said}: give runs that have these in common, or --monitor NAME --mode min or max.")
    if monitor is not None and not any(monitor in history for history in histories):
        raise ValueError(f"monitor={monitor} is not possible: no run has such a column in its metrics.csv.")


class Varied(NamedTuple):
    """What differs between runs.

    Attributes:
        values: A column for each parameter, ordered categories whose order is that of numbers, or that of
            appearance; the rows are those of the table.
        keys: For each parameter its key in the configs.
        follows: Keys that differ as well, but go with a parameter, by its name.
    """

    values: pd.DataFrame
    keys: dict[str, str]
    follows: dict[str, str]


def varied(table: pd.DataFrame) -> Varied:
    """Find which keys of the configs tell the runs of a table apart, other than seeds.

    Which class is built is a parameter by the name of its section (`model`: "LSTM" or "Orthogonal"), and keys
    that are a function of it, such as options of one class alone, go with it. So does a key that equals
    another one in every run. What changes no number of the training is left out.

    Args:
        table: Of `read_sweep`.

    Example:
        >>> table = pd.DataFrame({"task.length": [50, 100, 50], "seed": [1, 1, 2], "threads": [1, 1, 2]})
        >>> varied(table).values["length"].tolist()
        [50, 100, 50]
    """
    differing: dict[str, list[Any]] = {}
    for key in table.columns:
        values = [_plain(value) for value in table[key]]
        if (
            key not in RESULTS
            and not is_seed(key)
            and not BOOKKEEPING.fullmatch(key)
            and len(set(values)) > 1
        ):
            differing[key] = values
    kept: dict[str, list[Any]] = {}
    follows: dict[str, str] = {}
    for key in sorted(differing, key=lambda key: not key.endswith("_target_")):  # classes first
        for other, values in kept.items():
            pairs = set(zip(values, differing[key], strict=True))
            explained = len(pairs) == len(set(values)) if other.endswith("_target_") else False
            if explained or values == differing[key]:
                follows[key] = other
                break
        else:
            kept[key] = differing[key]
    names = _names(list(kept))
    columns = {names[key]: _categories(values, key) for key, values in kept.items()}
    return Varied(
        pd.DataFrame(columns, index=table.index),
        {name: key for key, name in names.items()},
        {key: names[other] for key, other in follows.items()},
    )


def is_seed(key: str) -> bool:
    """Whether a key of a config is a seed, over which runs are folded.

    >>> is_seed("task.seed"), is_seed("seeds")
    (True, False)
    """
    return key.rpartition(".")[2] == "seed"


def _plain(value: Any) -> Any:
    """None for all that is missing."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _names(keys: list[str]) -> dict[str, str]:
    """The shortest names that tell the keys apart.

    >>> _names(["model.cell._target_", "task.length", "optim.a.lr", "optim.b.lr"])
    {'model.cell._target_': 'model', 'task.length': 'length', 'optim.a.lr': 'a.lr', 'optim.b.lr': 'b.lr'}
    """
    names = {}
    for key in keys:
        parts = key.split(".")
        if parts[-1] == "_target_":  # by what is before it, of which the first word says most
            choices = [".".join(parts[:n]) for n in range(1, len(parts))]
            rivals = [
                ".".join(other.split(".")[:-1]) for other in keys if other != key and "_target_" in other
            ]
            clash = [any(other.startswith(choice) for other in rivals) for choice in choices]
        else:
            choices = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
            clash = [
                any(f".{other}".endswith(f".{choice}") for other in keys if other != key)
                for choice in choices
            ]
        names[key] = next((c for c, bad in zip(choices, clash, strict=True) if not bad), key)
    return names


def _categories(values: list[Any], key: str) -> pd.Categorical:
    if key.endswith("_target_"):
        short = {value: value and str(value).rpartition(".")[2] for value in values}
        if len(set(short.values())) == len(short):
            values = [short[value] for value in values]
    values = ["none" if value is None else value for value in values]
    distinct = list(dict.fromkeys(values))
    numeric = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    order = [*sorted(numeric), *(v for v in distinct if v not in numeric)]
    return pd.Categorical(values, categories=pd.Index(order, dtype=object), ordered=True)


def summarise(table: pd.DataFrame, parameters: pd.DataFrame) -> pd.DataFrame:
    """The best values of `table`, folded over seeds and members.

    Args:
        table: Of `read_sweep`.
        parameters: Of `varied`: rows that are equal in it are one group.

    Returns:
        One row for each group, in the order of the parameters: these, then `mean`, `sd` (of the sample, NaN
        of a single one), `min` and `max` of the best values; `seeds`, how many different seeds have one;
        `runs`, how many there are; `best_epoch`, its median, `best_epoch_min`, `best_epoch_max`; `epochs`,
        the median of those done; `remarks`: how many of the runs have not finished, how many have no value.
        A run that has not finished counts as far as it came.
    """
    names = list(parameters.columns)
    groups: Any = parameters.groupby(names, observed=True, sort=True) if names else [((), parameters)]
    seed_keys = [key for key in table.columns if is_seed(key)]
    rows = []
    for key, equal in groups:
        own = table.loc[equal.index]
        there = own[own["best"].notna()]
        best, reached = there["best"], there["best_epoch"]
        seeds = there[seed_keys].astype(str).drop_duplicates()
        counts = own["state"][own["state"] != "finished"].value_counts()
        remarks = [f"{n} {state}" for state, n in counts.items()]
        if lost := len(own) - len(there):
            remarks.append(f"{lost} without a value")
        rows.append(
            {
                **dict(zip(names, key, strict=True)),
                "mean": best.mean(),
                "sd": best.std(),
                "min": best.min(),
                "max": best.max(),
                "seeds": len(seeds),
                "runs": len(own),
                "best_epoch": reached.median(),
                "best_epoch_min": reached.min(),
                "best_epoch_max": reached.max(),
                "epochs": there["epochs"].median(),
                "remarks": ", ".join(remarks),
            }
        )
    return pd.DataFrame(rows)
