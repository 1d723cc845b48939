"""Runs and sweeps in the terminal: which there are, which is best, what is known of one.

python -m rnnlab.runs ls DIR [--sort best] [--where model=LSTM]
python -m rnnlab.runs best DIR [--by model,length]
python -m rnnlab.runs show DIR
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from rnnlab.ledger import LOG
from rnnlab.parameters import seed_keys, summarise, varied
from rnnlab.plaintext import as_json, duration, facts, layout
from rnnlab.sweeps import SHOWN, Sweep, collect, find_runs
from rnnlab.traces import Record

FACTS = ("state", "best", "best_epoch", "epochs", "seconds")  # of a run, after what it was started with


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlab.runs", description="What runs and sweeps have left."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    every = argparse.ArgumentParser(add_help=False)
    every.add_argument("directory", nargs="+", help="of a run, of a sweep, or of several of them")
    every.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE[,VALUE]", help="these alone"
    )
    every.add_argument("--monitor", help="the number to compare, in place of the runs' checkpoint.monitor")
    every.add_argument("--mode", help="min or max: which of its values is best")
    every.add_argument("--json", action="store_true", help="for scripts")
    ls = commands.add_parser("ls", parents=[every], help="a line for each run, or member of an ensemble")
    ls.add_argument("--sort", metavar="KEY", help="best first, or the smallest of anything else")
    ls.add_argument("--reverse", action="store_true", help="the other way round")
    best = commands.add_parser("best", parents=[every], help="the best run, and how to make it again")
    best.add_argument(
        "--by", metavar="KEY[,KEY]", help="the best for each value of these; all: of everything"
    )
    commands.add_parser("show", parents=[every], help="what is known of a run, or of a sweep as a whole")
    given = parser.parse_args(arguments)
    try:
        text = {"ls": _ls, "best": _best, "show": _show}[given.command](given)
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "ascii"
        print(text.encode(encoding or "ascii", "replace").decode(encoding or "ascii"), flush=True)
    except BrokenPipeError:  # whoever read has seen enough
        sys.stdout = None
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}".splitlines()[0], file=sys.stderr)
        return 1
    return 0


def _ls(given: argparse.Namespace) -> str:
    sweep, table, parameters = _chosen(given)
    for key in reversed([*filter(None, [given.sort]), *parameters.columns, *seed_keys(table)]):
        table = _sorted(table, parameters, key)
    if given.reverse:
        table = table[::-1]
    shown = _lines(table, parameters.loc[table.index])
    if given.json:
        return as_json(shown.assign(path=table["path"], error=table["error"]).to_dict("records"))
    return "\n".join([layout(shown, _width(), list(parameters)), *_remarks(sweep)])


def _best(given: argparse.Namespace) -> str:
    _, table, parameters = _chosen(given)
    kinds = table.drop_duplicates(["monitor", "mode"])
    there = table[table["best"].notna()]
    if there.empty:
        raise ValueError(f"none of {len(table)} runs has a value of {table['monitor'].iloc[0]} yet.")
    if given.by is None:
        if len(kinds) > 1:
            said = ", ".join(f"{row.job} {row.monitor} ({row.mode})" for row in kinds[:3].itertuples())
            raise ValueError(
                f"the runs monitor different numbers ({said}): give --monitor NAME --mode min or max."
            )
        groups = [there]
    else:
        asked = parameters.columns.tolist() if given.by == "all" else given.by.split(",")
        keys = [_column(table, parameters, name) for name in [*asked, "monitor", "mode"]]
        groups = [group for _, group in there.groupby([key.astype(str) for key in keys], sort=False)]
    first: Any = pd.concat([_sorted(group, parameters, "best")[:1] for group in groups]).sort_index()
    shown = _lines(first, parameters.loc[first.index])
    commands = [reproduce(Record(Path(path)).status) for path in first["path"]]
    found = shown.assign(monitor=first["monitor"], path=first["path"], again=commands).to_dict("records")
    if given.json:
        return as_json(found)
    if given.by is None:
        return facts(found[0])
    said = [command or "how it was made is not on record" for command in commands]
    again = [f"\n{path}\n  {line}" for path, line in zip(first["path"], said, strict=True)]
    return "\n".join([layout(shown, _width(), list(parameters)), *again])


def _show(given: argparse.Namespace) -> str:
    folders = [Path(folder) for folder in given.directory]
    if len(folders) == 1 and find_runs(folders[0]) == folders:
        found = _run(given, folders[0])
        return as_json(found) if given.json else facts(found)
    sweep, table, parameters = _chosen(given)
    summary = summarise(table, parameters).drop(columns=["runs"])
    looks: dict[str, int] = {}
    for path in table["path"].unique():
        for name in Record(Path(path)).looks:
            looks[name] = looks.get(name, 0) + 1
    failed = table[table["error"].notna()].drop_duplicates("path")
    errors: dict[str, list[str]] = {}
    for job, error in zip(failed["job"], failed["error"], strict=True):
        errors.setdefault(str(error).partition("\n")[0], []).append(job)
    logs = [str(path) for path in (Path(run) / LOG for run in failed["path"]) if path.is_file()]
    found = {
        "runs": table["path"].nunique(),
        "states": table["state"].value_counts().to_dict(),
        "monitor": ", ".join(f"{name} ({mode})" for name, mode in _pairs(table)),
        "parameters": {name: parameters[name].cat.categories.tolist() for name in parameters},
        **{key: sorted(set(table[key].dropna())) for key in seed_keys(table)},
        "seconds": float(table.drop_duplicates("path")["seconds"].sum()),
        "analyses": {name: f"{count} runs" for name, count in sorted(looks.items())},
        "errors": errors,
        "logs": logs[:SHOWN],
        "problems": sweep.problems,
    }
    if given.json:
        return as_json(found | {"summary": summary.to_dict("records")})
    return f"{facts(found)}\n\n{layout(summary, _width())}"


def _run(given: argparse.Namespace, path: Path) -> dict[str, Any]:
    """What is known of one run."""
    sweep = collect(path, monitor=given.monitor, mode=given.mode)
    record = Record(path)
    row: Any = sweep.table.iloc[0]
    status = record.status
    epochs = {}
    if record.looks:
        from rnnlab.glance import glance

        for name, looks in record.looks.items():
            last, _ = glance(path / "analysis.zarr", name, only=())
            epochs[name] = f"{looks} looks, the last at epoch {int(last['epoch'])}"
    checkpoints = sorted(file.stem for file in (path / "checkpoints").glob("*.ckpt"))
    log = path / LOG
    return {
        "path": str(path),
        "state": row["state"],
        "error": row["error"],
        "started": status.get("started"),
        "ended": status.get("ended"),
        "monitor": f"{row['monitor']} ({row['mode']})",
        "best": sweep.table["best"].tolist() if len(sweep.table) > 1 else row["best"],
        "best_epoch": row["best_epoch"] if len(sweep.table) == 1 else None,
        "epochs": row["epochs"],
        "timings": {name: duration(seconds) for name, seconds in (status.get("timings") or {}).items()},
        "analyses": epochs,
        "checkpoints": checkpoints,
        "log": str(log) if log.is_file() else None,
        "commit": row["commit"],
        "again": reproduce(status),
        "problems": sweep.problems,
    }


def reproduce(status: Mapping[str, Any]) -> str | None:
    """The command that makes a run again, in another directory; None where it is not on record.

    Args:
        status: What a run left in `status.json`.

    Example:
        >>> reproduce({"overrides": ["seed=2", "launcher=ray", "x=1"], "command": "train.py -m x=1,2"})
        'python train.py seed=2 x=1'
    """
    words = shlex.split(str(status.get("command") or ""))
    overrides = status.get("overrides")
    if overrides is not None:  # of a sweep, whose own command starts all of its jobs
        script = words[0] if words and not words[0].startswith("-") else "train.py"
        words = [script, *map(str, overrides)]
    if not words or "ckpt_path=last" in words or {"-m", "--multirun"} & {*words}:
        return None
    aside = ("run_dir=", "launcher=", "hydra.launcher.", "hydra.sweep.")
    words = [word for word in words if not word.startswith(aside)]
    return shlex.join(["python", *words] if words[0].endswith(".py") else words)


def _chosen(given: argparse.Namespace) -> tuple[Sweep, Any, Any]:
    """The sweep, and of it the rows that were asked for, with the parameters that differ among all."""
    sweep = collect(*given.directory, monitor=given.monitor, mode=given.mode)
    parameters = varied(sweep.table).values
    table: Any = sweep.table
    for condition in given.where:
        key, equals, values = condition.partition("=")
        if not equals:
            raise ValueError(f"--where {condition} is not possible: give KEY=VALUE, such as model=LSTM.")
        column = _column(sweep.table, parameters, key)
        table = table[[_matches(value, values.split(",")) for value in column.loc[table.index]]]
    if table.empty:
        raise ValueError(f"none of {len(sweep.table)} runs has {' and '.join(given.where)}.")
    return sweep, table, parameters.loc[table.index]


def _column(table: Any, parameters: Any, name: str) -> Any:
    """A parameter by its short name, or any column by its full one."""
    if name in parameters:
        return parameters[name]
    if name in table:
        return table[name]
    known = [*parameters.columns, *table.columns]
    near = get_close_matches(name, map(str, known), n=1) or [", ".join([*parameters.columns, "seed", *FACTS])]
    raise ValueError(f"{name} is not known of these runs: there is {near[0]}.")


def _matches(value: Any, wanted: Iterable[str]) -> bool:
    """Whether a value is one of some words: as a number, or as a text in any case.

    >>> _matches(0.001, ["1e-3"]), _matches("LSTM", ["lstm"]), _matches(None, ["none"]), _matches(2, ["20"])
    (True, True, True, False)
    """
    for word in wanted:
        if str(value).casefold() == word.casefold():
            return True
        try:
            if not isinstance(value, bool) and float(value) == float(word):
                return True
        except (TypeError, ValueError):
            pass
    return False


def _sorted(table: Any, parameters: Any, key: str) -> Any:
    """By a column; what is missing last. The best come first, whether these are the lowest or the highest."""
    column = _column(table, parameters, key).loc[table.index]
    if key == "best":
        column = column.where(table["mode"] == "min", -column)
    if column.dtype == object:
        column = column.map(
            lambda v: (v is None, isinstance(v, str), str(v) if isinstance(v, str) else v or 0)
        )
    order = column.reset_index(drop=True).sort_values(kind="stable", na_position="last").index
    return table.iloc[order]


def _lines(table: Any, parameters: Any) -> Any:
    """What is shown of each run: its job, what it was started with, how it went."""
    members = ["member"] if (table["member"] >= 0).any() else []
    monitors = ["monitor"] if len(_pairs(table)) > 1 else []
    return pd.concat(
        [table[["job", *members]], parameters, table[[*seed_keys(table), *monitors, *FACTS]]], axis="columns"
    )


def _pairs(table: Any) -> list[tuple[str, str]]:
    return list(table[["monitor", "mode"]].drop_duplicates().itertuples(index=False, name=None))


def _remarks(sweep: Sweep) -> list[str]:
    return [f"problem: {problem}" for problem in sweep.problems]


def _width() -> int | None:
    """Of the screen; None where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
