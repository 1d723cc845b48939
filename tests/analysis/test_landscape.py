"""Roughness of curves with known answers, costs known in closed form, planes whose axes are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rnnlab.analysis import landscape
from rnnlab.analysis.landscape import (
    local_minima,
    principal_plane,
    project,
    random_directions,
    roughness,
    weights,
)
from rnnlab.objectives import MeanSquaredError
from rnnlab.studies.chaotic_lstm import cost as chaotic_cost

MEAN = MeanSquaredError()


def curve(function, low, high, points):
    x = np.linspace(low, high, points)
    return roughness(function(x), x[1] - x[0])


def test_a_parabola_has_one_minimum():
    found = curve(lambda x: 3 * x**2 - 7, -2, 2, 401)
    assert found["minima_density"] == pytest.approx(1 / 4)
    assert found["variation"] == pytest.approx(2)
    # the second derivative 6 times the square of the spacing 0.01, over the range 12
    assert found["second_difference"] == pytest.approx(6 * 1e-4 / 12)
    assert found["lost"] == 0


def test_a_monotone_curve_has_none():
    found = curve(np.exp, 0, 5, 100)
    assert found["minima_density"] == 0
    assert found["variation"] == pytest.approx(1)


@pytest.mark.parametrize("points", [500, 5000])
def test_a_sum_of_sines_has_as_many_minima_as_its_derivative_says(points):
    # of cos x + 10 cos 10 x the larger term decides the sign around each of its zeros: 20 of them, 10 up
    found = curve(lambda x: np.sin(x) + np.sin(10 * x), 0, 2 * np.pi, points)
    assert found["minima_density"] * 2 * np.pi == pytest.approx(10)
    waves = curve(lambda x: np.cos(2 * np.pi * x), 0, 7, points)
    assert waves["minima_density"] == pytest.approx(1)
    assert waves["variation"] == pytest.approx(14, rel=1e-3)


def test_second_differences_fall_with_the_square_of_the_spacing_only_where_the_curve_is_smooth():
    smooth = [curve(np.sin, 0, 6, n)["second_difference"] for n in (301, 601)]
    assert smooth[0] / smooth[1] == pytest.approx(4, rel=1e-2)
    noise = np.random.default_rng(0).uniform(size=8001)
    rough = [roughness(noise[::step], step * 1.0)["second_difference"] for step in (2, 1)]
    assert rough[0] / rough[1] == pytest.approx(1, rel=0.05)
    assert roughness(noise, 1.0)["minima_density"] == pytest.approx(1 / 3, rel=0.05)  # the middle of three


def test_scale_shift_and_unit_of_length():
    values = np.random.default_rng(0).normal(size=100)
    one, other = roughness(values, 0.1), roughness(5 - 0 + 1e3 * values, 0.1)
    assert other == pytest.approx(one)
    assert roughness(values, 0.2)["minima_density"] == pytest.approx(one["minima_density"] / 2)


def test_values_that_are_not_finite_part_the_curve():
    values = np.array([3, 1, 2, math.inf, 0, math.nan, 2, 0, 1.0])
    assert local_minima(values).tolist() == [1, 7]
    found = roughness(values, 0.5)
    assert found["lost"] == pytest.approx(2 / 9)
    # four finite steps of 1/2: 3 1 2 and 2 0 1
    assert found["minima_density"] == pytest.approx(2 / 2)
    assert found["variation"] == pytest.approx((2 + 1 + 2 + 1) / 3)
    assert found["second_difference"] == pytest.approx((3 + 3) / 2 / 3)


@pytest.mark.parametrize("values", [[], [1.0], [math.nan] * 4, [1.0, math.inf, 2.0]])
def test_of_nothing_nothing_is_said(values):
    found = roughness(np.array(values), 1.0)
    assert np.isnan([found["minima_density"], found["variation"], found["second_difference"]]).all()


def test_a_flat_curve_has_no_minimum_and_a_flat_valley_has_one():
    flat = roughness(np.ones(5), 1.0)
    assert flat["minima_density"] == 0
    assert math.isnan(flat["variation"])
    assert local_minima(np.array([2, 1, 1, 1, 2, 0, 0])).tolist() == [1]


@pytest.mark.parametrize(
    ("values", "spacing"), [(np.ones((2, 2)), 1.0), (np.ones(3), 0.0), (np.ones(3), math.nan)]
)
def test_what_is_no_curve_is_refused(values, spacing):
    with pytest.raises(ValueError, match="are no curve"):
        roughness(values, spacing)


def test_the_chaotic_cost_is_rough_where_it_is_chaotic():
    s = np.linspace(0.5, 2, 3001)
    values = chaotic_cost(torch.as_tensor(s)).numpy()
    parts = {
        name: (s >= a) & (s < b)
        for name, a, b in (("before", 0.5, 0.9), ("chaos", 0.92, 1.42), ("after", 1.5, 2))
    }
    found = {name: roughness(values[part], s[1] - s[0]) for name, part in parts.items()}
    for measure in ("minima_density", "second_difference"):
        assert found["chaos"][measure] > 10 * max(found["before"][measure], found["after"][measure])


class Line(nn.Module):
    """y = p u + q, no memory: the cost is a quadratic form of p and q."""

    state_size = 1

    def __init__(self, p=2.0, q=-1.0):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p], dtype=torch.float64))
        self.q = nn.Parameter(torch.tensor([q], dtype=torch.float64))

    def step(self, x, u):
        return self.p * u + self.q

    def read(self, x):
        return x


U = torch.tensor([1.0, 2.0, -3.0]).double()[:, None, None]
ACROSS = {"p": torch.tensor([1.0, 0.0]).double(), "both": torch.tensor([3.0, 4.0]).double()}


def test_a_plane_holds_the_costs_of_its_points():
    found = landscape(Line(), U, 0 * U, MEAN, ACROSS, low=(-1, -2), high=(1, 2), points=5)
    assert found.cost.dims == ("a", "b")
    for a in found.a.values:
        for b in found.b.values:
            p, q = 2 + a + 3 * b, -1 + 4 * b
            exact = np.mean((p * U.numpy() + q) ** 2)
            assert found.cost.sel(a=a, b=b).item() == pytest.approx(exact, rel=1e-12)
    assert found.center_cost.item() == found.cost.sel(a=0, b=0).item()
    assert found["length"].values.tolist() == [1, 5]
    assert found.axis.values.tolist() == ["p", "both"]
    assert found.minima_density.dims == ("b",)


def test_a_line_its_roughness_its_center_and_its_horizon():
    center = torch.tensor([0.5, 0.0]).double()
    found = landscape(
        Line(), U, 0 * U, MEAN, {"p": 2 * ACROSS["p"]}, center=center, low=-1, high=1, points=201, horizon=2
    )
    np.testing.assert_allclose(found.cost, (0.5 + 2 * found.a) ** 2 * (1 + 4) / 2, rtol=1e-12, atol=1e-12)
    assert found.attrs["horizon"] == 2
    # one minimum over a length of two times 2
    assert found.minima_density.item() == pytest.approx(1 / 4)
    # from 1.5^2 to 0 to 2.5^2
    assert found.variation.item() == pytest.approx((1.5**2 + 2.5**2) / 2.5**2)


def test_costs_that_leave_the_finite_numbers_are_kept_as_they_are():
    found = landscape(Line(), U, 0 * U, MEAN, {"p": ACROSS["p"]}, low=-1e200, high=1e200, points=5)
    assert found.cost.isnull().sum() + np.isinf(found.cost).sum() == 4
    assert found.lost.item() == 0.8


def test_the_network_is_not_touched():
    model = Line()
    landscape(model, U, U, MEAN, ACROSS, points=3)
    assert weights(model).tolist() == [2, -1]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_random_directions_have_the_length_of_the_weights():
    theta = torch.arange(50).double()
    found = random_directions(theta, 3, seed=1)
    assert list(found) == ["random 0", "random 1", "random 2"]
    for direction in found.values():
        assert torch.linalg.vector_norm(direction).item() == pytest.approx(
            torch.linalg.vector_norm(theta).item()
        )
    assert abs(float(found["random 0"] @ found["random 1"])) < 0.5 * float(theta @ theta)
    assert torch.equal(random_directions(theta, 1, seed=1)["random 0"], found["random 0"])
    assert not torch.equal(random_directions(theta, 1, seed=2)["random 0"], found["random 0"])


def planted(epochs=20, size=30):
    """A path in the plane of two known orthonormal directions, with variances 9 to 1."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, 2, generator=generator, dtype=torch.float64))[0]
    angle = torch.linspace(0, 2 * math.pi, epochs + 1, dtype=torch.float64)[:-1]
    places = torch.stack((-3 * angle.cos(), -angle.sin()), 1)
    return torch.ones(size).double() + places @ basis.mT, basis, places


def test_the_principal_plane_is_that_of_the_path():
    path, basis, places = planted()
    found, share = principal_plane(path)
    np.testing.assert_allclose(share, [0.9, 0.1], rtol=1e-12)
    for i, direction in enumerate(found.values()):
        assert abs(float(direction @ basis[:, i])) == pytest.approx(1, abs=1e-12)
        assert float((path[-1] - path[0]) @ direction) >= 0
    at = project(path, torch.ones(30).double(), found)
    np.testing.assert_allclose(np.abs(at), places.abs(), atol=1e-12)
    # weights off the plane are seen at their foot point, along directions of any length and angle
    center = torch.zeros(3).double()
    skew = {"x": torch.tensor([2.0, 0, 0]).double(), "xy": torch.tensor([1.0, 1, 0]).double()}
    assert project(torch.tensor([[4.0, 2, 9]]).double(), center, skew)[0].tolist() == pytest.approx([1, 2])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (torch.zeros(2, 5), "has no 2 principal directions"),
        (torch.zeros(4, 5), "spans fewer than 2 directions"),
        (torch.outer(torch.arange(4.0), torch.ones(5)), "spans fewer than 2 directions"),
        (torch.full((4, 5), math.nan), "give finite weights"),
        (torch.zeros(5), "has no 2 principal directions"),
    ],
)
def test_a_path_without_a_plane_is_refused(path, says):
    with pytest.raises(ValueError, match=says):
        principal_plane(path.double())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"directions": {}}, "0 directions"),
        ({"directions": {"d": torch.ones(3)}}, "d of shape"),
        ({"directions": {"d": torch.zeros(2)}}, "direction 'd' is zero"),
        ({"directions": {"d": torch.tensor([math.nan, 1])}}, "d of shape"),
        ({"center": torch.ones(1)}, "center of shape"),
        ({"points": 2}, "points=2"),
        ({"low": 1.0, "high": 1.0}, "low=1.0, high=1.0"),
        ({"low": (0.0, 0.0)}, "give low < high"),
        ({"horizon": 9}, "horizon 9 is not possible"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, says):
    given = {"directions": {"p": ACROSS["p"]}, "points": 3} | change
    with pytest.raises(ValueError, match=says) as caught:
        landscape(Line(), U, U, MEAN, **given)
    assert "\n" not in str(caught.value)
