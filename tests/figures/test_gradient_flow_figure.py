"""Norms and rates are drawn as they are, with and without epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import gradient_flow, style

EPOCHS = np.array([0, 50, 100])
TIME = np.arange(41)
RATES = np.array([-1.5, 0.0, 0.1])  # at the three looks


def flows() -> xr.Dataset:
    """Gradients that change by a rate of each look; of three sequences the middle one is the median."""
    factor = np.array([0.5, 1.0, 4.0])[:, None]
    back = 40 - TIME
    last = factor * np.exp(RATES[:, None, None] * back)
    lag = np.array([1, 2, 4])
    axes = ("epoch", "sequence")
    full = np.ones((3, 3))
    moment = np.array([1, 20, 40])
    return xr.Dataset(
        {
            "gradient": ((*axes, "time"), 2 * last),
            "last_gradient": ((*axes, "time"), last),
            "norm": ((*axes, "lag"), factor * np.exp(RATES[:, None, None] * lag)),
            "rate": (axes, RATES[:, None] * full),
            "rate_error": (axes, 0.01 * full),
            "exponent": (axes, RATES[:, None] * full),
            "exponent_error": (axes, 0.02 * full),
            "contribution": (
                (*axes, "moment", "parameter"),
                np.broadcast_to(np.stack([moment, 0 * moment], -1), (3, 3, 3, 2)),
            ),
        },
        coords={"epoch": EPOCHS, "time": TIME, "lag": lag, "moment": moment, "parameter": ["W", "b"]},
    )


def test_one_line_a_look_the_median_of_the_sequences() -> None:
    figure = gradient_flow.over_time(flows())
    gradient, last, norm, rates = figure.axes
    for axes in (gradient, last, norm):
        assert axes.get_yscale() == "log"
        assert len(axes.lines) == 3
    for look, rate in enumerate(RATES):
        truth = np.exp(rate * (40 - TIME))
        np.testing.assert_allclose(gradient.lines[look].get_ydata(), 2 * truth)
        np.testing.assert_allclose(last.lines[look].get_xdata(), TIME)  # now steps back
        np.testing.assert_allclose(last.lines[look].get_ydata(), truth[::-1])
        np.testing.assert_allclose(norm.lines[look].get_ydata(), np.exp(rate * np.array([1, 2, 4])))
    assert len({line.get_color() for line in gradient.lines}) == 3
    assert last.xaxis_inverted()
    # what is below the last decade of the axis would be lost in any sum: e^-60 is not shown
    low, high = last.get_ylim()
    assert high > np.exp(4.0)
    assert low > np.exp(4.0) * 10.0 ** -(gradient_flow.DECADES + 1)
    rate = rates.lines[1].get_ydata()
    np.testing.assert_allclose(rate, np.repeat(RATES, 3))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"epoch {e}" for e in EPOCHS]


def test_bars_are_two_standard_errors_to_either_side() -> None:
    rates = gradient_flow.over_time(flows()).axes[-1]
    for bars, half in zip(rates.collections, (0.02, 0.04), strict=True):
        for bar in bars.get_segments():
            assert bar[1, 1] - bar[0, 1] == pytest.approx(2 * half)


def test_one_look_needs_no_epoch_and_gaps_are_no_trouble() -> None:
    one = flows().isel(epoch=1, drop=True)
    figure = gradient_flow.over_time(one)
    assert not figure.legends
    assert len(figure.axes[0].lines) == 1
    gaps = one.copy(deep=True)
    gaps["last_gradient"][:, 30:] = np.nan  # the cost asks at time 29
    gaps["rate"][:] = -np.inf
    gaps["gradient"][0] = np.inf
    gaps["norm"][:] = 0
    last = gradient_flow.over_time(gaps).axes[1].lines[0]
    np.testing.assert_allclose(last.get_xdata(), np.arange(30))
    np.testing.assert_allclose(last.get_ydata(), np.ones(30))


def test_contributions_of_the_last_look() -> None:
    axes = gradient_flow.parameters(flows()).axes[0]
    weight, bias = axes.lines
    assert weight.get_ydata().tolist() == [1, 20, 40]
    assert np.isnan(bias.get_ydata()).all()  # zero has no place on a logarithmic axis
    assert [line.get_label() for line in axes.lines] == ["W", "b"]
    with pytest.raises(ValueError, match="needs contribution"):
        gradient_flow.parameters(flows().isel(parameter=slice(0)))


def test_the_interactive_figure_shows_the_same() -> None:
    figure = gradient_flow.interactive(flows())
    lines = [trace for trace in figure.data if trace.name == "epoch 100"]
    assert len(lines) == 3
    np.testing.assert_allclose(lines[1].y, np.exp(0.1 * TIME))
    (rate,) = [trace for trace in figure.data if trace.name == "rate of the gradient"]
    np.testing.assert_allclose(rate.y, np.repeat(RATES, 3))
    np.testing.assert_allclose(rate.error_y.array, 0.02)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs norm"):
        gradient_flow.over_time(flows().drop_vars("norm"))
    with pytest.raises(ValueError, match="one axis of looks"):
        gradient_flow.over_time(flows().expand_dims("member"))


def test_a_picture_can_be_saved(tmp_path: Path) -> None:
    assert style.save_png(gradient_flow.over_time(flows()), tmp_path / "a.png").stat().st_size > 10_000
