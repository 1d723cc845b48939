"""The plane of two parameters, and branches of cycles, on datasets written by hand."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from rnnlab.figures.bifurcation_curves import CURVES, bifurcation_set
from rnnlab.figures.continuation import UNSTABLE, cycle_diagram
from rnnlab.figures.style import BLUE, save_png


def curve(kind="Hopf", special=("Bogdanov-Takens",), names=("p", "q")):
    x = np.linspace(-1, 1, 5)
    return xr.Dataset(
        {
            "first": ("step", x),
            "second": ("step", x**2),
            "coefficient": ("step", [-2.0, -1.0, -0.5, 0.5, 1.0]),
            "special_type": ("special", np.array(special, str)),
            "special_first": ("special", np.linspace(0, 0.5, len(special))),
            "special_second": ("special", np.linspace(0, 0.25, len(special))),
        },
        attrs={"kind": kind, "names": list(names), "box": [[-1.0, 1.0], [0.0, 2.0]]},
    )


def samples():
    return xr.Dataset(
        {
            "first": ("sample", [0.0, 0.1, 0.2]),
            "second": ("sample", [1.0, 1.1, 1.2]),
            "sinks": ("sample", [1, 2, 2]),
            "sources": ("sample", [0, 0, 0]),
            "saddles": ("sample", [0, 1, 1]),
        }
    )


def said(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_special_points_and_regions(tmp_path):
    saddle_nodes = curve("saddle-node", ("Bogdanov-Takens", "cusp"))
    figure = bifurcation_set([curve(), saddle_nodes], samples=samples())
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("p", "q")
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 1), (0, 2))
    drawn = [line for line in axes.lines if line.get_marker() == "None"]
    # the Hopf curve is dashed where subcritical
    assert [(line.get_color(), line.is_dashed(), len(line.get_xdata())) for line in drawn] == [
        (CURVES["Hopf"], False, 3),
        (CURVES["Hopf"], True, 3),
        (CURVES["saddle-node"], False, 5),
    ]
    # both curves pass the same point: it is marked once
    assert [text.get_text() for text in axes.texts] == ["BT", "CP"]
    assert said(figure) == [
        "Hopf",
        "saddle-node",
        "subcritical Hopf",
        "BT: Bogdanov-Takens",
        "CP: cusp",
        "2 sinks, 1 saddle",
        "1 sink",
    ]
    assert save_png(figure, tmp_path / "set.png").stat().st_size > 10_000


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        bifurcation_set([])
    with pytest.raises(ValueError, match="at least one"):
        bifurcation_set([samples()])
    with pytest.raises(ValueError, match="same plane"):
        bifurcation_set([curve(), curve(names=("p", "r"))])
    with pytest.raises(ValueError, match="cycle_continuation"):
        cycle_diagram(curve())


def cycles(ended="homoclinic", period=(4.0, 5.0, 6.0, 60.0)):
    mu = np.array([0.5, 0.3, 0.2, 0.1])
    y = np.stack([np.stack((-m * np.ones(3), [0, m, 0.5 * m]), 0).T.mean(-1) for m in mu])[..., None]
    return xr.Dataset(
        {
            "parameter": ("step", mu),
            "period": ("step", np.array(period), {"units": "time units"}),
            "unstable": ("step", [0, 0, 1, 1]),
            "least_speed": ("step", mu),
            "y": (("step", "phase", "observable"), y),
            "bifurcation_type": ("bifurcation", ["fold of cycles"]),
            "bifurcation_parameter": ("bifurcation", [0.3]),
            "bifurcation_period": ("bifurcation", [5.0]),
            "bifurcation_y": (("bifurcation", "phase", "observable"), y[1:2]),
            "ended": ("end", ["left the span", ended]),
            "ended_parameter": ("end", [0.5, 0.05]),
        },
        attrs={"name": "mu"},
    )


def test_cycles_between_their_extremes_with_their_period():
    figure = cycle_diagram(cycles())
    above, below = figure.axes
    drawn = [line for line in above.lines if line.get_marker() == "None" and len(line.get_xdata()) > 1]
    y = cycles().y.values[..., 0]
    extremes = {tuple(line.get_ydata()) for line in drawn if line.get_color() == BLUE}
    assert extremes == {tuple(y.min(-1)[:2]), tuple(y.max(-1)[:2])}
    assert [line.get_color() for line in below.lines if len(line.get_xdata()) == 3] == [UNSTABLE["color"]]
    assert below.get_yscale() == "log"
    assert [text.get_text() for text in below.texts] == ["homoclinic"]
    assert any(line.get_linestyle() == ":" and line.get_xdata()[0] == 0.05 for line in below.lines)
    assert said(figure) == ["stable", "unstable", "FC: fold of cycles"]
    marks = [line for line in above.lines if line.get_marker() == "s"]
    assert to_hex(marks[0].get_markeredgecolor()) == "#d55e00"
    assert sorted(marks[0].get_ydata()) == [y[1].min(), y[1].max()]


def test_a_period_that_stays_is_a_flat_line():
    figure = cycle_diagram(cycles("left the span", (3.0, 3.0 + 1e-9, 3.0, 3.0)))
    _, below = figure.axes
    assert below.get_yscale() == "linear"
    low, high = below.get_ylim()
    assert high - low > 0.1
    assert not below.texts
