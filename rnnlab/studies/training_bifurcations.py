"""Which bifurcations did a training go through? The fixed points of a run, followed through its checkpoints.

    python -m rnnlab.studies.training_bifurcations RUN_DIR --probe 1 --epochs 450:600

The weights of a run that kept its checkpoints (`checkpoint.keep=10`) are joined by straight lines, and the
fixed points of the network under a held input are followed along them. Epochs of bifurcations are places on
this curve: the two checkpoints around one are facts of the training, what lies between them is a choice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from rnnlab.analysis import piecewise_continuation
from rnnlab.autonomous import HeldInput
from rnnlab.families import through
from rnnlab.runs import Run, open_run
from rnnlab.studies.program import markdown, parser, run, save_table


def chosen(kept: list[int], epochs: str) -> list[int]:
    """The kept epochs of "FIRST:LAST" or "FIRST:LAST:STEP", either end may be left out; all of "".

    Raises:
        ValueError: It is written otherwise, or holds fewer than two kept epochs.

    Example:
        >>> chosen([10, 20, 30, 40], "15:40"), chosen([10, 20, 30, 40], "::20")
        ([20, 30, 40], [10, 30])
    """
    if len(kept) < 2:
        raise ValueError(
            f"the run kept checkpoints of {len(kept)} epochs, two are needed: train with checkpoint.keep=10."
        )
    texts = (epochs or ":").split(":")
    if len(texts) not in (2, 3) or not all(part == "" or part.isdigit() for part in texts):
        raise ValueError(
            f"--epochs={epochs} is not possible: give FIRST:LAST or FIRST:LAST:STEP, like 450:600."
        )
    first, last, step = (int(part) if part else None for part in [*texts, ""][:3])
    within = [e for e in kept if (first is None or e >= first) and (last is None or e <= last)]
    picked = within[:1]
    for epoch in within[1:]:
        if epoch - picked[-1] >= (step or 1):
            picked.append(epoch)
    if len(picked) < 2:
        raise ValueError(
            f"--epochs={epochs} holds {len(picked)} kept checkpoints, two are needed: "
            f"the run kept {len(kept)} from {kept[0]} to {kept[-1]}."
        )
    return picked


def probes(opened: Run, text: str) -> list[int]:
    """Positions of the probes of "all", or of numbers with commas between.

    Raises:
        ValueError: There is no such probe.
    """
    count = len(opened.task.probes().inputs)
    if text == "all":
        return list(range(count))
    parts = text.split(",")
    if not all(part.isdigit() and int(part) < count for part in parts):
        raise ValueError(f"--probe={text} is not possible: give all, or numbers from 0 to {count - 1}.")
    return [int(part) for part in parts]


def follow(opened: Run, epochs: list[int], probe: int, **options: Any) -> xr.Dataset:
    """`piecewise_continuation` under one held probe, searching from the zero state and random ones.

    Raises:
        ValueError: It is the run of an ensemble.
    """
    if opened.config.get("ensemble") is not None:
        raise ValueError(f"{opened.path} is the run of an ensemble: give that of a single network.")
    path = through([opened.load(epoch) for epoch in epochs], epochs)
    u = opened.task.probes().inputs[probe]
    start = torch.zeros(1, path(epochs[0]).state_size, dtype=torch.float64)
    pieces = [lambda epoch, piece=piece: HeldInput(piece(epoch), u) for piece in path.pieces]
    return piecewise_continuation(pieces, epochs, start, **options)


def events(found: xr.Dataset) -> pd.DataFrame:
    """One row for each bifurcation, and for each place where a branch was lost."""
    rows = []
    for i in range(found.sizes["bifurcation"]):
        what = found.isel(bifurcation=i)
        before, after = int(what.unstable_before), int(what.unstable_after)
        rows.append(
            {
                "epoch": float(what.bifurcation_parameter),
                "kind": str(what.bifurcation_type.item()),
                "criticality": str(what.criticality.item()),
                "unstable directions": " to ".join("none" if n < 0 else str(n) for n in (before, after)),
                "angle": float(what.angle),
                "coefficient": float(what.coefficient),
                "y": float(what.bifurcation_y.values.ravel()[0]),
                "residual": float(what.bifurcation_residual),
                "distance": float(what.bifurcation_distance),
                "branch": int(what.bifurcation_branch),
            }
        )
    for i in range(found.sizes["lost"]):
        what = found.isel(lost=i)
        rows.append(
            {
                "epoch": float(what.lost_parameter),
                "kind": f"lost: {what.lost_reason.item()}",
                "criticality": "",
                "unstable directions": "",
                "y": float(what.lost_y.values.ravel()[0]),
                "branch": int(what.lost_branch),
            }
        )
    return pd.DataFrame(rows).sort_values("epoch", ignore_index=True) if rows else pd.DataFrame(rows)


def steps(found: xr.Dataset) -> pd.DataFrame:
    """One row for each step of each branch: epoch, output, leading eigenvalue, unstable directions."""
    rows = []
    for number in range(found.sizes["branch"]):
        branch = found.isel(branch=number)
        there = np.isfinite(branch.parameter.values)
        table = {
            "branch": number,
            "epoch": branch.parameter.values[there],
            "unstable": branch.unstable.values[there],
            "modulus": branch.modulus.values[there],
            "angle": branch.angle_leading.values[there],
        }
        table |= {f"y{k}": branch.y.values[there, 0, k] for k in range(found.sizes["observable"])}
        rows.append(pd.DataFrame(table))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers short enough to be read."""
    forms = {"epoch": "{:.3f}", "angle": "{:.4f}", "coefficient": "{:.2e}", "y": "{:.4f}"}
    forms |= {"residual": "{:.0e}", "distance": "{:.0e}"}
    short = table.astype(object)
    for name, form in forms.items():
        if name in table:
            short[name] = [None if pd.isna(value) else form.format(value) for value in table[name]]
    return short


def main() -> None:
    """The command line."""
    from rnnlab.figures.continuation import piecewise_diagram
    from rnnlab.figures.style import save_png

    options = parser("training_bifurcations", "Bifurcations of a run's fixed points, with their epochs.")
    options.add_argument("run", type=Path, metavar="RUN_DIR", help="a run with checkpoint.keep=10")
    options.add_argument("--probe", default="all", help="held inputs: all, or numbers from 0, like 0,1")
    options.add_argument("--epochs", default="", help="FIRST:LAST or FIRST:LAST:STEP; all that were kept")
    options.add_argument("--samples", type=int, default=16, help="random states to search from at each look")
    options.add_argument("--seed", type=int, default=0, help="of these")
    options.add_argument("--max-step", type=float, default=0.25, help="longest step, in parts of a piece")
    given = options.parse_args()
    opened = open_run(given.run)
    epochs = chosen(opened.epochs_kept, given.epochs)
    names = [str(name) for name in opened.task.probes().names]
    tables = {"bifurcations": [], "steps": [], "looks": []}
    for probe in probes(opened, given.probe):
        found = follow(
            opened,
            epochs,
            probe,
            samples=given.samples,
            seed=given.seed,
            max_step=given.max_step,
            progress=True,
        )
        looks = found[["knot_parameter", "found", "late", "index_sum", "not_converged"]].to_dataframe()
        for kind, table in (("bifurcations", events(found)), ("steps", steps(found)), ("looks", looks)):
            table.insert(0, "probe", names[probe])
            tables[kind].append(table)
            save_table(pd.concat(tables[kind], ignore_index=True), given.out / f"{kind}.csv")
        if found.sizes["branch"]:
            save_png(piecewise_diagram(found, title=names[probe]), given.out / f"probe_{probe}.png")
        odd = int((found["index_sum"] != 1).sum())
        print(
            f"\n{names[probe]}: {found.sizes['branch']} branches, {found.sizes['bifurcation']} bifurcations, "
            f"{found.sizes['lost']} losses; index sum other than 1 at {odd} of {len(looks)} epochs\n"
        )
        print(markdown(shown(events(found))))
    print(f"\n{given.out}")


if __name__ == "__main__":
    run(main)
