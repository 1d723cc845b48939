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

from rnnlab.analysis import certified_fixed_points
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
NEAR = 0.25  # sinks so near to the target's continuum, in what is observed, are what became of it
NEUTRAL = 1e-6  # an eigenvalue so near to the border of stability: the state hardly moves there
ROUNDING = 1e-12  # nearer than this, no side of it is known
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
            f"{path} has a {type(cell).__name__} with hidden_size={cell.output_size}{reset}: this study is of "
            "two gated units, give runs with model=gru model.cell.hidden_size=2 model.cell.reset=before."
        )
    other.config.task.update(seed=task.seed + FRESH_SEED, num_sequences=FRESH, num_validation=1, batch_size=None)
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
        A row for each member, and its fixed points as `fixed_points` gives them.
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
        table |= keeping(units, told, settle=run.task.length) | _held(run, told)
    return pd.DataFrame(table), points


def fixed_points(network: RecurrentModel) -> xr.Dataset:
    """The fixed points of two gated units without input, with their type in three systems.

    These are the map; its flow dx/dt = F(x) - x; and the flow with the update gate held at 1/2. They have the
    same fixed points, each with the same index, but a sink of one may be a source of another. Where a gate
    is nearly shut everything nearly rests; so the points are certified with gates of 1/2.

    Args:
        network: The network, in float64.

    Returns:
        What `certified_fixed_points` returns of the map with gates of 1/2, with `map_type`, `flow_type`,
        `half_open_type` `(index)`: "sink", "source", "saddle", or "undecided" where an eigenvalue is on the
        border within rounding; and `border` `(index, mode)`: by how much the eigenvalues of the network's
        own map exceed 1 in modulus.
    """
    units = GatedUnits.of([network])
    half = _One(units.half_open())
    box = -torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    found = certified_fixed_points(half, box)
    place = torch.from_numpy(found.point.values)
    borders = {}
    for name, system in (("flow", _One(units)), ("half_open", half)):
        matrices = jacobian(ContinuousTime(system), place) if len(place) else place.new_zeros(0, 2, 2)
        rate = torch.linalg.eigvals(matrices).numpy()
        borders[name] = rate.real
        if name == "flow":  # |1 + rate| - 1, without losing what is far below 1
            square = 2 * rate.real + np.abs(rate) ** 2
            borders["map"] = square / (np.sqrt(1 + square) + 1)
    types = {f"{name}_type": ("index", _types(border)) for name, border in borders.items()}
    return found.assign(border=(("index", "mode"), borders["map"]), **types)


def signature(types: list[str], cycle: bool) -> str:
    """Such as "1 source, 1 stable cycle".

    Example:
        >>> signature(["sink", "saddle", "sink"], cycle=False)
        '2 sinks, 1 saddle'
    """
    counts = [(types.count(name), name) for name in TYPES]
    words = [f"{count} {name}{'s' * (count > 1 and name != 'undecided')}" for count, name in counts if count]
    return ", ".join(words + ["1 stable cycle"] * cycle)


class _One:
    """One network of several."""

    def __init__(self, units: GatedUnits) -> None:
        self.units = units

    def step(self, x: Tensor) -> Tensor:
        return self.units.step(x[..., None, None, :])[..., 0, 0, :]

    def observe(self, x: Tensor) -> Tensor:
        return self.units.observe(x[..., None, None, :])[..., 0, 0, :]


def _types(border: np.ndarray) -> np.ndarray:
    unstable = (border > 0).sum(-1)
    types = np.array(["sink", "saddle", "source"], dtype="<U9")[unstable]
    return np.where((np.abs(border) < ROUNDING).any(-1), "undecided", types)


def _held(run: Forecasts, x: Tensor) -> dict[str, np.ndarray]:
    """How far from points of the continuum their forecast is at the end of the horizon, and the gate there."""
    units = run.units
    for _ in range(run.task.length - 1):
        x = units.step(x)
    error = (units.observe(x) - run.target.ends).norm(dim=-1).numpy()
    gate = units.gate(x).amin(-1).numpy()
    return {
        "held_error_median": np.median(error, -1),
        "held_error_largest": error.max(-1),
        "gate_median": np.median(gate, -1),
    }
