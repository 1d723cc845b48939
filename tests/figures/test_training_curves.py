"""Training curves: every metric has its line, on an axis that fits it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rnnlab.figures import training

EPOCHS = np.arange(1, 101)
METRICS = pd.DataFrame(
    {
        "epoch": EPOCHS,
        "train/mse": 10.0 ** -(EPOCHS / 25),
        "val/mse": np.where(EPOCHS % 10 == 0, 2 * 10.0 ** -(EPOCHS / 25), np.nan),
        "test/mse": np.where(EPOCHS == 100, 3e-4, np.nan),
        "train/accuracy": 0.5 + EPOCHS / 250,
        "lr": 1e-3,
        "grad_norm": np.where(EPOCHS == 3, 0.0, 10.0 ** (EPOCHS / 25)),
        "never": np.nan,
    }
)


def test_a_quantity_is_a_panel_and_a_column_a_line() -> None:
    figure = training.curves(METRICS)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["mse", "accuracy", "lr", "grad_norm"]
    lines = {line.get_label(): line for line in panels["mse"].lines}
    assert list(lines) == ["train/mse", "val/mse", "test/mse"]
    np.testing.assert_array_equal(lines["val/mse"].get_xdata(), np.arange(10, 101, 10))
    np.testing.assert_array_equal(lines["train/mse"].get_ydata(), METRICS["train/mse"])
    assert lines["test/mse"].get_marker() == "o"  # a line through one point is none


def test_an_axis_is_logarithmic_where_positive_values_span_decades() -> None:
    scales = {axes.get_title(): axes.get_yscale() for axes in training.curves(METRICS).axes}
    assert scales == {"mse": "log", "accuracy": "linear", "lr": "linear", "grad_norm": "linear"}
    figure = training.interactive(METRICS)
    kinds = [figure.layout[f"yaxis{n}"].type for n in ("", 2, 3, 4)]
    assert kinds == ["log", None, None, None]


def test_a_baseline_is_a_dashed_line_in_its_panel() -> None:
    figure = training.curves(METRICS, {"train/mse": 0.5, "unknown": 1.0})
    mse, accuracy = figure.axes[:2]
    (line,) = [line for line in mse.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {0.5}
    assert "baseline 0.5" in [text.get_text() for text in mse.get_legend().get_texts()]
    assert not [line for line in accuracy.lines if line.get_linestyle() == "--"]
    shapes = training.interactive(METRICS, {"train/mse": 0.5}).layout.shapes
    assert [(shape.y0, shape.yref) for shape in shapes] == [(0.5, "y")]


def test_interactive_has_every_line_and_its_numbers() -> None:
    figure = training.interactive(METRICS.set_index("epoch"))
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines) == ["train/mse", "val/mse", "test/mse", "train/accuracy", "lr", "grad_norm"]
    np.testing.assert_array_equal(lines["lr"].y, METRICS["lr"])
    assert [note.text for note in figure.layout.annotations] == ["mse", "accuracy", "lr", "grad_norm"]
    low, high = figure.layout.yaxis3.range  # what does not change is in the middle, not at zero
    assert low < 1e-3 < high < 1


@pytest.mark.parametrize("draw", [training.curves, training.interactive])
def test_what_cannot_be_drawn_is_one_clear_line(draw: object) -> None:
    assert callable(draw)
    with pytest.raises(ValueError, match="need a column epoch: there is lr"):
        draw(METRICS[["lr"]])
    with pytest.raises(ValueError, match="no metric has a value"):
        draw(METRICS[["epoch", "never"]])
