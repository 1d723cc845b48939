"""A language run from beginning to end: what is logged, and that stopping and sharing change nothing."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

import train
from rnnlab.autonomous import freeze
from rnnlab.learner import SequenceLearner
from rnnlab.runs import open_run, open_sweep
from tests.corpora import write_corpus
from tests.languages import numbered

ROOT = Path(__file__).parents[1]
# the paper's experiment on a text of a moment; words per column of 7 leave a shorter last batch
SMALL = (
    "experiment=ribeiro2020/wikitext2",
    "task.allow_other_corpus=true",
    "task.batch_size=4",
    "task.eval_batch_size=4",
    "task.steps=7",
    "model.cell.hidden_size=6",
    "model.embedding_size=6",
    "optim.optimizer.lr=0.01",
    "logger=none",
)
PLAIN = (*SMALL, "callbacks=none")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("texts"))


@pytest.fixture
def cli(monkeypatch, capfd, tmp_path, texts):
    """Calls `train.py` with arguments, in an empty directory; gives exit code and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*arguments):
        GlobalHydra.instance().clear()
        where = () if "ckpt_path=last" in arguments else (f"task.data_dir={texts}",)
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *where])
        capfd.readouterr()
        code = 0
        try:
            train.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capfd.readouterr().err

    return call


def start(*arguments, cwd):
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def kill_after(process, metrics, rows):
    """Kill a run and its children by SIGKILL within the epoch after so many."""
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > rows):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def weights(run_dir, checkpoint="last"):
    return torch.load(run_dir / "checkpoints" / f"{checkpoint}.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(one, other, **tolerance):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance or {"rtol": 0, "atol": 0})


def assert_same_results(one, other):
    assert_same_weights(one, other)
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


def nats_word_by_word(run_dir, checkpoint, path, columns):
    """Mean cross entropy over a text, one word at a time, in float64."""
    run = open_run(run_dir)
    model = freeze(run.load(checkpoint))
    assert model.readout.weight is model.encoder.weight
    text = numbered(path, run.vocabulary)
    before = [run.vocabulary.index("<eos>"), *text]
    length = math.ceil(len(text) / columns)
    total = 0.0
    for i, word in enumerate(text):
        if i % length == 0:
            x = torch.zeros(1, model.state_size, dtype=torch.float64)
        x = model.step(x, torch.tensor([before[i]]))
        total -= model.read(x).log_softmax(-1)[0, word].item()
    return total / len(text)


@pytest.mark.parametrize("model", ["lstm", "slstm", "ornn"])
def test_perplexities_are_those_of_all_words(cli, tmp_path, texts, model):
    code, err = cli(*PLAIN, f"model={model}", "trainer.max_epochs=3", "run_dir=run")
    assert code == 0, err
    run = open_run(tmp_path / "run")
    count = len(numbered(texts / "valid.txt", run.vocabulary))
    assert count % 4  # the last column is not full
    assert math.ceil(count / 4) % 7  # nor the last batch
    nats = nats_word_by_word(tmp_path / "run", "last", texts / "valid.txt", 4)
    last = run.metrics.loc[3]
    assert last["val/cross_entropy"] == pytest.approx(nats, rel=1e-5)
    assert last["val/perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)
    nats = nats_word_by_word(tmp_path / "run", "best", texts / "test.txt", 4)
    assert run.metrics["test/perplexity"].dropna().item() == pytest.approx(math.exp(nats), rel=1e-5)
    assert run.metrics["val/perplexity"].iloc[-1] < run.metrics["val/perplexity"].iloc[0]
    saved = weights(tmp_path / "run")
    assert torch.equal(saved["model.encoder.weight"], saved["model.readout.weight"])


def test_a_run_stops_after_the_first_epoch_below_the_last_rate(cli, tmp_path):
    # after the first epoch nothing is improvement enough, and the rate falls from epoch to epoch
    options = ("optim.scheduler.patience=0", "+optim.scheduler.threshold=0.99", "optim.optimizer.lr=1e-3")
    code, err = cli(*PLAIN, *options, "trainer.max_epochs=20", "run_dir=run")
    assert code == 0, err
    rates = open_run(tmp_path / "run").metrics["lr"].dropna()
    assert rates.tolist() == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])


class Stop(Exception):
    pass


def test_going_on_equals_never_having_stopped(cli, tmp_path, monkeypatch):
    # the rate falls early, and an epoch reads half of the text
    options = ("optim.scheduler.patience=0", "+optim.scheduler.threshold=0.5", "task.epochs_per_pass=2")
    options += ("trainer.max_epochs=4",)
    code, err = cli(*PLAIN, *options, "run_dir=whole")
    assert code == 0, err
    step = SequenceLearner.training_step
    places = [(1, 0), (2, 3)]  # between epochs, then within one

    def stop(self, given, batch_idx):
        if places and (self.current_epoch, batch_idx) == places[0]:
            places.pop(0)
            raise Stop
        return step(self, given, batch_idx)

    monkeypatch.setattr(SequenceLearner, "training_step", stop)
    arguments = (*PLAIN, *options, "run_dir=parts")
    for epoch in (1, 2):
        assert cli(*arguments)[0] == 1
        assert open_run(tmp_path / "parts").metrics.index.max() == epoch
        torch.manual_seed(99)  # the random stream is that of the checkpoint, not of this process
        arguments = ("run_dir=parts", "ckpt_path=last")
    code, err = cli(*arguments)
    assert code == 0, err
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


LOOKS = (
    "callbacks=[bifurcation,words]",
    "callbacks.bifurcation.every=1",
    "callbacks.bifurcation.steps=5",
    "callbacks.bifurcation.max_burn_in=16",
    "callbacks.words.steps=20",
)


def test_looking_changes_no_run(cli, tmp_path):
    code, err = cli(*SMALL, *LOOKS, "trainer.max_epochs=1", "run_dir=watched")
    assert code == 0, err
    run = open_run(tmp_path / "watched")
    assert all(run.analysis(name).epoch.values.tolist() == [0, 1] for name in ("bifurcation", "words"))
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=plain")[0] == 0
    assert_same_weights(tmp_path / "watched", tmp_path / "plain")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("ensemble=4", "model.tied=false", "model.dropout=0"),
            "an ensemble is not possible on a task whose",
        ),
        (("ensemble=4",), "a model that uses a parameter in two places is not possible as a member"),
        (("model.dropout=1.5",), "dropout=1.5 is not possible: give a number from 0 to below 1."),
        (("model.embedding_size=5",), "tied=true is not possible: the embedding is"),
        (("task.held=[zebra]",), "held='zebra' is not in the vocabulary."),
        (("task.batch_size=100000",), "batch_size=100000 is not possible"),
    ],
)
def test_bad_input_gets_one_line(cli, tmp_path, arguments, message):
    code, err = cli(*PLAIN, "run_dir=new", *arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1, err


def test_words_are_refused_where_inputs_are_vectors(cli, monkeypatch, tmp_path):
    GlobalHydra.instance().clear()
    monkeypatch.setattr(
        sys, "argv", ["train.py", "task=sine", "model.tied=true", "logger=none", "run_dir=new"]
    )
    with pytest.raises(SystemExit):
        train.main()
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(cli, tmp_path, texts):
    options = (*PLAIN, f"task.data_dir={texts}", "trainer.max_epochs=40")
    parts = start(*options, "run_dir=parts", cwd=tmp_path)
    assert cli(*PLAIN, "trainer.max_epochs=40", "run_dir=whole")[0] == 0
    kill_after(parts, tmp_path / "parts" / "metrics.csv", 5)
    code, err = cli("run_dir=parts", "ckpt_path=last")
    assert code == 0, err
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_resume_to_the_same(cli, tmp_path, texts):
    code, err = cli(*PLAIN, "trainer=cpu", "model.dropout=0", "trainer.max_epochs=4", "run_dir=one")
    assert code == 0, err
    ddp = (*PLAIN, f"task.data_dir={texts}", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=4")
    sweep = ("-m", "model.dropout=0,0.5", "checkpoint.keep=2", "hydra.sweep.dir=two")
    finish(start(*sweep, *ddp, cwd=tmp_path))
    plain, dropped = (run.path for run in open_sweep(tmp_path / "two").runs.values())
    alone, shared, other = (open_run(path).metrics for path in (tmp_path / "one", plain, dropped))
    np.testing.assert_allclose(alone, shared, rtol=1e-5, atol=1e-6)
    assert_same_weights(tmp_path / "one", plain, rtol=1e-5, atol=1e-6)
    assert other["train/loss"][1] != pytest.approx(alone["train/loss"][1], rel=1e-3)

    # as a kill within the third epoch leaves it
    parts = shutil.copytree(dropped, tmp_path / "parts")
    for name in ("best", "last"):
        shutil.copy(parts / "checkpoints" / "epoch_000002.ckpt", parts / "checkpoints" / f"{name}.ckpt")
    assert other["val/perplexity"][2] < other["val/perplexity"][1]
    saved = torch.load(parts / "checkpoints" / "last.ckpt", weights_only=True)
    streams = [state["cpu"] for state in saved["rng"]]
    assert len(streams) == 2
    assert not torch.equal(*streams)
    output = finish(start("run_dir=parts", "ckpt_path=last", cwd=tmp_path))
    assert "sync_dist" not in output
    assert_same_results(dropped, parts)
