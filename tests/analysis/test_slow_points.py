"""Slow points and slow lines of fields whose speed is known in closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from rnnlab.analysis.slow_lines import slow_lines
from rnnlab.analysis.slow_points import slow_points
from rnnlab.gru_flow import gru_flow
from rnnlab.integrate import integrate

ONE = torch.ones(2, dtype=torch.float64)
UNIT = (-ONE, ONE)


class Field:
    def __init__(self, law):
        self.law = law

    def velocity(self, x):
        return torch.stack(self.law(*x.unbind(-1)), -1)


class Map(Field):
    def step(self, x):
        return x + self.velocity(x)

    def observe(self, x):
        return x


@pytest.mark.parametrize("make", [Field, Map])
@pytest.mark.parametrize(("rate", "kind"), [(-1.0, "sink-saddle"), (1.0, "source-saddle")])
def test_the_ghost_of_a_saddle_node(make, rate, kind):
    # the speed is sqrt((mu + u^2)^2 + v^2), least at u = v = 0
    mu, a, b = 0.02, 0.31, -0.17
    found = slow_points(make(lambda x, y: (mu + (x - a) ** 2, rate * (y - b))), UNIT)
    assert len(found) == 1
    assert found[0].speed == pytest.approx(mu, rel=1e-9)
    assert found[0].point.tolist() == pytest.approx([a, b], abs=1e-7)
    assert found[0].type == kind
    assert found[0].passage == pytest.approx(math.pi / math.sqrt(mu), rel=1e-6)


def test_passage_is_the_time_it_takes():
    mu = 1e-4
    [slow] = slow_points(Field(lambda x, y: (mu + x**2 + x**3, -y + x**2)), UNIT)
    field = Field(lambda x, y: (mu + x**2 + x**3, -y + x**2))
    times = torch.linspace(0, 500, 5001, dtype=torch.float64)
    x = integrate(field, torch.tensor([-0.5, 0.0], dtype=torch.float64), times)[:, 0]
    taken = times[(x < 0.5).sum()]
    assert slow.passage == pytest.approx(float(taken), rel=0.05)


def test_in_other_numbers_of_dimensions():
    line, space = Field(lambda x: (0.03 + x**2,)), Field(lambda x, y, z: (0.03 + x**2, -y, -2 * z + x))
    for field, size in ((line, 1), (space, 3)):
        one = torch.ones(size, dtype=torch.float64)
        found = slow_points(field, (-one, one), resolution=8)
        assert [(round(slow.speed, 9), slow.type) for slow in found] == [(0.03, "sink-saddle")]


@pytest.mark.parametrize(
    "law",
    [
        lambda x, y: (x - 0.1, -y),  # the only minimum rests
        lambda x, y: (x**2 - 0.01, -y),  # so do both
        lambda x, y: (1 + 0 * x, 0 * y),  # equally fast everywhere
        lambda x, y: (1 + x**2, 0 * y),  # a line of minima
        lambda x, y: (4 + x, -y),  # the minimum is outside
    ],
)
def test_no_slow_point(law):
    assert slow_points(Field(law), UNIT) == []


def test_two_and_the_slowest_first():
    found = slow_points(Field(lambda x, y: ((x**2 - 0.25) ** 2 + 0.02 + 0.01 * x, -y)), UNIT)
    assert len(found) == 2
    assert found[0].speed < found[1].speed
    for slow, side in zip(found, (-0.5, 0.5), strict=True):
        # to first order in the tilt the minimum of (x^2 - 1/4)^2 + 0.01 x
        assert slow.point[0].item() == pytest.approx(side - 0.005, abs=2e-4)


def test_the_slow_point_of_the_paper():
    field = gru_flow(Uh=[[2, 2], [2, 2]], Ur=[[100, 100], [100, 100]], bh=[0.01, 0])  # Fig. 7A
    [slow] = slow_points(field, UNIT)
    assert slow.speed == pytest.approx(2.632e-3, rel=0.01)
    assert slow.type == "sink-saddle"
    times = torch.tensor([20.98, 21.46, 21.50], dtype=torch.float64)
    path = integrate(field, torch.full((2,), -0.5, dtype=torch.float64), times)
    sink = integrate(field, ONE, torch.tensor([200.0], dtype=torch.float64))[0]
    away = (path - sink).norm(dim=-1)
    assert away[1] > 0.05 > away[2]


def test_a_line_attractor_all_across_the_box():
    [line] = slow_lines(Field(lambda x, y: (-x, 0 * y)), torch.zeros(1, 2).double(), UNIT, 1e-3, least=0.1)
    assert line.length == pytest.approx(2, abs=1e-4)
    assert not line.closed
    assert (line.curvature, line.speed) == (0, 0)


def test_a_ring_closes():
    field = Field(lambda x, y: ((0.49 - x * x - y * y) * x, (0.49 - x * x - y * y) * y))
    [line] = slow_lines(field, torch.tensor([[0.0, 0.7]]).double(), UNIT, 1e-3, least=0.1)
    assert line.closed
    assert line.length == pytest.approx(2 * math.pi * 0.7, rel=1e-3)
    assert line.curvature == pytest.approx(1 / 0.7, rel=1e-3)


@pytest.mark.parametrize("make", [Field, Map])
def test_a_parabola(make):
    # x = y^2 at rest: its curvature is 2 / (1 + 4 y^2)^1.5
    [line] = slow_lines(
        make(lambda x, y: (y * y - x, 0 * y)), torch.zeros(1, 2).double(), UNIT, 1e-3, least=0.1
    )
    length = quad(lambda y: math.sqrt(1 + 4 * y * y), -1, 1)[0]
    assert line.length == pytest.approx(length, rel=1e-3)
    assert line.curvature == pytest.approx(2, rel=1e-3)
    assert np.abs(line.points[:, 0] - line.points[:, 1] ** 2).max() < 1e-12


def test_the_bound_ends_it():
    # on the valley x = 0 the speed is 0.01 |y|
    field = Field(lambda x, y: (-x, -0.01 * y))
    for bound in (1e-3, 5e-3):
        [line] = slow_lines(field, torch.zeros(1, 2).double(), UNIT, bound, least=0.1)
        assert line.length == pytest.approx(2 * bound / 0.01, rel=1e-2)
        assert line.speed == pytest.approx(bound, rel=1e-2)


@pytest.mark.parametrize(
    "law",
    [
        lambda x, y: (x, 0 * y),  # repels
        lambda x, y: (-x, -y),  # a point is no line
        lambda x, y: (0 * x, 0 * y),  # nor is a surface
        lambda x, y: (-x, -0.5 * y),  # not slender
    ],
)
def test_no_line(law):
    assert slow_lines(Field(law), torch.zeros(1, 2).double(), UNIT, 0.1, least=0.05) == []


def test_one_line_through_two_seeds():
    seeds = torch.tensor([[0.0, 0.5], [0.0, -0.5]], dtype=torch.float64)
    assert len(slow_lines(Field(lambda x, y: (-x, 0 * y)), seeds, UNIT, 1e-3, least=0.1)) == 1
