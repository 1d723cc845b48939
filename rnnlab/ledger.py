"""Which jobs a sweep has, how each stands, and what each has printed."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "jobs"  # within the directory of a sweep
LAUNCH = "RNNLAB_LAUNCH"  # in a rank's process: the folder with the config it is to run
LOG = "log.txt"  # within that of a job


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def publish(path: Path, text: str) -> None:
    """Write a file in one move: a reader finds the old one or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Ledger:
    """A small file for each job of a sweep, written by the job, wherever it runs.

    Args:
        sweep_dir: Directory of the sweep; the files are `jobs/NUMBER.json` in it.

    Example:
        >>> import tempfile
        >>> ledger = Ledger(tempfile.mkdtemp())
        >>> ledger.write(3, state="running", overrides=["seed=1"])
        >>> [(entry["job"], entry["state"], entry["overrides"]) for entry in ledger.read()]
        [(3, 'running', ['seed=1'])]
    """

    def __init__(self, sweep_dir: str | Path) -> None:
        self.folder = Path(sweep_dir) / FOLDER

    def clear(self) -> None:
        """Forget the jobs of the time before; what they have left elsewhere stays."""
        for path in self.folder.glob("*.json"):
            path.unlink(missing_ok=True)

    def write(self, job: int, **facts: Any) -> None:
        """Put down what is known of one job, and which process says so, in place of what was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"job": job, **facts, "host": socket.gethostname(), "pid": os.getpid()}
        publish(self.folder / f"{job}.json", json.dumps(entry))

    def read(self, but: Container[int] = ()) -> list[dict[str, Any]]:
        """All jobs that have begun, by their numbers, but some; a file that cannot be read is left out."""
        paths = [
            path for path in self.folder.glob("*.json") if path.stem.isdigit() and int(path.stem) not in but
        ]
        entries = (self._entry(path) for path in sorted(paths, key=lambda path: int(path.stem)))
        return [entry for entry in entries if entry is not None]

    @staticmethod
    def _entry(path: Path) -> dict[str, Any] | None:
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None


@contextmanager
def logged(path: Path, title: str) -> Iterator[None]:
    """Within it all that this process prints, and those that it starts, goes to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        print(f"--- {now()} {title}", file=file)
        streams = sys.stdout, sys.stderr
        for stream in streams:
            stream.flush()
        saved = os.dup(1), os.dup(2)
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        try:
            yield
        finally:
            for stream in (*streams, file):  # some write to those they found when they were made
                stream.flush()
            sys.stdout, sys.stderr = streams
            for number, before in zip((1, 2), saved, strict=True):
                os.dup2(before, number)
                os.close(before)
