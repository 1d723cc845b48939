"""The members of a finished run, and the numbers of each: losses, topology, and what it makes of its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import certified_fixed_points, rotation_number
from rnnlab.autonomous import freeze
from rnnlab.cells import GRU
from rnnlab.ensemble import Ensemble
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run
from rnnlab.studies.gru_forecasts.dynamics import Target, keeping, target_of, turning
from rnnlab.studies.gru_forecasts.units import GatedUnits
from rnnlab.systems import ContinuousTime, Flow, jacobian

FRESH = 4000  # series nobody has learned from
FRESH_SEED = 1_000_003
STARTS = 8  # of the series to learn from: where long runs begin
STEPS = {"burn_in": 8000, "record": 4000}  # of a map, how long they are
TIMES = {"burn_in": 2000, "record": 3000}  # of a flow
NEAR = 0.25  # a distance in what is observed
SLOW = 1e-3  # a speed there, in one step
NEUTRAL = 1e-6  # an eigenvalue so near to the border of stability: the state hardly moves there
ROUNDING = 1e-13  # nearer than this, relative to the larger one, no side of it is known
TYPES = ("sink", "source", "saddle", "undecided")


class Forecasts(NamedTuple):
    """A finished run of a planar task.

    Attributes:
        name: Of the run's folder.
        task: The task, a `datamodules.Planar`.
        fresh: The same task with `FRESH` other series.
        target: What its field's solutions end on.
        floor, fresh_floor: Expected loss of the best forecast, from the starts of `task` and of `fresh`.
        seeds: Of the members.
        networks: The members, in float64.
    """

    name: str
    task: Any
    fresh: Any
    target: Target
    floor: float
    fresh_floor: float
    seeds: list[int]
    networks: list[RecurrentModel]

    @property
    def units(self) -> GatedUnits:
        """All members as one system."""
        return GatedUnits.of(self.networks)

    def told(self, observed: Tensor) -> Tensor:
        """States `(member, sample, unit)` after the first step, in which `(sample, 2)` is observed."""
        nothing = torch.zeros(2, dtype=torch.float64)
        return torch.stack([network.step(nothing, observed.double()) for network in self.networks])


def open_forecasts(path: Path) -> Forecasts:
    """Open a run of a planar task, with the weights of its last checkpoint.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: Its task has no planar field, or its network is not two gated units with the reset gate
            before the product.
    """
    run, other = open_run(path), open_run(path)
    task: Any = run.task
    if not hasattr(task, "field") or not hasattr(task, "floor"):
        raise ValueError(
            f"{path} is a run of a {type(task).__name__}, which has no planar field: give runs of forecasts, "
            "such as experiment=jordan2019/fitzhugh_nagumo."
        )
    trained = run.load("last")
    models = trained.unstack() if isinstance(trained, Ensemble) else [trained]
    cell = models[0].cell
    if not isinstance(cell, GRU) or cell.reset != "before" or cell.state_size != 2:
        reset = f", reset={cell.reset}" if isinstance(cell, GRU) else ""
        raise ValueError(
            f"{path} has a {type(cell).__name__} with hidden_size={cell.output_size}{reset}: this study is "
            "of two gated units, give runs with model=gru model.cell.hidden_size=2 model.cell.reset=before."
        )
    other.config.task.update(
        seed=task.seed + FRESH_SEED, num_sequences=FRESH, num_validation=1, batch_size=None
    )
    fresh: Any = other.task
    return Forecasts(
        name=path.resolve().name,
        task=task,
        fresh=fresh,
        target=target_of(task.field, task.low, task.high),
        floor=task.floor(),
        fresh_floor=fresh.floor(),
        seeds=[run.config.seed + number for number in range(len(models))],
        networks=[freeze(model) for model in models],
    )


@torch.no_grad()
def measure(run: Forecasts) -> tuple[pd.DataFrame, list[xr.Dataset]]:
    """All members of a run, measured.

    Args:
        run: The run.

    Returns:
        A row for each member, and its fixed points as `fixed_points` gives them. Rows have

        - `run`, `seed`; `train_loss`, `val_loss`, `fresh_loss`, the last on series nobody learned from;
        - what `turning` says of the map, from `STARTS` series; `flow_period`, `half_open_period`: of the
          cycles of the flow and of the flow with gates of 1/2, in steps;
        - `fixed_points`: how many, and their `index_sum`; `neutral`: those with an eigenvalue of the map
          within 1e-6 of the border of stability; `signature`, `flow_signature`, `half_open_signature`: what
          there is;
        - for a continuum: `sinks_near`: sinks within 0.25 of it; what `keeping` says of the states that hold
          points of it at the end of the horizon; `held_error_...`: how far what they tell is from those
          points; `gate_median`: of their smaller update gate; `slow`: the fraction that moves by less than
          0.001 in a step, `near`: that within 0.25 of a fixed point, `slow_of_near` and `slow_of_others`: how
          many are slow of those near one and of the others. All distances are in what is observed.
    """
    table: dict[str, Any] = {"run": run.name, "seed": run.seeds}
    for name, task, part in (
        ("train_loss", run.task, "train"),
        ("val_loss", run.task, "val"),
        ("fresh_loss", run.fresh, "train"),
    ):
        inputs, targets = (values.double() for values in task.sequences(part))
        table[name] = [task.objective(network(inputs)[0], targets)["mse"].item() for network in run.networks]

    units, half = run.units, run.units.half_open()
    start = run.told(run.task.series["train"].observed[0, :STARTS])
    found = turning(units, start, **STEPS)
    flows = {"flow": ContinuousTime(units), "half_open": ContinuousTime(half)}
    flows = {name: Flow(field, 1.0, 2) for name, field in flows.items()}
    turns = {name: turning(flow, start, **TIMES) for name, flow in flows.items()}
    table |= found | {f"{name}_period": turn["period"] for name, turn in turns.items()}
    turns["map"] = found

    points = [fixed_points(network) for network in tqdm(run.networks, desc=run.name, unit=" networks")]
    table["fixed_points"] = [here.sizes["index"] for here in points]
    table["neutral"] = [int((np.abs(here.border.values).min(-1) < NEUTRAL).sum()) for here in points]
    table["index_sum"] = [here.attrs["index_sum"] for here in points]
    for name, turn in turns.items():
        types = [[*here[f"{name}_type"].values, *["undecided"] * here.attrs["undecided"]] for here in points]
        said = [signature(t, bool(share)) for t, share in zip(types, turn["oscillates"], strict=True)]
        table["signature" if name == "map" else f"{name}_signature"] = said
    if run.target.kind == "continuum":
        sinks = [torch.from_numpy(here.y.values[here.map_type.values == "sink"]) for here in points]
        table["sinks_near"] = [int((torch.cdist(y, run.target.curve).amin(-1) < NEAR).sum()) for y in sinks]
        told = run.told(run.target.ends)
        table |= keeping(units, told, settle=run.task.length) | _held(run, told, points)
    return pd.DataFrame(table), points


@torch.no_grad()
def forced_period(task: Any) -> float:
    """The mean period, in steps, of the target's oscillation under its random forces, over 256 series.

    That of the field without them if there are none.
    """
    generator = torch.Generator().manual_seed(task.seed)
    x = task.series["train"].states[-1, :256]
    path = []
    for _ in range(1000):
        x = Flow(task.forced(len(x), generator), task.dt, task.substeps or 1).step(x)
        path.append(x)
    return 1 / float(rotation_number(torch.stack(path, -2)).rotation.mean())


def fixed_points(network: RecurrentModel) -> xr.Dataset:
    """The fixed points of two gated units without input, with their type in three systems.

    These are the map; its flow dx/dt = F(x) - x; and the flow with the update gate held at 1/2. They have the
    same fixed points, each with the same index, but a sink of one may be a source of another. Where a gate
    is nearly shut everything nearly rests; so the points are certified with gates of 1/2.

    Args:
        network: The network, in float64.

    Returns:
        What `certified_fixed_points` returns of the flow with gates of 1/2, with `map_type`, `flow_type`,
        `half_open_type` `(index)`: "sink", "source", "saddle", or "undecided" where an eigenvalue is on the
        border within rounding; and `border` `(index, mode)`: by how much the eigenvalues of the network's
        own map exceed 1 in modulus.
    """
    units = GatedUnits.of([network])
    corner = torch.ones(2, dtype=torch.float64)
    found = certified_fixed_points(_Flow(units.half_open()), (-corner, corner))
    place = torch.from_numpy(found.point.values)
    matrices = jacobian(_Flow(units), place) if len(place) else place.new_zeros(0, 2, 2)
    rate, half = torch.linalg.eigvals(matrices).numpy(), found.eigenvalue.values
    square = 2 * rate.real + np.abs(rate) ** 2
    border = square / (np.sqrt(1 + square) + 1)  # |1 + rate| - 1, of which that would lose digits
    return found.assign(
        {
            "border": (("index", "mode"), border),
            "map_type": ("index", _types(border, rate)),
            "flow_type": ("index", _types(rate.real, rate)),
            "half_open_type": ("index", _types(half.real, half)),
        }
    )


def signature(types: list[str], cycle: bool) -> str:
    """Such as "1 source, 1 stable cycle".

    Example:
        >>> signature(["sink", "saddle", "sink"], cycle=False)
        '2 sinks, 1 saddle'
    """
    counts = [(types.count(name), name) for name in TYPES]
    words = [f"{count} {name}{'s' * (count > 1 and name != 'undecided')}" for count, name in counts if count]
    return ", ".join(words + ["1 stable cycle"] * cycle)


class _Flow:
    """The flow of the first of several networks."""

    def __init__(self, units: GatedUnits) -> None:
        self.units = units

    def velocity(self, x: Tensor) -> Tensor:
        return self.units.displacement(x[..., None, None, :])[..., 0, 0, :]

    def observe(self, x: Tensor) -> Tensor:
        return self.units.observe(x[..., None, None, :])[..., 0, 0, :]


def _types(border: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Types from `border`, above 0 where unstable, which is known to some digits of the largest rate."""
    unstable = (border > 0).sum(-1)
    types = np.array(["sink", "saddle", "source"], dtype="<U9")[unstable]
    known = np.abs(border) > ROUNDING * np.abs(rate).max(-1, keepdims=True)
    return np.where(known.all(-1), types, "undecided")


def _held(run: Forecasts, x: Tensor, points: list[xr.Dataset]) -> dict[str, Any]:
    """Of points of the continuum at the end of the horizon: the error of their forecast, gates and speed."""
    units = run.units
    for _ in range(run.task.length - 1):
        x = units.step(x)
    y = units.observe(x)
    error = (y - run.target.ends).norm(dim=-1).numpy()
    slow = (units.observe(units.step(x)) - y).norm(dim=-1) < SLOW
    places = [torch.from_numpy(here.y.values) for here in points]
    near = torch.stack([(torch.cdist(*both) < NEAR).any(-1) for both in zip(y, places, strict=True)])
    return {
        "held_error_median": np.median(error, -1),
        "held_error_largest": error.max(-1),
        "gate_median": units.gate(x).amin(-1).median(-1).values.numpy(),
        "slow": slow.double().mean(-1).numpy(),
        "near": near.double().mean(-1).numpy(),
        "slow_of_near": ((slow & near).sum(-1) / near.sum(-1)).numpy(),
        "slow_of_others": ((slow & ~near).sum(-1) / (~near).sum(-1)).numpy(),
    }
