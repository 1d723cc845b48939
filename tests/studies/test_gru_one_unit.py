"""One gated recurrent unit: all fixed points, against known values, a naive search and certificates."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import expit

from rnnlab.analysis import certified_fixed_points
from rnnlab.gru_flow import gru_flow
from rnnlab.studies.gru_one_unit.__main__ import main
from rnnlab.studies.gru_one_unit.fixed_points import critical_point, cusps, fixed_points, saddle_nodes

PAPER = {"Uh": -60.0, "Ur": 80.0, "br": 40.0}


def wide(rng, low, high, size):
    """Numbers of either sign with a modulus from 10^low to 10^high, each scale alike."""
    return rng.choice([-1, 1], size) * 10 ** rng.uniform(low, high, size)


def sets(seed, size):
    rng = np.random.default_rng(seed)
    return {"Uh": wide(rng, -1, 3, size), "Ur": wide(rng, -1, 3, size), "br": wide(rng, -1, 2, size)}, rng


def with_saddle_nodes(seed, size):
    """Parameters that have saddle-nodes, these, and a generator."""
    given, rng = sets(seed, size)
    nodes = saddle_nodes(**given)
    kept = ~np.isnan(nodes.bh[:, 0])
    return {name: value[kept] for name, value in given.items()}, nodes.bh[kept], nodes.h[kept], rng


def velocity(h, Uh, Ur, bh, br):
    return np.tanh(Uh * expit(Ur * h + br) * h + bh) - h


def test_the_papers_example():
    assert critical_point(80.0, 40.0) == pytest.approx(-0.4554046759, abs=1e-10)
    nodes = saddle_nodes(**PAPER)
    assert nodes.bh[1] == pytest.approx(-0.7031308373, abs=1e-10)
    # the text has it the other way round: one point at -1, and more as bh decreases
    assert fixed_points(bh=[-1.0, -0.5, nodes.bh[0] - 0.01], **PAPER).count.tolist() == [3, 1, 1]


@pytest.mark.parametrize("br", [-400.0, -3.0, 0.0, 7.5, 40.0, 400.0])
@pytest.mark.parametrize("Ur", [-80.0, 0.3])
def test_the_critical_point_is_that_of_lamberts_function(Ur, br):
    with mpmath.workdps(60):
        true = -(1 + mpmath.lambertw(mpmath.exp(mpmath.mpf(br) - 1))) / mpmath.mpf(Ur)
        slope = mpmath.diff(lambda h: h / (1 + mpmath.exp(-mpmath.mpf(Ur) * h - br)), true)
    assert critical_point(Ur, br) == pytest.approx(float(true), rel=1e-15)
    assert abs(slope) < 1e-40


def test_a_gate_that_does_not_move_gives_a_straight_line():
    assert np.isnan(critical_point(0.0, 1.0))
    # then the unit is h = tanh(w h + bh), w = Uh sigmoid(br), with its cusp at w = 1 and saddle-nodes at
    # h = -+ sqrt(1 - 1 / w)
    Uh, br = 5.0, -0.3
    w = Uh * expit(br)
    h = np.sqrt(1 - 1 / w) * np.array([1.0, -1.0])
    nodes = saddle_nodes(Uh, 0.0, br)
    np.testing.assert_allclose(nodes.h, h, rtol=1e-7)
    np.testing.assert_allclose(nodes.bh, np.arctanh(h) - w * h, rtol=1e-13)
    tips = cusps(0.0, br)
    np.testing.assert_allclose(tips.Uh, [-np.inf, 1 / expit(br)], rtol=1e-14)
    assert np.isnan(tips.bh[0])
    assert fixed_points([1.9, 2.0, 2.1], 0.0, 0.0, 0.0).count.tolist() == [1, 1, 3]


def test_never_more_than_three():
    given, rng = sets(0, 100_000)
    found = fixed_points(bh=wide(rng, -2, 2, 100_000), **given)
    assert set(found.count) == {1, 3}
    assert (np.isfinite(found.h).sum(1) == found.count).all()
    assert np.nanmax(abs(found.h)) <= 1
    # a root is known to rounding, the residual to that times the slope
    assert np.nanmax(found.residual / (1 + abs(found.slope))) < 1e-14


def test_as_many_as_a_fine_grid_shows():
    given, nodes, _, rng = with_saddle_nodes(1, 1200)
    bh = nodes[:, 0] + (nodes[:, 1] - nodes[:, 0]) * rng.uniform(-0.5, 1.5, len(nodes))
    found = fixed_points(bh=bh, **given)
    assert {1, 3} == set(found.count)
    for i in range(len(bh)):
        Uh, Ur, br = (given[name][i] for name in PAPER)
        far = abs(Uh) + abs(bh[i]) + 2
        gate = np.arctanh(np.clip((np.linspace(-40, 40, 4001) - br) / Ur, -1 + 1e-16, 1 - 1e-16))
        y = np.sort(np.concatenate([np.linspace(-far, far, 4001), np.linspace(-8, 8, 40_001), gate]))
        side = np.tanh(y)
        side = np.sign(y - Uh * side * expit(Ur * side + br) - bh[i])
        assert np.count_nonzero(np.diff(side[side != 0])) == found.count[i]


def test_the_curve_turns_twice_at_most():
    """The core of the proof, on a grid: Uh phi rises through each level once and falls through it once."""
    given, _ = sets(2, 2000)
    grid = np.tanh(np.linspace(-12, 12, 20_001))
    for Uh, Ur, br in zip(*given.values(), strict=True):
        gate = expit(Ur * grid + br)
        phi = Uh * (1 - grid**2) * gate * (1 + Ur * grid * expit(-Ur * grid - br))
        top = phi.max()
        for level in (0.03, 0.3, 0.9):
            assert np.count_nonzero(np.diff(phi > level * top)) <= 2 or top <= 0


def test_at_a_saddle_node_two_points_meet():
    given, nodes, meet, _ = with_saddle_nodes(3, 4000)
    for i in range(2):
        found = fixed_points(bh=nodes[:, i], **given)
        assert (found.count == 2).all()
        half = found.kind == "half-stable"
        assert (half.sum(1) == 1).all()
        np.testing.assert_array_equal(found.h[half], meet[:, i])
        np.testing.assert_allclose(found.slope[half], 1, atol=1e-6)
    # on the two sides of it there are one and three
    gap = 1e-3 * (nodes[:, 1] - nodes[:, 0])
    room = gap > 1e-8
    counts = [
        fixed_points(bh=nodes[:, i] + side * gap, **given).count[room] for i in (0, 1) for side in (-1, 1)
    ]
    assert [set(count) for count in counts] == [{1}, {3}, {3}, {1}]


def test_three_points_are_two_stable_ones_apart():
    given, nodes, _, _ = with_saddle_nodes(4, 4000)
    found = fixed_points(bh=nodes.mean(1), **given)
    three = found.count == 3
    assert three.mean() > 0.99
    assert (found.kind[three] == ["stable", "unstable", "stable"]).all()
    assert ((found.slope[three] < 1) == [True, False, True]).all()
    assert (np.diff(found.h[three]) >= 0).all()
    step = 1e-6
    h = found.h[three][:, 1]
    bh = nodes.mean(1)[three]
    rate = [velocity(h + s, bh=bh, **{k: v[three] for k, v in given.items()}) for s in (-step, step)]
    smooth = found.slope[three][:, 1] < 50
    np.testing.assert_allclose(
        ((rate[1] - rate[0]) / 2 / step)[smooth], found.slope[three][smooth, 1] - 1, rtol=1e-3, atol=1e-4
    )


def test_saddle_nodes_begin_at_the_cusps():
    rng = np.random.default_rng(5)
    Ur, br = wide(rng, -1, 2, 500), wide(rng, -1, 1, 500)
    tips = cusps(Ur, br)
    for i in (0, 1):
        there = abs(tips.Uh[:, i]) < 1e4
        assert there.any()
        for factor, some in ((1 - 1e-6, False), (1 + 1e-6, True)):
            nodes = saddle_nodes(factor * tips.Uh[there, i], Ur[there], br[there])
            assert (np.isfinite(nodes.bh).all(1) == some).all()
        np.testing.assert_allclose(nodes.h.mean(1), tips.h[there, i], atol=1e-3)
        # three roots in one: the third derivative is all that is left
        at = fixed_points(tips.Uh[there, i], Ur[there], tips.bh[there, i], br[there])
        assert (at.count == 1).all()
    negative = np.isfinite(tips.Uh[:, 0])
    np.testing.assert_array_equal(negative, abs(critical_point(Ur, br)) < 1)


def test_mirrored_parameters_have_mirrored_points():
    given, nodes, _, _ = with_saddle_nodes(6, 500)
    bh = 0.3 * nodes[:, 0] + 0.7 * nodes[:, 1]
    left = fixed_points(bh=bh, **given)
    right = fixed_points(given["Uh"], -given["Ur"], -bh, given["br"])
    np.testing.assert_array_equal(left.count, right.count)
    three = left.count == 3
    np.testing.assert_allclose(left.h[three], -right.h[three, ::-1], atol=1e-13)


@pytest.mark.parametrize("bh", [-30.0, -1.0, -0.75, -0.5, 2.0])
@pytest.mark.parametrize("Uh", [-60.0, 4.0])
def test_certificates_agree(Uh, bh):
    found = fixed_points(Uh, 80.0, bh, 40.0)
    proved = certified_fixed_points(gru_flow(Uh=Uh, Ur=80.0, bh=bh, br=40.0))
    assert proved.undecided == 0
    assert proved.certified == found.count
    own = found.h[: found.count]
    np.testing.assert_allclose(np.sort(proved.point.values[:, 0]), own, atol=1e-12)
    matrices = gru_flow(Uh=Uh, Ur=80.0, bh=bh, br=40.0).jacobian(torch.from_numpy(own)[:, None])
    np.testing.assert_allclose(2 * matrices.flatten(), found.slope[: found.count] - 1, rtol=1e-9, atol=1e-12)


def test_shapes_broadcast():
    found = fixed_points(np.ones((3, 1)), 0.5, np.zeros(4), 0.0)
    assert found.count.shape == (3, 4)
    assert found.h.shape == found.kind.shape == (3, 4, 3)
    assert cusps(np.ones(5), 0.0).Uh.shape == (5, 2)
    assert fixed_points(np.ones(0), 1.0, 1.0, 1.0).h.shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -2e6])
def test_impossible_parameters_are_named(value):
    with pytest.raises(ValueError, match=r"Ur=.* is not possible: give numbers of at most 1e\+06\.$"):
        fixed_points(1.0, [1.0, value], 0.0, 0.0)
    with pytest.raises(ValueError, match="br="):
        cusps(1.0, value)


def test_the_study_draws_figure_1(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == tmp_path
    assert (tmp_path / "figure_1.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "half-stable" in printed
    assert len((tmp_path / "fixed_points.csv").read_text().splitlines()) == len(printed.splitlines()) - 1
