"""How rough is the cost that a run was trained by? Landscapes around its weights, and smoothness against N.

    python -m rnnlab.studies.landscape RUN_DIR

Looks at the best weights of a run: the cost along a random direction and along the gradient; over the plane
in which training moved most, with its path, where checkpoints were kept (`checkpoint.keep=10`), else over two
random directions; and how the Lipschitz constants of the cost and of its gradient grow with the time steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import contraction, smoothness
from rnnlab.analysis.cost import Cost
from rnnlab.analysis.landscape import landscape, principal_plane, project, random_directions, weights
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.ensemble import Ensemble
from rnnlab.runs import Run, open_run
from rnnlab.studies.program import parser, run, save_table

MARGIN = 0.15  # of the plane beyond the path, relative to its extent
EPOCHS = 60  # at most of the path


def sequences(run: Run, count: int) -> tuple[Tensor, Tensor]:
    """Training sequences of a run, spread evenly over the first batches: inputs and targets, in float64.

    Raises:
        ValueError: There are fewer.
    """
    batches: list[Any] = []
    for batch in run.task.train_dataloader():
        batches.append(batch)
        if len(batches) == 32:
            break
    inputs, targets = (torch.cat([batch[i] for batch in batches], 1) for i in range(2))
    if not 1 <= count <= inputs.shape[1]:
        raise ValueError(
            f"--sequences={count} is not possible: give a number from 1 to {inputs.shape[1]}, as many as "
            "there are."
        )
    chosen = torch.linspace(0, inputs.shape[1] - 1, count).round().long()
    found = [values[:, chosen] for values in (inputs, targets)]
    inputs, targets = (values.double() if values.is_floating_point() else values for values in found)
    return inputs, targets


def network(run: Run, checkpoint: str | int = "best", member: int | None = None) -> Any:
    """The network of one checkpoint in float64; of an ensemble one member, by default the best.

    Raises:
        ValueError: There is no such member.
        FileNotFoundError: There is no such checkpoint.
    """
    model = run.load(checkpoint)
    if not isinstance(model, Ensemble):
        return freeze(model)
    number = run.best_member if member is None else member
    if not 0 <= number < len(model):
        raise ValueError(f"--member={number} is not possible: give a number from 0 to {len(model) - 1}.")
    return freeze(model.member(number))


def path(run: Run, member: int | None = None, *, most: int = EPOCHS) -> tuple[np.ndarray, Tensor]:
    """Weights along training: the epochs kept, at most so many, and a row of weights for each."""
    epochs = np.array(run.epochs_kept)
    if len(epochs) > most:
        epochs = epochs[np.unique(np.linspace(0, len(epochs) - 1, most).round().astype(int))]
    return epochs, torch.stack([weights(network(run, int(epoch), member)) for epoch in epochs])


def plane(
    run: Run,
    inputs: Tensor,
    targets: Tensor,
    *,
    points: int,
    radius: float,
    seed: int = 0,
    member: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """The cost over two directions through the best weights, with the path of training where it was kept.

    Args:
        run: The run.
        inputs: `(time, sequence, ...)`.
        targets: `(time, sequence, ...)`.
        points: Values along each axis.
        radius: Half the side of the plane of random directions, relative to the length of theta.
        seed: Of these.
        member: Of an ensemble.
        progress: Show a bar.

    Returns:
        A `landscape`; in the plane of training's principal axes with `path` `(epoch, axis)`, and the
        `path_share` `(axis,)` of its variance that each explains.
    """
    model = network(run, member=member)
    center = weights(model)
    options: dict[str, Any] = {"points": points, "progress": progress}
    if len(run.epochs_kept) < 3:
        directions = random_directions(center, 2, seed=seed)
        options |= {"low": -radius, "high": radius}
        return landscape(model, inputs, targets, run.task.objective, directions, **options)
    epochs, rows = path(run, member)
    directions, share = principal_plane(rows)
    places = project(rows, center, directions)
    low, high = np.minimum(places.min(0), 0), np.maximum(places.max(0), 0)
    room = MARGIN * np.maximum(high - low, 1e-9)
    options |= {"low": tuple((low - room).tolist()), "high": tuple((high + room).tolist())}
    found = landscape(model, inputs, targets, run.task.objective, directions, **options)
    return found.assign(path=(("epoch", "axis"), places), path_share=("axis", share)).assign_coords(
        epoch=epochs
    )


def line(
    model: Any, inputs: Tensor, targets: Tensor, objective: Any, direction: str, **options: Any
) -> xr.Dataset:
    """The cost along the gradient, scaled to the length of theta, or along a random direction.

    Args:
        model: The network.
        inputs: `(time, sequence, ...)`.
        targets: `(time, sequence, ...)`.
        objective: What is minimised.
        direction: "gradient" or "random".
        **options: Further arguments of `landscape`.
    """
    center = weights(model)
    found = random_directions(center, 1)
    if direction == "gradient":
        gradient = Cost(model, inputs, targets, objective).gradients(center[None])[1][0]
        size = torch.linalg.vector_norm(gradient)
        if not bool(size > 0):
            raise ValueError("the gradient is zero, or not finite: there is no direction along it.")
        found = {"gradient": gradient * (torch.linalg.vector_norm(center) / size)}
    return landscape(model, inputs, targets, objective, found, **options)


def stretch(model: Any, inputs: Tensor, *, samples: int = 4) -> xr.Dataset:
    """The stretch of the state map under inputs held at what comes first, in the middle and last."""
    times = sorted({0, len(inputs) // 2, len(inputs) - 1})
    held = inputs[times, 0]
    states = torch.zeros(len(times), samples, model.state_size, dtype=torch.float64)
    states += torch.randn(states.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return contraction(HeldInput(model, held[:, None]), states)


def main() -> None:
    """The command line."""
    from rnnlab.figures import landscape as maps
    from rnnlab.figures import smoothness as constants

    options = parser("landscape", "Landscapes of the cost around a run's best weights, and its smoothness.")
    options.add_argument("run_dir", type=Path, help="a directory that train.py made")
    options.add_argument("--sequences", type=int, default=4, help="training sequences that the cost is of")
    options.add_argument("--points", type=int, default=201, help="values along a line")
    options.add_argument("--grid", type=int, default=31, help="values along each side of the plane")
    options.add_argument("--radius", type=float, default=0.1, help="how far to go, in lengths of all weights")
    options.add_argument("--member", type=int, default=None, help="member of an ensemble; default: the best")
    options.add_argument("--seed", type=int, default=0, help="of random directions")
    options.set_defaults(out=None)
    given = options.parse_args()
    for name, least in (("points", 3), ("grid", 3)):
        if getattr(given, name) < least:
            raise ValueError(f"--{name}={getattr(given, name)} is not possible: give at least {least}.")
    if not 0 < given.radius < 1e6:
        raise ValueError(f"--radius={given.radius} is not possible: give a positive number.")
    opened = open_run(given.run_dir)
    out: Path = given.out or given.run_dir / "landscape"
    inputs, targets = sequences(opened, given.sequences)
    model = network(opened, member=given.member)
    objective = opened.task.objective
    around: dict[str, Any] = {"low": -given.radius, "high": given.radius, "points": given.points}
    with tqdm(total=4, desc="landscape", unit=" parts") as bar:
        for direction in ("random", "gradient"):
            found = line(model, inputs, targets, objective, direction, **around)
            _save(_costs(found), maps.curve(found), out / f"cost_along_{direction}")
            print(_words(direction, found))
            bar.update()
        found = plane(
            opened, inputs, targets,
            points=given.grid, radius=given.radius, seed=given.seed, member=given.member,
        )  # fmt: skip
        _save(_costs(found), maps.surface(found), out / "cost_plane")
        bar.update()
        bounds = stretch(model, inputs)
        seen = smoothness(
            model, inputs, targets, objective, rays=1, points=3, contraction=bounds, seed=given.seed
        )
        table = seen[["cost", "gradient", "lipschitz", "resolved"]].to_dataframe().reset_index()
        _save(table, constants.against_horizon(seen), out / "smoothness")
        bar.update()
    print(_rates(seen))
    print(f"pictures and numbers are in {out}")


def _save(table: pd.DataFrame, figure: Any, stem: Path) -> None:
    from rnnlab.figures.style import save_png

    save_png(figure, stem.with_suffix(".png"))
    save_table(table, stem.with_suffix(".csv"))


def _costs(found: xr.Dataset) -> pd.DataFrame:
    return found["cost"].to_dataframe().reset_index()


def _words(direction: str, found: xr.Dataset) -> str:
    return (
        f"along {direction}: cost {float(found.center_cost):.4g}, {float(found.minima_density):.3g} local "
        f"minima per unit of theta, variation {float(found.variation):.3g} ranges, second difference "
        f"{float(found.second_difference):.2g} ranges"
    )


def _rates(seen: xr.Dataset) -> str:
    """The constants, the rates fitted to them, and the stretches that the theorem's rates are made of."""
    rows = []
    for constant in seen["constant"].values:
        laws = []
        for law, unit in (("power", "N^{}"), ("exponential", "e^({} N)")):
            one = seen.sel(constant=constant, law=law)
            rate = f"{float(one.rate):.3g} ± {float(one.standard_error):.2g}"
            laws.append(f"{unit.format(f'({rate})')}, misfit {float(one.misfit):.2g}")
        least = float(seen.lipschitz.sel(constant=constant)[-1])
        rows.append(
            f"Lipschitz constant of {constant} at N = {int(seen.horizon[-1])}: at least {least:.4g}; "
            f"grows as {'; or as '.join(laws)}"
        )
    pairs = zip(seen.kind.values, seen.stretch.values, strict=True)
    return "\n".join([*rows, f"stretch of a step: {', '.join(f'{v:.4g} {k}' for k, v in pairs)}"])


if __name__ == "__main__":
    run(main)
