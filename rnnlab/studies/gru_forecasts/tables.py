"""What the rows of all members come to: which topologies how often, and the spread of each number."""

from __future__ import annotations

import numpy as np
import pandas as pd

SPREAD = {"smallest": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "largest": 1.0}
SYSTEMS = {"map": "signature", "flow": "flow_signature", "flow, z = 1/2": "half_open_signature"}


def topologies(rows: pd.DataFrame) -> pd.DataFrame:
    """How many members of each run have which topology, as a map, as a flow, and with the gate held at 1/2.

    Args:
        rows: One row a member, with `run`, `signature`, `flow_signature` and `half_open_signature`.

    Returns:
        One row for each run and signature that occurs: `run`, `topology`, and a column for each of the three
        systems; most frequent as a map first.

    Example:
        >>> names = {"run": ["a"] * 3, "signature": ["1 sink", "1 source", "1 sink"]}
        >>> others = {"flow_signature": ["1 sink"] * 3, "half_open_signature": ["1 sink"] * 3}
        >>> rows = pd.DataFrame(names | others)
        >>> topologies(rows).values.tolist()
        [['a', '1 sink', 2, 3, 3], ['a', '1 source', 1, 0, 0]]
    """
    counts = [
        pd.DataFrame({name: group[column].value_counts() for name, column in SYSTEMS.items()})
        .fillna(0)
        .astype(int)
        .rename_axis("topology")
        .reset_index()
        .assign(run=run)
        .sort_values([*SYSTEMS, "topology"], ascending=[False] * len(SYSTEMS) + [True])
        for run, group in rows.groupby("run", sort=False)
    ]
    return pd.concat(counts, ignore_index=True).reindex(columns=["run", "topology", *SYSTEMS])


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Quantiles over the members of each run, of all numbers that they have; infinite ones count.

    Returns:
        One row for each run and number: `run`, `quantity`, `members` that have it, and five quantiles, each a
        value that occurs.

    Example:
        >>> rows = pd.DataFrame({"run": ["a"] * 3, "seed": [1, 2, 3], "loss": [0.5, 0.1, 0.3]})
        >>> spread(rows).values.tolist()
        [['a', 'loss', 3, 0.1, 0.1, 0.3, 0.3, 0.5]]
    """
    table = []
    for run, group in rows.groupby("run", sort=False):
        for name in group.select_dtypes("number").columns.drop("seed"):
            values = group[name].dropna()
            if len(values):
                quantiles = {said: np.quantile(values, q, method="lower") for said, q in SPREAD.items()}
                table.append({"run": run, "quantity": name, "members": len(values)} | quantiles)
    return pd.DataFrame(table)


def rounded(table: pd.DataFrame, digits: int = 4) -> pd.DataFrame:
    """The table with its numbers as text of so many significant digits, for a page."""
    return table.map(lambda cell: f"{cell:.{digits}g}" if isinstance(cell, float) and cell == cell else cell)
