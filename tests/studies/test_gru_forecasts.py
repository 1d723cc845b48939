"""What the study of trained forecasters says of systems whose dynamics are known."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

import train
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM
from rnnlab.maps import Hopf
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run
from rnnlab.studies import program
from rnnlab.studies.gru_forecasts import __main__ as study
from rnnlab.studies.gru_forecasts import dynamics, members
from rnnlab.studies.gru_forecasts.dynamics import keeping, target_of, turning
from rnnlab.studies.gru_forecasts.members import fixed_points, signature
from rnnlab.studies.gru_forecasts.tables import topologies
from rnnlab.studies.gru_forecasts.units import GatedUnits


def s(*values):
    return torch.tensor(values, dtype=torch.float64)


class Map:
    """A map by its function; what is observed is twice the first and half the second component."""

    def __init__(self, step):
        self.step = step

    def observe(self, x):
        return x * s(2.0, 0.5)


class Field:
    def __init__(self, velocity):
        self.velocity = velocity


def network(Uh, *, gate=(0.0, 0.0), hidden_size=2):
    """Two units whose reset gates are 1/2, with update gates that do not depend on the state."""
    model = RecurrentModel(2, 2, partial(GRU, hidden_size=hidden_size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cell.U[4:] = torch.tensor(Uh)
        model.cell.b[2:4] = torch.tensor(gate)
        model.readout.weight += torch.eye(2)
    return freeze(model)


# what is kept


def test_a_line_of_fixed_points_keeps_what_it_is_given():
    line = Map(lambda x: x * s(0.5, 1.0))
    found = keeping(
        line, torch.stack((torch.ones(9), torch.linspace(-2, 2, 9)), -1).double(), settle=60, steps=50
    )
    assert found["drift_largest"] < 1e-15
    assert found["kept"] == 1
    assert math.isinf(found["retention_shortest"])


def test_a_drift_is_measured_in_what_is_observed_and_member_by_member():
    speed = s(0.0, 0.01, 0.03)[:, None, None] * s(1.0, 0.0)  # observed twice as fast
    found = keeping(Map(lambda x: x + speed), torch.zeros(3, 4, 2).double(), settle=5, steps=40)
    assert found["drift_median"] == pytest.approx([0, 0.02, 0.06])
    assert found["retention_shortest"].tolist() == [math.inf, 6, 2]  # 0.12 of 0.02 each, 0.12 of 0.06 each
    assert found["kept"].tolist() == [1, 0, 0]


def test_some_are_kept_and_others_are_not():
    def step(x):  # only above 1 do states move
        return torch.where(x > 1, x + 0.2, x)

    x = torch.stack((torch.zeros(4), s(0.0, 0.5, 0.9, 1.5)), -1)
    found = keeping(Map(step), x, settle=0, steps=10)
    assert (found["kept"], found["retention_shortest"], found["retention_median"]) == (0.75, 2, math.inf)


# what turns


def turn(angle, radius=3.0):
    """The circle attracts, and turns by an angle at each step."""

    def step(x):
        size = x.norm(dim=-1, keepdim=True)
        c, d = math.cos(angle), math.sin(angle)
        return (x @ s([c, d], [-d, c])) * (size + radius) / (2 * size)

    return Map(step)


@pytest.mark.parametrize(
    ("angle", "motion", "period"), [(0.17, "torus", 2 * math.pi / 0.17), (2 * math.pi / 5, "periodic", 5.0)]
)
def test_a_turning_circle_has_its_period_and_its_size(angle, motion, period):
    found = turning(turn(angle), s([1.0, 0.0], [0.0, 0.1]), burn_in=100, record=2000)
    assert found["oscillates"] == 1
    assert found["motion"] == motion
    assert found["period"] == pytest.approx(period, rel=1e-6)
    if motion == "torus":
        assert [found["amplitude_1"], found["amplitude_2"]] == pytest.approx([6.0, 1.5], rel=1e-4)


def test_rest_and_what_only_creeps_are_no_oscillation():
    def step(x):  # the first member falls to rest, the second creeps on for ever
        return torch.stack((0.5 * x[0], x[1] + 1e-4))

    found = turning(Map(step), torch.ones(2, 3, 2).double(), burn_in=100, record=500)
    assert found["oscillates"].tolist() == [0, 0]
    assert found["rests"].tolist() == [1, 0]
    assert np.isnan(found["period"]).all()
    assert found["motion"].tolist() == ["", ""]


# what was to be learned


def test_targets_are_told_by_where_their_solutions_end():
    one = torch.ones(2, dtype=torch.float64)
    line = target_of(Field(lambda x: x * s(-1.0, 0.0)), -2 * one, 2 * one)
    assert line.kind == "continuum"
    assert line.ends[:, 0].abs().max() < 1e-9
    assert line.ends[:, 1].abs().max() > 1.9
    wells = target_of(Field(lambda x: torch.stack((x[..., 0] - x[..., 0] ** 3, -x[..., 1]), -1)), -one, one)
    assert wells.kind == "points"
    assert math.isnan(wells.period)
    cycle = target_of(Hopf(mu=1.0, omega=3.0), -one, one)
    assert cycle.kind == "cycle"
    assert cycle.period == pytest.approx(2 * math.pi / 3)
    assert cycle.amplitude.tolist() == pytest.approx([1, 1], rel=1e-5)
    assert cycle.curve.norm(dim=-1).tolist() == pytest.approx([1] * len(cycle.curve))


@pytest.mark.parametrize(
    ("velocity", "said"),
    [(lambda x: x + x**3, "run to infinity"), (lambda x: x.flip(-1) * s(1.0, -1.0), "on 0 stable cycles")],
)
def test_fields_without_an_attractor_are_refused(velocity, said, monkeypatch):
    monkeypatch.setattr(dynamics, "STARTS", 2)
    one = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=said):
        target_of(Field(velocity), -one, one)


# units


def random_networks(count):
    return [freeze(RecurrentModel(2, 2, partial(GRU, hidden_size=2))) for _ in range(count)]


def test_units_side_by_side_are_the_networks_one_by_one():
    networks = random_networks(3)
    units, x = GatedUnits.of(networks), torch.randn(3, 5, 2).double()
    for one, states, image, told in zip(networks, x, units.step(x), units.observe(x), strict=True):
        system = HeldInput(one, torch.zeros(2).double())
        torch.testing.assert_close(image, system.step(states))
        torch.testing.assert_close(told, system.observe(states))


def test_half_open_units_have_a_gate_of_one_half():
    networks = random_networks(2)
    units, x = GatedUnits.of(networks), torch.randn(2, 5, 2).double()
    moved, half = units.step(x) - x, units.half_open().step(x) - x
    torch.testing.assert_close(moved, 2 * units.gate(x) * half)
    assert (units.half_open().gate(x) == 0.5).all()


def test_units_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="cells of type LSTM are not possible"):
        GatedUnits.of([RecurrentModel(2, 2, partial(LSTM, hidden_size=2))])


# fixed points


def test_two_bistable_units_have_four_sinks():
    found = fixed_points(network([[3.0, 0.0], [0.0, 3.0]]))
    for name in ("map_type", "flow_type", "half_open_type"):
        assert signature([*found[name].values], cycle=False) == "4 sinks, 1 source, 4 saddles"
    sinks = found.point.values[found.map_type.values == "sink"]
    np.testing.assert_allclose(np.abs(sinks), 0.858559636640, atol=1e-10)


def rotation(cosine):
    sine = math.sqrt(1 - cosine**2)
    return [[3 * cosine, -3 * sine], [3 * sine, 3 * cosine]]


@pytest.mark.parametrize(
    # with the gate z the map has the eigenvalues 1 + z (1.5 e^ia - 1), the flow z (1.5 e^ia - 1)
    ("cosine", "gate", "types"),
    [
        (0.5, 0.0, ("source", "sink", "sink")),
        (0.2, 0.0, ("sink", "sink", "sink")),
        (0.7, 0.0, ("source", "source", "source")),
        (0.5, -4.0, ("sink", "sink", "sink")),
    ],
)
def test_a_sink_of_the_flow_may_be_a_source_of_the_map(cosine, gate, types):
    found = fixed_points(network(rotation(cosine), gate=(gate, gate)))
    assert found.sizes["index"] == 1
    assert tuple(str(found[f"{name}_type"].values[0]) for name in ("map", "flow", "half_open")) == types


def test_the_update_gate_turns_a_sink_into_a_source():
    # J = diag(z) (A - I) with trace z1 / 2 - 0.7 z2: below 0 where the gates are equal
    odds = math.log(9.0)  # z = 0.9 and 0.1
    found = fixed_points(network([[3.0, -2.0], [2.0, 0.6]], gate=(odds, -odds)))
    origin = int(np.abs(found.point.values).sum(-1).argmin())
    assert found.flow_type.values[origin] == "source"
    assert found.half_open_type.values[origin] == "sink"
    assert found.sign.values[origin] == 1


def test_fixed_points_are_known_where_the_gate_is_all_but_shut():
    found = fixed_points(network([[3.0, 0.0], [0.0, 3.0]], gate=(-25.0, -20.0)))
    assert signature([*found.map_type.values], cycle=False) == "4 sinks, 1 source, 4 saddles"
    gates = 1 / (1 + math.exp(25.0)), 1 / (1 + math.exp(20.0))
    source = np.sort(found.border.values[found.map_type.values == "source"][0])
    np.testing.assert_allclose(source, np.array(gates) / 2, rtol=1e-6)  # z (3 / 2 - 1)


def test_what_rounding_hides_is_undecided():
    border = np.array([[0.5, 1e-14], [-0.1, -1e-9], [1e-17, 1e-17], [-1e-20, -2e-20]])
    rate = np.array([[0.5, 1e-14], [-0.1, -1e-9], [1e-17 + 1j, 1e-17 - 1j], [-1e-20, -2e-20]])
    assert members._types(border, rate).tolist() == ["undecided", "sink", "undecided", "sink"]


def test_topologies_are_counted_run_by_run():
    rows = pd.DataFrame(
        {
            "run": ["a", "a", "b"],
            "signature": ["1 sink", "2 sinks, 1 saddle", "1 sink"],
            "flow_signature": ["1 sink", "1 sink", "1 source"],
            "half_open_signature": ["1 sink", "1 sink", "1 sink"],
        }
    )
    assert topologies(rows).values.tolist() == [
        ["a", "1 sink", 1, 2, 2],
        ["a", "2 sinks, 1 saddle", 1, 0, 0],
        ["b", "1 sink", 1, 0, 1],
        ["b", "1 source", 0, 1, 0],
    ]


# the whole


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with small finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    common = ("callbacks=none", "logger=none", "trainer=cpu", "trainer.max_epochs=2", "task.num_sequences=40")
    for name, *options in (
        ("line", "experiment=jordan2019/line_attractor", "ensemble=2", "seed=7"),
        ("oscillator", "experiment=jordan2019/fitzhugh_nagumo"),
        ("wide", "experiment=jordan2019/line_attractor", "model.cell.hidden_size=3"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["train.py", *options, *common, f"run_dir={name}"])
            train.main()
    return folder


@pytest.fixture
def short(monkeypatch):
    """No long runs, and few series."""
    monkeypatch.setattr(members, "FRESH", 50)
    monkeypatch.setattr(members, "STEPS", {"burn_in": 50, "record": 200})
    monkeypatch.setattr(members, "TIMES", {"burn_in": 20, "record": 50})


@pytest.mark.slow
def test_the_study_writes_tables_and_pictures(runs, short, tmp_path, capsys):
    study.main([str(runs / "line"), str(runs / "oscillator"), "--out", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "members.csv")
    assert rows[["run", "seed"]].values.tolist() == [["line", 7], ["line", 8], ["oscillator", 1]]
    run = open_run(runs / "line")
    inputs, targets = run.task.sequences("val")
    outputs = run.load("last")(inputs)[0].detach()
    losses = (outputs - targets[:, None]).square().sum(-1).mean((0, 2))
    assert rows.val_loss[:2].tolist() == pytest.approx(losses.tolist(), rel=1e-5)
    assert (rows.index_sum == 1).all()
    assert rows.drift_median.notna().tolist() == [True, True, False]
    targets = pd.read_csv(tmp_path / "targets.csv")
    assert targets.target.tolist() == ["continuum", "cycle"]
    assert targets.period[1] == pytest.approx(36.979, abs=1e-3)
    assert targets.forced_period[1] == pytest.approx(36.22, abs=0.3)  # noise hurries it, by 2 %
    counts = pd.read_csv(tmp_path / "topologies.csv")
    assert counts.groupby("run")[["map", "flow", "flow, z = 1/2"]].sum().values.tolist() == [[2] * 3, [1] * 3]
    said = capsys.readouterr().out
    assert said.count("| run |") == 2
    for name in ("forecasts", "distributions", "members_line", "members_oscillator"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        program.run(partial(study.main, [*map(str, arguments)]))
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_is_no_such_run_is_refused_in_one_line(runs, tmp_path, capsys):
    assert "holds no run" in refusal(capsys, tmp_path)
    said = refusal(capsys, runs / "wide")
    assert "has a GRU with hidden_size=3, reset=before" in said
    assert "model.cell.hidden_size=2" in said
    assert "give each another name" in refusal(capsys, runs / "line", runs / "line")
    config = OmegaConf.load(runs / "line" / "config.yaml")
    config.task = OmegaConf.load(Path(train.__file__).parent / "conf" / "task" / "sine.yaml")
    OmegaConf.save(config, tmp_path / "config.yaml")
    assert "is a run of a Sine, which has no planar field" in refusal(capsys, tmp_path)
