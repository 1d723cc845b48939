"""What a run left in its directory, read without building any of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

if TYPE_CHECKING:
    from rnnlab.store import Store

# any of these makes a directory that of a run; in a project of your own it may be the analyses alone
TRACES = ("config.yaml", "metrics.csv", "status.json", "analysis.zarr")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is ten times faster
MARK = "rnnlab_committed"  # that of `rnnlab.store`, which is not loaded here
SILENCE = 600  # seconds without a new number after which a run counts as killed


class Record:
    """What a run left in its directory. Whatever is missing or broken is empty, and said in `problems`."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.problems: list[str] = []

    @cached_property
    def config_text(self) -> str:
        return self._read("config.yaml", lambda path: path.read_text(encoding="utf-8"), "")

    @cached_property
    def config(self) -> dict[str, Any]:
        def read(path: Path) -> Any:
            return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)

        found = self._read("config.yaml", read, {})
        return found if isinstance(found, dict) else {}

    @cached_property
    def status(self) -> dict[str, Any]:
        found = self._read("status.json", lambda path: json.loads(path.read_text(encoding="utf-8")), {})
        return found if isinstance(found, dict) else {}

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return self._read("metrics.csv", _read_metrics, pd.DataFrame())

    @cached_property
    def store(self) -> Store | None:
        from rnnlab.store import Store  # zarr is slow to load, and a table of runs does without

        return self._read("analysis.zarr", Store, None)

    @cached_property
    def looks(self) -> dict[str, int]:
        """How many looks there are of each analysis, without opening the store."""

        def read(path: Path) -> dict[str, int]:
            marks = {
                group.parent.name: json.loads(group.read_bytes()).get("attributes", {}).get(MARK)
                for group in sorted(path.glob("*/zarr.json"))
            }
            return {name: int(mark["looks"]) for name, mark in marks.items() if mark and mark["looks"]}

        return self._read("analysis.zarr", read, {})

    @property
    def pictures(self) -> list[Path]:
        return sorted((self.run_dir / "figures").glob("[!.]*.png"))

    @property
    def last_sign(self) -> float:
        """When the run wrote its last number, seconds since 1970."""
        files = [self.run_dir / name for name in ("metrics.csv", "status.json", "config.yaml")]
        files += self.run_dir.glob("analysis.zarr/*/zarr.json")
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    @property
    def state(self) -> str:
        """How the run stands.

        `finished`, `failed`, `stopped`, `running`, or `silent`: killed, or running without new numbers; or
        `foreign`: a training of somebody else's, which left analyses and nothing that tells.
        """
        said = self.status.get("state")
        if said is None and not self.config:
            return "foreign"
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


def _read_metrics(path: Path) -> pd.DataFrame:
    """`metrics.csv` by epoch; what is no number is NaN, a line with too many cells is passed over.

    Five times faster than pandas, which checks and converts column by column: files are small and many.
    """
    # a row that a killed run did not finish may end within a number
    head, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8").rpartition("\n")[0]))) or [[]]
    if "epoch" not in head:
        raise ValueError("it has no column epoch")
    width = len(head)
    values = np.array([_floats(row, width) for row in rows if 0 < len(row) <= width], float).reshape(
        -1, width
    )
    values = values[np.isfinite(values[:, head.index("epoch")])]
    epochs = values[:, head.index("epoch")]
    index = pd.Index(epochs.astype(int) if (epochs % 1 == 0).all() else epochs, name="epoch")
    others = [i for i, name in enumerate(head) if name != "epoch"]
    frame = pd.DataFrame(values[:, others], columns=[head[i] for i in others], index=index)
    if not (index.is_monotonic_increasing and index.is_unique):
        frame = pd.DataFrame(frame.groupby(level=0).last())
    return frame


def _floats(row: list[str], width: int) -> list[float]:
    try:
        values = [float(cell or "nan") for cell in row]
    except ValueError:
        values = [_float(cell) for cell in row]
    return values + [math.nan] * (width - len(row))


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
