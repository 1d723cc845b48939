"""Trajectories against closed forms."""

import math

import pytest
import torch

from rnnlab.integrate import integrate
from rnnlab.maps import Hopf

GENERATOR = torch.Generator().manual_seed(4)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


class Line:
    """dx/dt = A x, whose solution is the exponential of a matrix."""

    A = double([-0.2, 2.0], [-2.0, 0.1])

    def velocity(self, x):
        return x @ self.A.mT

    def solution(self, x, times):
        return torch.stack([x @ torch.linalg.matrix_exp(t * self.A).mT for t in times])


class Square:
    """dx/dt = rate x^2, at infinity at the time 1 / (rate x(0)); the rate may differ by row."""

    def __init__(self, rate=1.0):
        self.rate = rate

    def velocity(self, x):
        return self.rate * x * x


@pytest.mark.parametrize("shape", [(2,), (4, 2), (2, 3, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_linear_field_is_solved_by_the_exponential(shape, sign):
    x0 = torch.randn(shape, generator=GENERATOR, dtype=torch.float64)
    times = sign * double(0.0, 0.3, 1.0, 7.5)
    found = integrate(Line(), x0, times)
    assert found.shape == (4, *shape)
    torch.testing.assert_close(found, Line().solution(x0, times), rtol=1e-8, atol=1e-8)
    assert torch.equal(found[0], x0)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10, 1e-13])
def test_the_error_follows_the_tolerance(tolerance):
    # on its limit cycle the normal form turns by omega; off it the radius is known too
    omega, mu, r0 = 3.0, 0.7, 0.2
    times = torch.linspace(0, 10, 21, dtype=torch.float64)
    found = integrate(Hopf(mu, omega), double(r0, 0.0), times, tolerance=tolerance)
    radius = torch.sqrt(mu / (1 + (mu / r0**2 - 1) * torch.exp(-2 * mu * times)))
    exact = torch.stack([radius * torch.cos(omega * times), radius * torch.sin(omega * times)], -1)
    error = (found - exact).abs().max().item()
    assert error < 100 * tolerance
    assert error > tolerance * 1e-4  # no more is done than was asked for


def test_forth_and_back_again():
    x0 = torch.randn(5, 2, generator=GENERATOR, dtype=torch.float64)
    there = integrate(Hopf(1.0, 2.0), x0, double(1.5), tolerance=1e-12)[-1]
    back = integrate(Hopf(1.0, 2.0), there, double(-1.5), tolerance=1e-12)[-1]
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-8)


def test_one_that_runs_to_infinity_stops_no_other():
    x0 = double([1.0], [-1.0], [0.0], [0.5])
    times = double(0.5, 0.9, 1.5, 3.0)
    found = integrate(Square(), x0, times)[..., 0]
    exact = x0[:, 0] / (1 - times[:, None] * x0[:, 0])
    blown = times[:, None] * x0[:, 0] >= 1
    assert blown.sum() == 3
    assert found[blown].isnan().all()
    torch.testing.assert_close(found[~blown], exact[~blown], rtol=1e-7, atol=1e-9)


def test_one_that_is_gone_before_the_first_look():
    found = integrate(Square(), double([1.0], [-1.0]), double(2.0, 3.0))
    assert found[:, 0].isnan().all()
    torch.testing.assert_close(found[:, 1, 0], double(-1 / 3, -1 / 4))
    assert integrate(Square(), double(1.0), double(2.0, 3.0)).isnan().all()


def test_rows_keep_parameters_of_their_own_when_one_is_lost():
    rate = double([1.0], [2.0], [-1.0])
    found = integrate(Square(rate), double([0.4], [1.0], [1.0]), double(0.25, 1.0))[..., 0]
    assert found[1, 1].isnan()
    torch.testing.assert_close(found[:, 0], 0.4 / (1 - 0.4 * double(0.25, 1.0)))
    torch.testing.assert_close(found[:, 2], 1 / (1 + double(0.25, 1.0)))


def test_a_row_is_as_exact_among_many_as_by_itself():
    # one that moves among a thousand that rest
    x0 = torch.zeros(1000, 2, dtype=torch.float64)
    x0[17] = double(1.0, 0.5)
    exact = Line().solution(x0[17], double(3.0))[0]
    tolerance = 1e-8
    alone = (integrate(Line(), x0[17], double(3.0), tolerance=tolerance)[0] - exact).norm()
    among = (integrate(Line(), x0, double(3.0), tolerance=tolerance)[0, 17] - exact).norm()
    assert among < 3 * alone + tolerance


def test_no_gradient_and_no_time_at_all():
    x0 = double([1.0, 2.0]).requires_grad_()
    assert not integrate(Line(), x0, double(1.0)).requires_grad
    assert torch.equal(integrate(Line(), x0.detach(), double(0.0)), x0.detach()[None])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (double(1.0, 0.5), r"times=\[1.0, 0.5\] are not possible: give them rising from 0, or falling"),
        (double(1.0, 1.0), "rising from 0"),
        (double(-1.0, 1.0), "rising from 0"),
        (double(0.0, 1.0, -1.0), "rising from 0"),
        (double(math.inf), "finite"),
        (double(math.nan), "finite"),
        (torch.zeros(0).double(), r"times of shape \(0,\) are not possible"),
        (double([1.0]), r"times of shape \(1, 1\) are not possible"),
    ],
)
def test_times_out_of_order_are_refused(times, message):
    with pytest.raises(ValueError, match=message) as error:
        integrate(Line(), double(1.0, 0.0), times)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tolerance", [0.0, 1e-16, 1.0, math.nan, -1e-9])
def test_tolerances_that_mean_nothing_are_refused(tolerance):
    with pytest.raises(ValueError, match="is not possible: give a number from 3e-14 to 1"):
        integrate(Line(), double(1.0, 0.0), double(1.0), tolerance=tolerance)
