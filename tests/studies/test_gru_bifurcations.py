"""Saddle-nodes of two gated units, against closed forms and against the certificate."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from rnnlab.analysis import certified_fixed_points
from rnnlab.studies import gru_bifurcations as study
from rnnlab.studies.gru_atlas.cases import cases, flow
from rnnlab.studies.gru_bifurcations import SaddleNodes, curves_of_biases, nearest_saddle_nodes, rotated
from rnnlab.systems import jacobian

ONE = torch.eye(12, dtype=torch.float64)


def test_the_field_is_equilibrium_and_determinant():
    parameters = torch.from_numpy(cases()["xxv"].parameters)
    direction = torch.linspace(-1, 1, 12).double()
    for h1, h2, s in ((0.3, -0.6, 0.2), (-0.9, 0.1, -0.4)):
        point, system = torch.tensor([h1, h2]).double(), flow(parameters + s * direction)
        first, second, determinant = SaddleNodes(parameters, direction).velocity(
            torch.cat((point, point.new_tensor([s])))
        )
        # the gate z is 1/2
        np.testing.assert_allclose(system.velocity(point), [first / 2, second / 2], atol=1e-14)
        assert 4 * torch.linalg.det(jacobian(system, point)) == pytest.approx(float(determinant), abs=1e-13)


def test_the_nearest_saddle_nodes_are_all_there_are():
    parameters, direction = torch.from_numpy(cases()["xiv"].parameters), ONE[8]
    found = nearest_saddle_nodes(parameters, direction, reach=0.02)
    corner = torch.tensor([1, 1, 0.02]).double()
    proved = certified_fixed_points(SaddleNodes(parameters, direction), (-corner, corner), resolution=1e-5)
    assert proved.undecided == 0
    np.testing.assert_allclose(np.sort(found.distance), np.sort(proved.point[:, 2]), atol=1e-9)
    assert (np.abs(found.distance).diff().dropna() > -1e-12).all()
    assert set(found.type) == {"sink-saddle"}
    for _, row in found.iterrows():
        values = torch.linalg.eigvals(
            jacobian(flow(parameters + row.distance * direction), torch.tensor([row.h1, row.h2]).double())
        ).real
        assert sorted(values.tolist()) == pytest.approx(sorted([0.0, row.eigenvalue]), abs=1e-7)


def test_kinds_of_collisions():
    # decoupled units h = tanh(h + b) and h = tanh(3/2 h): a cusp in the first at b = 0
    decoupled = torch.tensor([2.0, 0, 0, 3] + 8 * [0.0]).double()
    found = nearest_saddle_nodes(decoupled, ONE[8])
    assert set(found.distance.round(3)) == {0.0}
    assert set(found.unfolding) == {"branch point"}
    assert sorted(found.type) == ["sink-saddle", "sink-saddle", "source-saddle"]
    # the gain of both at once: all collide at the origin, where the derivative is zero
    found = nearest_saddle_nodes(torch.tensor([2.0, 0, 0, 2] + 8 * [0.0]).double(), ONE[0] + ONE[3])
    assert "codimension 2" in set(found.type)


def test_bad_input():
    with pytest.raises(ValueError, match="direction=0"):
        nearest_saddle_nodes(torch.ones(12).double(), torch.zeros(12).double())
    with pytest.raises(ValueError, match="reach=0"):
        nearest_saddle_nodes(torch.ones(12).double(), ONE[0], reach=0)


def test_a_quarter_turn_changes_nothing():
    x, bias = torch.tensor([0.3, -0.8]).double(), torch.tensor([0.1, 0.4]).double()

    def turned(v):
        return torch.stack((-v[1], v[0]))

    one, other = rotated(0.2, bias).velocity(x), rotated(0.2, turned(bias)).velocity(turned(x))
    assert torch.equal(turned(one), other)


@pytest.mark.slow
def test_counts_change_across_the_curves_only():
    """Along a line through the plane the certified number of fixed points changes by two at each curve."""
    curves = [curve for curve in curves_of_biases() if curve.attrs["kind"] == "saddle-node"]
    q = 0.23
    crossings = []
    for curve in curves:
        p, height = curve["first"].values, curve["second"].values - q
        for i in np.flatnonzero(height[1:] * height[:-1] < 0):
            part = height[i] / (height[i] - height[i + 1])
            crossings.append(p[i] + part * (p[i + 1] - p[i]))
    crossings = np.sort(crossings)
    ends = np.concatenate(([-0.6], crossings, [0.6]))
    numbers = [
        certified_fixed_points(rotated(0.2, (float(p), q))).certified for p in (ends[1:] + ends[:-1]) / 2
    ]
    assert len(crossings) >= 4
    assert set(np.abs(np.diff(numbers))) == {2}


@pytest.mark.slow
def test_the_study_makes_what_it_says(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "cases", lambda: {name: cases()[name] for name in ("ii", "xiv")})
    monkeypatch.setattr(study, "SAMPLES", 5)
    study.main(["--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"Hopf bifurcation at {math.acos(2 / 3):.10f}" in out
    assert "saddle-node on the cycle at 0.1478220707" in out
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"figure_5.csv", "figure_5.png", "saddle_nodes.csv", "regions.png", "codimension_2.csv"}
    near = pd.read_csv(tmp_path / "saddle_nodes.csv")
    # nothing collides in ii; the four saddle-nodes of xiv, along each bias
    assert set(near["case"]) == {"xiv"}
    assert (near[near.parameter == "bh1"].distance.abs() < 0.03).sum() == 4
    assert float(near.residual.max()) < 1e-12
    assert set(near.published) == {4}
    special = pd.read_csv(tmp_path / "codimension_2.csv")
    assert special.type.value_counts().to_dict() == {"Bogdanov-Takens": 16, "cusp": 4}
    cycle = pd.read_csv(tmp_path / "figure_5.csv")
    assert cycle.period.is_monotonic_increasing


def test_counts_are_certified(monkeypatch):
    monkeypatch.setattr(study, "SAMPLES", 3)
    samples = study.counts_of_biases()
    # index sum; one source, beside a cycle, in the middle
    assert set((samples.sinks + samples.sources - samples.saddles).values) == {1}
    assert int(samples.undecided.sum()) == 0
    assert [int(samples[name][4]) for name in ("first", "sinks", "sources", "saddles")] == [0, 0, 1, 0]
