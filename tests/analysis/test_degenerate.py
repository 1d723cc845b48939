"""Degenerate points of known kind, moved, turned and stretched so that nothing is at a round number."""

import math

import numpy as np
import pytest
import torch

from rnnlab.analysis.degenerate import border_type, degenerate_point, poincare_index
from rnnlab.maps import Hopf, Linear, NeimarkSacker

PLACE = torch.tensor([0.3, -math.pi / 7], dtype=torch.float64)
FRAME = torch.tensor([[1.3, 0.4], [-0.5, 0.9]], dtype=torch.float64)


def pair(first, second):
    return torch.stack((first, second), -1)


class Field:
    """dx/dt = P g(P^-1 (x - c)), of the same kind as g at c."""

    def __init__(self, law):
        self.law = law

    def velocity(self, x):
        moved = torch.linalg.solve(FRAME, (x - PLACE).unsqueeze(-1)).squeeze(-1)
        return (FRAME @ self.law(moved[..., 0], moved[..., 1]).unsqueeze(-1)).squeeze(-1)


class Map(Field):
    """x' = x + that."""

    def step(self, x):
        return x + self.velocity(x)

    def observe(self, x):
        return x


KINDS = {
    "fold, attracting across": (lambda u, v: pair(u**2 + u * v, -v + u**2), "sink-saddle", "saddle-node", 0),
    "fold, repelling across": (
        lambda u, v: pair(-(u**2) + v**2, v + u * v),
        "source-saddle",
        "saddle-node",
        0,
    ),
    "cubic sink": (lambda u, v: pair(-(u**3), -v), "sink", "cubic", 1),
    "cubic saddle": (lambda u, v: pair(u**3, -v), "saddle", "cubic", -1),
    "cubic source": (lambda u, v: pair(u**3, v), "source", "cubic", 1),
    "cubic saddle, turned": (lambda u, v: pair(-(u**3), v), "saddle", "cubic", -1),
    # v = u^2 on the centre manifold, so that u' = u v = u^3 without a cubic term of its own
    "cubic by the manifold": (lambda u, v: pair(u * v, -v + u**2), "saddle", "cubic", -1),
    "nilpotent": (lambda u, v: pair(v, u**2 + u * v), "codimension 2", "nilpotent", 0),
    "four points in one": (lambda u, v: pair(-(u**2), -(v**2)), "codimension 2", "zero", 0),
    "dipole": (lambda u, v: pair(u**2 - v**2, 2 * u * v), "codimension 2", "zero", 2),
    "monkey saddle": (lambda u, v: pair(u**2 - v**2, -2 * u * v), "codimension 2", "zero", -2),
}


def around(width=1e-6):
    """A box that the point is in, but not in the middle of."""
    return PLACE - width * torch.tensor([0.3, 1.0]), PLACE + width * torch.tensor([1.0, 0.4])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("make", [Field, Map])
def test_the_kind_is_told(name, make):
    law, kind, degeneracy, index = KINDS[name]
    # a step of a twentieth of the time keeps multipliers positive
    system = Field(law) if make is Field else Map(lambda u, v: 0.05 * law(u, v))
    found = degenerate_point(system, *around(), slope=1.0)
    assert (found.type, found.degeneracy) == (kind, degeneracy)
    assert (found.point - PLACE).norm() < 1e-7
    assert found.defect < 1e-10
    assert poincare_index(system, PLACE, 0.05) == index


def test_a_map_repels_across_by_a_multiplier_below_minus_one():
    system = Map(lambda u, v: pair(u**2, -2.5 * v))  # multipliers 1 and -1.5
    assert degenerate_point(system, *around(), slope=1.0).type == "source-saddle"
    assert degenerate_point(Field(system.law), *around(), slope=1.0).type == "sink-saddle"


@pytest.mark.parametrize(
    "law",
    [
        lambda u, v: pair(u, -v),  # not degenerate
        lambda u, v: pair(u**2 + 1e-3, -v),  # nothing rests
        lambda u, v: pair(u**5, -v),  # flatter than cubic
        lambda u, v: pair(0 * u, -v),  # not isolated
    ],
)
def test_what_fits_no_kind_is_undecided(law):
    assert degenerate_point(Field(law), *around(), slope=1.0).type == "undecided"


def test_tolerance_decides_how_exact():
    nearly = Field(lambda u, v: pair(u**2 + 1e-9, -v))
    assert degenerate_point(nearly, *around(1e-4), slope=1.0, tolerance=1e-7).type == "sink-saddle"
    assert degenerate_point(nearly, *around(1e-4), slope=1.0, tolerance=1e-11).type == "undecided"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_index_of_powers(n):
    def power(x):
        z = torch.complex(x[..., 0], x[..., 1]) ** n
        return pair(z.real, z.imag)

    class Powers:
        velocity = staticmethod(power)

    class Conjugate:
        velocity = staticmethod(lambda x: power(x) * torch.tensor([1.0, -1.0]))

    origin = torch.zeros(2, dtype=torch.float64)
    assert poincare_index(Powers(), origin, 0.3) == n
    assert poincare_index(Conjugate(), origin, 0.3) == -n
    assert poincare_index(Powers(), origin + 5, 0.3) == 0


def test_index_is_refused_on_a_zero():
    assert poincare_index(Field(lambda u, v: pair(u, 0 * v)), PLACE, 0.1) is None


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        (Hopf(0.0, 0.7), ("sink", "hopf")),
        (Field(lambda u, v: pair(-v + u * (u * u + v * v), u + v * (u * u + v * v))), ("source", "hopf")),
        (Field(lambda u, v: pair(-v, u)), ("centre", "hopf")),
        (NeimarkSacker(0.0, 1.0), ("sink", "neimark-sacker")),
        (
            Linear(torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])),
            ("centre", "neimark-sacker"),
        ),
        (Map(lambda u, v: pair(-2 * u + u**3, -0.5 * v)), ("sink", "flip")),
        (Map(lambda u, v: pair(-2 * u - u**3, -0.5 * v)), ("saddle", "flip")),
        (Map(lambda u, v: pair(-2 * u + u**3, v)), ("saddle", "flip")),
        (Map(lambda u, v: pair(-2 * u - u**3, v)), ("source", "flip")),
        (Map(lambda u, v: pair(-2 * u, -2 * v)), ("undecided", "")),
    ],
)
def test_on_the_border_of_stability(system, kind):
    x = PLACE if isinstance(system, Field) else torch.zeros(2, dtype=torch.float64)
    rule = getattr(system, "step", None) or system.velocity
    values = np.linalg.eigvals(torch.func.jacfwd(rule)(x).numpy()).astype(complex)
    assert border_type(system, x, values) == kind
