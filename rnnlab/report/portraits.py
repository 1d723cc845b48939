"""Phase portraits on the page: what each network's plane holds, now and over the epochs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr

from rnnlab.figures import forecast
from rnnlab.report.parts import fold, plotly, table, text

LONGEST = 12  # rows of a table that is not folded away


def phase_portrait(dataset: xr.Dataset) -> str:
    """The section: portraits to choose from, topologies over the epochs, all points and cycles.

    Args:
        dataset: The looks of the callback `phase_portrait`, as the store gives them back.
    """
    epoch = int(dataset["epoch"][-1])
    networks = list(forecast.networks(dataset))
    points, cycles = list_points(dataset), list_cycles(dataset)
    point_heads = ("network", "point", "y", "as a map", "as a flow", "eigenvalues", "residual")
    return (
        f"<h3>At epoch {epoch}</h3>{_portraits(dataset)}<h3>Topologies</h3>"
        "<p>Of the network as it is, a map, and of the flow dx/dt = F(x) - x, of which one step of the map "
        "is an Euler step. Both rest at the same points; these may be stable for the one and not for the "
        "other.</p>"
        + _topologies(dataset, len(networks))
        + f"<h3>Fixed points at epoch {epoch}</h3><p>{_proof(networks)} Eigenvalues are those of the map; "
        "less one, those of the flow.</p>"
        + _table(point_heads, points, "points")
        + (
            "<h3>Cycles</h3>" + _table(("network", "period (time steps)", "range of y"), cycles, "cycles")
            if cycles
            else ""
        )
    )


def _portraits(dataset: xr.Dataset) -> str:
    parts = []
    try:
        figure = plotly(forecast.interactive(dataset))
        parts += [
            "<p>The learned field where the task's own one lives, in the coordinates of the predictions: an "
            "affine function of the state, which has an inverse. Choose the target to compare.</p>",
            figure,
        ]
    except ValueError:  # no target, or more units than observables
        pass
    projection = dataset.attrs.get("projection")
    where = (
        f"On the plane of the {text(projection)} of the states, a projection"
        if projection
        else "In the state space"
    )
    parts += [f"<p>{where}.</p>", plotly(forecast.interactive(dataset, states=True))]
    return "".join(parts)


def _proof(networks: list[tuple[str, xr.Dataset]]) -> str:
    if not all(one["certified"].values.all() for _, one in networks):
        return "Those that Newton's method has found; there may be more."
    if any(int(one["undecided"]) for _, one in networks):
        return "All there are, by proof, but for what is undecided."
    return "All there are, by proof."


def count_topologies(dataset: xr.Dataset) -> list[tuple[str, str, str, str]]:
    """Which networks of the last look have which topology: how many, which, as maps and as flows.

    The most frequent first.
    """
    networks = list(forecast.networks(dataset))
    kinds = [(one["signature"].item(), one["flow_signature"].item()) for _, one in networks]
    rows = []
    for kind, count in Counter(kinds).most_common():
        which = [name for (name, _), own in zip(networks, kinds, strict=True) if own == kind]
        some = ", ".join(which[:LONGEST]) + (", ..." if len(which) > LONGEST else "")
        rows.append((f"{count} of {len(networks)}", some, *kind))
    return rows


def _topologies(dataset: xr.Dataset, networks: int) -> str:
    """How many networks have which; of one by itself, when it had which."""
    if networks == 1:
        return _table(("epochs", "as a map", "as a flow"), list_history(dataset), "changes")
    lines = plotly(forecast.topologies(dataset)) if dataset.sizes["epoch"] > 1 else ""
    heads = ("networks", "which", "as a map", "as a flow")
    return lines + _table(heads, count_topologies(dataset), "topologies")


def list_history(dataset: xr.Dataset) -> list[tuple[str, str, str]]:
    """Epochs of looks with the same topology, and which it is, for a network by itself."""
    kinds = [
        (str(map_), str(flow))
        for map_, flow in zip(
            dataset["signature"].values.ravel(), dataset["flow_signature"].values.ravel(), strict=True
        )
    ]
    epochs = dataset["epoch"].values
    starts = [i for i in range(len(kinds)) if i == 0 or kinds[i] != kinds[i - 1]]
    rows = []
    for start, stop in zip(starts, [*starts[1:], len(kinds)], strict=True):
        first, last = epochs[start], epochs[stop - 1]
        rows.append((str(first) if first == last else f"{first} to {last}", *kinds[start]))
    return rows


def list_points(dataset: xr.Dataset) -> list[tuple[str, ...]]:
    """Every fixed point of the last look: network, point, y, both types, eigenvalues, residual."""
    rows = []
    for name, one in forecast.networks(dataset):
        point, y = (
            one["point"].transpose("index", "axis").values,
            one["y"].transpose("index", "observable").values,
        )
        values = one["eigenvalue"].transpose("index", "mode").values
        for i in range(one.sizes["index"]):
            leading = values[i][np.isfinite(values[i])]
            rows.append(
                (
                    name,
                    _vector(point[i]),
                    _vector(y[i]),
                    str(one["type"].values[i]),
                    str(one["flow_type"].values[i]),
                    ", ".join(_complex(value) for value in leading[:2])
                    + (", ..." if len(leading) > 2 else ""),
                    f"{one['residual'].values[i]:.1e}",
                )
            )
    return rows


def list_cycles(dataset: xr.Dataset) -> list[tuple[str, str, str]]:
    """Every cycle of the last look: network, period, range of each observable."""
    rows = []
    for name, one in forecast.networks(dataset):
        y = one["cycle_y"].transpose("cycle", "phase", "observable").values
        for i, period in enumerate(one["cycle_period"].values):
            ranges = (f"{low:.4g} to {high:.4g}" for low, high in zip(y[i].min(0), y[i].max(0), strict=True))
            rows.append((name, f"{period:.6g}", ", ".join(ranges)))
    return rows


def _vector(values: np.ndarray) -> str:
    more = ", ..." if len(values) > LONGEST else ""
    return f"({', '.join(f'{value:.6g}' for value in values[:LONGEST])}{more})"


def _complex(value: complex) -> str:
    """A number as a person writes it.

    >>> _complex(1.5 + 0j), _complex(0.25 - 2j)
    ('1.5', '0.25 - 2i')
    """
    if value.imag == 0:
        return f"{value.real:.6g}"
    return f"{value.real:.6g} {'-' if value.imag < 0 else '+'} {abs(value.imag):.6g}i"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], what: str) -> str:
    return fold(f"all {len(rows)} {what}", table(heads, rows), len(rows)) if rows else f"<p>No {what}.</p>"
