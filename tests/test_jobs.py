"""What makes two jobs the same, how a job keeps its place, and what is put down of it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf, open_dict

from rnnlab.cli import name_sweep
from rnnlab.jobs import config_hash, job_name, locked
from rnnlab.ledger import Ledger, logged, publish
from rnnlab.overview import count

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
TASKS = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))


def composed(*overrides):
    """A config as a job gets it: unresolved, with Hydra's own part."""
    GlobalHydra.instance().clear()
    setup_globals()
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def saved(cfg, run_dir):
    """The same as a run saves it and another one reads it."""
    own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    with open_dict(own):
        own.run_dir = run_dir
    OmegaConf.resolve(own)
    return OmegaConf.create(OmegaConf.to_yaml(own))


@pytest.mark.parametrize("task", TASKS)
def test_a_saved_config_is_of_the_same_job(task):
    found = {}
    for model in MODELS:
        cfg = composed(f"task={task}", f"model={model}", "logger=wandb", "callbacks=default")
        found[model] = config_hash(cfg)
        for run_dir in ("/somewhere/else", '/a "quoted" ünï place'):
            assert config_hash(saved(cfg, run_dir)) == found[model]
    assert len(set(found.values())) == len(MODELS)


@pytest.mark.parametrize(
    "override",
    ["threads=2", "logger=none", "run_dir=x", "ckpt_path=last", "trainer.enable_progress_bar=false"],
)
def test_bookkeeping_makes_no_other_job(override):
    assert config_hash(composed(override)) == config_hash(composed())


@pytest.mark.parametrize("override", ["launcher=joblib", "sweep=grid", "sweep=optuna"])
def test_who_runs_a_job_makes_no_other_job(override):
    assert job_name(composed(override)) == job_name(composed())


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "ensemble=2",
        "model.cell.hidden_size=65",
        "task.length=99",
        "optim.optimizer.lr=0.0100001",
        "trainer.max_epochs=3",
        "callbacks=none",
        "checkpoint.mode=max",
        "trainer=cpu",
        "callbacks.bifurcation.every=3",
    ],
)
def test_what_changes_results_makes_another_job(override):
    assert config_hash(composed(override)) != config_hash(composed())


def test_a_job_is_called_by_what_was_chosen():
    words = job_name(composed("model=ornn", "task=symbols", "seed=7")).split("_")
    assert words[:3] == ["ornn", "symbols", "seed7"]
    assert len(words[3]) == 8
    assert int(words[3], 16) >= 0
    begins = [job_name(composed(f"ckpt_path={name}")) for name in ("null", "last", "a.ckpt", "b.ckpt")]
    assert begins[0] == begins[1]
    assert len(set(begins)) == 3


HOLD = """
import sys
from pathlib import Path
from rnnlab.jobs import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_job_waits_for_one_in_another_process(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "job")]
    other = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    entered = threading.Event()

    def enter():
        with locked(tmp_path / "job"):
            entered.set()

    waiting = threading.Thread(target=enter, daemon=True)
    try:
        assert other.stdout.readline() == "held\n"
        waiting.start()
        with locked(tmp_path / "another"):  # which nobody holds
            assert not entered.wait(0.5)
        other.kill()  # however it ends, what it held is free
        assert entered.wait(60)
    finally:
        other.kill()
        other.communicate(timeout=60)
    waiting.join(60)


def test_all_that_a_job_prints_is_in_its_log(tmp_path, capfd, monkeypatch):
    early = os.fdopen(1, "w", closefd=False)  # as a logging handler keeps it
    monkeypatch.setattr(sys, "stdout", early)
    with logged(tmp_path / "job" / "log.txt", "job 0: seed=1"):
        print("by print")
        print("to errors", file=sys.stderr)
        early.write("by an older stream\n")
        os.write(1, b"by its descriptor\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True, timeout=60)
    print("afterwards", flush=True)
    assert capfd.readouterr().out == "afterwards\n"
    with logged(tmp_path / "job" / "log.txt", "job 0: seed=1"):
        print("again")
    lines = (tmp_path / "job" / "log.txt").read_text().splitlines()
    titles = [line for line in lines if line.startswith("---")]
    assert len(titles) == 2
    assert titles[0].endswith(" job 0: seed=1")
    said = {"by print", "to errors", "by an older stream", "by its descriptor", "by a child", "again"}
    assert {line for line in lines if line not in titles} == said


def test_a_log_is_closed_also_where_the_job_fails(tmp_path, capfd):
    with pytest.raises(ValueError, match="wrong"), logged(tmp_path / "log.txt", "job 0"):
        raise ValueError("wrong")
    print("heard")
    assert capfd.readouterr().out == "heard\n"


WRITE = """
import sys
from rnnlab.ledger import Ledger
ledger = Ledger(sys.argv[1])
for i in range(200):
    ledger.write(i % 3, state="running", overrides=["x=" + str(i) * (1 + i % 50)])
"""


def test_a_ledger_with_several_writers_is_never_torn(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT) for _ in range(2)]
    ledger, seen = Ledger(tmp_path), 0
    try:
        while any(writer.poll() is None for writer in writers):
            entries = ledger.read()
            there = [path for path in ledger.folder.glob("*.json") if path.stem.isdigit()]
            assert len(entries) <= len(there)
            for path in there:
                json.loads(path.read_text())
            seen += len(entries)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(60)
    assert seen
    assert [entry["job"] for entry in ledger.read()] == [0, 1, 2]
    assert not [path for path in ledger.folder.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_read_is_left_out_of_the_ledger(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.read() == []
    for job in (2, 10, 1):
        ledger.write(job, state="finished")
    (ledger.folder / "2.json").write_text('{"job": 2, "sta')
    (ledger.folder / "notes.json").write_text("{}")
    assert [entry["job"] for entry in ledger.read()] == [1, 10]
    assert [entry["job"] for entry in ledger.read(but={1})] == [10]
    ledger.clear()
    assert ledger.read() == []


def test_a_file_is_published_whole_or_not_at_all(tmp_path):
    publish(tmp_path / "a", "before")
    with pytest.raises(UnicodeEncodeError):
        publish(tmp_path / "a", "after \ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def named(*arguments):
    given = name_sweep(list(arguments))
    (place,) = [a.removeprefix("hydra.sweep.dir=") for a in given if a.startswith("hydra.sweep.dir=")]
    assert sorted(given) == sorted([*arguments, f"hydra.sweep.dir={place}"])
    return place


def test_a_sweep_is_called_by_its_command():
    base = named("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine")
    assert base.startswith("sweeps/model.lstm.ornn_seed.1.2-")
    for same in (
        ("seed=1,2", "experiment=ribeiro2020/sine", "--multirun", "model=lstm,ornn"),
        ("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine", "launcher=joblib"),
        ("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine", "hydra.launcher.n_jobs=3"),
        ("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine", "logger=none", "threads=2"),
        ("hydra.mode=MULTIRUN", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine"),
    ):
        assert named(*same) == base
    for other in (
        ("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/symbols"),
        ("-m", "model=lstm,ornn", "seed=1,2", "experiment=ribeiro2020/sine", "trainer.max_epochs=3"),
        ("-m", "model=lstm,ornn", "seed=1,2,3", "experiment=ribeiro2020/sine"),
    ):
        assert named(*other) != base


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "model=lstm"), "sweep"),
        (("-m",), "sweep"),
        (("-m", "sweep=optuna", "optim.optimizer.lr=tag(log,interval(1e-4, 1e-1))"), "optuna"),
        (("-m", "task.length=range(1,9)"), "task.length.range.1.9"),
        (("-m", 'logger.wandb.project="a b/c"', "model=lstm,gru"), "model.lstm.gru"),
        (("-m", "seed=" + ",".join(map(str, range(100)))), "seed." + ".".join(map(str, range(100)))),
    ],
)
def test_names_of_sweeps_are_short_and_plain(arguments, words):
    name = named(*arguments).removeprefix("sweeps/")
    head, _, digits = name.rpartition("-")
    assert head == words[:80]
    assert len(digits) == 6


def test_how_far_a_search_goes_makes_no_other_search():
    lr = "optim.optimizer.lr=interval(0.1,1)"
    names = {named("-m", "sweep=optuna", lr, f"hydra.sweeper.n_trials={n}") for n in (5, 50)}
    assert len(names) == 1
    assert named("-m", "sweep=optuna", lr, "hydra.sweeper.sampler.seed=2") not in names


@pytest.mark.parametrize("arguments", [("model=lstm",), ("-m", "hydra.sweep.dir=x"), ("--help",)])
def test_what_is_no_sweep_or_has_a_directory_stays(arguments):
    assert name_sweep(list(arguments)) == list(arguments)


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (("model=lstm,gru", "seed=1,2,3"), 6),
        (("seed=range(1,5)", "model=lstm"), 4),
        (("seed=1,2", "seed=1,2,3"), 3),
        (("model=glob(*)",), len(MODELS)),
        (("optim.scheduler.milestones=[1,2],[3,4]",), 2),
        (("sweep=symbols_table1",), 45),
        (("sweep=symbols_table1", "model=lstm", "seed=range(5)"), 25),
        (("sweep=orthogonal_lr", "hydra.sweeper.n_trials=7"), 7),
        ((), 1),
    ],
)
def test_how_many_jobs_a_sweep_will_have(arguments, jobs):
    simple = [a for a in arguments if not any(mark in a.split("=", 1)[1] for mark in (",", "("))]
    cfg = composed(*simple)
    OmegaConf.set_readonly(cfg.hydra, False)
    OmegaConf.set_readonly(cfg.hydra.overrides, False)
    with open_dict(cfg):
        cfg.hydra.overrides.task = [a for a in arguments if not a.startswith("hydra.")]
    with initialize_config_module("conf", version_base="1.3"):
        assert count(cfg) == jobs
