"""Training mode and generation mode side by side: the same network, told what was right or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from rnnlab.figures import style
from rnnlab.figures.bifurcation import draw_panel, output_name, unsettled_legend
from rnnlab.figures.orbits import Orbits, position

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = ("training mode", "generation mode")
PIECES = 320  # of the y axis


@style.styled
def modes(
    training: xr.Dataset,
    generation: xr.Dataset,
    *,
    probe: Any = None,
    observable: Any = 0,
    max_points: int = 4_000,
) -> Figure:
    """Epoch against the values visited under one held input: in training mode, and left alone.

    In generation mode the network's own output takes the place of what it is told in training. Both panels
    have the same axes and show the same input and output.

    Args:
        training: Looks at the network under held inputs: `y` `(parameter, probe, sample, time, observable)`
            and `settled`.
        generation: Looks at the network that is fed its own output, of the same form.
        probe: Name of the probe, or its position in `training`. Default: the one under which the ranges
            visited at the last look differ most.
        observable: Name or position of the observable.
        max_points: Most dots in a panel; of more, how often each place is visited.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: A dataset has no parameter axis, or one of them no such probe or observable.

    References:
        Ribeiro, Tiels, Aguirre, Schön, "Beyond exploding and vanishing gradients", AISTATS 2020, Fig. 2.
    """
    both = [Orbits.of(dataset, observable) for dataset in (training, generation)]
    names = both[0].names
    name = names[position(names, _telling(*both) if probe is None else probe, "probe")]
    both = [orbits.pick(name) for orbits in both]
    lows, highs = zip(*(orbits.limits() for orbits in both), strict=True)
    limits = min(lows), max(highs)
    starts, ends = zip(*(orbits.span() for orbits in both), strict=True)

    width, height = 10.0, 4.2
    figure = style.new_figure(width, height)
    figure.subplots_adjust(0.75 / width, 0.6 / height, 1 - 0.15 / width, 1 - 0.62 / height, wspace=0.06)
    panels: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, orbits, title in zip(panels, both, TITLES, strict=True):
        visits = orbits.visits(0, limits, PIECES)
        draw_panel(axes, orbits, 0, limits, visits, int(np.count_nonzero(visits)) > max_points)
        axes.set_title(title)
    panels[0].set(xlim=(min(starts), max(ends)), ylim=limits)
    output = output_name(training, observable)
    figure.text(
        0.08 / width, 1 - 0.08 / height, f"{name} → {output}" if output else name, va="top", fontsize=11
    )
    figure.supxlabel(both[0].label, fontsize=11, y=0.08 / height, va="bottom")
    figure.supylabel("$y_t$", fontsize=13, x=0.08 / width, ha="left")
    unsettled_legend(figure, *((orbits, limits) for orbits in both))
    return figure


def _telling(training: Orbits, generation: Orbits) -> int:
    """The probe whose two modes differ most, by the lowest and the highest value at the last look."""
    ranges = []
    for orbits in (training, generation.pick(*training.names)):
        y = orbits.y[np.argmax(orbits.at)]
        y = np.where(np.isfinite(y), y, 0.0)
        ranges.append(np.stack((y.min((1, 2)), y.max((1, 2)))))
    return int(np.abs(ranges[0] - ranges[1]).sum(0).argmax())
