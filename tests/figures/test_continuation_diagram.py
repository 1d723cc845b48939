"""The picture shows what is in the numbers, on a dataset written by hand."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba

from rnnlab.figures.continuation import MARKS, UNSTABLE, branch_diagram, piecewise_diagram
from rnnlab.figures.style import BLUE, save_png

BIFURCATIONS = [
    ("transcritical", "", 1.0, [0.0, np.nan]),
    ("period doubling", "supercritical", 3.0, [2 / 3, np.nan]),
    ("Neimark-Sacker", "subcritical", 3.5, [0.3, 0.9]),
]


def dataset(bifurcations=BIFURCATIONS):
    """The logistic map: 0, 1 - 1/r, and a shorter branch of cycles of two with other observable 1."""
    r = np.array([[0.5, 1.0, 2.0, 3.0, 3.6], [1.0, 2.0, 3.0, 3.6, np.nan], [3.0, 3.2, 3.6, np.nan, np.nan]])
    y = np.full((3, 5, 2, 2), np.nan)
    y[0, :, 0, 0] = 0
    y[1, :4, 0, 0] = 1 - 1 / r[1, :4]
    y[2, :3, :, 0] = [[2 / 3, 2 / 3], [0.51, 0.80], [0.32, 0.9]]
    y[..., 1] = 10 + y[..., 0]
    where = ("bifurcation", "phase", "observable")
    values = np.array([b[3] for b in bifurcations]).reshape(-1, 2, 1)
    return xr.Dataset(
        {
            "parameter": (("branch", "step"), r),
            "y": (("branch", "step", "phase", "observable"), y),
            "unstable": (("branch", "step"), [[0, 0, 1, 1, 1], [0, 0, 0, 1, -1], [0, 0, 0, -1, -1]]),
            "bifurcation_parameter": ("bifurcation", [b[2] for b in bifurcations]),
            "bifurcation_y": (where, np.concatenate((values, 10 + values), -1)),
            "bifurcation_type": ("bifurcation", np.array([b[0] for b in bifurcations], str)),
            "criticality": ("bifurcation", np.array([b[1] for b in bifurcations], str)),
        },
        attrs={"span": [3.6, 0.5], "name": "r"},
    )


def lines(axes, marker):
    return [line for line in axes.lines if (line.get_marker() != "None") == marker]


def test_solid_where_stable_and_dashed_where_not():
    (axes,) = branch_diagram(dataset()).axes
    drawn = {
        (line.get_color(), tuple(line.get_xdata()), tuple(np.round(line.get_ydata(), 2)))
        for line in lines(axes, marker=False)
    }
    grey = UNSTABLE["color"]
    assert drawn == {
        (BLUE, (0.5, 1.0), (0.0, 0.0)),
        (grey, (1.0, 2.0, 3.0, 3.6), (0.0, 0.0, 0.0, 0.0)),
        (BLUE, (1.0, 2.0, 3.0), (0.0, 0.5, 0.67)),
        (grey, (3.0, 3.6), (0.67, 0.72)),
        (BLUE, (3.0, 3.2, 3.6), (0.67, 0.51, 0.32)),
        (BLUE, (3.0, 3.2, 3.6), (0.67, 0.8, 0.9)),
    }
    assert all(line.is_dashed() == (line.get_color() == grey) for line in lines(axes, marker=False))
    assert axes.get_xlabel() == "r"
    assert axes.get_xlim() == (0.5, 3.6)


def test_bifurcations_are_marked_at_all_phases_and_named():
    figure = branch_diagram(dataset())
    (axes,) = figure.axes
    marks = lines(axes, marker=True)
    assert [list(line.get_ydata()) for line in marks] == [[0.0], [2 / 3], [0.3, 0.9]]
    assert [line.get_marker() for line in marks] == [MARKS[b[0]][1] for b in BIFURCATIONS]
    # open where subcritical
    assert [to_rgba(line.get_markerfacecolor()) == (1, 1, 1, 1) for line in marks] == [False, False, True]
    assert [text.get_text() for text in axes.texts] == ["TC", "PD", "NS"]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == [
        "stable",
        "unstable",
        "NS: subcritical Neimark-Sacker",
        "PD: supercritical period doubling",
        "TC: transcritical",
    ]


def test_another_observable(tmp_path):
    figure = branch_diagram(dataset(), observable=1)
    (axes,) = figure.axes
    assert min(line.get_ydata().min() for line in axes.lines) == 10
    assert save_png(figure, tmp_path / "branches.png").stat().st_size > 10_000


def test_crowded_labels_do_not_cover_each_other():
    near = [("saddle-node", "", 2.0 + 0.01 * i, [0.5, np.nan]) for i in range(4)]
    figure = branch_diagram(dataset(near))
    (axes,) = figure.axes
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    many = [("saddle-node", "", 1.0 + 0.05 * i, [0.5, np.nan]) for i in range(30)]
    assert not branch_diagram(dataset(many)).axes[0].texts


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="at least one branch"):
        branch_diagram(dataset().isel(branch=[]))
    with pytest.raises(ValueError, match="continuation"):
        branch_diagram(xr.Dataset({"y": ("time", [1.0])}))
    with pytest.raises(ValueError, match="observable=5"):
        branch_diagram(dataset(), observable=5)


def along_training():
    """A point that loses stability, and one that is lost."""
    on, y = ("branch", "step"), ("phase", "observable")
    return xr.Dataset(
        {
            "parameter": (on, [[0.0, 4.0, 10.0], [0.0, 3.0, np.nan]]),
            "y": ((*on, *y), [[[[0.1]], [[0.2]], [[0.4]]], [[[-0.5]], [[-0.6]], [[np.nan]]]]),
            "unstable": (on, [[0, 0, 2], [1, 1, -1]]),
            "modulus": (on, [[0.8, 1.0, 1.2], [1.5, 1.6, np.nan]]),
            "bifurcation_parameter": ("bifurcation", [4.0]),
            "bifurcation_y": (("bifurcation", *y), [[[0.2]]]),
            "bifurcation_type": ("bifurcation", ["Neimark-Sacker"]),
            "criticality": ("bifurcation", ["subcritical"]),
            "lost_parameter": ("lost", [3.0]),
            "lost_y": (("lost", *y), [[[-0.6]]]),
            "knot_parameter": ("knot", [0.0, 5.0, 10.0]),
            "index_sum": ("knot", [1.0, 0.0, np.nan]),
        },
        attrs={"span": [0.0, 10.0], "name": "epoch"},
    )


def test_along_a_training_points_and_their_leading_eigenvalues(tmp_path):
    figure = piecewise_diagram(along_training(), title="one input")
    above, below = figure.axes
    grey = UNSTABLE["color"]
    drawn = [
        {(line.get_color(), *map(float, line.get_ydata())) for line in lines(axes, marker=False)}
        for axes in (above, below)
    ]
    assert drawn[0] == {(BLUE, 0.1, 0.2), (grey, 0.2, 0.4), (grey, -0.5, -0.6)}
    assert drawn[1] - {("#333333", 1.0, 1.0)} == {(BLUE, 0.8, 1.0), (grey, 1.0, 1.2), (grey, 1.5, 1.6)}
    marks = {(line.get_marker(), *map(float, line.get_xdata())) for line in lines(above, marker=True)}
    assert marks == {("o", 4.0), ("x", 3.0)}
    (ticks,) = lines(below, marker=True)
    assert ticks.get_xdata().tolist() == [5.0, 10.0]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["stable", "unstable", "NS: subcritical Neimark-Sacker", "lost"]
    assert figure.texts[0].get_text() == "one input"
    assert save_png(figure, tmp_path / "a.png").stat().st_size > 5000


def test_no_cross_where_nothing_was_lost():
    figure = piecewise_diagram(along_training().isel(lost=slice(0)))
    assert {line.get_marker() for line in lines(figure.axes[0], marker=True)} == {"o"}
    assert "lost" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_training_without_branches_is_refused():
    for empty in (dataset(), along_training().isel(branch=slice(0))):
        with pytest.raises(ValueError, match="needs a dataset of `piecewise_continuation`"):
            piecewise_diagram(empty)
