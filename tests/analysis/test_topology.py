"""The whole phase portrait of systems that are known by hand, and the checked facts of the paper's tables."""

import math

import numpy as np
import pytest
import torch

from rnnlab.analysis import topology
from rnnlab.gru_flow import gru_flow
from rnnlab.integrate import integrate
from rnnlab.maps import Henon, Hopf, Linear, Lorenz, NeimarkSacker, TanhMap
from rnnlab.systems import ContinuousTime

ONE = torch.ones(2, dtype=torch.float64)


class Field:
    def __init__(self, *law):
        self.law = law

    def velocity(self, x):
        return torch.stack([part(*x.unbind(-1)) for part in self.law], -1)


def polar(growth):
    """dr/dt = growth(r^2) r, one radian per unit time."""
    return Field(
        lambda x, y: growth(x * x + y * y) * x - y,
        lambda x, y: growth(x * x + y * y) * y + x,
    )


def diagonal(a, b):
    return [[a, 0.0], [0.0, b]]


def rotated(angle):
    return [[3 * math.cos(angle), -3 * math.sin(angle)], [3 * math.sin(angle), 3 * math.cos(angle)]]


# of Jordan et al. (2019), Table 1 and Table 3: Uh, Ur, bh, br
PAPER = {
    "2": {"Uh": diagonal(3, 3)},
    "3a": {"Uh": diagonal(2, 2), "Ur": [[5, 8], [8, 5]], "br": [5, 5]},
    "ii": {"Uh": [[2, 2], [2, 2]]},
    "ix": {"Uh": [[3, 3], [0, 3]]},
    "x": {"Uh": diagonal(6, 6), "Ur": [[0, -2], [0, 0]], "br": [-1.695, 0]},
    "xxiii": {"Uh": diagonal(3, 3), "Ur": [[-3, -5], [-5, -3]], "br": [-2, -2]},
    "xxxiii": {"Uh": diagonal(3, 3), "Ur": [[6, 9], [9, 6]], "bh": [0.3, 0.3], "br": [3.75, 3.75]},
    "3b": {"Uh": diagonal(2, 2), "Ur": diagonal(-1, -1)},
    "v": {"Uh": diagonal(2, 2), "Ur": [[1, -1], [1, 1]]},
    "xv": {"Uh": diagonal(6, 2), "Ur": diagonal(-1, 0)},
    "xviii": {"Uh": diagonal(2, 2), "Ur": [[3, 2], [2, 3]]},
    "4a": {"Uh": diagonal(2, 2), "Ur": [[5, 9], [5, 9]]},
    "4b": {"Uh": diagonal(2, 2), "Ur": [[5, 9], [9, 5]]},
    "3c": {"Uh": diagonal(2, 2), "Ur": [[1, -2], [3, 1]], "bh": [-0.06, 0], "br": [0.2, -0.85]},
    "7a": {"Uh": [[2, 2], [2, 2]], "Ur": [[100, 100], [100, 100]], "bh": [0.01, 0]},
}


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("2", "4 sinks, 1 source, 4 saddles"),
        ("3a", "5 sinks, 1 source, 5 saddles"),
        ("ii", "2 sinks, 1 saddle"),
        ("ix", "2 sinks, 1 source, 2 saddles"),
        ("x", "3 sinks, 2 saddles"),
        ("xxiii", "2 sinks, 2 sources, 3 saddles"),
        ("xxxiii", "5 sinks, 4 saddles"),
        # both decouple: x' = 0 twice, at 0 and at -0.8049, where it is simple
        ("3b", "1 sink, 2 sink-saddles, 1 codimension-2 point"),
        ("v", "2 sinks, 1 saddle, 1 codimension-2 point"),
        # y' = (tanh y - y) / 2 is cubic: nodes and a saddle that no eigenvalue tells
        ("xv", "2 sinks, 1 saddle"),
        ("xviii", "3 sinks, 2 saddles, 1 codimension-2 point"),
    ],
)
def test_points_of_the_paper(name, signature):
    found = topology(gru_flow(**PAPER[name]))
    assert found.signature.item() == signature
    assert found.index_sum == 1
    assert found.unsettled == 0
    assert not found.leaves
    assert found.homoclinic_regions == 0
    assert found.residual.max() < 1e-10
    degenerate = found.degeneracy.values != ""
    assert (found.certified.values == ~degenerate).all()
    signs = np.sign(np.prod(found.eigenvalue.values, -1).real)
    assert (signs[~degenerate] == found.poincare_index.values[~degenerate]).all()


def test_homoclinic_regions_of_the_paper():
    one, two = (topology(gru_flow(**PAPER[name])) for name in ("4a", "4b"))
    assert (one.homoclinic_regions, two.homoclinic_regions) == (1, 2)
    # an elliptic sector more than hyperbolic ones raises the index by a half
    assert one.poincare_index.values[one.type.values == "codimension 2"] == [1]
    assert two.poincare_index.values[two.type.values == "codimension 2"] == [2]
    assert two.homoclinic_share.values[0] == two.homoclinic_share.values[1]  # mirror images
    for found, name in ((one, "4a"), (two, "4b")):
        assert found.index_sum == 1
        for start in torch.from_numpy(found.homoclinic_start.values):
            for sign in (1, -1):
                end = integrate(gru_flow(**PAPER[name]), start, sign * torch.tensor([500.0, 2000.0]).double())
                assert end[1].norm() < 0.4 * end[0].norm() < 4e-3


def test_a_start_of_the_paper_is_in_a_region_of_4b_only():
    start, time = torch.tensor([0.3, -0.3], dtype=torch.float64), torch.tensor([250.0], dtype=torch.float64)
    for name, backward in (("4a", False), ("4b", True)):
        forth, back = (
            integrate(gru_flow(**PAPER[name]), start, sign * time)[0].abs().max() for sign in (1, -1)
        )
        assert forth < 4e-3
        assert (back < 4e-3) == backward


def test_two_elliptic_sectors_that_share_their_border():
    # z' = z^2: circles through 0, above and below the real axis
    found = topology(Field(lambda x, y: x * x - y * y, lambda x, y: 2 * x * y))
    assert found.signature.item() == "1 codimension-2 point"
    assert found.poincare_index.item() == 2
    assert found.homoclinic_regions == 2
    assert sorted(np.sign(found.homoclinic_start.values[:, 1])) == [-1, 1]


def test_nearly_degenerate():
    # u^2 = mu: a saddle at sqrt(mu), and a sink or source at -sqrt(mu)
    for rate, kind in ((-1.0, "sink-saddle"), (1.0, "source-saddle")):
        field = Field(lambda x, y: x * x - 4e-4, lambda x, y, rate=rate: rate * y)
        found = topology(field)
        assert found.nearly.values.tolist() == [kind, kind]
        assert found.nearly_distance.values == pytest.approx(0.04, rel=1e-9)
        assert topology(field, near=0.005).nearly.values.tolist() == ["", ""]
    found = topology(gru_flow(**PAPER["3c"]))
    assert found.signature.item() == "2 sinks, 1 source, 2 saddles"
    assert found.nearly.values.tolist() == ["", "", "source-saddle", "source-saddle", ""]
    assert topology(gru_flow(**PAPER["2"])).nearly.values.tolist() == [""] * 9
    slow = topology(Field(lambda x, y: -0.02 * x - y, lambda x, y: x - 0.02 * y), duration=300)
    assert slow.nearly.values.tolist() == ["centre"]


def test_slow_points_are_reported():
    found = topology(gru_flow(**PAPER["7a"]))
    assert (found.signature.item(), found.slow_points.item()) == ("1 sink", 1)
    assert found.slow_speed.values == pytest.approx([2.632e-3], rel=0.01)
    gap = np.linalg.norm(found.slow_point.values[0] - found.point.values[0])
    assert found.slow_distance.item() == pytest.approx(gap)


def test_cycles_of_the_paper():
    found = topology(gru_flow(Uh=rotated(math.pi / 5)))
    assert found.signature.item() == "1 source, 1 stable cycle"
    assert found.cycle_period.values == pytest.approx([17.457965], abs=1e-4)
    assert topology(gru_flow(Uh=rotated(math.pi / 3))).signature.item() == "1 sink"
    long = topology(gru_flow(Uh=[[2.9665, -0.4471], [0.4471, 2.9665]]))  # Fig. 5C
    assert long.signature.item() == "1 source, 1 stable cycle"
    assert long.slow_type.values.tolist() == ["sink-saddle"] * 4
    # four bottlenecks are nearly all of the period
    assert long.slow_passage.values.sum() == pytest.approx(long.cycle_period.item(), rel=0.05)


def test_stable_and_unstable_cycles():
    # radii 1 and 2; both take 2 pi
    found = topology(polar(lambda q: 0.2 * (1 - q) * (q - 4)), (-3 * ONE, 3 * ONE))
    kinds = dict(zip(found.cycle_type.values.tolist(), found.cycle_point.values, strict=True))
    assert found.cycle_period.values == pytest.approx(2 * math.pi, rel=1e-8)
    assert np.linalg.norm(kinds["unstable"], axis=-1) == pytest.approx(1, abs=1e-8)
    assert np.linalg.norm(kinds["stable"], axis=-1) == pytest.approx(2, abs=1e-8)


def test_a_cycle_that_attracts_from_one_side_only():
    found = topology(polar(lambda q: -((1 - q) ** 2)), (-2 * ONE, 2 * ONE))
    assert found.signature.item() == "1 sink, 1 non-hyperbolic cycle"


def test_a_small_cycle():
    found = topology(Hopf(mu=1e-3, omega=1.0))
    assert found.signature.item() == "1 source, 1 stable cycle"
    assert np.linalg.norm(found.cycle_point.values[0], axis=-1) == pytest.approx(math.sqrt(1e-3), rel=1e-6)


def test_cycles_between_the_starts():
    def growth(q):
        inner, outer = q / 0.03**2, q / 0.06**2
        return 0.1 * (1 - inner) * (1 - outer) / ((1 + inner) * (1 + outer))

    found = topology(polar(growth), (-0.4 * ONE, 0.4 * ONE))
    assert found.signature.item() == "1 source, 1 stable cycle, 1 unstable cycle"
    radius = np.linalg.norm(found.cycle_point.values, axis=-1)
    assert sorted(radius.mean(-1)) == pytest.approx([0.03, 0.06], rel=1e-6)


def test_a_centre_has_no_limit_cycle():
    found = topology(Field(lambda x, y: y, lambda x, y: -x), duration=100)
    assert found.signature.item() == "1 centre"
    assert found.unsettled > 0


def test_a_line_attractor_is_no_point():
    found = topology(Field(lambda x, y: -x, lambda x, y: 0 * y), max_boxes=20_000)
    assert found.signature.item() == "1 undecided point"
    assert found.degeneracy.values.tolist() == ["extended"]
    assert found.residual.item() == 0
    assert found.unsettled == 0
    assert found.line_length.values == pytest.approx([2], abs=1e-3)


def test_a_ring_attractor():
    found = topology(
        Field(lambda x, y: (1 - x * x - y * y) * x, lambda x, y: (1 - x * x - y * y) * y),
        (-1.5 * ONE, 1.5 * ONE),
        max_boxes=50_000,
    )
    assert found.signature.item() == "1 source, 1 undecided point"
    assert found.line_closed.values.tolist() == [True]
    assert found.line_length.values == pytest.approx([2 * math.pi], rel=1e-3)
    assert found.line_curvature.values == pytest.approx([1], rel=1e-3)


def test_nothing_at_all():
    found = topology(Field(lambda x, y: 1 + 0 * x, lambda x, y: 0 * y))
    assert found.signature.item() == "nothing"
    assert (found.sizes["index"], found.index_sum, bool(found.leaves)) == (0, 0, True)


def test_maps():
    assert topology(TanhMap(2.0)).signature.item() == "4 sinks, 1 source, 4 saddles"
    circle = topology(NeimarkSacker(0.25, 1.0))
    assert circle.signature.item() == "1 source, 1 stable cycle"
    assert circle.cycle_period.values == pytest.approx([2 * math.pi], rel=1e-6)
    assert np.linalg.norm(circle.cycle_point.values[0], axis=-1) == pytest.approx(0.5, abs=1e-3)
    two = topology(Henon(0.5, 0.3), (-3 * ONE, 3 * ONE))  # beyond its period doubling at 0.3675
    assert two.signature.item() == "2 saddles, 1 stable cycle"
    assert two.cycle_period.values.tolist() == [2]
    chaos = topology(Henon(1.4, 0.3), (-2 * ONE, 2 * ONE))
    assert (chaos.cycles, chaos.unsettled > 0) == (0, True)
    turn = topology(Linear(torch.tensor([[0.0, -1.0], [1.0, 0.0]])))
    assert (turn.signature.item(), turn.cycles.item()) == ("1 centre", 0)


def test_map_and_flow_share_points_not_types():
    # -1.5 is stable for x' = F(x) - x and not for the map
    system = TanhMap(-1.5)
    assert topology(system).sinks == 0
    assert topology(ContinuousTime(system)).signature.item() == "1 sink"


def test_the_dataset_is_as_documented():
    found = topology(gru_flow(**PAPER["3b"]))
    assert found.sizes["index"] == 4
    for name in ("sinks", "sources", "saddles", "sink_saddles", "source_saddles", "codimension_2"):
        kind = name.rstrip("s").replace("_", "-") if name != "codimension_2" else "codimension 2"
        assert found[name] == (found.type == kind).sum()
    for axis, name in {
        "cycle": "cycles",
        "slow": "slow_points",
        "region": "homoclinic_regions",
        "line": "lines",
    }.items():
        assert found.sizes[axis] == found[name]


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        (gru_flow(Uh=torch.eye(3)), {}, "a state of 3 components"),
        (Lorenz(), {"box": (-torch.ones(3), torch.ones(3))}, "a state of 3 components"),
        (Lorenz(), {}, "give a box of the size of its state"),
        (Hopf(1.0, 1.0), {"box": (-ONE, ONE * math.inf)}, "give finite low < high"),
        (Hopf(1.0, 1.0), {"near": 0}, "near=0 is not possible"),
        (Hopf(1.0, 1.0), {"tolerance": 1.5}, "tolerance=1.5 is not possible"),
        (Hopf(1.0, 1.0), {"line_speed": -1}, "line_speed=-1 is not possible"),
        (Hopf(1.0, 1.0), {"duration": 0}, "duration=0 is not possible"),
        (Hopf(1.0, 1.0), {"starts": 0}, "starts=0 is not possible"),
    ],
)
def test_what_is_refused(system, options, message):
    with pytest.raises(ValueError, match=message):
        topology(system, **options)
