"""The paper's tables: parameters of its phase portraits, and how many fixed points it counts."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from torch import Tensor

from rnnlab.gru_flow import GRUFlow, gru_flow

NAMES: tuple[str, ...] = (
    "Uh11",
    "Uh12",
    "Uh21",
    "Uh22",
    "Ur11",
    "Ur12",
    "Ur21",
    "Ur22",
    "bh1",
    "bh2",
    "br1",
    "br2",
)
TYPES: tuple[str, ...] = ("sinks", "sources", "saddles", "sink_saddles", "source_saddles", "codimension_2")


@dataclass(frozen=True)
class Case:
    """One row of the paper's tables.

    Attributes:
        name: A case of Table 3, "i" to "xxxvi", or a figure of Table 1, such as "3a".
        printed: Its twelve parameters, in the order of `NAMES`, as they are printed.
        counts: Published number of fixed points of each type, in the order of `TYPES`; empty for figures.
    """

    name: str
    printed: tuple[str, ...]
    counts: dict[str, int]

    @property
    def parameters(self) -> np.ndarray:
        """The numbers printed, `(12,)`."""
        return np.array([float(text) for text in self.printed])

    @property
    def rounding(self) -> np.ndarray:
        """Half a unit in the last place of those printed with decimals, `(12,)`; 0 for whole numbers."""
        decimals = [len(text.partition(".")[2]) for text in self.printed]
        return np.array([0.5 * 10.0**-n if n else 0.0 for n in decimals])

    def field(self) -> GRUFlow:
        """The flow with the numbers printed."""
        return flow(torch.from_numpy(self.parameters))


def flow(parameters: Tensor) -> GRUFlow:
    """Two gated units in continuous time from the numbers of one row, `(12,)`, in the order of `NAMES`.

    Example:
        >>> flow(torch.from_numpy(cases()["xxxi"].parameters)).Uh.tolist()
        [[3.0, 0.0], [0.0, 3.0]]
    """
    p = parameters
    return gru_flow(Uh=p[:4].view(2, 2), Ur=p[4:8].view(2, 2), bh=p[8:10], br=p[10:])


def cases() -> dict[str, Case]:
    """The 36 topologies of the paper's appendix C: parameters of Table 3, counts of Table 2.

    Example:
        >>> cases()["iv"].counts
        {'sinks': 1, 'sources': 0, 'saddles': 0, 'sink_saddles': 2, 'source_saddles': 0, 'codimension_2': 1}
    """
    counts = {name: {t: int(row[t]) for t in TYPES} for name, row in _table("table_2.csv").items()}
    return {
        name: Case(name, tuple(row.values()), counts[name]) for name, row in _table("table_3.csv").items()
    }


def portraits() -> dict[str, Case]:
    """The phase portraits of Section 4, by figure: Table 1.

    Example:
        >>> list(portraits())
        ['2', '3a', '3b', '3c', '4a', '4b', '5a', '5b', '5c', '6a', '7a']
    """
    return {name: Case(name, tuple(row.values()), {}) for name, row in _table("table_1.csv").items()}


def _table(file: str) -> dict[str, dict[str, str]]:
    """Rows by what their first column says, without it."""
    with resources.files("rnnlab.studies.gru_atlas").joinpath(file).open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    return {next(iter(row.values())): dict(list(row.items())[1:]) for row in rows}
