"""Targets, learned fields and forecasts stand where formulas have them."""

from __future__ import annotations

import numpy as np
import pytest

from rnnlab.figures import forecast, phase_portrait, style
from tests.figures.portraits import OFFSET, STEPS, WEIGHT, alone, grid, looks


def titled(figure, title):
    (axes,) = [one for one in figure.axes if one.get_title() == title]
    return axes


def test_networks_are_named_and_without_padding():
    dataset = looks([[0.9, -1.0], [-1.0, 0.9]])  # members differ in the number of cycles
    assert dataset.cycle_type.values.tolist()[1] == [[["stable"], [""]]]
    first, second = forecast.networks(dataset)
    assert (first[0], second[0]) == ("member 0", "member 1")
    assert (first[1].sizes["cycle"], second[1].sizes["cycle"]) == (1, 0)
    assert first[1].signature.item() == "1 undecided, 1 stable cycle"
    assert [name for name, _ in forecast.networks(alone([0.9]))] == ["silence"]


def test_each_plane_holds_its_own_field_and_series():
    ((_, one),) = forecast.networks(alone([-2.0]))
    target, predicted, states = (
        make(one) for make in (forecast.target_plane, forecast.predicted_plane, forecast.state_plane)
    )
    nodes = grid(np.array([-2.0, -1.0]), np.array([2.0, 1.5]))
    np.testing.assert_allclose(target.velocity, -nodes)
    np.testing.assert_allclose(target.speed, np.linalg.norm(nodes, axis=-1))
    np.testing.assert_allclose(target.trajectory[:, 0], one.shown)
    np.testing.assert_allclose(target.trajectory[:, 1:], one.target_series)
    np.testing.assert_allclose(predicted.velocity, one.predicted_velocity)
    np.testing.assert_allclose(predicted.trajectory, states.trajectory.values @ WEIGHT.T + OFFSET)
    np.testing.assert_allclose(predicted.point, [OFFSET])
    np.testing.assert_allclose(states.point, [[0, 0]])
    assert (states.attrs["labels"], predicted.attrs["labels"]) == (["x[0]", "x[1]"], ["y[0]", "y[1]"])


def test_points_beyond_the_targets_box_are_not_drawn_at_its_edge():
    dataset = alone([0.9])
    dataset["y"][:] = 5.0
    ((_, one),) = forecast.networks(dataset)
    assert forecast.predicted_plane(one).point.shape == (0, 2)
    assert forecast.state_plane(one).point.shape == (1, 2)


def test_one_network_has_its_panels_in_a_row():
    figure = forecast.portraits(alone([0.9, -2.0]))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["target", "learned (predictions)", "learned (states)", "forecast"]
    heights = {round(axes.get_position().y0, 6) for axes in figure.axes}
    assert len(heights) == 1
    said = [text.get_text() for text in figure.texts]
    assert said == ["silence: 1 saddle\n(as a flow: 1 sink)"]
    series = titled(figure, "forecast")
    predicted = [line for line in series.lines if line.get_linewidth() == 1.2]
    for i, line in enumerate(predicted):
        assert line.get_color() == style.COLORS[i]
        np.testing.assert_allclose(line.get_ydata(), alone([-2.0]).forecast[0, 0, 0, :, i])
        assert line.get_xdata().tolist() == list(range(1, STEPS + 1))
    (edge,) = [line for line in series.lines if line.get_linestyle() == "--"]
    assert edge.get_xdata() == [29, 29]


def test_what_no_state_predicts_is_covered():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = forecast.portraits(alone([0.9]))
    axes = titled(figure, "learned (predictions)")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    states = np.stack(np.meshgrid(np.linspace(-1.4, 1.4, 141), np.linspace(-1.4, 1.4, 141)), -1).reshape(
        -1, 2
    )
    places = states @ WEIGHT.T + OFFSET
    low, high = np.array([-1.95, -0.95]), np.array([1.95, 1.45])
    shown = ((places > low) & (places < high)).all(-1)
    x, y = axes.transData.transform(places[shown]).astype(int).T
    white = (pixels[y, x] == 255).all(-1)
    beyond = np.abs(states[shown]).max(-1)
    assert white[beyond > 1.05].all()
    assert not white[beyond < 0.95].any()
    assert (beyond > 1.05).sum() > 50
    assert (beyond < 0.95).sum() > 50


def test_ends_of_the_grid_are_dots():
    dataset = alone([0.9])
    figure = forecast.portraits(dataset)
    for title, name in (("target", "target_end"), ("learned (predictions)", "predicted_end")):
        lines = titled(figure, title).lines
        (dots,) = [line for line in lines if line.get_color() == style.ORANGE and line.get_marker() == "."]
        np.testing.assert_allclose(np.stack(dots.get_data(), -1), dataset[name][0].values.reshape(-1, 2))


def test_both_fields_have_the_same_colours():
    figure = forecast.portraits(alone([0.9]))
    images = [titled(figure, title).collections[0] for title in ("target", "learned (predictions)")]
    assert images[0].get_clim() == images[1].get_clim()
    assert titled(figure, "learned (states)").collections[0].get_clim() != images[0].get_clim()


def test_members_stand_side_by_side_and_four_at_most():
    figure = forecast.portraits(looks([[0.9, -2.0, 1.5, 0.8, 0.7]]))
    assert len(figure.axes) == 4 * 4
    said = [text.get_text() for text in figure.texts]
    assert "member 1: 1 saddle\n(as a flow: 1 sink)" in said
    assert "member 2: 1 saddle" in said
    assert not [text for text in said if "member 4" in text]
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes}) == 4


@pytest.mark.parametrize("options", [{"goal": False}, {"goal": False, "planar": False}])
def test_without_a_target_there_are_states_and_forecast(options):
    dataset = alone([0.9], **options)
    figure = forecast.portraits(dataset)
    assert [axes.get_title() for axes in figure.axes] == ["learned (states)", "forecast"]
    projected = "projection" in str([text.get_text() for text in figure.axes[0].texts])
    assert projected == (not options.get("planar", True))
    with pytest.raises(ValueError, match="no portrait can be shown"):
        forecast.interactive(dataset)
    assert forecast.interactive(dataset, states=True).data


def test_without_an_inverse_the_predictions_have_no_panel():
    dataset = alone([0.9])
    dataset["predicted_velocity"][:] = np.nan
    titles = [axes.get_title() for axes in forecast.portraits(dataset).axes]
    assert titles == ["target", "learned (states)", "forecast"]


def test_the_page_s_portraits_are_chosen_from_a_menu():
    figure = forecast.interactive(looks([[0.9, -2.0]]))
    (menu,) = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["member 0", "member 1", "target"]
    heatmaps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert [trace.visible for trace in heatmaps] == [True, False, False]
    names = {trace.name for trace in figure.data}
    assert {"sink", "saddle", "trajectory"} <= names
    for button in menu.buttons:
        shown = [t for t, on in zip(figure.data, button.args[0]["visible"], strict=True) if on]
        assert sum(trace.type == "heatmap" for trace in shown) == 1


def test_topologies_add_up_to_all_networks():
    figure = forecast.topologies(looks([[0.9, 0.8, 0.7], [0.9, -2.0, 0.7], [1.5, -2.0, -1.0]]))
    counts = {trace.name: list(trace.y) for trace in figure.data}
    assert counts == {"1 sink": [3, 2, 0], "1 saddle": [0, 1, 2], "1 undecided, 1 stable cycle": [0, 0, 1]}
    assert next(iter(counts)) == "1 saddle"  # the most frequent now


def test_marks_are_those_of_all_phase_portraits():
    figure = forecast.portraits(alone([0.9]))
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert "sink" in labels
    assert set(labels) & set(phase_portrait.MARKS) == {"sink"}
