"""Panels of input-output pairs: dots where orbits are, arrows where attractors went and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures.orbits import Orbits
from rnnlab.figures.pairs import follow, legs, pairs, turns
from rnnlab.figures.style import save_png
from tests.figures.orbits import growing_circle

EPOCHS = np.arange(0, 1001, 50)


def resting(values: np.ndarray, at: np.ndarray | None = None, steps: int = 8) -> xr.Dataset:
    """Fixed points `(look, sample)` under one input, seen by one output."""
    y = np.broadcast_to(values[:, None, :, None, None], (len(values), 1, values.shape[1], steps, 1))
    axes = ("epoch", "probe", "sample", "time", "observable")
    return xr.Dataset(
        {"y": (axes, y.copy()), "settled": (axes[:3], np.ones(y.shape[:3], bool))},
        coords={"epoch": np.arange(len(values)) if at is None else at, "probe": ["u"]},
    )


def classes(epochs: np.ndarray = EPOCHS) -> xr.Dataset:
    """Two outputs under three inputs: the second is the first turned over and moved."""
    one = growing_circle(epochs)
    both = xr.concat([one, one.assign(y=5 - one.y)], "observable", data_vars=["y"])
    return both.assign_coords(observable=["yes", "no"])


def panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_title()]


def dots(axes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Settled points `(point, 2)` and the epochs that colour them."""
    (cloud,) = axes.collections
    return np.asarray(cloud.get_offsets()), np.asarray(cloud.get_array())


def arrows(axes: Any) -> list[tuple[float, float]]:
    return [(arrow.xyann[0], arrow.xy[0]) for arrow in axes.texts]


def test_there_is_a_panel_for_each_pair() -> None:
    figure = pairs(classes())
    titles = [f"ω = {omega} → {output}" for output in ("yes", "no") for omega in ("1.0", "1.1", "1.2")]
    assert [axes.get_title() for axes in panels(figure)] == titles
    assert len(figure.axes) == 6 + 1  # one colour bar for all
    assert figure.axes[-1].get_ylabel() == "epoch"
    assert figure.axes[-1].get_ylim() == (0, 1000)
    chosen = pairs(classes(), inputs=["ω = 1.2", 0], outputs=["no"])
    assert [axes.get_title() for axes in panels(chosen)] == ["ω = 1.2 → no", "ω = 1.0 → no"]
    single = pairs(growing_circle(EPOCHS))
    assert [axes.get_title() for axes in panels(single)] == ["ω = 1.0", "ω = 1.1", "ω = 1.2"]


def test_dots_are_values_and_first_differences_in_the_colour_of_their_epoch() -> None:
    figure = pairs(classes())
    for number, axes in enumerate(panels(figure)):
        points, epochs = dots(axes)
        w, sign, middle = 1 + 0.1 * (number % 3), 1 if number < 3 else -1, 0.1 if number < 3 else 4.9
        assert set(epochs) == set(EPOCHS)
        rest = epochs <= 500
        np.testing.assert_allclose(points[rest], [[middle, 0]] * int(rest.sum()), atol=1e-12)
        # y - 0.1 = a sin(s), and its difference is 2 a sin(w/2) cos(s - w/2): an ellipse
        a = np.sqrt((epochs[~rest] - 500) / 1000)
        y, dy = sign * (points[~rest].T - [[middle], [0]])
        sin = y / a
        cos = (dy / (2 * a * np.sin(w / 2)) - sin * np.sin(w / 2)) / np.cos(w / 2)
        np.testing.assert_allclose(sin**2 + cos**2, 1, atol=1e-9)
        assert not arrows(axes)  # its middle stays where it is


def test_an_arrow_leads_from_where_the_attractor_was_to_where_it_went() -> None:
    there = np.linspace(0, 3, 11)[:, None]
    (axes,) = panels(pairs(resting(there)))
    assert arrows(axes) == [(0.0, 3.0)]
    back = np.concatenate((there, there[-2::-1] * 0.5 + 1.5))
    (axes,) = panels(pairs(resting(back)))
    assert arrows(axes) == [(0.0, 3.0), (3.0, 1.5)]


def test_attractors_side_by_side_have_arrows_of_their_own() -> None:
    """A mean over the initial states would stand still between the two."""
    way = np.linspace(1, 3, 11)
    for swapped in (False, True):  # which state goes where may change from look to look
        both = np.stack((way, -way), 1)
        if swapped:
            both[1::2] = both[1::2, ::-1]
        (axes,) = panels(pairs(resting(both)))
        assert sorted(arrows(axes)) == [(-1.0, -3.0), (1.0, 3.0)]


def test_what_appears_or_vanishes_has_no_arrow() -> None:
    """A second attractor is born far off, stands still, and outlives the first."""
    first, second = np.zeros((30, 1)), np.full((30, 1), 4.0)
    states = np.concatenate((first, first), 1)
    states[10:, 1:] = second[10:]
    (axes,) = panels(pairs(resting(states[:20])))
    assert arrows(axes) == []


def test_small_changes_and_trembling_have_no_arrow() -> None:
    trembling = 2 + 0.1 * (-1.0) ** np.arange(40)
    wide = np.stack((trembling, np.linspace(-3, 3, 40)), 1)
    (axes,) = panels(pairs(resting(wide)))
    ((start, end),) = [arrow for arrow in arrows(axes) if arrow[0] < 0]
    assert start == -3
    assert end > 1.5
    assert not [arrow for arrow in arrows(axes) if 1.8 < arrow[0] < 2.2 and 1.8 < arrow[1] < 2.2]


def test_unsettled_orbits_are_marked_and_lead_nowhere() -> None:
    there = np.linspace(0, 3, 11)[:, None]
    dataset = resting(there)
    dataset["settled"][6:] = False
    figure = pairs(dataset)
    (axes,) = panels(figure)
    assert arrows(axes) == [(0.0, there[5, 0])]
    assert set(dots(axes)[1]) == set(range(6))
    (wild, *_) = axes.lines
    assert set(wild.get_xdata()) == set(there[6:, 0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not settled"]
    assert not pairs(resting(there)).legends


def test_legs_know_their_epochs() -> None:
    at = np.array([0, 10, 20, 40, 80])
    orbits = Orbits.of(resting(np.array([[0.0], [1.0], [2.0], [1.0], [0.0]]), at), 0)
    assert legs(orbits, 0, (-0.1, 2.1)) == [(0.0, 2.0, 0, 20), (2.0, 0.0, 20, 80)]


@pytest.mark.parametrize("seed", range(5))
def test_turns_are_those_of_a_naive_search(seed: int) -> None:
    """Each leg ends at its extreme values, nothing in it goes back as far as `least`, and legs alternate."""
    values, least = np.random.default_rng(seed).normal(size=60).cumsum(), 2.0
    found = turns(values, least)
    assert found
    for i, j in found:
        part = values[i : j + 1]
        up = part[-1] > part[0]
        assert abs(part[-1] - part[0]) >= least
        assert (part.min(), part.max()) == ((part[0], part[-1]) if up else (part[-1], part[0]))
        back = max(
            (part[k] - part[m]) * (1 if up else -1) for k in range(len(part)) for m in range(k, len(part))
        )
        assert back < least
    for (_, j), (i, _) in pairwise(found):
        assert i == j
    signs = np.sign([values[j] - values[i] for i, j in found])
    assert (signs[1:] == -signs[:-1]).all()


def test_branches_are_nearest_both_ways() -> None:
    sets = [np.array([[0.0], [1.0]]), np.array([[0.9]]), np.zeros((0, 1)), np.array([[0.9]])]
    assert follow(sets) == [[(0, 0.0)], [(0, 1.0), (1, 0.9)], [(3, 0.9)]]
    sets[0] = sets[0][::-1]
    assert follow(sets) == [[(0, 1.0), (1, 0.9)], [(0, 0.0)], [(3, 0.9)]]


def test_epochs_may_be_chosen_and_many_looks_are_thinned() -> None:
    figure = pairs(classes(), epochs=(200, 600))
    assert set(dots(panels(figure)[0])[1]) == set(range(200, 601, 50))
    assert figure.axes[-1].get_ylim() == (200, 600)
    many = growing_circle(np.arange(0, 2000, 10), probes=1)
    epochs = set(dots(panels(pairs(many))[0])[1])
    assert len(epochs) == 60
    assert {0, 1990} <= epochs


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    dataset = classes()
    dataset["y"][3] = np.nan
    dataset["y"][5, 1, 0, 7:] = np.inf
    points, epochs = dots(panels(pairs(dataset))[0])
    assert np.isfinite(points).all()
    assert set(epochs) == set(EPOCHS) - {EPOCHS[3]}
    dataset["y"][:] = np.nan
    save_png(pairs(dataset), tmp_path / "empty.png")
    save_png(pairs(classes(np.array([7]))), tmp_path / "one.png")


WRONG = {
    "no such input": (
        lambda d: pairs(d, inputs=["ω"]),
        "probe='ω' is not there: choose a position or one of",
    ),
    "no such output": (lambda d: pairs(d, outputs=[2]), "observable=2 is not there"),
    "no such epochs": (
        lambda d: pairs(d, epochs=(1100, 1200)),
        r"epochs=\(1100, 1200\) is not possible: looks",
    ),
    "no parameter": (lambda d: pairs(d.isel(epoch=0)), "needs a parameter axis"),
    "no orbits": (lambda d: pairs(d[["settled"]]), "needs y: the dataset has settled"),
    "one step": (lambda d: pairs(d.isel(time=[0])), "needs two time steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_drawn_is_one_clear_line(case: str) -> None:
    attempt, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        attempt(classes())
    assert "\n" not in str(caught.value)
