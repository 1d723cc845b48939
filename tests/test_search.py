"""Searches by Optuna: the same trials every time, none trained twice, a study that stays."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import train
from tests.test_resume_sweep import PLAIN, finish, jobs, kill, ledger, status, wait_for
from tests.test_train import cli, start  # noqa: F401

SEARCH = (
    *PLAIN,
    "sweep=optuna",
    "hydra.sweeper.n_trials=5",
    "optim.optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "model=lstm,gru",
)


def trials(sweep: Path) -> list:
    """What the study of a search holds, but for times."""
    study = optuna.load_study(study_name="rnnlab", storage=f"sqlite:///{sweep}/study.db")
    return [(trial.number, trial.state, trial.params, trial.value) for trial in study.trials]


@pytest.fixture
def trained(monkeypatch):
    """How often anything is trained; `trained.stop_at(n)` breaks off the n-th time."""

    class Counter:
        times, last = 0, None

        def stop_at(self, number):
            self.last = self.times + number

    counter, run = Counter(), train.run

    def counting(*arguments):
        counter.times += 1
        if counter.times == counter.last:
            raise SystemExit(137)
        return run(*arguments)

    monkeypatch.setattr(train, "run", counting)
    return counter


def test_a_search_is_reproduced_resumed_and_extended(cli, tmp_path, trained):  # noqa: F811
    assert cli(*SEARCH, "hydra.sweep.dir=whole")[0] == 0
    whole = trials(tmp_path / "whole")
    assert trained.times == 5
    assert [state for _, state, _, _ in whole] == [TrialState.COMPLETE] * 5
    assert len({params["optim.optimizer.lr"] for _, _, params, _ in whole}) == 5
    assert all(1e-4 <= params["optim.optimizer.lr"] <= 1e-1 for _, _, params, _ in whole)
    assert {params["model"] for _, _, params, _ in whole} <= {"lstm", "gru"}
    assert {value for *_, value in whole} == {
        status(job)["best"] for job in jobs(tmp_path / "whole").values()
    }

    # an absolute place, and broken off in the third trial
    command = (*SEARCH, f"hydra.sweep.dir={tmp_path / 'deep' / 'parts'}")
    trained.stop_at(3)
    code, _, err = cli(*command)
    assert code == 137
    assert "the sweep has not ended; the same command goes on with it" in err
    assert trials(tmp_path / "deep" / "parts")[:2] == whole[:2]
    before = trained.times
    code, out, err = cli(*command)
    assert code == 0, err
    assert trained.times - before == 3
    assert trials(tmp_path / "deep" / "parts") == whole
    table = (tmp_path / "deep" / "parts" / "table.csv").read_text()
    assert table == (tmp_path / "whole" / "table.csv").read_text()
    assert out == ""
    assert {line.split()[0] for line in err.splitlines()} <= {"sweep", "sweep:", "report:"}

    before = trained.times
    assert cli(*command, "hydra.sweeper.n_trials=7")[0] == 0
    assert trained.times - before == 2
    longer = trials(tmp_path / "deep" / "parts")
    assert len(longer) == 7
    assert longer[:5] == whole
    assert (tmp_path / "deep" / "parts" / "study.before.db").is_file()


def test_a_failed_trial_is_one_in_the_study_and_is_told(cli, tmp_path):  # noqa: F811
    command = (
        *PLAIN,
        "sweep=optuna",
        "hydra.sweeper.n_trials=5",
        "optim.clip_norm=0.25,0,0.5",
        "checkpoint.mode=max",
    )
    code, _, err = cli(*command, "hydra.sweep.dir=all")
    assert code == 1
    study = optuna.load_study(study_name="rnnlab", storage=f"sqlite:///{tmp_path}/all/study.db")
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    norms = {trial.number: trial.params["optim.clip_norm"] for trial in study.trials}
    assert 0 in norms.values()
    assert set(norms.values()) != {0}
    for trial in study.trials:
        assert trial.state == (TrialState.COMPLETE if norms[trial.number] else TrialState.FAIL)
    failed = [trial.number for trial in study.trials if trial.state == TrialState.FAIL]
    told = err.splitlines()[-len(failed) :]
    for number, line in zip(failed, told, strict=True):
        assert f"job {number} (" in line
        assert "clip_norm=0 is not possible" in line
    assert "Warning" not in err


def test_where_every_trial_fails_that_is_the_error(cli):  # noqa: F811
    command = (*PLAIN, "sweep=optuna", "hydra.sweeper.n_trials=2", "optim.clip_norm=0", "seed=1,2")
    code, _, err = cli(*command)
    assert code == 1
    assert "No trials are completed" not in err
    assert "has not ended" not in err
    assert "error: 2 jobs failed" in err
    assert err.count("clip_norm=0 is not possible") == 4  # at once, and at the end


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.long)])
def test_a_search_that_was_killed_ends_as_an_unbroken_one(tmp_path, launcher):
    command = (*SEARCH, "hydra.sweeper.n_trials=6", "trainer.max_epochs=4")
    if launcher == "joblib":
        command += ("launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2")
    finish(*command, "hydra.sweep.dir=whole", cwd=tmp_path)
    process = start(*command, "hydra.sweep.dir=parts", cwd=tmp_path, start_new_session=True)
    wait_for(
        lambda: "running" in (states := ledger(tmp_path / "parts")).values() and len(states) >= 4, process
    )
    assert process.poll() is None
    kill(process)
    finish(*command, "hydra.sweep.dir=parts", cwd=tmp_path)
    assert "skipped" in ledger(tmp_path / "parts").values()
    assert trials(tmp_path / "parts") == trials(tmp_path / "whole")
    for name in ("table.csv", "optimization_results.yaml"):
        assert (tmp_path / "parts" / name).read_text() == (tmp_path / "whole" / name).read_text()
