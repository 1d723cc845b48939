"""The paper's phase portraits, Fig. 2 to 7 and 9, with their fixed points by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import xarray as xr

from rnnlab.analysis.phase_plane import phase_plane
from rnnlab.analysis.topology import topology
from rnnlab.figures import style
from rnnlab.figures.phase_portrait import draw, portraits
from rnnlab.gru_flow import GRUFlow
from rnnlab.integrate import integrate
from rnnlab.studies.gru_atlas.cases import Case

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 1.5  # half the width of the paper's portraits
FRAMES = 1500


class Panel(NamedTuple):
    """One phase portrait of Section 4: what is drawn beside the field."""

    name: str  # row of Table 1
    side: float = SIDE
    start: tuple[float, float] | None = None  # of the black trajectory
    duration: float = 0.0  # of it, in time units; the paper's time axes
    back: bool = False  # whether it is also followed backward


# the starts of the black trajectories are not printed: in Fig. 4 inside the homoclinic region
FIGURES = {
    "2": [Panel("2")],
    "3": [Panel("3a"), Panel("3b"), Panel("3c")],
    "4": [Panel("4a", SIDE, (0.45, -0.15), 250.0, True), Panel("4b", SIDE, (0.3, -0.3), 250.0, True)],
    "5": [
        Panel("5a", SIDE, (1.0, 1.0), 50.0),
        Panel("5b", SIDE, (0.1, 0.1), 50.0),
        Panel("5c", SIDE, (0.1, 0.1), 800.0),
    ],
    "6": [Panel("6a"), Panel("6a", 0.2)],
    "7": [Panel("7a", SIDE, (-0.5, -0.5), 25.0)],
}


def portrait(
    field: GRUFlow, side: float = SIDE, *, manifolds: bool = True, found: xr.Dataset | None = None
) -> xr.Dataset:
    """The phase plane on [-side, side]^2, with 64 trajectories from a grid of 8 x 8, as in Fig. 9.

    Args:
        field: The flow.
        side: Half the width.
        manifolds: Whether to grow those of the saddles.
        found: Its `topology`, if known.
    """
    corner = torch.full((2,), side, dtype=torch.float64)
    known = topology(field) if found is None else found
    return phase_plane(field, (-corner, corner), found=known, manifolds=manifolds, resolution=61)


@style.styled
def figure(panels: list[Panel], rows: dict[str, Case]) -> Figure:
    """Portraits side by side, above the time courses of their black trajectories.

    Args:
        panels: What to draw.
        rows: Table 1.
    """
    timed = any(panel.start for panel in panels)
    width, height = 0.1 + 4.0 * len(panels), 3.5 + 2.1 * timed
    made = style.new_figure(width, height)
    for i, panel in enumerate(panels):
        field = rows[panel.name].field()
        left = 0.6 + 4.0 * i
        axes = made.add_axes((left / width, 1 - 3.1 / height, 2.7 / width, 2.7 / height))
        image = draw(axes, portrait(field, panel.side))
        axes.set_title(f"Fig. {panel.name[0]}{'abc'[i]}")
        bar = made.colorbar(
            image, cax=made.add_axes(((left + 2.78) / width, 1 - 3.1 / height, 0.08 / width, 2.7 / height))
        )
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.tick_params(labelsize=7)
        if panel.start is None:
            continue
        time, path = course(field, panel)
        axes.plot(*path.T, color="black", linewidth=1.3, zorder=3)
        below = made.add_axes((left / width, 0.45 / height, 2.7 / width, 1.35 / height))
        for k, name in enumerate("xy"):
            below.plot(time, path[:, k], label=f"{name}(t)", color=style.COLORS[k])
        below.set_xlabel("t")
        below.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.99, 1.05))
    return made


def course(field: GRUFlow, panel: Panel) -> tuple[Any, Any]:
    """Times `(frame)` and states `(frame, 2)` of a panel's black trajectory, backward in time first."""
    start = torch.tensor(panel.start, dtype=torch.float64)
    time = torch.linspace(0, panel.duration, FRAMES, dtype=torch.float64)
    path = integrate(field, start, time)
    if panel.back:
        time = torch.cat((-time.flip(0), time))
        path = torch.cat((integrate(field, start, -time[FRAMES:]).flip(0), path))
    return time.numpy(), path.numpy()


def pages(seen: dict[str, xr.Dataset], per_page: int = 12) -> list[Figure]:
    """Fig. 9: all cases, four abreast.

    Args:
        seen: A `portrait` of each case, by what stands above it.
        per_page: How many on one page.
    """
    names = list(seen)
    parts = [names[i : i + per_page] for i in range(0, len(names), per_page)]
    return [portraits({name: seen[name] for name in part}, columns=4, manifolds=False) for part in parts]
