"""Pages of runs: everything that is known of a run, or of a sweep, in one file that opens offline.

    python -m rnnlab.report RUN_DIR
    python -m rnnlab.report SWEEP_DIR
    python -m rnnlab.report RUN_DIR RUN_DIR ... --out DIR

They are made of what the runs left in their directories and nothing else, so it works for runs that are
finished, still going or were killed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rnnlab.report.page import render
from rnnlab.report.parts import publish
from rnnlab.report.sweep import write_sweep_report
from rnnlab.report.words import describe
from rnnlab.traces import TRACES, Record

__all__ = ["describe", "main", "write_report", "write_sweep_report"]


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
    if not _holds_run(run_dir):
        raise FileNotFoundError(f"{run_dir} holds no run: there is none of {', '.join(TRACES)} in it.")
    return publish(render(Record(run_dir)), run_dir / "report.html")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlab.report",
        description="Make report.html of a run, of a sweep or of several runs.",
    )
    parser.add_argument(
        "directory", type=Path, nargs="+", help="of a run or of a sweep: finished, running or killed"
    )
    parser.add_argument(
        "--out", type=Path, help="where the page, table and figures of several directories go to"
    )
    parser.add_argument("--monitor", help="the number to compare, in place of the runs' checkpoint.monitor")
    parser.add_argument("--mode", help="min or max: which of its values is best")
    given = parser.parse_args(arguments)
    folders: list[Path] = given.directory
    try:
        if len(folders) == 1 and _holds_run(folders[0]) and (given.out, given.monitor) == (None, None):
            print(write_report(folders[0]))
        else:
            print(write_sweep_report(*folders, out=given.out, monitor=given.monitor, mode=given.mode))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in TRACES)
