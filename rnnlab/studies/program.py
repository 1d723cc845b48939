"""What all studies share: their command line, and how they put down tables and pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch


def parser(study: str, description: str) -> argparse.ArgumentParser:
    """The command line of a study, with `--out`, to which it may add options of its own."""
    made = argparse.ArgumentParser(
        prog=f"python -m rnnlab.studies.{study}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=Path("studies") / study, help="folder for what is made")
    return made


def run(main: Callable[[], Any]) -> None:
    """Call a study's main; what the user can mend comes out as one line and exit code 1."""
    torch.set_num_threads(1)  # all matrices are small
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def save_table(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV in one move.

    Args:
        table: The table; its index is left out.
        path: Where to; folders are made.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        table.to_csv(partial, index=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, for a page of the docs."""

    def row(cells: Any) -> str:
        return "| " + " | ".join("" if pd.isna(cell) else str(cell) for cell in cells) + " |"

    return "\n".join([row(table.columns), "|" + " --- |" * len(table.columns), *map(row, table.values)])
