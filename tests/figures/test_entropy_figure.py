"""Entropy, its bound and the estimate are drawn as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import entropy, style

TIME = np.arange(6)


def told() -> xr.Dataset:
    """Two probes: one that loses 1 nat a step below a bound of 0.5 nats, one that is flat from time 3 on."""
    change = np.stack([-1.0 * TIME, np.where(TIME < 3, 0.0, -np.inf)])
    nearest = np.stack([2.0 - TIME, np.full(6, np.nan)])
    axes = ("probe", "time")
    return xr.Dataset(
        {
            "change": (axes, change),
            "change_error": (axes, 0.1 * np.ones((2, 6))),
            "hadamard": (axes, np.stack([0.0 * TIME, 0.0 * TIME])),
            "bound": (axes, np.stack([0.5 * TIME, np.where(TIME > 0, np.inf, 0.0)])),
            "nearest": (axes, nearest),
            "nearest_error": (axes, 0.2 * np.ones((2, 6))),
            "singular": (axes, np.stack([0.0 * TIME, np.where(TIME < 3, 0.0, 0.25)])),
        },
        coords={"time": TIME, "probe": ["a", "b"]},
    )


def test_lines_band_and_dots() -> None:
    figure = entropy.over_time(told())
    first, second = figure.axes
    _, bound, hadamard, change, dots = first.lines
    np.testing.assert_allclose(bound.get_ydata(), 0.5 * TIME)
    np.testing.assert_allclose(hadamard.get_ydata(), 0)
    np.testing.assert_allclose(change.get_ydata(), -TIME)
    np.testing.assert_allclose(dots.get_ydata(), -TIME)  # from the start on, which is 2
    region, band = first.collections[:2]
    assert region.get_paths()[0].vertices[:, 1].max() == pytest.approx(2.5)  # below the bound
    assert (band.get_paths()[0].contains_points([[2.0, -2.19], [2.0, -1.81]])).all()  # two standard errors
    assert not (band.get_paths()[0].contains_points([[2.0, -2.21], [2.0, -1.79]])).any()
    for bar in first.collections[2].get_segments():
        assert bar[1, 1] - bar[0, 1] == pytest.approx(0.8)
    low, high = first.get_ylim()
    assert low < -5
    assert high > 2.5
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    # minus infinity is said in words
    assert "from t = 3 on" in second.texts[0].get_text()
    assert "25%" in second.texts[0].get_text()
    assert not first.texts


def test_a_single_system_and_chosen_probes() -> None:
    alone = entropy.over_time(told().isel(probe=0, drop=True))
    assert len(alone.axes) == 1
    assert [axes.get_title() for axes in entropy.over_time(told(), probes=["b"]).axes] == ["b"]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs bound"):
        entropy.over_time(told().drop_vars("bound"))


def test_a_picture_can_be_saved(tmp_path: Path) -> None:
    assert style.save_png(entropy.over_time(told()), tmp_path / "a.png").stat().st_size > 10_000
