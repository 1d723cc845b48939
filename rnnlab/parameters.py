"""What tells runs apart, and how good each kind is over its seeds: from the table of `rnnlab.sweeps`."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import pandas as pd

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
    columns = {names[key]: categories(values, key) for key, values in kept.items()}
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


def seed_keys(table: pd.DataFrame) -> list[str]:
    """The seeds that tell runs apart: `seed`, and those that do not go with the ones before them.

    >>> seed_keys(pd.DataFrame({"task.seed": [7, 7, 8], "seed": [1, 2, 3]}))
    ['seed']
    >>> seed_keys(pd.DataFrame({"task.seed": [7, 8, 8], "seed": [1, 1, 2]}))
    ['seed', 'task.seed']
    """
    kept: list[str] = []
    for key in sorted(filter(is_seed, table.columns), key=lambda key: key != "seed"):
        groups: Any = table.groupby(kept or (lambda _: 0), dropna=False)
        if key == "seed" or groups[key].nunique().max() > 1:
            kept.append(key)
    return kept


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


def categories(values: list[Any], key: str) -> pd.Categorical:
    """The values of a key of the configs, ordered: numbers first; classes by their names, if these differ."""
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
