"""What a person sees while training goes on."""

import time
from functools import partial

import pytest
import torch

from callbacks import Bifurcation, Page, Progress
from datamodules import Sine
from rnnlab.cells import Elman
from rnnlab.learner import SequenceLearner
from rnnlab.loggers import MetricsCSV
from rnnlab.model import RecurrentModel
from tests.trainers import quiet_trainer


def fit(tmp_path, *callbacks, epochs=3):
    task = Sine(num_sequences=4, length=5, batch_size=2, num_probes=2)
    model = RecurrentModel(1, 1, partial(Elman, hidden_size=2))
    learner = SequenceLearner(model, task.objective, optimizer=torch.optim.Adam)
    trainer = quiet_trainer(
        *callbacks,
        epochs=epochs,
        logger=[MetricsCSV(tmp_path)],
        enable_progress_bar=True,
        default_root_dir=tmp_path,
    )
    trainer.fit(learner, datamodule=task)


def test_a_log_file_gets_lines_with_epoch_numbers_and_looks(tmp_path, capfd):
    look = Bifurcation(every=1, samples=1, steps=5, max_burn_in=20, std=1.0)
    fit(tmp_path, look, Progress(interval=0.0))
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all("train/mse" in line for line in lines[1:])
    assert lines[-1].endswith("4 looks")


def test_a_log_file_is_not_flooded(tmp_path, capfd):
    fit(tmp_path, Progress(interval=1e6))
    out, err = capfd.readouterr()
    assert "epoch 1/3" not in out
    assert "training" not in err


def test_a_terminal_gets_a_bar(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fit(tmp_path, Progress())
    assert "3/3" in capfd.readouterr().err


def test_the_page_is_written_while_training_goes_on(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")  # train.py leaves it before training starts
    page = Page(interval=0.0)
    fit(tmp_path, page)
    assert (tmp_path / "report.html").stat().st_size > 0
    assert page.seconds["page"] > 0


@pytest.mark.parametrize(("interval", "seconds"), [(1e6, 0.0), (0.0, 0.5)])
def test_after_a_page_training_goes_on_for_the_interval_or_twenty_times_its_cost(
    tmp_path, monkeypatch, interval, seconds
):
    written = []
    monkeypatch.setattr("rnnlab.report.write_report", lambda run_dir: written.append(time.sleep(seconds)))
    page = Page(interval=interval)
    page._next = 0.0  # the first is due now
    fit(tmp_path, page)
    assert len(written) == 1


def test_the_page_waits(tmp_path):
    fit(tmp_path, Page(interval=1e6))
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_said_and_costs_nothing(tmp_path, monkeypatch):
    def broken(run_dir):
        raise OSError("no paper")

    monkeypatch.setattr("rnnlab.report.write_report", broken)
    with pytest.warns(UserWarning, match="report.html could not be written .OSError: no paper"):
        fit(tmp_path, Page(interval=0.0))
