"""A run's page: everything that is known of a run in one file that opens offline.

    python -m rnnlab.report RUN_DIR

It reads what the run left in its directory and nothing else, so it works for a run that is finished, still
running or was killed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rnnlab.report.page import render
from rnnlab.report.record import Record
from rnnlab.report.words import describe

__all__ = ["describe", "main", "write_report"]

# any of these makes a directory that of a run; in a project of your own it may be the analyses alone
TRACES = ("config.yaml", "metrics.csv", "status.json", "analysis.zarr")


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
    if not any((run_dir / name).exists() for name in TRACES):
        raise FileNotFoundError(f"{run_dir} holds no run: there is none of {', '.join(TRACES)} in it.")
    content = render(Record(run_dir))
    path = run_dir / "report.html"
    partial = run_dir / f".report.html.{os.getpid()}"
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


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
