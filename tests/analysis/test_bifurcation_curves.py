"""Curves of bifurcations in two parameters that are known in closed form: normal forms of codimension 2."""

import json
import math

import numpy as np
import pytest
import torch

from rnnlab.analysis import bifurcation_curve
from rnnlab.analysis.critical_points import critical_point
from rnnlab.gru_flow import gru_flow
from rnnlab.maps import Henon, Hopf

BOX = (-1.0, 1.0), (-1.0, 1.2)


class Field:
    def __init__(self, velocity):
        self.velocity = velocity


def cusp(p, q):
    return Field(lambda x: p + q * x - x**3)


def bogdanov_takens(p, q):
    """x' = y, y' = p + q y + x^2 + x y: saddle-nodes at p = 0, Hopf at q = sqrt(-p), homoclinic below."""

    def velocity(x):
        a, b = x.unbind(-1)
        return torch.stack((b, p + q * b + a * a + a * b), -1)

    return Field(velocity)


def bautin(p, q):
    """dr/dt = p r + q r^3 - r^5: Hopf at p = 0, subcritical where q > 0."""

    def velocity(x):
        a, b = x.unbind(-1)
        r2 = a * a + b * b
        growth = p + q * r2 - r2 * r2
        return torch.stack((growth * a - 2 * b, growth * b + 2 * a), -1)

    return Field(velocity)


def beside(p, q, pair, push=0.0):
    """A fold z' = p + z^2 + push r^2 beside a focus with eigenvalues `pair(q, z)` +- 2 i."""

    def velocity(x):
        a, b, z = x.unbind(-1)
        r2 = a * a + b * b
        growth = pair(q, z) - r2
        return torch.stack((growth * a - 2 * b, growth * b + 2 * a, p + z * z + push * r2), -1)

    return Field(velocity)


def two_pairs(p, q):
    """Eigenvalues p +- i and q +- 3 i."""

    def velocity(x):
        a, b, c, d = x.unbind(-1)
        return torch.stack((p * a - b, p * b + a, q * c - 3 * d, q * d + 3 * c), -1)

    return Field(velocity)


def ring(p, q):
    """A fold on the circle p^2 + q^2 = 1/4."""
    return Field(lambda x: p * p + q * q - 0.25 + x * x)


def specials(found):
    places = zip(found.special_first.values, found.special_second.values, strict=True)
    kinds = found.special_type.values.tolist()
    assert len(set(kinds)) == len(kinds)
    return dict(zip(kinds, places, strict=True))


def test_the_cusp():
    found = bifurcation_curve(cusp, torch.tensor([0.6]).double(), (-0.4, 1.0), BOX, max_step=0.05)
    p, q, x = found["first"].values, found["second"].values, found["point"].values[:, 0]
    np.testing.assert_allclose(27 * p**2, 4 * q**3, atol=1e-12)
    np.testing.assert_allclose(p, -2 * x**3, atol=1e-12)
    np.testing.assert_allclose(found.eigenvalue[:, 0], 0, atol=1e-9)
    assert found.ended.values.tolist() == ["left the box", "left the box"]
    assert q[[0, -1]].tolist() == pytest.approx([1.2, 1.2], abs=1e-9)
    assert specials(found) == {"cusp": pytest.approx((0, 0), abs=1e-9)}
    # a = -3 x along the direction of x, which does not turn round
    np.testing.assert_allclose(np.abs(found.coefficient), np.abs(3 * x), atol=1e-9)
    assert (np.diff(found.coefficient) < 0).all() or (np.diff(found.coefficient) > 0).all()
    assert found.special_distance.item() < 1e-9
    assert float(found.residual.max()) < 1e-12
    json.dumps(found.attrs)


def test_saddle_nodes_pass_a_bogdanov_takens_point():
    found = bifurcation_curve(
        bogdanov_takens, torch.tensor([0.05, 0.01]).double(), (0.02, 0.5), BOX, names=("p", "q"), max_step=0.1
    )
    np.testing.assert_allclose(found["first"], 0, atol=1e-12)
    assert specials(found) == {"Bogdanov-Takens": pytest.approx((0, 0), abs=1e-9)}
    q = found["second"].values
    # the other eigenvalue is q
    np.testing.assert_array_equal(found.unstable, q > 1e-9)
    assert sorted(q[[0, -1]]) == pytest.approx([-1, 1.2])
    assert found.attrs["names"] == ["p", "q"]


def test_hopf_bifurcations_end_at_a_bogdanov_takens_point():
    start = torch.tensor([-0.5, 0.0]).double()
    found = bifurcation_curve(bogdanov_takens, start, (-0.26, 0.52), BOX, kind="Hopf", max_step=0.05)
    p, q = found["first"].values, found["second"].values
    np.testing.assert_allclose(q, np.sqrt(np.maximum(-p, 0)), atol=1e-10)
    np.testing.assert_allclose(found.frequency**2, 2 * q, atol=1e-9)
    assert sorted(found.ended.values) == ["Bogdanov-Takens", "left the box"]
    assert specials(found) == {"Bogdanov-Takens": pytest.approx((0, 0), abs=1e-9)}
    inside = found.frequency.values > 0.1
    # x y makes cycles unstable: l1 > 0 all along
    assert (found.coefficient.values[inside] > 0).all()
    values = found.eigenvalue.values[inside]
    np.testing.assert_allclose(values.real, 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(values.imag[:, 0]), found.frequency[inside], atol=1e-9)


def test_where_the_first_lyapunov_coefficient_vanishes():
    found = bifurcation_curve(
        bautin, torch.tensor([0.01, 0.02]).double(), (0.03, 0.4), BOX, kind="Hopf", max_step=0.1
    )
    assert specials(found) == {"generalised Hopf": pytest.approx((0, 0), abs=1e-9)}
    # with q = (1, -i) / sqrt 2: l1 = q
    np.testing.assert_allclose(found.coefficient, found["second"], atol=1e-9)
    np.testing.assert_allclose(found.frequency, 2, atol=1e-9)


def test_other_eigenvalues_that_cross():
    here = torch.tensor([0.0, 0.0, 0.05]).double()
    found = bifurcation_curve(lambda p, q: beside(p, q, lambda q, z: q), here, (0.0, 0.4), BOX, max_step=0.1)
    assert specials(found) == {"zero-Hopf": pytest.approx((0, 0), abs=1e-7)}
    assert sorted(found.unstable.values[[0, -1]]) == [0, 2]
    # z follows as -r^2 / 2 z: l1 is -4 (1 + 1 / 2 z), zero at z = -1/2 and infinite at the zero-Hopf point
    here = torch.tensor([0.0, 0.0, 0.7]).double()
    found = bifurcation_curve(
        lambda p, q: beside(p, q, lambda q, z: q + z, 1.0), here, (-0.49, -0.7), BOX, kind="Hopf"
    )
    assert specials(found) == {
        "zero-Hopf": pytest.approx((0, 0), abs=1e-7),
        "generalised Hopf": pytest.approx((-0.25, 0.5), abs=1e-7),
    }
    np.testing.assert_allclose(found["first"], -(found["second"] ** 2), atol=1e-12)
    found = bifurcation_curve(two_pairs, torch.zeros(4).double(), (0.01, 0.5), BOX, kind="Hopf", max_step=0.1)
    assert specials(found) == {"Hopf-Hopf": pytest.approx((0, 0), abs=1e-7)}


def test_a_closed_curve_is_followed_once():
    found = bifurcation_curve(ring, torch.tensor([0.1]).double(), (0.3, 0.3), BOX, max_step=0.1)
    assert found.ended.values.tolist() == ["closed", "closed"]
    p, q = found["first"].values, found["second"].values
    np.testing.assert_allclose(p * p + q * q, 0.25, atol=1e-12)
    turn = np.unwrap(np.arctan2(q, p))
    assert abs(turn[-1] - turn[0]) == pytest.approx(2 * math.pi, abs=0.3)


def test_ends():
    few = bifurcation_curve(cusp, torch.tensor([0.6]).double(), (-0.4, 1.0), BOX, max_steps=3)
    assert few.ended.values.tolist() == ["max_steps", "max_steps"]
    assert few.sizes["step"] == 5


def test_two_gated_units_meet_at_one_point():
    """The Hopf curve of Uh = 3 R(1/5) in its biases ends at points that lie on saddle-nodes too."""
    cos, sin = math.cos(0.2), math.sin(0.2)

    def family(p, q):
        return gru_flow(Uh=[[3 * cos, -3 * sin], [3 * sin, 3 * cos]], bh=torch.stack((p, q)))

    box = (-0.6, 0.6), (-0.6, 0.6)
    found = bifurcation_curve(family, torch.tensor([-0.62, 0.5]).double(), (0.335, 0.0), box, kind="Hopf")
    assert found.ended.values.tolist() == ["Bogdanov-Takens", "Bogdanov-Takens"]
    for i in range(2):
        p, q = (torch.tensor(found[name].values[i]) for name in ("special_first", "special_second"))
        A = family(p, q).jacobian(torch.from_numpy(found.special_point.values[i]))
        assert abs(float(A.trace())) < 1e-9
        assert abs(float(torch.linalg.det(A))) < 1e-9
        assert float(A.norm()) > 0.1


def test_critical_points_of_one_parameter():
    found = critical_point(
        lambda s: Field(lambda x: s - x * x + 0.1 * x.flip(-1) * 0),
        torch.tensor([0.3]).double(),
        torch.tensor([0.1]).double(),
        "saddle-node",
    )
    assert found.parameter.item() == pytest.approx(0, abs=1e-9)
    nothing = critical_point(
        lambda s: Field(lambda x: s - x), torch.tensor([0.3]).double(), torch.tensor([0.1]).double(), "Hopf"
    )
    assert nothing is None
    # a fold that never comes
    assert (
        critical_point(
            lambda s: Field(lambda x: 1 + s * s + x * x),
            torch.tensor([0.3]).double(),
            torch.tensor([0.1]).double(),
            "saddle-node",
        )
        is None
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "flip"}, "kind='flip'"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"max_step": 2.0}, "max_step=2.0"),
        ({"box": ((1.0, 0.0), (0.0, 1.0))}, "box="),
        ({"box": ((0.0, math.inf), (0.0, 1.0))}, "box="),
        ({"start": (0.0, math.nan)}, "start="),
        ({"x0": torch.zeros(1, 1).double()}, r"give \(state,\)"),
        ({"x0": torch.zeros(1)}, "float64"),
        ({"start": (-0.4, 3.0), "x0": torch.tensor([2.0]).double()}, "no saddle-node"),
        ({"kind": "Hopf"}, "no Hopf"),
        ({"family": lambda p, q: cusp(float(p), q)}, "differentiable"),
        ({"family": Henon, "x0": torch.zeros(2).double()}, "maps"),
        ({"family": lambda p, q: Hopf(1 + p * p + q * q, 1.0), "x0": torch.zeros(2).double()}, "no saddle"),
    ],
)
def test_bad_input(change, message):
    given = {"family": cusp, "x0": torch.tensor([0.6]).double(), "start": (-0.4, 1.0), "box": BOX, **change}
    places = [given.pop(name) for name in ("family", "x0", "start", "box")]
    with pytest.raises(ValueError, match=message):
        bifurcation_curve(*places, **given)
