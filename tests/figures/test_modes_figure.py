"""Training and generation mode side by side: the same axes, input and output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures.modes import modes
from tests.figures.orbits import growing_circle

EPOCHS = np.arange(0, 1001, 50)


def both() -> tuple[xr.Dataset, xr.Dataset]:
    """Told, it rests at 0.1; left alone, it oscillates under the middle input, and rests at 0.1 else."""
    told = growing_circle(EPOCHS, birth=np.inf)
    left = growing_circle(EPOCHS, birth=0.0)
    left["y"][:, [0, 2]] = 0.1
    return told, left


def dots(axes: Any) -> np.ndarray:
    return np.concatenate([line.get_xydata() for line in axes.lines])


def test_each_mode_has_its_panel_with_the_same_axes() -> None:
    figure = modes(*both(), probes=["ω = 1.1"])
    told, left = figure.axes
    assert [axes.get_title() for axes in (told, left)] == ["input held", "generation mode"]
    assert told.get_xlim() == left.get_xlim()
    assert told.get_ylim() == left.get_ylim()
    np.testing.assert_allclose(dots(told)[:, 1], 0.1)
    assert dots(left)[:, 1].max() > 1
    low, high = told.get_ylim()
    assert low < dots(left)[:, 1].min() < dots(left)[:, 1].max() < high
    assert [text.get_text() for text in figure.texts if "ω" in text.get_text()] == ["ω = 1.1"]
    assert dots(modes(*both(), probes=[0]).axes[1])[:, 1].max() < 0.2


def test_without_a_choice_it_is_the_input_under_which_the_modes_differ() -> None:
    told, left = both()
    for order in ([0, 1, 2], [2, 0, 1]):  # the two are matched by name
        figure = modes(told, left.isel(probe=order))
        assert "ω = 1.1" in [text.get_text() for text in figure.texts]
        assert dots(figure.axes[1])[:, 1].max() > 1


def test_looks_of_different_epochs_share_an_axis_that_holds_all() -> None:
    told, left = both()
    figure = modes(told.isel(epoch=slice(5)), left.isel(epoch=slice(10, None)))
    low, high = figure.axes[0].get_xlim()
    assert low <= 0
    assert high >= 1000


def test_what_has_not_settled_is_said() -> None:
    told, left = both()
    left["settled"][:] = False
    figure = modes(told, left)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not settled"]
    assert not modes(told, told).legends


def test_chaos_is_drawn_as_a_picture() -> None:
    told, left = both()
    figure = modes(told, left, probes=[1], max_points=100)
    assert not figure.axes[0].images
    assert figure.axes[1].images


def test_an_output_is_chosen_and_named() -> None:
    pair = [
        xr.concat([d, d.assign(y=d.y + 5)], "observable", data_vars=["y"]).assign_coords(
            observable=["a", "b"]
        )
        for d in both()
    ]
    figure = modes(*pair, observables=["b"])
    assert dots(figure.axes[0])[:, 1].min() > 4
    assert "ω = 1.1 → b" in [text.get_text() for text in figure.texts]


def test_a_probe_that_one_of_them_lacks_is_one_clear_line() -> None:
    told, left = both()
    with pytest.raises(ValueError, match=r"probe='ω = 1\.1' is not there") as caught:
        modes(told, left.isel(probe=[0, 2]), probes=[1])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="needs a parameter axis"):
        modes(told.isel(epoch=0), left)
