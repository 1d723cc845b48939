"""The chaotic LSTM has the exponents, windows and bifurcation that are known of it."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from rnnlab.analysis import continuation, lyapunov_spectrum, orbit
from rnnlab.analysis.landscape import local_minima
from rnnlab.cells import LSTM
from rnnlab.studies import chaotic_lstm
from rnnlab.studies.chaotic_lstm import (
    ORIGIN_LOSES_STABILITY,
    START,
    WEIGHTS,
    ScaledLSTM,
    cost,
    origin_eigenvalues,
    surface,
    survey,
    windows,
)
from rnnlab.systems import jacobian, push


class Plain:
    """The same network without its own derivative."""

    def __init__(self, *scales, **options):
        self.step = ScaledLSTM(*scales, **options).step

    def observe(self, x):
        return x


def s(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_it_is_the_lstm_of_the_house_with_scaled_weights():
    cell = LSTM(1, 2).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_hh.copy_(0.7 * WEIGHTS)
        x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        expected = cell.step(x, torch.zeros(9, 1).double())
    assert torch.allclose(ScaledLSTM(0.7).step(x), expected, atol=1e-15)
    assert torch.equal(ScaledLSTM(0.7).observe(x), x[:, :2])


@pytest.mark.parametrize("probes", [False, True])
def test_its_derivative_is_that_of_its_step(probes):
    generator = torch.Generator().manual_seed(1)
    other = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    scales = (s(0.5, 1.2, 2.0), s(0.0, 0.3, -1.0)) if probes else (1.2, 0.3)
    x = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    frame = torch.randn(3, 5, 4, 2, generator=generator, dtype=torch.float64)
    own = push(ScaledLSTM(*scales, weights=(WEIGHTS, other)), x, frame)
    generic = push(Plain(*scales, weights=(WEIGHTS, other)), x, frame)
    for a, b in zip(own, generic, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


# exponents of a settled orbit need few steps; those of chaos are compared within their errors
@pytest.mark.parametrize(("scale", "exponent"), [(0.5, -0.557180), (0.7, -0.141762), (1.5, -0.485091)])
def test_exponents_of_cycles(scale, exponent):
    found = lyapunov_spectrum(ScaledLSTM(scale), START[None], count=1, steps=4000, discard=2000)
    assert found.exponent.item() == pytest.approx(exponent, abs=max(2e-6, 4 * found.standard_error.item()))


@pytest.mark.slow
def test_exponents_of_chaos():
    scales = s(0.92, 1.0, 1.15)
    x0 = START + 0.1 * torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lyapunov_spectrum(ScaledLSTM(scales), x0, steps=4000, discard=1000)
    known = np.array([0.2054, 0.1696, 0.1459])
    assert (np.abs(found.exponent[:, 0] - known) < 4 * found.standard_error[:, 0] + 3e-4).all()
    assert (found.standard_error[:, 0] < 4e-3).all()
    assert found.exponent[1].values == pytest.approx([0.170, -0.385, -1.677, -4.62], abs=0.01)


def test_printed_signs_are_not_chaotic():
    printed = WEIGHTS.clone()
    printed[0, 1], printed[7, 1] = 4, 7
    seen = orbit(ScaledLSTM(1.0, weights=(printed,)), START[None])
    assert seen.settled.item()
    assert seen.period.item() == 6


def test_two_attractors_at_nine_tenths():
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(40, 4, generator=generator, dtype=torch.float64)
    seen = orbit(ScaledLSTM(0.9), x0, burn_in=3000)
    high = seen.y.max("time")[:, 0].round(3).values
    assert len(np.unique(seen.settled)) == 2 or np.ptp(high) > 0.01


def test_the_origin_has_the_eigenvalues_derived_and_loses_its_stability_where_they_say():
    for scale in (0.3, 0.7844, 1.9):
        own = torch.linalg.eigvals(jacobian(Plain(scale), torch.zeros(4).double())).numpy()
        own = sorted(own, key=abs)[2:]
        assert np.sort_complex(np.array(own)) == pytest.approx(np.sort_complex(origin_eigenvalues(scale)))
    found = continuation(ScaledLSTM, torch.zeros(1, 4).double(), (0.5, 1.0), name="s")
    assert found.bifurcation_type.values.tolist() == ["Neimark-Sacker"]
    assert found.bifurcation_parameter.item() == pytest.approx((10 + 8 * math.sqrt(10)) / 45, abs=1e-10)
    assert found.bifurcation_parameter.item() == pytest.approx(ORIGIN_LOSES_STABILITY, abs=1e-10)


def test_cost_is_that_of_a_plain_loop_and_zero_for_the_true_network():
    def outputs(scale):
        h, c, seen = [0.5, 0.5], [0.5, 0.5], []
        rows = (scale * WEIGHTS).tolist()
        for _ in range(30):
            a = [w0 * h[0] + w1 * h[1] for w0, w1 in rows]
            gate = [1 / (1 + math.exp(-v)) for v in a]
            c = [gate[2 + k] * c[k] + gate[k] * math.tanh(a[4 + k]) for k in (0, 1)]
            h = [gate[6 + k] * math.tanh(c[k]) for k in (0, 1)]
            seen.append(h)
        return np.array(seen)

    expected = ((outputs(0.8) - outputs(1.0)) ** 2).sum(1).mean()
    assert cost(s(0.8, 1.0), steps=30).tolist() == pytest.approx([expected, 0.0], rel=1e-9)


def test_cost_is_intricate_where_the_dynamics_are_chaotic():
    values = torch.linspace(0.5, 2, 1500, dtype=torch.float64)
    at = values.numpy()[local_minima(cost(values).numpy())]
    chaotic = ((at >= 0.9) & (at <= 1.45)).sum()
    assert chaotic > 100
    assert chaotic > 10 * (len(at) - chaotic)


def test_surface_holds_the_line_of_the_paper_s_first_figure():
    first, second = torch.linspace(0.5, 1.0, 6).double(), torch.tensor([-0.25, 0.0]).double()
    values = surface(first, second)
    assert values.sel(s2=0.0).values == pytest.approx(cost(first).numpy(), rel=1e-9)
    assert (values.sel(s2=-0.25) != values.sel(s2=0.0)).all()


def test_windows_are_stretches_of_one_period():
    values = torch.cat(
        [torch.linspace(0.6, 0.7, 5), torch.linspace(0.80, 0.84, 5), torch.linspace(1.5, 1.6, 5)]
    )
    found = windows(survey(values.double(), steps=200))
    assert found["period"].tolist() == [1, 3, 4]
    assert found["from s"].tolist() == pytest.approx([0.6, 0.8, 1.5])
    assert found["to s"].tolist() == pytest.approx([0.7, 0.84, 1.6])
    assert (found["largest exponent"] < 0).all()


def test_scales_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="scale=inf is not possible"):
        ScaledLSTM(math.inf)


def test_the_program_leaves_tables_and_pictures(tmp_path, monkeypatch, capsys):
    out = tmp_path / "made"
    monkeypatch.setattr(sys, "argv", ["chaotic_lstm", "--out", str(out), "--values", "13", "--grid", "5"])
    chaotic_lstm.main()
    assert {p.name for p in out.iterdir()} == {
        "chaotic_lstm.png",
        "chaotic_lstm_surface.png",
        "chaotic_lstm.csv",
        "chaotic_lstm_windows.csv",
    }
    table = pd.read_csv(out / "chaotic_lstm.csv")
    assert table.s.tolist() == pytest.approx(np.linspace(0.5, 2, 13).tolist())
    said = capsys.readouterr().out
    assert "Neimark-Sacker bifurcation of the origin, supercritical, at s = 0.7844049174" in said
    monkeypatch.setattr(sys, "argv", ["chaotic_lstm", "--values", "1"])
    with pytest.raises(ValueError, match="--values=1 is not possible"):
        chaotic_lstm.main()
