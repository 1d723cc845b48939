"""A run whose weights are known: its bifurcation has its epoch."""

import math
import sys

import pandas as pd
import pytest
import torch
import xarray as xr
import yaml

from rnnlab.runs import open_run
from rnnlab.studies import program, training_bifurcations
from rnnlab.studies.training_bifurcations import chosen, events, follow, probes, steps

TASK = {"_target_": "datamodules.Sine", "num_sequences": 4, "length": 10, "batch_size": 4, "num_probes": 3}
CELL = {"_target_": "rnnlab.cells.Elman", "_partial_": True, "hidden_size": 2}
MODEL = {"_target_": "rnnlab.model.RecurrentModel", "_partial_": True, "cell": CELL, "num_layers": 1}


def a_run(folder, sizes, gain=0.0, **config):
    """Kept checkpoints of r times a rotation by 0.7; without input r = 1 is a Neimark-Sacker bifurcation."""
    (folder / "checkpoints").mkdir(parents=True)
    text = yaml.safe_dump({"task": TASK, "model": MODEL, **config})
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    made = open_run(folder)
    network = made._make("model")(input_size=1, output_size=1)
    turn = torch.tensor([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    for epoch, r in sizes.items():
        with torch.no_grad():
            for name, parameter in network.cell.named_parameters():
                parameter.copy_(r * turn) if name == "weight_hh" else parameter.zero_()
            network.cell.weight_ih.fill_(gain)
        weights = {f"model.{name}": value for name, value in network.state_dict().items()}
        path = folder / "checkpoints" / f"epoch_{epoch:06d}.ckpt"
        torch.save({"state_dict": weights, "loops": {}}, path)
    return made


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["training_bifurcations", *map(str, arguments)])
    program.run(training_bifurcations.main)


def test_the_command_line_finds_the_bifurcation_at_its_epoch(tmp_path, monkeypatch, capsys):
    a_run(tmp_path / "run", {0: 0.5, 10: 0.875, 20: 1.125, 30: 1.125})
    out = tmp_path / "out"
    call(monkeypatch, tmp_path / "run", "--probe", "0,2", "--out", out, "--samples", 2, "--epochs", "5:30")
    table = pd.read_csv(out / "bifurcations.csv")
    assert table.probe.tolist() == [open_run(tmp_path / "run").task.probes().names[k] for k in (0, 2)]
    assert table.kind.tolist() == ["Neimark-Sacker"] * 2
    assert table.epoch.tolist() == pytest.approx([15, 15], abs=1e-5)
    assert table["unstable directions"].tolist() == ["0 to 2"] * 2
    assert table.criticality.tolist() == ["supercritical"] * 2
    assert table.angle.tolist() == pytest.approx([0.7] * 2, abs=1e-6)
    looks = pd.read_csv(out / "looks.csv")
    assert looks.knot_parameter.tolist() == [10, 20, 30] * 2
    assert (looks.found == 1).all()
    along = pd.read_csv(out / "steps.csv")
    assert along.epoch.min() == 10
    assert along.epoch.max() == 30
    assert ((along.modulus > 1 + 1e-6) == (along.unstable > 0)).all()
    assert {path.name for path in out.glob("*.png")} == {"probe_0.png", "probe_2.png"}
    printed = capsys.readouterr()
    assert "1 branches, 1 bifurcations, 0 losses; index sum other than 1 at 0 of 3 epochs" in printed.out
    assert "| 15.000 | Neimark-Sacker | supercritical | 0 to 2 | 0.7000 | -5.00e-01 |" in printed.out
    assert "knot" in printed.err


def test_nothing_to_tell_makes_an_empty_table(tmp_path, monkeypatch, capsys):
    a_run(tmp_path / "run", {0: 0.5, 10: 0.75})
    call(monkeypatch, tmp_path / "run", "--probe", "1", "--out", tmp_path / "out", "--samples", 0)
    assert "1 branches, 0 bifurcations, 0 losses" in capsys.readouterr().out
    assert (tmp_path / "out" / "steps.csv").is_file()


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ("", [10, 20, 30, 50]),
        ("15:", [20, 30, 50]),
        (":30", [10, 20, 30]),
        ("10:30", [10, 20, 30]),
        ("::20", [10, 30, 50]),
    ],
)
def test_epochs_are_those_kept_within(epochs, expected):
    assert chosen([10, 20, 30, 50], epochs) == expected


@pytest.mark.parametrize(
    ("sizes", "arguments", "message"),
    [
        ({}, (), "kept checkpoints of 0 epochs, two are needed: train with checkpoint.keep=10."),
        ({10: 0.5}, (), "kept checkpoints of 1 epochs"),
        ({10: 0.5, 20: 0.6}, ("--epochs", "15:40"), "--epochs=15:40 holds 1 kept checkpoints"),
        ({10: 0.5, 20: 0.6}, ("--epochs", "15"), "--epochs=15 is not possible"),
        ({10: 0.5, 20: 0.6}, ("--epochs", "a:b"), "--epochs=a:b is not possible"),
        ({10: 0.5, 20: 0.6}, ("--probe", "3"), "--probe=3 is not possible: give all, or numbers from 0 to 2"),
        ({10: 0.5, 20: 0.6}, ("--probe", "first"), "--probe=first is not possible"),
        ({10: 0.5, 20: 0.6}, ("--max-step", "3"), "max_step=3.0 is not possible"),
        ({10: 0.5, 20: 0.6}, ("--samples", "-1"), "samples=-1 is not possible"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, capsys, sizes, arguments, message):
    a_run(tmp_path / "run", sizes)
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, tmp_path / "run", "--out", tmp_path / "out", *arguments)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 1
    assert said.startswith("error: ")
    assert message in said


def test_no_run_and_ensembles_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path / "nowhere")
    assert "holds no run" in capsys.readouterr().err
    made = a_run(tmp_path / "run", {0: 0.5, 10: 0.75}, ensemble=3)
    with pytest.raises(ValueError, match="is the run of an ensemble"):
        follow(made, [0, 10], 0)


def test_each_probe_has_the_points_of_its_own_input(tmp_path):
    made = a_run(tmp_path, {0: 0.5, 10: 0.75}, gain=1.0)
    network, inputs = made.load(0).double(), made.task.probes().inputs
    for probe in (0, 2):
        x = torch.as_tensor(follow(made, [0, 10], probe).point.values[0, 0])
        with torch.no_grad():
            moved = [float((network.step(x, inputs[k]) - x).abs().max()) for k in (probe, 1)]
        assert moved[0] < 1e-12 < 1e-3 < moved[1]


def test_all_probes_are_all(tmp_path):
    assert probes(a_run(tmp_path, {}), "all") == [0, 1, 2]


def test_events_tell_losses_and_folds_too():
    y = ("phase", "observable")
    one = {"bifurcation_residual": 1e-16, "bifurcation_distance": 1e-15, "coefficient": 0.5}
    found = xr.Dataset(
        {name: ("bifurcation", [value]) for name, value in one.items()}
        | {
            "bifurcation_parameter": ("bifurcation", [7.5]),
            "bifurcation_type": ("bifurcation", ["saddle-node"]),
            "criticality": ("bifurcation", [""]),
            "unstable_before": ("bifurcation", [-1]),
            "unstable_after": ("bifurcation", [0]),
            "angle": ("bifurcation", [math.nan]),
            "bifurcation_y": (("bifurcation", *y), [[[0.25]]]),
            "bifurcation_branch": ("bifurcation", [1]),
            "lost_parameter": ("lost", [3.0]),
            "lost_y": (("lost", *y), [[[9.0]]]),
            "lost_branch": ("lost", [0]),
            "lost_reason": ("lost", ["step too small"]),
        }
    )
    table = events(found)
    assert table.kind.tolist() == ["lost: step too small", "saddle-node"]
    assert table["unstable directions"].tolist() == ["", "none to 0"]
    assert table.y.tolist() == [9.0, 0.25]
    assert table.branch.tolist() == [0, 1]
    assert events(found.isel(bifurcation=slice(0), lost=slice(0))).empty


def test_steps_leave_the_padding_out():
    on = ("branch", "step")
    found = xr.Dataset(
        {
            "parameter": (on, [[0.0, 1.0], [2.0, math.nan]]),
            "unstable": (on, [[0, 2], [1, -1]]),
            "modulus": (on, [[0.5, 1.5], [2.0, math.nan]]),
            "angle_leading": (on, [[0.0, 0.3], [0.1, math.nan]]),
            "y": ((*on, "phase", "observable"), torch.arange(8.0).view(2, 2, 1, 2)),
        }
    )
    table = steps(found)
    assert table.epoch.tolist() == [0, 1, 2]
    assert table.branch.tolist() == [0, 0, 1]
    assert table.y1.tolist() == [1, 3, 5]
