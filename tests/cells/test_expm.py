"""The exponential of skew-symmetric matrices, against formulas and the spectral theorem."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import jvp, vmap

from rnnlab.cells import expm
from rnnlab.cells.expm import expm_skew


def skew(n, norm, *, seed=0, dtype=torch.float64):
    """A random skew-symmetric matrix with the given spectral norm."""
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a = a - a.mT
    return (a * (norm / torch.linalg.matrix_norm(a, 2))).to(dtype)


def by_eigenvectors(a):
    """exp(a) for skew a, by the spectral theorem for the Hermitian matrix i a, in float64."""
    values, vectors = torch.linalg.eigh(1j * a.double())
    return ((vectors * torch.exp(-1j * values)) @ vectors.mH).real


def of_parameter(p):
    return expm_skew(p.triu(1) - p.triu(1).mT)


def test_the_polynomial_is_that_of_taylor():
    p, q, r, t = (np.polynomial.Polynomial(c) for c in expm._TAYLOR)
    s = r + t**2
    expected = [1 / math.factorial(k) for k in range(13)]
    np.testing.assert_allclose((p + (q + s) * s).coef, expected, rtol=1e-15)


def test_the_largest_norm_is_where_the_backward_error_is_the_unit_roundoff():
    def series(x):
        """log(exp(-x) T(x)) / x"""
        return mpmath.log(mpmath.exp(-x) * sum(x**k / mpmath.factorial(k) for k in range(13))) / x

    with mpmath.workdps(40):
        # its Taylor coefficients from values on a circle
        points = [mpmath.expjpi(mpmath.mpf(k) / 32) for k in range(64)]
        values = [series(x) for x in points]
        terms = [abs(sum(v / x**k for v, x in zip(values, points, strict=True))) / 64 for k in range(40)]
        for dtype, largest in expm._LARGEST.items():
            error = sum(term * largest**k for k, term in enumerate(terms))
            assert float(error) == pytest.approx(torch.finfo(dtype).eps / 2, rel=1e-3)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.3, math.pi, 5.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_the_plane_it_is_a_rotation(angle, dtype):
    a = torch.tensor([[0.0, -angle], [angle, 0.0]], dtype=dtype)
    expected = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=dtype
    )
    tolerance = 8 * torch.finfo(dtype).eps * max(1.0, angle)
    torch.testing.assert_close(expm_skew(a), expected, rtol=0, atol=tolerance)


def test_in_space_it_is_the_formula_of_rodrigues():
    x, y, z = axis = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    k = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle = float(axis.norm())
    unit = k / angle
    expected = (
        torch.eye(3, dtype=torch.float64) + math.sin(angle) * unit + (1 - math.cos(angle)) * unit @ unit
    )
    torch.testing.assert_close(expm_skew(k), expected, rtol=0, atol=1e-14)


def test_one_dimension_has_one_rotation():
    assert torch.equal(expm_skew(torch.zeros(1, 1)), torch.ones(1, 1))


@pytest.mark.parametrize("n", [2, 5, 60])
@pytest.mark.parametrize("norm", [1e-6, 0.5, 3.9, 5.4, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_what_the_spectral_theorem_says(n, norm, dtype):
    a = skew(n, norm, dtype=dtype)
    tolerance = 8 * torch.finfo(dtype).eps * max(1.0, norm)
    torch.testing.assert_close(expm_skew(a).double(), by_eigenvectors(a), rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", [0.1, 1.0, math.pi, 10.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_it_is_a_rotation_up_to_rounding(norm, dtype, tolerance):
    for seed in range(3):
        rotation = expm_skew(skew(200, norm, seed=seed, dtype=dtype)).double()
        eye = torch.eye(200, dtype=torch.float64)
        torch.testing.assert_close(rotation.mT @ rotation, eye, rtol=0, atol=tolerance)
        assert torch.linalg.det(rotation).item() == pytest.approx(1.0, abs=200 * tolerance)


@pytest.mark.parametrize("norm", [0.7, 8.0, 25.0])
def test_derivatives_of_first_and_second_order(norm):
    p = skew(4, norm).triu(1).requires_grad_()
    assert gradcheck(of_parameter, p, check_forward_ad=True)
    assert gradgradcheck(of_parameter, p)


def test_gradient_in_single_precision_beats_that_of_matrix_exp_tenfold():
    p, weight = (
        skew(60, 6.0).triu(1),
        torch.randn(60, 60, generator=torch.Generator().manual_seed(1)).double(),
    )

    def gradient(exponential, dtype):
        leaf = p.to(dtype).requires_grad_()
        value = exponential(leaf.triu(1) - leaf.triu(1).mT)
        return torch.autograd.grad(value, leaf, weight.to(dtype))[0].double()

    truth = gradient(torch.matrix_exp, torch.float64)
    torch.testing.assert_close(gradient(expm_skew, torch.float64), truth, rtol=0, atol=1e-11)
    ours = (gradient(expm_skew, torch.float32) - truth).abs().max()
    theirs = (gradient(torch.matrix_exp, torch.float32) - truth).abs().max()
    assert ours < theirs / 10


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_gradient_in_single_precision_whatever_the_size_of_what_comes_in(size):
    p, weight = skew(200, 3.3).triu(1), size * skew(200, 1.0, seed=1)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        leaf = p.to(dtype).requires_grad_()
        gradients += torch.autograd.grad(of_parameter(leaf), leaf, weight.to(dtype))
    error = (gradients[1].double() - gradients[0]).abs().max()
    assert error < 1e-5 * gradients[0].abs().max()


def test_members_of_different_size_under_vmap_and_as_a_batch():
    stack = torch.stack([skew(5, norm, seed=seed) for seed, norm in enumerate((0.01, 4.0, 40.0))])
    alone = torch.stack([expm_skew(a) for a in stack])
    torch.testing.assert_close(expm_skew(stack), alone, rtol=0, atol=1e-13)
    torch.testing.assert_close(vmap(expm_skew, in_dims=1)(stack.movedim(0, 1)), alone, rtol=0, atol=1e-13)
    nested = vmap(vmap(lambda a, factor: expm_skew(a * factor), (None, 0)), (0, None))
    factors = torch.tensor([1.0, -2.0], dtype=torch.float64)
    expected = torch.stack([torch.stack([expm_skew(a * f) for f in factors]) for a in stack])
    torch.testing.assert_close(nested(stack, factors), expected, rtol=0, atol=1e-12)


def test_derivative_along_its_own_argument():
    a = skew(6, 20.0)
    value, tangent = jvp(
        lambda t: expm_skew(t * a), (torch.tensor(1.0).double(),), (torch.tensor(1.0).double(),)
    )
    torch.testing.assert_close(tangent, a @ value, rtol=0, atol=1e-11)


def test_autocast_does_not_bend_it():
    a = skew(20, 2.0, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bent = expm_skew(a)
    assert torch.equal(bent, expm_skew(a))


def test_nan_passes_through():
    a = skew(3, 1.0)
    a[0, 1] = torch.nan
    assert expm_skew(a).isnan().any()


def test_other_types_are_refused():
    with pytest.raises(ValueError, match=r"dtype torch\.float16 is not possible .* use float32 or float64"):
        expm_skew(torch.zeros(2, 2, dtype=torch.float16))
