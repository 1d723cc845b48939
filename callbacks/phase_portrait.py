"""The network's phase portrait beside that of its task, over training (Jordan et al. 2019, Fig. 8)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr
from torch import Tensor

from callbacks.analysis import AnalysisCallback
from rnnlab.analysis import certified_fixed_points, fixed_points, phase_plane, rotation_number
from rnnlab.analysis.planes import pca_plane, readout_plane
from rnnlab.autonomous import HeldInput, Network, freeze
from rnnlab.integrate import integrate
from rnnlab.intervals import UnknownOperation
from rnnlab.shares import cat_rows, shared
from rnnlab.systems import VectorField, bounds

COUNTS = {"sink": "sinks", "source": "sources", "saddle": "saddles", "undecided": "undecided"}
BORDER = 1e-6  # by which an eigenvalue has to be off the border to decide on a type
MARGIN = 0.05  # of its size, by which a portrait is wider than what there is in it
FAR = 1e6  # states that have run away further are not to be seen
RESTING = 1e-8  # a state that moves by less in a step is not followed to a cycle
STARTS = 16  # of states that are
LONGER = 2  # times the length of a forecast: to settle on a cycle, and again to know it
PHASES = 200  # of a cycle, at most
STEADY = 1e-4  # largest error of the rotation number of a cycle
AWAY = 0.1  # of its size, by which states are moved off a curve, and other curves are other ones
ALIKE = 0.1  # of a cycle's size, by which it may differ from one half of the record to the other


class PhasePortrait(AnalysisCallback):
    """The learned field and its fixed points and cycles, beside the task's field, with forecasts.

    Where the task has a `field`, as `datamodules.Planar` does, a forecast starts as in training: an
    observation is the first input to the resting network, the probe is every input from then on. Else
    forecasts start from random states.

    With two units all fixed points are found, by proof. More units are looked at on a plane through the
    states that are visited, which says that it is a projection, and points are those that Newton's method
    finds.

    Processes that are more than the probes share out the forecasts from the nodes of the task's grid, most of
    the work for a large network.

    Args:
        every: Look after every so many epochs. A look at two units costs about half a second, for each
            member of an ensemble.
        samples: Number of forecasts.
        steps: How far they go.
        resolution: Points of the grid along either side of a portrait.
        **options: Further arguments of `AnalysisCallback`, such as `std` and `seed` of the initial states.

    Raises:
        ValueError: An option is out of range; while training, if the network has one unit only, or is to hear
            itself where the task has a field.
    """

    maps_only = True

    def __init__(
        self,
        *,
        every: int = 200,
        samples: int = 4,
        steps: int = 300,
        resolution: int = 25,
        **options: Any,
    ) -> None:
        for key, value in (("steps", steps), ("resolution", resolution)):
            if not isinstance(value, int) or value < 4:
                raise ValueError(f"{key}={value!r} is not possible: give a whole number of at least 4.")
        super().__init__(
            "phase_portrait",
            partial(portrait, steps=steps, resolution=resolution),
            every=every,
            samples=samples,
            **{"draw": draw, "draws_members": True, "summary": summary, "alone": True, "share": "inside"}
            | options,
        )
        self.steps, self.resolution = steps, resolution
        self.target: xr.Dataset | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See what the task's field does, if it has one, and look before the first epoch."""
        task: Any = getattr(trainer, "datamodule", None)
        if isinstance(getattr(task, "field", None), VectorField):
            if self.generates:
                raise ValueError(
                    f"generation is not possible for a phase portrait beside the field of a "
                    f"{type(task).__name__}: its forecasts are those of the network left alone, leave it out."
                )
            self.target = target(task, samples=self.samples, steps=self.steps, resolution=self.resolution)
            self.analysis = partial(
                portrait, steps=self.steps, resolution=self.resolution, target=self.target, dt=task.dt
            )
        super().on_train_start(trainer, pl_module)

    def _analyse(self, model: Network, device: torch.device, epoch: int) -> xr.Dataset:
        frozen: Any = freeze(model)  # type: ignore[type-var]
        # small and sequential: no work for an accelerator
        seen = super()._analyse(frozen.cpu(), torch.device("cpu"), epoch)
        return seen if self.target is None else seen.merge(self.target)


@torch.no_grad()
def target(task: Any, *, samples: int, steps: int, resolution: int) -> xr.Dataset:
    """What is to be learned: the task's field, and the series that follow on some observations.

    Args:
        task: With `field`, `dt`, `low`, `high` and `sequences("val")`, as `datamodules.Planar` has them.
        samples: Number of series.
        steps: How long they are; longer than in training, as a rule.
        resolution: Points of the grid along either side of the task's box.

    Returns:
        A dataset with

        - `target_low`, `target_high` `(axis)`: the corners of the box, and on a grid of it
        - `target_velocity` `(target_row, target_column, axis)`: the field, and
        - `target_end` `(target_row, target_column, axis)`: where it leads within the time of `steps` steps;
        - `shown` `(series, axis)`: the observations, the first of series to validate with, and
        - `target_series` `(series, time, axis)`: how the field goes on from them, without noise, in steps;
        - `trained_steps`: how many steps the network learns to predict.
    """
    inputs, answers = task.sequences("val")
    shown, nodes = inputs[0, :samples].double(), _grid(task.low, task.high, resolution)
    times = task.dt * torch.arange(1, steps + 1, dtype=torch.float64)
    path = integrate(task.field, torch.cat((shown, nodes.flatten(0, 1))), times, tolerance=1e-8)
    series, end = path[:, : len(shown)].movedim(0, 1), path[-1, len(shown) :].view(nodes.shape)
    axes = ("target_row", "target_column", "axis")
    return xr.Dataset(
        {
            "target_low": ("axis", task.low.numpy()),
            "target_high": ("axis", task.high.numpy()),
            "target_velocity": (axes, task.field.velocity(nodes).numpy()),
            "target_end": (axes, end.numpy()),
            "shown": (("series", "axis"), shown.numpy()),
            "target_series": (("series", "time", "axis"), series.numpy()),
            "trained_steps": len(answers),
        }
    )


@torch.no_grad()
def portrait(
    system: HeldInput,
    x0: Tensor,
    *,
    steps: int,
    resolution: int,
    target: xr.Dataset | None = None,
    dt: float = 1.0,
) -> xr.Dataset:
    """What is to be seen of one network under one input.

    Args:
        system: The network with its input.
        x0: Random states, `(sample, state)`, from which forecasts start where there is no target.
        steps: How far they go.
        resolution: Points of the grid along either side.
        target: Observations to start from and the box of what is observed, from `target`.
        dt: Time between observations, in units of the target's field.

    Returns:
        A dataset with

        - `velocity` `(row, column, axis)`: the displacement F(x) - x on a grid of the plane, from `box_low`
          to `box_high` `(axis)`, whose directions are named by `label` `(axis)`, with `nullcline` `(curve,
          vertex, axis)` and `nullcline_of` `(curve)`, as `phase_plane` has them. Of two units the plane is
          the state space;
        - `trajectory` `(series, time, axis)`: states of the forecasts in the plane, and
        - `forecast` `(series, time, observable)`: the predictions read from them;
        - `point` `(index, axis)`: fixed points in the plane, `y` `(index, observable)`: the predictions
          there, `eigenvalue` `(index, mode)`: of the map, `residual`, `certified` `(index)`; `type` and
          `flow_type` `(index)`: "sink", "source", "saddle", or "undecided" on the border, of the map and of
          the flow dx/dt = F(x) - x, whose points they are too;
        - `cycle_point` `(cycle, phase, axis)`, `cycle_y` `(cycle, phase, observable)`, `cycle_period`,
          `cycle_type` `(cycle)`: closed curves on which forecasts end, all "stable", periods in steps;
        - `sinks`, `sources`, `saddles`, `undecided`, `cycles`: how many, and all in words in `signature`;
          `flow_signature`: the points of the flow;

        and with a target

        - `predicted_velocity` `(target_row, target_column, axis)`: the displacement per unit of time in the
          coordinates of what is observed, on the target's grid. A prediction is an affine function of the
          state, so where that has an inverse the learned field can be laid over the target's; NaN without;
        - `predicted_corner` `(corner, axis)`: the predictions at the corners of the plane's box: those of all
          states in it are within this parallelogram;
        - `predicted_end` `(target_row, target_column, observable)`: the prediction `steps` steps after an
          observation at a node of that grid.

    Raises:
        ValueError: The network has one unit only.
    """
    size = x0.shape[-1]
    if size < 2:
        raise ValueError(f"a phase portrait of {size} unit is not possible: train two or more.")
    count, nodes = len(x0), x0.new_zeros(0, 0, 2)
    if target is not None:
        low, high = (torch.from_numpy(target[f"target_{end}"].values) for end in ("low", "high"))
        nodes = _grid(low, high, target.sizes["target_row"])
        shown = torch.cat((torch.from_numpy(target["shown"].values), nodes.flatten(0, 1)))
        x0, count = system.model.step(x0.new_zeros(len(shown), size), shown), target.sizes["series"]
    path, last = _follow(system, x0[:count], steps, count)
    if len(x0) > count:

        def follow(rows: slice) -> tuple[Tensor, ...]:
            return (_follow(system, x0[count:][rows], steps, 0)[1],)

        (ends,) = cat_rows(shared(follow, len(x0) - count), 0)
        last = torch.cat((last, ends))

    found = _points(system, x0[:count]).merge(_cycles(system, last, LONGER * steps))
    counts = {name: int(found[name]) for name in COUNTS.values()} | {"stable cycles": int(found["cycles"])}
    found = found.assign(signature=_words(counts))
    visited = torch.cat((x0, path.flatten(0, 1)))
    visited = visited[(visited.abs() < FAR).all(-1)]
    if len(visited) < 3:  # too few for a plane
        visited = torch.cat((visited, visited.new_zeros(3, size)))
    plane = pca_plane(visited) if size > 2 else None
    box = _box(system, visited) if plane is None else None
    view = phase_plane(
        system, box, resolution=resolution, found=found, plane=plane, manifolds=False, starts=0
    )
    kept = ("velocity", "box_low", "box_high", "point", "cycle_point")
    seen = found.drop_vars(("point", "cycle_point")).assign({name: view[name].variable for name in kept})
    flat = path if plane is None else plane.project(path)
    seen = seen.assign(
        # no axis bears the name of a variable: that one would be a coordinate, which never changes
        nullcline=(("curve", "vertex", "axis"), view["nullcline"].values),
        nullcline_of=("curve", view["nullcline_of"].values),
        label=("axis", np.array(view.attrs["labels"])),
        trajectory=(("series", "time", "axis"), flat.movedim(0, 1).numpy()),
        forecast=(("series", "time", "observable"), system.observe(path).movedim(0, 1).numpy()),
    )
    seen.attrs = {"analysis": "phase_portrait", "projection": view.attrs["projection"]}
    if target is None:
        return seen
    axes = ("target_row", "target_column")
    predicted, corners = _predicted(system, nodes, box)
    end = system.observe(last[count:]).unflatten(0, nodes.shape[:2])
    return seen.assign(
        predicted_velocity=((*axes, "axis"), (predicted / dt).numpy()),
        predicted_corner=(("corner", "axis"), corners.numpy()),
        predicted_end=((*axes, "observable"), end.numpy()),
    )


def _grid(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Points of a box, `(row, column, 2)`."""
    share = torch.linspace(0, 1, count, dtype=torch.float64)
    return low + (high - low) * torch.stack(torch.meshgrid(share, share, indexing="xy"), -1)


def _follow(system: HeldInput, x: Tensor, steps: int, count: int) -> tuple[Tensor, Tensor]:
    """The states of so many steps, `x` the first of them: `(step, count, state)`; and the last one of all."""
    path = [x[:count]]
    for _ in range(steps - 1):
        x = system.step(x)
        path.append(x[:count])
    return torch.stack(path), x


def _box(system: HeldInput, visited: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of what is visited and where orbits end."""
    ends = bounds(system) or ()
    every = torch.cat((visited, *(end.reshape(-1, 2) for end in ends)))
    low, high = every.amin(0), every.amax(0)
    room = MARGIN * (high - low).clamp_min(1e-3 * float((high - low).max()) or 1.0)
    return low - room, high + room


def _predicted(system: HeldInput, nodes: Tensor, box: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """The displacement at predictions `nodes`, in their coordinates; predictions at the box's corners."""
    nothing = torch.full_like(nodes, torch.nan), nodes.new_full((4, 2), torch.nan)
    if box is None:
        return nothing
    offset = system.observe(nodes.new_zeros(2))
    weight = (system.observe(torch.eye(2, dtype=nodes.dtype)) - offset).mT
    try:
        plane = readout_plane(weight, offset)
    except ValueError:
        return nothing
    x = plane.lift(nodes)
    if not torch.allclose(system.observe(x), nodes, rtol=1e-6, atol=1e-6):  # it is no affine function
        return nothing
    (left, low), (right, high) = box
    corners = torch.stack(
        [torch.stack(each) for each in ((left, low), (right, low), (right, high), (left, high))]
    )
    return plane.along(system.step(x) - x), system.observe(corners)


def _points(system: HeldInput, x0: Tensor) -> xr.Dataset:
    """Fixed points by type."""
    found = None
    if x0.shape[-1] == 2:
        with contextlib.suppress(UnknownOperation):
            found = certified_fixed_points(system)
    certified = found is not None
    if found is None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning)
            found = fixed_points(system, x0)
    value: Any = found["eigenvalue"].transpose("index", "mode").values
    types, flow_types = _types(np.abs(value) - 1), _types(value.real - 1)
    open_ = found.attrs.get("undecided", 0)
    counts = _counts(types, open_)
    return (
        xr.Dataset({name: found[name].variable for name in ("point", "y", "eigenvalue", "residual")})
        .assign(type=("index", types), flow_type=("index", flow_types))
        .assign(certified=("index", np.full(len(types), certified)))
        .isel(index=np.argsort([list(COUNTS).index(name) for name in types], kind="stable"))
        .assign(counts | {"flow_signature": _words(_counts(flow_types, open_))})
    )


def _types(growth: np.ndarray) -> np.ndarray:
    """From how fast deviations along each mode grow, `(index, mode)`: what is below 0 dies out."""
    names = np.where((growth < 0).all(-1), "sink", np.where((growth > 0).all(-1), "source", "saddle"))
    return np.where((np.abs(growth) < BORDER).any(-1), "undecided", names).astype("<U9")


def _counts(types: np.ndarray, undecided: int) -> dict[str, int]:
    counts = {plural: int((types == name).sum()) for name, plural in COUNTS.items()}
    return counts | {"undecided": counts["undecided"] + undecided}


def _words(counts: Mapping[str, int]) -> str:
    """How many there are of what.

    >>> _words({"sinks": 2, "sources": 0, "saddles": 1, "stable cycles": 0})
    '2 sinks, 1 saddle'
    """
    forms = {name: name if name == "undecided" else name.removesuffix("s") for name in counts}
    return ", ".join(f"{n} {forms[name] if n == 1 else name}" for name, n in counts.items() if n) or "nothing"


def _cycles(system: HeldInput, x: Tensor, steps: int) -> xr.Dataset:
    """Attracting closed curves that states have settled on after so many steps, by as many more.

    A map's cycle seldom closes after a whole number of steps. Its rotation number tells the period, and the
    order in which the states of one orbit lie along the curve.
    """
    curves: list[Tensor] = []
    periods: list[float] = []
    moving = x[((system.step(x) - x).norm(dim=-1) > RESTING) & x.isfinite().all(-1)]
    if len(moving):
        _, x = _follow(system, moving[:: -(-len(moving) // STARTS)], steps, 0)
        path = _follow(system, x, steps, len(x))[0].movedim(0, 1)
        turning = rotation_number(path, tolerance=STEADY)
        turns = torch.from_numpy(turning["rotation"].values)
        spread = path.unflatten(1, (2, -1)).std(2)
        size = spread.amax((1, 2))
        closed = torch.from_numpy(turning["kind"].values != "undecided") & (turns * steps > 3)
        # what spirals inwards fast; what does so slowly does not come back when it is moved
        closed &= spread.diff(dim=1).abs().amax((1, 2)) < ALIKE * size
        for row in closed.nonzero().flatten().tolist():
            phase = (turns[row] * torch.arange(steps, dtype=path.dtype)).remainder(1)
            curve = path[row, phase.argsort()]
            seen = any(_distance(curve, other) < AWAY * size[row] for other in curves)
            if not seen and _attracts(system, curve, float(size[row])):
                curves.append(curve)
                periods.append(1 / float(turns[row]))
    point = torch.stack(curves) if curves else x.new_zeros(0, steps, x.shape[-1])
    point = point[:, :: -(-steps // PHASES)]
    return xr.Dataset(
        {
            "cycle_point": (("cycle", "phase", "state"), point.numpy()),
            "cycle_y": (("cycle", "phase", "observable"), system.observe(point).numpy()),
            "cycle_period": ("cycle", np.array(periods, float), {"units": "time steps"}),
            "cycle_type": ("cycle", np.full(len(periods), "stable")),
            "cycles": len(periods),
        }
    )


def _distance(x: Tensor, curve: Tensor) -> float:
    """Of the farthest of states `(n, state)` from a closed curve, drawn straight from point to point."""
    along = curve.roll(-1, 0) - curve
    away = x[:, None] - curve
    part = ((away * along).sum(-1) / along.square().sum(-1).clamp_min(1e-300)).clamp(0, 1)
    return float((away - part[..., None] * along).norm(dim=-1).amin(-1).amax())


def _attracts(system: HeldInput, curve: Tensor, size: float) -> bool:
    """Whether what is moved off a curve, towards its middle and away from it, comes back."""
    some = curve[:: -(-len(curve) // 4)]
    inward = AWAY * (curve.mean(0) - some)
    _, x = _follow(system, torch.cat((some + inward, some - inward)), len(curve), 0)
    return _distance(x, curve) < 0.3 * AWAY * size


def summary(look: xr.Dataset) -> dict[str, float]:
    """Scalars of one look, means over probes and members: how many fixed points and cycles there are."""
    counts = {name: float(look[name].mean()) for name in (*COUNTS.values(), "cycles")}
    return {"fixed_points": float((look["type"] != "").sum("index").mean()), **counts}


def draw(looks: xr.Dataset) -> Mapping[str, Any]:
    """The rows of Fig. 8 at the last look."""
    from rnnlab.figures import forecast

    return {"phase_portrait": forecast.portraits(looks)}
