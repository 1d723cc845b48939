"""What a run left in its directory, read without building any of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rnnlab.store import Store

# any of these makes a directory that of a run; in a project of your own it may be the analyses alone
TRACES = ("config.yaml", "metrics.csv", "status.json", "analysis.zarr")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the former is ten times faster
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
