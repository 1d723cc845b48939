"""The atlas: what is certified of the paper's 36 cases, and what its tables say."""

import numpy as np
import pytest
import torch

from rnnlab.analysis import certified_fixed_points, fixed_points
from rnnlab.analysis.topology import topology
from rnnlab.gru_flow import gru_flow
from rnnlab.integrate import integrate
from rnnlab.studies.gru_atlas import corrections, table
from rnnlab.studies.gru_atlas.cases import NAMES, TYPES, cases, flow, portraits
from rnnlab.systems import jacobian

CASES = cases()
CORRECTED = table.corrected()
DEGENERATE = {"iv": 3, "v": 1, "xv": 3, "xviii": 1}  # exactly so as printed: clusters left undecided
SIMPLE = {  # sinks, sources, saddles
    "ii": (2, 0, 1),
    "ix": (2, 1, 2),
    "x": (3, 0, 2),
    "xxii": (3, 1, 3),
    "xxiii": (2, 2, 3),
    "xxxi": (4, 1, 4),
    "xxxiii": (5, 0, 4),
    "xxxvi": (5, 1, 5),
}


def types(found):
    kind = found.kind.values
    stable, saddle = np.char.startswith(kind, "stable"), kind == "saddle"
    return int(stable.sum()), int((~stable & ~saddle).sum()), int(saddle.sum())


def test_the_tables_are_whole():
    assert len(CASES) == 36
    assert len(portraits()) == 11
    assert all(len(case.printed) == len(NAMES) for case in (*CASES.values(), *portraits().values()))
    # numbers that stand in two tables of the paper agree
    same = {"2": "xxxi", "3a": "xxxvi", "3b": "iv", "3c": "vi"}
    assert all(portraits()[a].printed == CASES[b].printed for a, b in same.items())


def test_the_fields_are_those_of_equations_10_and_11():
    case, x, y = CASES["xxviii"], 0.3, -0.2
    p = dict(zip(NAMES, case.parameters, strict=True))
    first = x / (1 + np.exp(-(p["Ur11"] * x + p["Ur12"] * y + p["br1"])))
    second = y / (1 + np.exp(-(p["Ur21"] * x + p["Ur22"] * y + p["br2"])))
    expected = [
        -0.5 * (x - np.tanh(p["Uh11"] * first + p["Uh12"] * second + p["bh1"])),
        -0.5 * (y - np.tanh(p["Uh21"] * first + p["Uh22"] * second + p["bh2"])),
    ]
    velocity = case.field().velocity(torch.tensor([x, y], dtype=torch.float64))
    assert velocity.tolist() == pytest.approx(expected, rel=1e-14)


def test_rounding_is_half_a_unit_of_the_last_place():
    case = CASES["xxv"]  # 2 0 0 3 12.4 11.6 -8 -5 0 0 1.8 7
    assert dict(zip(NAMES, case.rounding, strict=True))["Ur12"] == pytest.approx(0.05)
    assert case.rounding[[0, 1, 6, 11]].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", CASES)
def test_the_finder_finds_what_is_certified_and_nothing_else(name):
    field = CASES[name].field()
    proved = certified_fixed_points(field)
    assert proved.undecided == DEGENERATE.get(name, 0)
    axis = torch.linspace(-1, 1, 12, dtype=torch.float64)
    found = fixed_points(field, torch.cartesian_prod(axis, axis), iterations=0).point.values
    degenerate = [
        ((found > low - 1e-5) & (found < high + 1e-5)).all(-1)
        for low, high in zip(proved.undecided_low.values, proved.undecided_high.values, strict=True)
    ]
    # the finder takes degenerate points for one where a singular matrix can't tell them apart
    assert sum(inside.any() for inside in degenerate) >= min(1, proved.undecided)
    simple = found[~np.any(degenerate, 0)] if degenerate else found
    assert len(simple) == proved.certified
    apart = np.linalg.norm(simple[:, None] - proved.point.values, axis=-1)
    assert (apart.min(0, initial=1.0) < 1e-10).all()
    if not proved.undecided:
        assert proved.index_sum == 1


@pytest.mark.parametrize("name", SIMPLE)
def test_rows_of_simple_points_come_out_as_published(name):
    found = certified_fixed_points(CASES[name].field())
    assert found.complete
    assert types(found) == SIMPLE[name]
    assert tuple(CASES[name].counts[kind] for kind in TYPES[:3]) == SIMPLE[name]


def test_coordinates_of_figures_2_and_3a():
    def has(name, place, kind):
        found = certified_fixed_points(portraits()[name].field())
        apart = np.abs(found.point.values - place).max(-1)
        return apart.min() < 1e-8 and found.kind.values[apart.argmin()] == kind

    sink = 0.858559636640  # h = tanh(3 h / 2)
    assert np.tanh(1.5 * sink) == pytest.approx(sink, abs=1e-11)
    assert all(has("2", (a * sink, b * sink), "stable node") for a in (-1, 1) for b in (-1, 1))
    assert has("3a", (0.957504019020, 0.957504019020), "stable node")
    assert has("3a", (-0.376643574430, -0.376643574430), "saddle")


@pytest.mark.parametrize("name", ["3b", "4a", "4b"])
def test_degenerate_points_are_never_simple_roots(name):
    field = portraits()[name].field()
    proved = certified_fixed_points(field)
    origin = (proved.undecided_low.values <= 0).all(-1) & (proved.undecided_high.values >= 0).all(-1)
    assert origin.sum() == 1
    assert not (np.abs(proved.point.values) < 1e-3).all(-1).any()
    assert (jacobian(field, torch.zeros(2, dtype=torch.float64)) == 0).all()


@pytest.mark.parametrize(
    "name", ["iv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("v", "xviii"))]
)
def test_topology_gives_degenerate_rows_as_published(name):
    assert corrections.agrees(topology(CASES[name].field()), CASES[name].counts)


def test_case_xv_has_three_points_with_a_cubic_term_where_six_are_published():
    # y' = (tanh(y) - y) / 2, whatever x: a triple root at 0
    found = topology(CASES["xv"].field())
    assert found.degeneracy.values.tolist() == ["cubic"] * 3
    assert found.signature == "2 sinks, 1 saddle"
    assert sum(CASES["xv"].counts.values()) == 6


def test_published_indices_add_up_to_one_but_for_two_rows():
    assert {name for name, case in CASES.items() if table.index_sum(case.counts) != 1} == {"xi", "xxiv"}


def test_figure_7_one_fixed_point_and_how_long_the_slow_point_holds():
    field = portraits()["7a"].field()
    proved = certified_fixed_points(field)
    assert proved.complete
    assert types(proved) == (1, 0, 0)
    time = torch.linspace(0, 30, 3001, dtype=torch.float64)
    path = integrate(field, torch.tensor([-0.5, -0.5], dtype=torch.float64), time).numpy()
    near = np.linalg.norm(path - proved.point.values[0], axis=-1) < 0.05
    assert time[near.argmax()] == pytest.approx(21.48, abs=0.02)
    assert topology(field).slow_speed.values.min() == pytest.approx(2.632e-3, rel=0.01)


def test_figure_4_homoclinic_regions():
    start, times = torch.tensor([[0.3, -0.3]], dtype=torch.float64), torch.linspace(0, 250, 251).double()

    def nearest(name, sign):
        return integrate(portraits()[name].field(), start, sign * times).norm(dim=-1).min().item()

    assert nearest("4b", 1) < 4e-3
    assert nearest("4b", -1) < 4e-3
    assert nearest("4a", 1) < 0.03
    assert nearest("4a", -1) > 0.1


def test_a_collision_of_known_parameters_is_found():
    # x = tanh(3 x / 2 + b) has a double root where 1.5 (1 - x^2) = 1; y = tanh(y / 2) only 0
    x = 1 / np.sqrt(3)
    exact = np.arctanh(x) - 1.5 * x
    parameters = np.zeros(12)
    parameters[[0, 3, 8]] = 3.0, 1.0, exact + 0.01
    only_bh1 = np.where(np.array(NAMES) == "bh1", 1.0, 0.0)
    solved = corrections.collide(
        torch.from_numpy(parameters), torch.tensor([[0.5, 0.0]]).double(), torch.from_numpy(only_bh1)
    )
    assert solved is not None
    near, where, residual = solved
    assert near[8].item() == pytest.approx(exact, abs=1e-12)
    assert where.numpy() == pytest.approx(np.array([[x, 0]]), abs=1e-7)
    assert residual < 1e-12
    assert (np.delete(near.numpy(), 8) == np.delete(parameters, 8)).all()


def test_of_two_parameters_the_nearest_point_of_the_curve_is_taken():
    parameters = np.zeros(12)
    parameters[[0, 3, 8]] = 3.0, 1.0, 0.2
    free = np.isin(np.array(NAMES), ["Uh11", "bh1"]).astype(float)
    solved = corrections.collide(
        torch.from_numpy(parameters), torch.tensor([[-0.5, 0.0]]).double(), torch.from_numpy(free)
    )
    assert solved is not None
    # the curve: a (1 - x^2) = 1, b = artanh x - a x, with a = Uh11 / 2; nearest by brute force
    grid = -np.linspace(0.01, 0.95, 2_000_001)
    a = 1 / (1 - grid**2)
    distance = np.hypot(2 * a - 3, np.arctanh(grid) - a * grid - 0.2)
    best = distance.argmin()
    assert solved[0][[0, 8]].numpy() == pytest.approx(
        [2 * a[best], np.arctanh(grid[best]) - a[best] * grid[best]], abs=1e-5
    )


def test_without_a_collision_there_is_no_correction():
    parameters = torch.zeros(12, dtype=torch.float64)  # dh/dt = -h / 2, and Uh stays 0
    scale = torch.tensor([0.0] * 8 + [1.0] * 4, dtype=torch.float64)
    assert corrections.collide(parameters, torch.tensor([[0.1, 0.2]]).double(), scale) is None


@pytest.mark.parametrize("name", CORRECTED)
def test_corrected_parameters_are_near_the_printed_ones_and_hold_the_row(name):
    near, case = CORRECTED[name], CASES[name]
    printed = corrections.readings(case)[near.reading] if near.reading else case.parameters
    change = np.abs(near.parameters - printed)
    assert change.max() == pytest.approx(near.change, rel=0.01, abs=1e-300)
    assert near.within == bool((change <= case.rounding).all())
    # the simple points of the row are proved, and what is left are as many places as it has collisions
    found = certified_fixed_points(near.field())
    assert types(found) == tuple(near.counts[kind] for kind in TYPES[:3])
    assert found.undecided == sum(near.counts[kind] for kind in TYPES[3:])
    attracting = 0
    for low, high in zip(found.undecided_low.values, found.undecided_high.values, strict=True):
        assert (high - low).max() < 1e-4
        matrix = jacobian(near.field(), torch.from_numpy((low + high) / 2))
        assert abs(torch.linalg.det(matrix)) < 1e-4
        attracting += int(matrix.trace() < 0)
    assert attracting == near.counts["sink_saddles"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRECTED)
def test_topology_gives_the_row_at_corrected_parameters(name):
    assert corrections.agrees(topology(CORRECTED[name].field()), CORRECTED[name].counts)


def test_slips_are_single_ones():
    slips = corrections.readings(CASES["xxxiv"])
    printed = CASES["xxxiv"].parameters
    changed = {name: np.array(NAMES)[row != printed].tolist() for name, row in slips.items()}
    assert changed["Uh11 = 2, Uh22 = 2"] == ["Uh11", "Uh22"]
    assert max(map(len, changed.values())) == 2
    assert changed["br1 = -4.4"] == ["br1"]


def test_words_and_verdicts():
    case = CASES["xxiv"]
    found = topology(case.field())
    assert table.words(table.counts(found)) == "4 sinks, 3 saddles"
    assert "indices of its points add up to 7" in table.verdict(case, found, None)
    good = CASES["ix"]
    assert table.verdict(good, topology(good.field()), None) == "as published"


def test_field_of_a_case_is_that_of_its_numbers():
    assert (flow(torch.from_numpy(CASES["i"].parameters)).Ur == 100).all()
    assert gru_flow(Uh=CASES["i"].field().Uh).bh.tolist() == [0, 0]
