"""Measure finished runs of planar forecasts: `python -m rnnlab.studies.gru_forecasts RUN_DIR [...]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rnnlab.figures import style
from rnnlab.studies import program
from rnnlab.studies.gru_forecasts.members import forced_period, measure, open_forecasts
from rnnlab.studies.gru_forecasts.pictures import distributions_figure, forecasts_figure, members_figure
from rnnlab.studies.gru_forecasts.tables import rounded, spread, topologies


def main(argv: Sequence[str] | None = None) -> None:
    parser = program.parser("gru_forecasts", __doc__ or "")
    parser.add_argument("run_dir", type=Path, nargs="+", help="folder of a finished run of a planar task")
    options = parser.parse_args(argv)
    names = [path.resolve().name for path in options.run_dir]
    if len(set(names)) < len(names):
        raise ValueError(f"folders named {', '.join(names)} are not possible: give each another name.")
    runs = [open_forecasts(path) for path in options.run_dir]
    measured = [measure(run) for run in runs]
    rows = pd.concat([table for table, _ in measured], ignore_index=True)
    out: Path = options.out
    targets = pd.DataFrame(
        {
            "run": run.name,
            "target": run.target.kind,
            "floor": run.floor,
            "fresh_floor": run.fresh_floor,
            "period": run.target.period / run.task.dt,
            "forced_period": forced_period(run.task) if run.target.kind == "cycle" else math.nan,
            "amplitude_1": run.target.amplitude[0].item(),
            "amplitude_2": run.target.amplitude[1].item(),
        }
        for run in runs
    )
    program.save_table(rows, out / "members.csv")
    program.save_table(targets, out / "targets.csv")
    for name, table in (("topologies", topologies(rows)), ("spread", spread(rows))):
        program.save_table(table, out / f"{name}.csv")
        (out / f"{name}.md").write_text(program.markdown(rounded(table)) + "\n", encoding="utf-8")
        print(program.markdown(rounded(table)), end="\n\n")
    each, points = zip(*measured, strict=True)
    style.save_png(forecasts_figure(runs, each, points), out / "forecasts.png")
    style.save_png(distributions_figure(runs, each), out / "distributions.png")
    for run, table, found in zip(runs, each, points, strict=True):
        style.save_png(members_figure(run, table, found), out / f"members_{run.name}.png")


if __name__ == "__main__":
    program.run(main)
