"""The command line, as a person uses it: `train.main` in this process, or a process to be killed."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import train
from rnnlab.runs import open_run

ROOT = Path(__file__).parents[1]
SMALL = (
    "model.cell.hidden_size=4",
    "task.length=8",
    "task.num_sequences=4",
    "task.batch_size=2",
    "task.num_probes=3",
)
LOOKS = (
    "callbacks.bifurcation.every=2",
    "callbacks.bifurcation.steps=10",
    "callbacks.bifurcation.max_burn_in=64",
)
PLAIN = (*SMALL, "logger=none", "callbacks=none", "trainer=cpu")
WATCHED = (*SMALL, *LOOKS, "logger=none", "callbacks=bifurcation", "trainer=cpu")


@pytest.fixture
def cli(monkeypatch, capfd, tmp_path):
    """Calls `train.py` with arguments, in an empty directory; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        capfd.readouterr()
        code = 0
        try:
            train.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def refusing_server():
    """Answers every request with 401, on loopback."""

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def start(*arguments, cwd, home=None, **options):
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | ({"HOME": str(home)} if home else {})
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell in the background makes its children deaf to it
        **{"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} | options,
    )


def weights(run_dir, checkpoint="last"):
    return torch.load(run_dir / "checkpoints" / f"{checkpoint}.ckpt", weights_only=True)["state_dict"]


def assert_same_results(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    xr.testing.assert_identical(
        open_run(one).analysis("bifurcation").load(), open_run(other).analysis("bifurcation").load()
    )


@pytest.mark.parametrize("model", ["elman", "gru", "lstm", "slstm", "ornn"])
def test_a_run_leaves_what_it_promises(cli, tmp_path, model):
    code, out, err = cli(*WATCHED, f"model={model}", "trainer.max_epochs=3", "run_dir=here")
    assert code == 0, err
    run_dir = tmp_path / "here"
    assert f"report: {run_dir / 'report.html'}" in out
    for name in (
        "config.yaml",
        "metrics.csv",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "report.html",
    ):
        assert (run_dir / name).stat().st_size > 0
    assert (run_dir / "analysis.zarr").is_dir()
    assert any((run_dir / "figures").glob("*.png"))
    status = json.loads((run_dir / "status.json").read_text())
    assert status["state"] == "finished"
    assert {"training", "bifurcation", "drawing"} <= status["timings"].keys()

    run = open_run(run_dir)
    assert run.config.seed == 1
    assert run.config.run_dir == str(run_dir)
    assert run.metrics.index.tolist() == [0, 1, 2, 3]  # what was seen before training stands at 0
    assert run.analysis("bifurcation").epoch.values.tolist() == [0, 2, 3]
    best = weights(run_dir, "best")
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in run.model.state_dict().items())
    assert not list(run_dir.rglob(".*.ckpt.*"))


def test_options_of_a_callback_that_was_not_chosen_do_no_harm(cli, tmp_path):
    code, _, err = cli("experiment=ribeiro2020/sine", *PLAIN, "trainer.max_epochs=1", "run_dir=run")
    assert code == 0, err
    assert not (tmp_path / "run/analysis.zarr").exists()


def test_seed_decides_everything(cli, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli(*WATCHED, "trainer.max_epochs=2", f"run_dir={name}", f"seed={seed}")[0] == 0
    assert_same_results(tmp_path / "a", tmp_path / "b")
    a, c = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not torch.equal(a["model.cell.weight_hh"], c["model.cell.weight_hh"])


def test_looking_changes_no_run(cli, tmp_path):
    assert cli(*WATCHED, "trainer.max_epochs=3", "run_dir=watched")[0] == 0
    assert cli(*PLAIN, "trainer.max_epochs=3", "run_dir=plain")[0] == 0
    ours, theirs = weights(tmp_path / "watched"), weights(tmp_path / "plain")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_going_on_equals_never_having_stopped(cli, tmp_path):
    schedule = ("optim.scheduler.milestones=[2,5]",)
    assert cli(*WATCHED, *schedule, "trainer.max_epochs=7", "run_dir=whole")[0] == 0
    assert cli(*WATCHED, *schedule, "trainer.max_epochs=4", "run_dir=parts")[0] == 0
    # the look at epoch 4 was the last of its run, and is one of the whole run too: 4 is even
    code, _, err = cli("run_dir=parts", "ckpt_path=last", "trainer.max_epochs=7")
    assert code == 0, err
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


def test_what_loggers_keep_is_in_the_directory_of_the_job(tmp_path):
    process = start(
        "-m", *PLAIN, "logger=wandb", "trainer.max_epochs=1", "seed=1,2", "hydra.sweep.dir=all", cwd=tmp_path
    )
    out = process.communicate(timeout=200)[0]
    assert process.returncode == 0, out
    ids = {path.read_text() for path in (tmp_path / "all").glob("*/wandb/run-id.txt")}
    assert len(ids) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["all"]


def test_a_run_that_was_moved_goes_on_where_it_is(cli, tmp_path):
    assert cli(*WATCHED, "logger=tensorboard", "trainer.max_epochs=1", "run_dir=here")[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    code, _, err = cli("run_dir=there", "ckpt_path=last", "trainer.max_epochs=2")
    assert code == 0, err
    assert not (tmp_path / "here").exists()
    assert open_run(tmp_path / "there").analysis("bifurcation").epoch.values.tolist() == [0, 1, 2]


def test_a_new_run_may_start_from_a_checkpoint(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=2", "run_dir=first")[0] == 0
    code, _, err = cli(
        *PLAIN, "trainer.max_epochs=4", "run_dir=second", "ckpt_path=first/checkpoints/last.ckpt"
    )
    assert code == 0, err
    assert open_run("second").metrics.index.tolist() == [3, 4]
    assert open_run("first").metrics.index.tolist() == [1, 2]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(tmp_path):
    arguments = (*WATCHED, "trainer.max_epochs=40", "optim.scheduler.milestones=[10,30]", "model=gru")
    whole = start(*arguments, "run_dir=whole", cwd=tmp_path)
    assert whole.wait(300) == 0, whole.stdout.read()
    metrics = tmp_path / "parts" / "metrics.csv"
    rng = np.random.default_rng(0)
    process = start(*arguments, "run_dir=parts", cwd=tmp_path, start_new_session=True)
    for rows in (6, 17, 29):
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") > rows):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = start("run_dir=parts", "ckpt_path=last", cwd=tmp_path, start_new_session=True)
    assert process.wait(300) == 0, process.stdout.read()
    assert_same_results(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on(tmp_path, signum):
    process = start(*WATCHED, "trainer.max_epochs=100000", "run_dir=run", cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 5):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signum)
    out = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert f"stopped; to go on: python train.py run_dir={tmp_path / 'run'} ckpt_path=last" in out
    assert "Traceback" not in out
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["error"]) == ("stopped", None)
    epochs = open_run(tmp_path / "run").metrics.index.max()
    again = start("run_dir=run", "ckpt_path=last", f"trainer.max_epochs={epochs + 3}", cwd=tmp_path)
    assert again.wait(120) == 0, again.stdout.read()
    index = open_run(tmp_path / "run").metrics.index
    assert index.tolist() == list(range(epochs + 4))


def test_a_sweep_gives_each_job_a_directory_and_tells_of_failures_at_the_end(cli, tmp_path):
    code, out, err = cli(
        "-m",
        *PLAIN,
        "trainer.max_epochs=1",
        "model=lstm,ornn",
        "optim.clip_norm=0.25,0",
        "hydra.sweep.dir=all",
    )
    assert code == 1
    assert out == ""
    jobs = {path.parent.name: open_run(path.parent) for path in (tmp_path / "all").glob("*/config.yaml")}
    assert (
        sorted(name.rpartition("_")[0] for name in jobs) == ["lstm_sine_seed1"] * 2 + ["ornn_sine_seed1"] * 2
    )
    for name, run in jobs.items():
        assert run.config.run_dir == str(tmp_path / "all" / name)
        status = json.loads((run.path / "status.json").read_text())
        log = (run.path / "log.txt").read_text()
        if run.config.optim.clip_norm:
            assert status["state"] == "finished"
            assert status["best"] == run.metrics["train/loss"].min()
            assert f"report: {run.path / 'report.html'}" in log
        else:
            assert status["state"] == "failed"
            assert "clip_norm=0 is not possible" in status["error"]
            assert "Traceback" in log
    assert "2 of 4 jobs done" in err or "4 of 4 jobs done, 2 failed" in err
    assert f"report: {Path('all') / 'report.html'}" in err
    last = err.splitlines()[-3:]
    assert last[0] == "error: 2 jobs failed; the others are complete."
    for line, number, model in zip(last[1:], (1, 3), ("lstm", "ornn"), strict=True):
        assert line.startswith(f"  job {number} (model={model} optim.clip_norm=0): ")
        assert "clip_norm=0 is not possible" in line


SWEEP_ERRORS = [
    (("trainer.max_epoch=1,2",), "The key trainer.max_epoch is not known. Did you mean trainer.max_epochs?"),
    (("modle=lstm,gru",), "The key modle is not known. Did you mean model?"),
    (("model=lstm,grru",), "model=grru is not known. Did you mean model=gru?"),
    (("seed=range(3,3)",), "seed=range(3,3) leaves no job: give at least one value, such as seed=1,2,3."),
    (("model=",), "model= is not known. Possible: elman, gru, lstm, ornn, slstm."),
    (
        ("optim.clip_norm=interval(0,1)",),
        "optim.clip_norm=interval(0,1) is not possible in a grid: give values",
    ),
    (("run_dir=here", "seed=1,2"), "run_dir is one directory, a sweep needs one a job: give hydra.sweep.dir"),
    (("sweep=optuna", "seed=1"), "There is nothing to search for: give a key an interval"),
    (("sweep=optuna", "seed=1,2", "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials=0 is not possible"),
    (("sweep=optuna", "modle.cell.hidden_size=3,4"), "The key modle.cell.hidden_size is not known."),
    (("sweep=optna",), "sweep=optna is not known. Did you mean sweep=optuna?"),
]


@pytest.mark.parametrize(("arguments", "message"), SWEEP_ERRORS, ids=[" ".join(a) for a, _ in SWEEP_ERRORS])
def test_a_sweep_that_is_not_possible_gets_one_line_and_leaves_nothing(cli, tmp_path, arguments, message):
    code, out, err = cli("-m", *PLAIN, *arguments, "hydra.sweep.dir=deep/all")
    assert code == 1
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert out == ""
    assert not (tmp_path / "deep" / "all").exists()


HIDDEN = "import hydra_plugins; hydra_plugins.__path__ = []; import train; train.main()"


@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("launcher=joblib", "sweep"),
        ("launcher=submitit_local", "sweep"),
        ("launcher=slurm", "sweep"),
        ("launcher=ray", "ray"),
        ("sweep=optuna", "sweep"),
    ],
)
def test_a_launcher_or_sweeper_that_is_not_installed_names_the_extra(tmp_path, choice, extra):
    run = subprocess.run(
        [sys.executable, "-c", HIDDEN, "-m", choice, "seed=1,2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert run.stderr.endswith(f" needs a package that is not installed: pip install 'rnnlab[{extra}]'.\n")
    assert run.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("flags", [("--help",), ("-m", "--help"), ("--cfg", "job")])
def test_what_only_shows_something_starts_no_sweep(cli, tmp_path, flags):
    code, out, err = cli("sweep=symbols_table1", *flags)
    assert code == 0, err
    assert out
    assert not any(tmp_path.iterdir())


def test_two_runs_started_in_the_same_second_do_not_meet(cli, tmp_path):
    for _ in range(2):
        assert cli(*PLAIN, "trainer.max_epochs=1")[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


ERRORS = [
    (
        ("model=lstmm",),
        "model=lstmm is not known. Did you mean model=lstm? Possible: elman, gru, lstm, ornn, slstm.",
    ),
    (("task=sinus",), "task=sinus is not known. Did you mean task=sine?"),
    (("trainer.max_epoch=3",), "The key trainer.max_epoch is not known. Did you mean trainer.max_epochs?"),
    (("modle.cell.hidden_size=3",), "The key modle.cell.hidden_size is not known. Did you mean model?"),
    (
        ("optim.optimizer.lrr=1",),
        "The key optim.optimizer.lrr is not known. Did you mean optim.optimizer.lr?",
    ),
    (("experiment=ribeiro2020/sin",), "Did you mean experiment=ribeiro2020/sine?"),
    (("lstm",), "lstm can't be read (missing EQUAL at '<EOF>'): give key=value, for example model=lstm."),
    (("+task.tempo=3",), "unexpected keyword argument 'tempo'"),
    (("model.cell.hidden_size=0",), "hidden_size=0 is not possible"),
    (("model.num_layers=0",), "num_layers=0 is not possible"),
    (("task.length=0",), "task: length=0 is not possible: give a whole number of at least 1."),
    (("task.batch_size=5",), "task: batch_size=5 is not possible: there are 4 sequences."),
    (("trainer.max_epochs=0",), "trainer.max_epochs=0 is not possible: give a whole number of at least 1."),
    (("threads=0",), "threads=0 is not possible"),
    (("seed=abc",), "seed=abc is not possible"),
    (("optim.clip_norm=-1",), "clip_norm=-1 is not possible"),
    (("checkpoint.every=0",), "checkpoint.every=0 is not possible"),
    (("trainer.devices=2",), "give trainer=ddp trainer.devices=2."),
    (("ckpt_path=nowhere.ckpt",), "ckpt_path=nowhere.ckpt does not exist"),
    (("ckpt_path=last",), "there is no run in run_dir="),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=[" ".join(a) for a, _ in ERRORS])
def test_bad_input_gets_one_line(cli, tmp_path, arguments, message):
    code, out, err = cli(*PLAIN, "run_dir=new", *arguments)
    assert code == 1
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert out == ""
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(cli, tmp_path):
    code, _, err = cli(*PLAIN, "trainer=gpu", "run_dir=new")
    assert code == 1
    assert err == (
        "error: trainer.accelerator=cuda is not possible: no such device is visible here; "
        "use trainer=cpu, or trainer=auto to take what there is.\n"
    )
    assert not (tmp_path / "new").exists()


def test_a_directory_that_holds_another_run_is_left_alone(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=taken")[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "taken").rglob("*") if p.is_file()}
    code, _, err = cli(*PLAIN, "trainer.max_epochs=1", "run_dir=taken")
    assert code == 1
    assert "holds another run: give another run_dir, or ckpt_path=last to go on with that one." in err
    code, _, err = cli(*PLAIN, "model=ornn", "run_dir=taken", "ckpt_path=last")
    assert code == 1
    assert "was started with another model" in err
    assert before == {p: p.read_bytes() for p in (tmp_path / "taken").rglob("*") if p.is_file()}


def test_a_foreign_checkpoint_is_refused(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=one")[0] == 0
    given = "ckpt_path=one/checkpoints/last.ckpt"
    code, _, err = cli(*PLAIN, "model.cell.hidden_size=5", "run_dir=two", given)
    assert code == 1
    assert "is of another network: its model.cell.bias_hh is (16,), here it is (20,)" in err
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    whole = (tmp_path / "one" / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "other", "half"):
        code, _, err = cli(*PLAIN, "run_dir=two", f"ckpt_path={name}.ckpt")
        assert code == 1
        assert err.startswith(f"error: ckpt_path={name}.ckpt is not a checkpoint")
        assert err.count("\n") == 1
    assert not (tmp_path / "two").exists()


def test_a_checkpoint_is_never_executed(cli, tmp_path):
    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    torch.save({"state_dict": {}, "loops": Harm()}, tmp_path / "harm.ckpt")
    code, _, err = cli(*PLAIN, "run_dir=new", "ckpt_path=harm.ckpt")
    assert code == 1
    assert "is not a checkpoint that can be read" in err
    assert not (tmp_path / "harmed").exists()


def test_a_config_is_never_executed(cli, tmp_path):
    assert cli(*PLAIN, "trainer.max_epochs=1", "run_dir=one")[0] == 0
    config = OmegaConf.load(tmp_path / "one" / "config.yaml")
    config.task = {"_target_": "os.mkdir", "path": str(tmp_path / "harmed")}
    OmegaConf.save(config, tmp_path / "one" / "config.yaml")
    run = open_run(tmp_path / "one")
    with pytest.raises(ValueError, match=r"_target_=os.mkdir is not of rnnlab: if you trust it"):
        _ = run.task
    assert not (tmp_path / "harmed").exists()


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(cli, tmp_path):
    assert cli(*WATCHED, "trainer.max_epochs=2", "run_dir=good")[0] == 0
    good = weights(tmp_path / "good")
    config = OmegaConf.load(tmp_path / "good" / "config.yaml")
    config.optim.optimizer.lr = 1e30
    config.optim.clip_norm = None
    OmegaConf.save(config, tmp_path / "good" / "config.yaml")
    checkpoint = torch.load(tmp_path / "good" / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 1e30
    checkpoint["scheduler"]["base_lrs"] = [1e30]
    torch.save(checkpoint, tmp_path / "good" / "checkpoints" / "last.ckpt")
    code, _, err = cli("run_dir=good", "ckpt_path=last", "trainer.max_epochs=9")
    assert code == 1
    assert "in epoch" in err
    assert "the last good checkpoint is kept" in err
    after = weights(tmp_path / "good")
    assert all(torch.isfinite(value).all() for value in after.values())
    best = weights(tmp_path / "good", "best")
    assert all(torch.equal(best[name], good[name]) for name in good)
    status = json.loads((tmp_path / "good" / "status.json").read_text())
    assert status["state"] == "failed"
    assert "The loss became" in status["error"]
    assert (tmp_path / "good" / "report.html").is_file()


def test_a_place_that_cannot_be_written_to(cli, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = cli(*PLAIN, "run_dir=file/run")
    assert code == 1
    assert "can't be used (Not a directory): give a run_dir with room that can be written to." in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no /sys, which refuses every new directory")
def test_a_read_only_place(cli):
    code, _, err = cli(*PLAIN, "run_dir=/sys/rnnlab")
    assert code == 1
    assert err.startswith("error: /sys/rnnlab can't be used (")
    assert err.endswith("give a run_dir with room that can be written to.\n")
    assert err.count("\n") == 1


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(tmp_path):
    arguments = (*PLAIN, "model.cell.hidden_size=32", "run_dir=run")
    first = start(*arguments, "trainer.max_epochs=1", cwd=tmp_path)
    assert first.wait(120) == 0, first.stdout.read()
    before = weights(tmp_path / "run")

    # no file may grow past 20 kB: a checkpoint does
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    second = start("run_dir=run", "ckpt_path=last", "trainer.max_epochs=3", cwd=tmp_path, preexec_fn=limit)
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 1, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    assert "can't be written" in errors[0]
    assert "Traceback" not in output
    after = weights(tmp_path / "run")
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.fixture
def wandb_session(monkeypatch, tmp_path):
    """W&B as in a fresh process, without settings or a key: it keeps one set of settings a process."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.parametrize("key", ["abc", "x" * 40])
def test_a_refused_wandb_key_costs_the_upload_and_not_the_run(
    cli, wandb_session, monkeypatch, refusing_server, key
):
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_server)
    code, out, err = cli(*PLAIN, "logger=wandb", "trainer.max_epochs=1", "run_dir=new")
    assert code == 0, err
    assert out.count("W&B: this run is offline because") == 1
    assert out.count("To upload it: wandb sync") == 1
    assert open_run("new").metrics.index.tolist() == [1]


def test_wandb_online_without_a_key_ends_before_anything_is_written(cli, wandb_session, tmp_path):
    code, _, err = cli(*PLAIN, "logger=wandb", "logger.wandb.mode=online", "run_dir=new")
    assert code == 1
    assert err.startswith("error: mode=online, but there is no key for")
    assert "logger.wandb.mode=offline or logger=none" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_offline_by_default_and_the_wandb_run_is_finished(tmp_path):
    # wandb keeps one set of settings a process: this must be a fresh one
    process = start(
        *WATCHED, "logger=wandb", "trainer.max_epochs=2", "run_dir=here", cwd=tmp_path, home=tmp_path
    )
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 0, out
    assert out.count("W&B: this run is offline. To upload it: wandb sync") == 1
    runs = list((tmp_path / "here" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].rglob("*.png"))


def test_loggers_are_closed_also_after_a_failure(cli, monkeypatch):
    from rnnlab.loggers import WandbLogger

    closed = []
    monkeypatch.setattr(WandbLogger, "close", lambda self, failed=False: closed.append(failed))
    disabled = ("logger=wandb", "logger.wandb.mode=disabled", "trainer.max_epochs=1")
    assert cli(*PLAIN, *disabled, "run_dir=good")[0] == 0
    assert closed[-1] is False
    code, _, err = cli(*PLAIN, *disabled, "run_dir=bad", "checkpoint.monitor=train/elan")
    assert code == 1
    assert (
        "checkpoint.monitor=train/elan is not logged: choose one of clipped, grad_norm, lr, train/loss" in err
    )
    assert closed[-1] is True


def test_full_error_shows_the_traceback(cli, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="max_epochs=0"):
        cli(*PLAIN, "trainer.max_epochs=0")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_help_lists_the_choices(cli):
    code, out, _ = cli("--help")
    assert code == 0
    for word in (
        "model: elman, gru, lstm, ornn, slstm",
        "task: adding, copy_memory, fitzhugh_nagumo, flip_flop, line_attractor, ring_attractor, sine",
        "ckpt_path=last",
        "python train.py -m",
    ):
        assert word in out


def test_help_and_typos_import_nothing_heavy():
    code = "import sys, train; sys.exit(any(m in sys.modules for m in ('torch', 'wandb', 'xarray')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_two_processes_give_the_diagrams_and_losses_of_one(tmp_path):
    arguments = (*SMALL, *LOOKS, "logger=none", "callbacks=bifurcation", "trainer.max_epochs=4")
    one = start(*arguments, "trainer=cpu", "run_dir=one", cwd=tmp_path)
    assert one.wait(300) == 0, one.stdout.read()
    two = start(*arguments, "trainer=ddp", "trainer.accelerator=cpu", "run_dir=two", cwd=tmp_path)
    output = two.communicate(timeout=300)[0]
    assert two.returncode == 0, output
    alone, shared = open_run(tmp_path / "one"), open_run(tmp_path / "two")
    assert np.allclose(alone.metrics, shared.metrics, rtol=1e-5, equal_nan=True)
    ours, theirs = alone.analysis("bifurcation").load(), shared.analysis("bifurcation").load()
    assert {name: v.dims for name, v in ours.items()} == {name: v.dims for name, v in theirs.items()}
    assert ours.sizes == theirs.sizes
    assert ours.settled.equals(theirs.settled)
    assert ours.probe.values.tolist() == theirs.probe.values.tolist()
    # the untrained network is the same to the bit, so its diagram is equal up to the rounding of products
    assert np.allclose(ours.y.sel(epoch=0), theirs.y.sel(epoch=0), atol=1e-10)
    assert np.allclose(ours.y, theirs.y, atol=1e-4)
    assert output.count("report: ") == 1
    assert "Warning" not in output


@pytest.mark.slow
def test_two_processes_see_what_one_sees(tmp_path):
    arguments = (*SMALL, *LOOKS, "logger=none", "callbacks=all", "trainer.max_epochs=2")
    arguments += ("callbacks.attractors.max_burn_in=200", "callbacks.lyapunov.steps=50")
    runs = {"one": ("trainer=cpu",), "two": ("trainer=ddp", "trainer.accelerator=cpu")}
    for name, trainer in runs.items():
        process = start(*arguments, *trainer, f"run_dir={name}", cwd=tmp_path)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output
    alone, shared = open_run(tmp_path / "one"), open_run(tmp_path / "two")
    for name in ("attractors", "bifurcation", "contraction", "fixed_points", "lyapunov"):
        ours, theirs = alone.analysis(name).load(), shared.analysis(name).load()
        assert ours.sizes == theirs.sizes, name
        assert ours.attrs == theirs.attrs, name
        assert set(ours) == set(theirs), name
        # the untrained network is the same to the bit
        for key in ours.sel(epoch=0).drop_vars("weights", errors="ignore"):
            a, b = ours[key].sel(epoch=0).values, theirs[key].sel(epoch=0).values
            if a.dtype.kind in "fc":
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=f"{name}.{key}")
            else:
                assert a.tolist() == b.tolist(), f"{name}.{key}"
