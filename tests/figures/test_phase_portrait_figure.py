"""The picture shows what is in the numbers, on a dataset written by hand."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from rnnlab.figures import style
from rnnlab.figures.phase_portrait import (
    CYCLE,
    MARKS,
    NULLCLINES,
    TRAJECTORY,
    draw,
    interactive,
    portrait,
    portraits,
)
from rnnlab.figures.style import save_png

NAN = [np.nan, np.nan]


def dataset(time="continuous", projection="", **extra):
    """The field (-x, 1 - y), of speed 1 at the origin, with one of everything, padded as if beside others."""
    x, y = np.linspace(-1, 1, 11), np.linspace(0, 2, 9)
    v = np.stack(np.broadcast_arrays(-x, 1 - y[:, None]), -1)
    ring = [[0.5, 1], [0, 1.5], [-0.5, 1], [0, 0.5]]
    data = {
        "velocity": (("row", "column", "axis"), v),
        "speed": (("row", "column"), np.hypot(*v.T).T),
        "box_low": ("axis", [-1.0, 0.0]),
        "box_high": ("axis", [1.0, 2.0]),
        "nullcline": (
            ("curve", "vertex", "axis"),
            [[[0, 0], [0, 2], NAN], [[-1, 1], [0, 1], [1, 1]], [NAN] * 3],
        ),
        "nullcline_of": ("curve", [0, 1, -1]),
        "point": (("index", "axis"), [[0, 1], *[[0.1 * i, 1.5] for i in range(len(MARKS) - 1)], NAN]),
        "type": ("index", np.array([*MARKS, ""])),
        "cycle_point": (("cycle", "phase", "axis"), [ring, [NAN] * 4]),
        "cycle_type": ("cycle", ["unstable", ""]),
        "trajectory": (("start", "time", "axis"), [[[1, 2], [0.5, 1.5], NAN], [NAN] * 3]),
        "manifold": (("branch", "vertex", "axis"), [[[0, 1], [0, 0], NAN], [[0, 1], [1, 1], [1, 0.5]]]),
        "manifold_stable": ("branch", [True, False]),
    }
    return xr.Dataset(data | extra, attrs={"time": time, "projection": projection, "labels": ["x", "y"]})


def empty():
    return dataset().isel(curve=[], index=[], cycle=[], start=[], branch=[])


def lines(axes, color):
    return [
        line
        for line in axes.lines
        if to_hex(line.get_color()) == color.lower() and line.get_marker() == "None"
    ]


def curve(line):
    xy = np.stack(line.get_data(), 1)
    return xy[np.isfinite(xy).all(1)].tolist()


def said(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_everything_is_drawn_once_and_in_its_look():
    figure = portrait(dataset(), title="a field")
    axes = figure.axes[0]
    first, second = (lines(axes, color) for color in NULLCLINES)
    assert [curve(line) for line in first] == [[[0, 0], [0, 2]]]
    assert [curve(line) for line in second] == [[[-1, 1], [0, 1], [1, 1]]]
    assert [curve(line) for line in lines(axes, TRAJECTORY)] == [[[1, 2], [0.5, 1.5]]]
    (cycle,) = lines(axes, CYCLE)
    assert curve(cycle)[0] == curve(cycle)[-1]
    assert len(curve(cycle)) == 5
    assert cycle.is_dashed()
    stable, unstable = lines(axes, "#ffffff")
    assert (curve(stable), stable.is_dashed()) == ([[0, 1], [0, 0]], True)
    assert (curve(unstable), unstable.is_dashed()) == ([[0, 1], [1, 1], [1, 0.5]], False)
    points = [line for line in axes.lines if line.get_marker() != "None"]
    assert [(line.get_marker(), curve(line)) for line in points] == [
        (mark.marker, [[0, 1]] if i == 0 else [[pytest.approx(0.1 * (i - 1)), 1.5]])
        for i, mark in enumerate(MARKS.values())
    ]
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_title()) == ((-1, 1), (0, 2), "a field")
    assert said(figure) == [
        *MARKS,
        "x-nullcline",
        "y-nullcline",
        "trajectory",
        "stable manifold",
        "unstable manifold",
        "unstable cycle",
    ]


def test_no_two_types_look_alike():
    axes = portrait(dataset()).axes[0]
    looks = [
        (line.get_marker(), line.get_fillstyle(), to_hex(line.get_markerfacecolor()))
        for line in axes.lines
        if line.get_marker() != "None"
    ]
    assert len(set(looks)) == len(MARKS)


def test_colour_is_the_logarithm_of_speed_and_arrows_have_one_length():
    figure = portrait(dataset())
    image, quiver = figure.axes[0].collections[:2]
    x, y = np.linspace(-1, 1, 11), np.linspace(0, 2, 9)[:, None]
    low, high = image.get_clim()
    with np.errstate(divide="ignore"):
        truth = np.log10(np.hypot(-x, 1 - y)).clip(low, high)
    assert np.asarray(image.get_array()).reshape(9, 11) == pytest.approx(truth, abs=1e-9)
    assert high == pytest.approx(np.log10(np.sqrt(2)))
    direction = np.stack((quiver.U, quiver.V), 1)
    assert np.hypot(*direction.T) == pytest.approx(np.full(len(direction), np.hypot(*direction[0])))
    # bilinear between the grid's nodes is exact for this field
    truth = np.stack((-quiver.X, 1 - quiver.Y), 1)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    assert direction / np.hypot(*direction[0]) == pytest.approx(truth)
    assert figure.axes[1].get_ylabel() == "log10 speed"


def test_only_what_is_there_is_in_the_legend():
    assert said(portrait(empty())) == []
    assert said(portrait(dataset(), trajectories=False, manifolds=False)) == [
        *MARKS,
        "x-nullcline",
        "y-nullcline",
        "unstable cycle",
    ]
    axes = portrait(dataset(), trajectories=False).axes[0]
    assert not lines(axes, TRAJECTORY)
    basin = ("row", "column"), np.repeat([[0] * 5 + [1] * 6], 9, 0)
    assert said(portrait(dataset(basin=basin)))[-1] == "border of a basin"


def test_orbits_of_a_map_are_points():
    axes = portrait(dataset("discrete")).axes[0]
    dots = [line for line in axes.lines if to_hex(line.get_color()) in (TRAJECTORY.lower(), CYCLE.lower())]
    assert [(line.get_marker(), line.get_linestyle(), len(curve(line))) for line in dots] == [
        (".", "None", 2),
        (".", "None", 4),
    ]


def test_a_projection_says_so():
    assert [text.get_text() for text in portrait(dataset(projection="readout")).axes[0].texts] == [
        "projection: readout"
    ]
    assert interactive(dataset(projection="a < b")).layout.title.text == "projection: a &lt; b"
    assert not portrait(dataset()).axes[0].texts


def test_many_side_by_side(tmp_path):
    figure = portraits({f"case {i}": dataset() for i in range(36)}, columns=6, title="all")
    assert len(figure.axes) == 36  # and no colour bar
    assert [axes.get_title() for axes in figure.axes[:2]] == ["case 0", "case 1"]
    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    width, height = figure.canvas.get_width_height()
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert save_png(portraits({"one": dataset()}), tmp_path / "one.png").stat().st_size > 5_000


def test_the_legend_is_beside_the_portrait():
    figure = portrait(dataset(), title="a field")
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert not any(axes.get_tightbbox().overlaps(legend) for axes in figure.axes)
    assert legend.x1 <= figure.canvas.get_width_height()[0]


def test_the_same_to_zoom():
    figure = interactive(dataset())
    assert [trace.name for trace in figure.data][1:] == [
        "direction",
        "x-nullcline",
        "y-nullcline",
        "trajectory",
        "stable manifold",
        "unstable manifold",
        "unstable cycle",
        *MARKS,
    ]
    assert figure.data[0].z.shape == (9, 11)
    (saddle,) = (trace for trace in figure.data if trace.name == "saddle")
    assert (saddle.x.tolist(), saddle.y.tolist()) == ([pytest.approx(0.1)], [1.5])
    assert len(interactive(empty()).data) == 2


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="needs velocity, speed, box_low, box_high: the dataset has nothing"):
        portrait(xr.Dataset())
    with pytest.raises(ValueError, match="select from probe first"):
        portrait(dataset().expand_dims("probe"))
    with pytest.raises(ValueError, match="nothing to draw"):
        portraits({})
    with pytest.raises(ValueError, match="columns=0"):
        portraits({"one": dataset()}, columns=0)


def test_draw_leaves_the_caller_s_figure_alone():
    figure = style.new_figure(4, 4)
    axes = figure.add_subplot()
    draw(axes, dataset(), small=True, speed=(-2.0, 0.0))
    assert not figure.legends
    assert len(figure.axes) == 1
    assert axes.collections[0].get_clim() == (-2.0, 0.0)
    assert axes.get_xlabel() == ""
