"""Every fixed point has its place and its mark: checked on pitchforks, whose points are known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import fixed_points, style
from rnnlab.figures.looks import Looks
from tests.figures.looks import pitchforks, roots

EPOCHS = np.arange(0, 1001, 50)
COLORS = {0: style.BLUE, 1: style.YELLOW, 2: style.ORANGE}


def dots(axes: object, color: str) -> set[tuple[float, float]]:
    """Places of the marks of a colour, without the strokes at the foot."""
    lines = [line for line in axes.lines if line.get_marker() != "|"]  # type: ignore[attr-defined]
    places = [line.get_xydata() for line in lines if line.get_markeredgecolor() == color]
    return {(float(x), round(float(y), 9)) for x, y in np.concatenate([np.empty((0, 2)), *places])}


def strokes(axes: object, color: str) -> list[float]:
    lines = [line for line in axes.lines if line.get_marker() == "|"]  # type: ignore[attr-defined]
    return [float(x) for line in lines if line.get_color() == color for x in line.get_xdata()]


def entries(figure: object) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]  # type: ignore[attr-defined]


def test_every_point_is_where_it_is_in_the_colour_of_its_unstable_directions() -> None:
    dataset = pitchforks(EPOCHS, probes=2)
    # no two of these points share a y, and none is non-hyperbolic
    dataset["y"] = dataset["y"] + 0.01 * dataset["point"].isel(state=1).expand_dims(observable=1)
    figure = fixed_points.over_epochs(dataset.drop_sel(epoch=500))
    for p, axes in enumerate(figure.axes):
        for unstable, color in COLORS.items():
            expected = set()
            for epoch in EPOCHS[EPOCHS != 500]:
                xs = roots(0.5 + (1 + 0.2 * p) * epoch / 1000)
                for a in xs:
                    for b in xs:
                        if unstable == ((a == 0) + (b == 0)) * (len(xs) == 3):
                            expected.add((float(epoch), round(a + 0.51 * b, 9)))
            drawn = dots(axes, color)
            assert len(drawn) == len(expected)
            assert {x for x, _ in drawn} == {x for x, _ in expected}
            ys, wanted = (np.array(sorted(s)) for s in (drawn, expected))
            np.testing.assert_allclose(ys, wanted, atol=1e-8)
    assert entries(figure) == ["stable", "saddle, 1 unstable direction", "unstable, 2 directions"]
    assert [axes.get_title() for axes in figure.axes] == ["u = 0.0", "u = 0.1"]


def test_marks_tell_stable_from_saddle_and_unstable_without_colour() -> None:
    (axes,) = fixed_points.over_epochs(pitchforks(np.array([0, 1000]), probes=1)).axes
    marks = {
        line.get_markeredgecolor(): (line.get_marker(), line.get_markerfacecolor())
        for line in axes.lines
        if line.get_marker() != "|"
    }
    assert marks == {
        style.BLUE: ("o", style.BLUE),
        style.YELLOW: ("D", style.YELLOW),
        style.ORANGE: ("o", "white"),
    }


def test_a_non_hyperbolic_point_and_a_kind_that_is_not_known_have_marks_of_their_own() -> None:
    dataset = pitchforks(np.array([0, 500]), probes=1)
    figure = fixed_points.over_epochs(dataset)
    assert entries(figure)[:2] == ["stable", "non-hyperbolic"]
    without = dataset.assign(kind=dataset["kind"].copy(data=np.full(dataset["kind"].shape, "")))
    assert entries(fixed_points.over_epochs(without))[:1] == ["of unknown kind"]


def test_a_list_known_to_be_incomplete_is_marked_and_one_that_may_be_fainter() -> None:
    dataset = pitchforks(EPOCHS, probes=2).drop_sel(epoch=500)
    assert not entries(fixed_points.over_epochs(dataset))[3:]
    dataset["index_sum"].loc[{"epoch": 600, "probe": "u = 0.1"}] = 0
    dataset["not_converged"].loc[{"epoch": [600, 700], "probe": "u = 0.1"}] = 3
    figure = fixed_points.over_epochs(dataset)
    assert entries(figure)[3:] == [fixed_points.INCOMPLETE, fixed_points.UNCONVERGED]
    first, second = figure.axes
    assert strokes(first, style.INK) == strokes(first, "#b0b0b0") == []
    assert strokes(second, style.INK) == [600]
    assert strokes(second, "#b0b0b0") == [700]
    html = fixed_points.interactive(dataset)
    marked = {trace.name: list(trace.x) for trace in html.data if trace.name.startswith(("index", "some"))}
    assert marked == {fixed_points.INCOMPLETE: [600], fixed_points.UNCONVERGED: [700]}


def test_slow_points_are_faint_and_the_slower_the_less_so() -> None:
    dataset = pitchforks(EPOCHS, probes=1)
    shape = (len(EPOCHS), 1, 2)
    dataset["slow_y"] = (("epoch", "probe", "slow"), np.full(shape, [0.4, 0.5]))
    dataset["slow_speed"] = (("epoch", "probe", "slow"), np.full(shape, [1e-6, 1e-2]))
    figure = fixed_points.over_epochs(dataset)
    assert "slow, not fixed" in entries(figure)
    (cloud,) = figure.axes[0].collections
    alpha = dict(
        zip(
            np.asarray(cloud.get_offsets())[:, 1].tolist(),
            np.asarray(cloud.get_alpha()).tolist(),
            strict=True,
        )
    )
    assert 0.6 > alpha[0.4] > alpha[0.5] > 0
    (slow,) = [trace for trace in fixed_points.interactive(dataset).data if trace.name == "slow, not fixed"]
    np.testing.assert_allclose(np.unique(slow.customdata), [1e-6, 1e-2], rtol=1e-6)


def test_a_hundred_points_at_a_thousand_looks_stay_below_the_cap_and_no_look_is_lost() -> None:
    shape = (1000, 1, 100)
    dataset = xr.Dataset(
        {
            "y": (
                ("epoch", "probe", "index", "observable"),
                np.random.default_rng(0).uniform(size=(*shape, 1)),
            ),
            "kind": (("epoch", "probe", "index"), np.full(shape, "stable node")),
        },
        coords={"epoch": np.arange(1000)},
    )
    (axes,) = fixed_points.over_epochs(dataset, max_points=20_000).axes
    drawn = dots(axes, style.BLUE)
    assert 15_000 < len(drawn) <= 20_000
    assert len({x for x, _ in drawn}) == 1000
    (points, _) = fixed_points.interactive(dataset, max_points=5000).data
    assert 4000 < len(points.x) <= 5000


def test_interactive_shows_one_probe_and_its_menu_shows_every_other() -> None:
    dataset = pitchforks(EPOCHS, probes=3).drop_sel(epoch=500)
    figure = fixed_points.interactive(dataset)
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["u = 0.0", "u = 0.1", "u = 0.2"]
    for p, button in enumerate(buttons):
        shown = [t for t, on in zip(figure.data, button.args[0]["visible"], strict=True) if on]
        assert [t.visible for t in shown] == [p == 0] * len(shown)
        points = {t.name: t for t in shown if t.type == "scattergl"}
        counts = {t.name: np.asarray(t.y) for t in shown if t.type == "bar"}
        assert set(points) == set(counts)
        # after the pitchfork of this probe: 4 stable, 4 saddles, 1 unstable
        split = 0.5 / (1 + 0.2 * p) * 1000
        late = dataset.epoch.values > split
        np.testing.assert_array_equal(counts["stable"], np.where(late, 4, 1))
        np.testing.assert_array_equal(counts["saddle, 1 unstable direction"], np.where(late, 4, 0))
        np.testing.assert_array_equal(counts["unstable, 2 directions"], np.where(late, 1, 0))
        # what is hovered over: the leading multiplier of the unstable point at 0 is w
        unstable = points["unstable, 2 directions"]
        w = 0.5 + (1 + 0.2 * p) * np.asarray(unstable.x) / 1000
        np.testing.assert_allclose(np.asarray(unstable.customdata)[:, 0], w, rtol=1e-6)


def test_the_leading_eigenvalue_of_a_flow_is_the_one_of_largest_real_part() -> None:
    dataset = pitchforks(np.array([0, 1]), probes=1, state=2).isel(index=[0])
    dataset["eigenvalue"] = dataset["eigenvalue"].copy(data=np.broadcast_to([-9 + 0j, -1], (2, 1, 1, 2)))
    for time, value in (("discrete", 9), ("continuous", -1)):
        points = fixed_points.interactive(dataset.assign_attrs(time=time)).data[0]
        assert set(np.asarray(points.customdata)[:, 0]) == {value}


@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
def test_every_probe_has_a_panel_up_to_twelve(count: int) -> None:
    figure = fixed_points.over_epochs(pitchforks(EPOCHS[::10], probes=count, state=1))
    assert len(figure.axes) == min(count, 12)
    assert all(dots(axes, style.BLUE) for axes in figure.axes)
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)


@pytest.mark.filterwarnings("error")
def test_nothing_found_is_said_and_drawn(tmp_path: Path) -> None:
    dataset = pitchforks(EPOCHS, probes=2)
    for empty in (dataset.isel(index=slice(0)), dataset.isel(epoch=[0])):
        style.save_png(fixed_points.over_epochs(empty), tmp_path / "figure.png")
        fixed_points.interactive(empty)
    axes = fixed_points.over_epochs(dataset.isel(index=slice(0))).axes[0]
    assert "no fixed point found" in [text.get_text() for text in axes.texts]


def test_probes_and_observables_are_chosen_by_name_or_position_and_other_axes_are_found() -> None:
    dataset = pitchforks(EPOCHS, probes=3)
    both = dataset.drop_vars("y").assign(
        y=xr.concat([dataset["y"], dataset["y"] + 5], "observable").assign_coords(observable=["low", "high"])
    )
    for choice in (1, "high"):
        figure = fixed_points.over_epochs(both, probes=[2, "u = 0.0"], observable=choice)
        assert [axes.get_title() for axes in figure.axes] == ["u = 0.2", "u = 0.0"]
        assert figure.axes[0].get_ylim()[0] > 3
    swept = dataset.isel(probe=0, drop=True).rename(epoch="w")
    figure = fixed_points.over_epochs(swept)
    assert figure.get_supxlabel() == "w"
    assert fixed_points.interactive(swept).layout.updatemenus == ()


WRONG = {
    "no kinds": (lambda d: d.drop_vars(["kind", "y"]), "fixed points needs kind, y: the dataset has"),
    "no parameter": (lambda d: d.isel(epoch=0), "needs one parameter axis, such as epoch: kind has the axes"),
    "two": (lambda d: d.expand_dims("seed"), "needs one parameter axis"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("draw", [fixed_points.over_epochs, fixed_points.interactive])
def test_what_cannot_be_drawn_is_one_clear_line(case: str, draw: object) -> None:
    change, message = WRONG[case]
    assert callable(draw)
    with pytest.raises(ValueError, match=message) as caught:
        draw(change(pitchforks(EPOCHS, probes=1)))
    assert "\n" not in str(caught.value)


def test_a_probe_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="probe=7 is not there"):
        fixed_points.over_epochs(pitchforks(EPOCHS), probes=[7])


def test_looks_meet_halfway() -> None:
    looks = Looks.of(pitchforks(np.array([0, 10, 40]), probes=1), "x", ("kind",))
    assert looks.edges().tolist() == [-5, 5, 25, 55]
    assert looks.some(2).at.tolist() == looks.some(2).data.epoch.values.tolist() == [0, 40]
    assert looks.some(10).at.tolist() == [0, 10, 40]
