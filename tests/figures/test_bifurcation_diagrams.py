"""The pictures show what is in the numbers: checked on maps whose diagrams are known by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from rnnlab.figures import bifurcation
from rnnlab.figures.style import UNSETTLED, save_png
from tests.figures.orbits import growing_circle, logistic

EPOCHS = np.arange(0, 1001, 50)


def dots(axes: object) -> np.ndarray:
    """All dots drawn in flat axes, `(dot, 2)`."""
    return np.concatenate([line.get_xydata() for line in axes.lines])  # type: ignore[attr-defined]


def cloud(figure: Figure) -> np.ndarray:
    """All dots drawn in space, `(dot, 3)`."""
    return np.concatenate([np.stack(c._offsets3d, axis=1) for c in figure.axes[0].collections])  # type: ignore[attr-defined]


def pixels(figure: Figure, tmp_path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(save_png(figure, tmp_path / "figure.png"))


def test_a_cycle_of_period_p_is_p_dots() -> None:
    r = np.array([2.8, 3.2, 3.5, 3.55, 3.83])
    figure = bifurcation.diagram_1d(logistic(r))
    (axes,) = figure.axes
    drawn = dots(axes)
    assert [int((drawn[:, 0] == value).sum()) for value in r] == [1, 2, 4, 8, 3]
    np.testing.assert_allclose(drawn[drawn[:, 0] == 2.8, 1], 1 - 1 / 2.8)
    assert figure.get_supxlabel() == "r"
    assert figure.get_supylabel() == "$y_t$"


def test_few_places_are_dots_and_many_are_a_density() -> None:
    r = np.linspace(3.3, 4.0, 60)
    dataset = logistic(r, steps=400)
    (axes,) = bifurcation.diagram_1d(dataset, max_points=1_000_000).axes
    assert not axes.images
    (axes,) = bifurcation.diagram_1d(dataset, max_points=1000).axes
    assert axes.images
    assert len(dots(axes)) < 60 * 16
    # cycles stay dots: the two branches of period 2 are not painted over
    assert (dots(axes)[:, 0] == r[0]).sum() == 2
    # the busiest place of chaos at r = 4 is the edge: density 1 / sqrt(y (1 - y))
    image = max((np.asarray(image.get_array()) for image in axes.images), key=lambda a: a[..., 3].sum())
    last = image[:, -2, 3]
    assert last[last > 0][0] > np.median(last)
    assert last[last > 0][-1] > np.median(last)


def test_density_columns_stand_where_their_looks_are() -> None:
    """Uneven looks, in no order: every column of the image belongs to the nearest look."""
    rng = np.random.default_rng(0)
    r = np.array([4.0, 0.0, 1.0, 1.5])  # here only a label
    y = np.stack([rng.uniform(k, k + 1, (1, 1, 500, 1)) for k in range(4)])
    dataset = xr.Dataset({"y": (("r", "probe", "sample", "time", "observable"), y)}, coords={"r": r})
    (axes,) = bifurcation.diagram_1d(dataset, max_points=10).axes
    (image,) = [i for i in axes.images if np.asarray(i.get_array())[..., 3].any()]
    left, right, bottom, top = image.get_extent()
    shown = np.asarray(image.get_array())[..., 3] > 0
    heights = bottom + (np.arange(shown.shape[0]) + 0.5) * (top - bottom) / shown.shape[0]
    places = left + (np.arange(shown.shape[1]) + 0.5) * (right - left) / shown.shape[1]
    for column, place in enumerate(places):
        nearest = int(np.argmin(np.abs(r - place)))
        if np.sort(np.abs(r - place))[1] - np.sort(np.abs(r - place))[0] > 0.05:
            assert abs(np.median(heights[shown[:, column]]) - (nearest + 0.5)) < 0.1


def test_a_fixed_point_repeated_many_times_is_one_dot() -> None:
    figure = bifurcation.diagram_3d(growing_circle(EPOCHS, birth=np.inf, samples=4, steps=400))
    points = cloud(figure)
    assert len(points) == len(EPOCHS)
    np.testing.assert_allclose(points, np.stack([EPOCHS, 0.1 + 0 * EPOCHS, 0 * EPOCHS], 1), atol=1e-12)


def test_the_oscillation_is_a_loop_of_value_and_difference() -> None:
    dataset = growing_circle(EPOCHS)
    points = cloud(bifurcation.diagram_3d(dataset, probe="ω = 1.1"))
    for epoch in (600, 1000):
        loop = points[points[:, 0] == epoch]
        assert len(loop) > 50
        # y - 0.1 = a sin(s) and its difference = 2 a sin(w/2) cos(s - w/2): an ellipse
        y, dy, w, a = loop[:, 1] - 0.1, loop[:, 2], 1.1, np.sqrt((epoch - 500) / 1000)
        sin, cos = y / a, (dy / (2 * a * np.sin(w / 2)) - y / a * np.sin(w / 2)) / np.cos(w / 2)
        np.testing.assert_allclose(sin**2 + cos**2, 1, atol=1e-9)


def test_dots_stay_below_the_cap_and_no_look_loses_its_fixed_point() -> None:
    dataset = growing_circle(np.arange(0, 2000, 10), samples=4, steps=400)
    assert len(cloud(bifurcation.diagram_3d(dataset, max_looks=1000, max_points=10**6))) > 20_000
    points = cloud(bifurcation.diagram_3d(dataset, max_looks=1000, max_points=3000))
    assert 2000 < len(points) <= 3000
    assert set(points[:, 0]) == set(dataset.epoch.values)


def test_looks_that_would_hide_each_other_are_left_out_evenly() -> None:
    dataset = growing_circle(np.arange(0, 2000, 10))
    drawn = np.unique(cloud(bifurcation.diagram_3d(dataset, max_looks=21))[:, 0])
    assert len(drawn) == 21
    assert (drawn[0], drawn[-1]) == (0, 1990)
    assert np.diff(drawn).max() <= 100


def test_the_tail_of_a_decay_is_drawn_as_one_dot() -> None:
    dataset = growing_circle(EPOCHS, samples=2)
    rest = dataset.copy(deep=True)
    rest["y"][...] = 0.3 + 1e-9 * dataset["y"] + 0.01 * rest.epoch / rest.epoch.max()
    figure = bifurcation.diagram_3d(rest)
    assert len(cloud(figure)) == rest.sizes["epoch"]
    low, high = figure.axes[0].get_zlim()  # type: ignore[attr-defined]
    assert high - low > 1e-3


def test_what_has_not_settled_and_is_out_of_scale_does_not_shrink_the_rest() -> None:
    dataset = growing_circle(EPOCHS)
    wild = dataset.copy(deep=True)
    wild["y"][{"epoch": 0}] = 1e3 * wild["y"][{"epoch": -1}]
    wild["y"][{"epoch": 0, "time": slice(1, None, 5)}] = 0.1  # in scale, but what came before is not
    wild["settled"][{"epoch": 0}] = False
    points, usual = cloud(bifurcation.diagram_3d(wild)), cloud(bifurcation.diagram_3d(dataset))
    assert np.abs(points[:, 1:]).max() <= np.abs(usual[:, 1:]).max() * 1.01
    assert len(points) > 0.5 * len(usual)


def test_axes_and_titles_say_what_they_show() -> None:
    dataset = growing_circle(EPOCHS)
    dataset.epoch.attrs["units"] = "epochs"
    figure = bifurcation.diagram_3d(dataset, probe=2)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "epoch (epochs)"
    assert axes.get_ylabel() == "$y_t$"
    assert axes.get_zlabel() == "$y_t - y_{t-1}$"  # type: ignore[attr-defined]
    assert "ω = 1.2" in [text.get_text() for text in figure.texts]
    figure = bifurcation.diagram_1d(dataset)
    assert [axes.get_title() for axes in figure.axes] == ["ω = 1.0", "ω = 1.1", "ω = 1.2"]
    figure = bifurcation.diagram_1d(dataset, probes=[2, "ω = 1.0"])
    assert [axes.get_title() for axes in figure.axes] == ["ω = 1.2", "ω = 1.0"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 10, 12, 40])
def test_every_probe_has_a_panel_up_to_twelve(count: int) -> None:
    figure = bifurcation.diagram_1d(growing_circle(EPOCHS, probes=count, steps=20))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == min(count, 12)
    assert all(len(axes.lines) for axes in shown)
    assert len({axes.get_title() for axes in shown}) == len(shown)


def test_orbits_that_have_not_settled_have_their_colour_and_a_legend() -> None:
    dataset = growing_circle(EPOCHS)
    for draw in (bifurcation.diagram_1d, bifurcation.diagram_3d):
        assert not draw(dataset).legends
    dataset["settled"][3] = False
    figure = bifurcation.diagram_1d(dataset)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not settled"]
    marked = np.concatenate(
        [line.get_xydata() for line in figure.axes[1].lines if line.get_color() == UNSETTLED]
    )
    assert set(marked[:, 0]) == {EPOCHS[3]}
    figure = bifurcation.diagram_3d(dataset)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not settled"]
    assert len(figure.axes[0].collections) == 2


def test_unsettled_looks_far_out_do_not_squash_the_picture_and_it_is_said() -> None:
    dataset = growing_circle(EPOCHS)
    dataset["y"][0] = 500.0
    assert bifurcation.diagram_1d(dataset).axes[0].get_ylim()[1] > 400  # settled: part of the truth
    dataset["settled"][0] = False
    figure = bifurcation.diagram_1d(dataset)
    assert figure.axes[0].get_ylim()[1] < 2
    assert "out of the picture" in figure.legends[0].get_texts()[0].get_text()


@pytest.mark.filterwarnings("error")
def test_infinite_and_missing_values_are_left_out(tmp_path: Path) -> None:
    dataset = growing_circle(EPOCHS)
    dataset["y"][2, :, 0, 5:] = np.nan
    dataset["y"][3, :, 1] = np.inf
    dataset["y"][4] = -np.inf
    points = cloud(bifurcation.diagram_3d(dataset))
    assert np.isfinite(points).all()
    assert set(points[:, 0]) == set(EPOCHS) - {EPOCHS[4]}
    assert np.isfinite(dots(bifurcation.diagram_1d(dataset).axes[0])).all()
    dataset["y"][:] = np.nan
    for draw in (bifurcation.diagram_1d, bifurcation.diagram_3d):
        pixels(draw(dataset), tmp_path)
    bifurcation.interactive(dataset)


def test_one_look_and_one_value_are_a_picture_too(tmp_path: Path) -> None:
    dataset = growing_circle(np.array([7]))
    for draw in (bifurcation.diagram_1d, bifurcation.diagram_3d):
        image = pixels(draw(dataset), tmp_path)
        assert image.min() < 0.5 < image.max()
    assert len(bifurcation.interactive(dataset).data[0].x) == 1


def test_pictures_have_the_size_they_say(tmp_path: Path) -> None:
    for draw in (bifurcation.diagram_1d, bifurcation.diagram_3d):
        figure = draw(growing_circle(EPOCHS))
        height, width, _ = pixels(figure, tmp_path).shape
        assert (width, height) == tuple((figure.get_size_inches() * 150).round())


def test_interactive_shows_one_probe_and_its_menu_shows_every_other() -> None:
    dataset = growing_circle(EPOCHS)
    dataset["settled"][3] = False
    figure = bifurcation.interactive(dataset, max_points=500)
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["ω = 1.0", "ω = 1.1", "ω = 1.2"]
    assert figure.layout.scene.xaxis.title.text == figure.layout.xaxis.title.text == "epoch"
    for probe, button in enumerate(buttons):
        visible = button.args[0]["visible"]
        shown = [trace for trace, on in zip(figure.data, visible, strict=True) if on]
        assert [trace.type for trace in shown] == ["scatter3d", "scatter", "scatter"]
        space, settled, unsettled = shown
        assert 200 < len(space.x) <= 500
        assert set(space.x) == set(EPOCHS)
        assert set(unsettled.x) == {EPOCHS[3]}
        assert EPOCHS[3] not in settled.x
        radius = np.abs(np.asarray(space.y)[np.asarray(space.x) == 1000] - 0.1).max()
        assert 0.6 < radius < 0.7072
        assert [trace.visible for trace in shown] == [probe == 0] * 3


def test_interactive_has_one_entry_for_each_pair() -> None:
    """All in one figure: browsers draw few pictures in space at a time."""
    one = growing_circle(EPOCHS, probes=2)
    both = xr.concat([one, one.assign(y=one.y + 5)], "observable", data_vars=["y"])
    figure = bifurcation.interactive(both.assign_coords(observable=["low", "high"]))
    buttons = figure.layout.updatemenus[0].buttons
    labels = ["ω = 1.0 → low", "ω = 1.1 → low", "ω = 1.0 → high", "ω = 1.1 → high"]
    assert [button.label for button in buttons] == labels
    for i, button in enumerate(buttons):
        visible, layout = button.args
        assert np.flatnonzero(visible["visible"]).tolist() == [3 * i, 3 * i + 1, 3 * i + 2]
        low, high = layout["yaxis.range"]
        assert layout["scene.yaxis.range"] == layout["yaxis.range"]
        most = layout["scene.zaxis.range"][1]
        assert np.abs(figure.data[3 * i].z).max() < most == -layout["scene.zaxis.range"][0]
        for trace in figure.data[3 * i : 3 * i + 2]:
            assert low < np.min(trace.y) < np.max(trace.y) < high
            assert (np.min(trace.y) > 4) == (i >= 2)
    (alone,) = {
        b.label for b in bifurcation.interactive(both, observable=1).layout.updatemenus[0].buttons
    } - {"ω = 1.0"}
    assert alone == "ω = 1.1"


def test_dots_in_space_are_not_cut_to_a_square() -> None:
    """The axes' own box is a square in the middle of the picture, which the orbits' one is wider than."""
    figure = bifurcation.diagram_3d(growing_circle(EPOCHS))
    assert not any(drawn.get_clip_on() for drawn in figure.axes[0].collections)


def test_which_of_several_outputs_is_drawn_is_said() -> None:
    one = growing_circle(EPOCHS)
    both = xr.concat([one, one.assign(y=one.y + 5)], "observable", data_vars=["y"])
    named = both.assign_coords(observable=["low", "high"])
    assert "high" in bifurcation.diagram_1d(named, observable=1).get_supylabel()
    texts = [text.get_text() for text in bifurcation.diagram_3d(named, observable=1).texts]
    assert "ω = 1.0 → high" in texts
    assert bifurcation.diagram_1d(one).get_supylabel() == "$y_t$"


def test_interactive_reads_names_as_text() -> None:
    dataset = growing_circle(EPOCHS).assign_coords(probe=["<b>", "a&b", "</script>"])
    figure = bifurcation.interactive(dataset)
    labels = [button.label for button in figure.layout.updatemenus[0].buttons]
    assert labels == ["&lt;b&gt;", "a&amp;b", "&lt;/script&gt;"]
    assert figure.to_html(include_plotlyjs=False).count("</script>") == 1


def test_an_observable_is_chosen_by_name_or_position() -> None:
    one = growing_circle(EPOCHS)
    both = xr.concat([one, one.assign(y=one.y + 5)], "observable", data_vars=["y"]).assign_coords(
        observable=["low", "high"]
    )
    for choice in (1, -1, "high"):
        drawn = dots(bifurcation.diagram_1d(both, observable=choice).axes[0])
        assert drawn[:, 1].min() > 4
    assert dots(bifurcation.diagram_1d(both).axes[0])[:, 1].max() < 2


WRONG = {
    "no such probe": (lambda d: bifurcation.diagram_3d(d, probe="ω"), "probe='ω' .* one of ω = 1.0, ω = 1.1"),
    "position too high": (lambda d: bifurcation.diagram_1d(d, probes=[3]), "probe=3 is not there"),
    "no such observable": (lambda d: bifurcation.interactive(d, observable=1), "observable=1 is not there"),
    "no parameter": (lambda d: bifurcation.diagram_1d(d.isel(epoch=0)), r'rename\(probe="r"\)'),
    "two parameters": (lambda d: bifurcation.diagram_1d(d.expand_dims("seed")), "one parameter axis"),
    "no orbits": (lambda d: bifurcation.diagram_1d(d[["settled"]]), "needs y: the dataset has settled"),
    "one step": (lambda d: bifurcation.diagram_3d(d.isel(time=[0])), "needs two time steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_is_one_clear_line(case: str) -> None:
    attempt, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        attempt(growing_circle(EPOCHS))
    assert "\n" not in str(caught.value)


def test_drawing_leaves_pyplot_and_the_users_style_alone() -> None:
    program = """
import sys, matplotlib
matplotlib.rcParams["font.size"] = 23
from tests.figures.orbits import growing_circle
from rnnlab.figures import bifurcation
import numpy as np
bifurcation.diagram_1d(growing_circle(np.arange(3)))
assert matplotlib.rcParams["font.size"] == 23
print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)
"""
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["False", "False"]
