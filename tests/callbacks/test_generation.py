"""Generation mode: what is looked at is the network that is fed its own output, and nothing else changes."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
from pytorch_lightning.loggers import Logger
from torch.nn.functional import one_hot

from callbacks import AnalysisCallback, Bifurcation, Contraction, FixedPoints, Lyapunov, PhasePortrait
from datamodules import CopyMemory, FlipFlop, LineAttractor, Sine, TeacherForced
from rnnlab.analysis import contraction, lyapunov_spectrum
from rnnlab.autonomous import ClosedLoop, freeze
from rnnlab.cells import GRU, Elman
from rnnlab.ensemble import Ensemble, EnsembleLearner
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.store import Store
from rnnlab.systems import jacobian
from tests.test_report import Page
from tests.test_train import cli as cli  # a fixture
from tests.trainers import quiet_trainer

TASKS = {
    "beside": lambda: TeacherForced(FlipFlop(num_sequences=4, length=8, batch_size=2, channels=2)),
    "instead": lambda: TeacherForced(Sine(num_sequences=4, length=8, batch_size=2), mode="instead"),
    "classes": lambda: TeacherForced(
        CopyMemory(symbols=2, delay=3, alphabet=2, num_sequences=4, num_validation=2, batch_size=4)
    ),
}


class Noise(pl.Callback):
    """Draws numbers while training, so that a disturbed stream would show."""

    def __init__(self):
        self.drawn = []

    def on_train_batch_start(self, *_):
        self.drawn.append(torch.rand(1).item())


def fit(tmp_path, task, *callbacks, cell=GRU, hidden_size=3, epochs=3, ensemble=None, **options):
    pl.seed_everything(3, verbose=False)
    make = partial(
        RecurrentModel,
        task.input_size,
        task.output_size,
        partial(cell, hidden_size=hidden_size),
        input_bound=task.input_bound,
    )
    if ensemble is None:
        learner = SequenceLearner(make(), task.objective, optimizer=partial(torch.optim.Adam, lr=0.02))
    else:
        members = Ensemble.from_seeds(make, range(ensemble))
        learner = EnsembleLearner(members, task.objective, optimizer=partial(torch.optim.Adam, lr=0.02))
    fits = {name: options.pop(name) for name in ("ckpt_path",) if name in options}
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=tmp_path, **options)
    trainer.fit(learner, datamodule=task, **fits)
    return learner, trainer


def looks(tmp_path, name):
    return Store(tmp_path / "analysis.zarr").read(name).load()


def told(kind, y, u):
    """What a network that is left alone is told next, once more: y in the place that was held at 0."""
    if kind == "classes":
        y = one_hot(y.argmax(-1), y.shape[-1]).double()
    kept = u[..., : u.shape[-1] - y.shape[-1]]
    return torch.cat((kept.expand(*y.shape[:-1], -1), y), -1)


def by_hand(model, kind, u, x, steps):
    """Outputs of one network left alone, one state at a time."""
    y, outputs = model.read(x), []
    for _ in range(steps):
        x = model.step(x, told(kind, y, u))
        y = model.read(x)
        outputs.append(y)
    return torch.stack(outputs)


@pytest.mark.parametrize("kind", TASKS)
def test_what_is_stored_is_the_network_left_alone(tmp_path, kind):
    task = TASKS[kind]()
    callback = Bifurcation(every=3, samples=2, std=0.7, steps=6, burn_in=4, generation=True)
    learner, _ = fit(tmp_path, task, callback)
    model, seen = freeze(learner.model), looks(tmp_path, "bifurcation_generation")
    inputs, names = task.probes()
    assert seen.probe.values.tolist() == list(names)
    for p, u in enumerate(inputs.double()):
        for s, x in enumerate(callback.initial_states(model.state_size)):
            outputs = by_hand(model, kind, u, x, 4 + 6)[4 - 1 :][:6].numpy()
            np.testing.assert_allclose(seen.y.isel(epoch=-1, probe=p, sample=s), outputs, atol=1e-10)


@pytest.mark.parametrize("kind", TASKS)
def test_each_analysis_is_that_of_the_loop(tmp_path, kind):
    task = TASKS[kind]()
    options = {"every": 9, "samples": 2, "generation": True, "draw": None}
    exponents, bounds = Lyapunov(steps=30, discard=10, **options), Contraction(steps=10, **options)
    points = FixedPoints(**options)
    learner, _ = fit(tmp_path, task, exponents, bounds, points)
    model, (inputs, _) = freeze(learner.model), task.probes()
    u = inputs.double()[:, None]
    loop = ClosedLoop(model, lambda y: told(kind, y, u))
    x0 = loop.start(exponents.initial_states(model.state_size).expand(len(u), 2, -1))
    expected = lyapunov_spectrum(loop, x0, count=4, steps=30, discard=10)
    found = looks(tmp_path, "lyapunov_generation").isel(epoch=-1)
    np.testing.assert_allclose(found.exponent, expected.exponent, atol=1e-9)
    expected = contraction(loop, x0, steps=10)
    found = looks(tmp_path, "contraction_generation").isel(epoch=-1)
    np.testing.assert_allclose(found.sampled, expected.sampled, rtol=1e-9)
    found = looks(tmp_path, "fixed_points_generation").isel(epoch=-1)
    assert (found.unstable >= 0).sum() >= 1
    for p, u in enumerate(inputs.double()):
        for point in torch.from_numpy(found.point.values[p]):
            if point.isfinite().all():
                x, y = point[: model.state_size], point[model.state_size :]
                after = model.step(x, told(kind, y, u))
                np.testing.assert_allclose(torch.cat((after, model.read(after))), point, atol=1e-8)


def test_the_likeliest_class_has_no_derivative_between_the_jumps():
    """So the loop's is that of the network under what it is told now, and nothing comes from y."""
    task = TASKS["classes"]()
    model = freeze(RecurrentModel(task.input_size, task.output_size, partial(GRU, hidden_size=3)))
    loop = ClosedLoop(model, partial(task.feedback, u=task.probes().inputs[0]))
    x = loop.start(torch.randn(5, 3).double())
    found = jacobian(loop, x)
    eye = 1e-6 * torch.eye(6).double()
    differences = [(loop.step(x + part) - loop.step(x - part)) / 2e-6 for part in eye]
    np.testing.assert_allclose(found, torch.stack(differences, -1), atol=1e-8)
    assert (found[..., 3:] == 0).all()
    assert found[..., :3].abs().max() > 0.1


@pytest.mark.parametrize("kind", ["beside", "classes"])
def test_training_is_bit_equal_with_and_without_looking(tmp_path, kind):
    options = {"every": 1, "samples": 2, "draw": None}
    every = partial(Bifurcation, max_burn_in=50, steps=9), partial(Lyapunov, steps=20, discard=5)
    made = [make(generation=way, **options) for make in every for way in (True, False)]
    noise, plain_noise = Noise(), Noise()
    watched, _ = fit(tmp_path / "watched", TASKS[kind](), *made, noise, epochs=1)
    plain, _ = fit(tmp_path / "plain", TASKS[kind](), plain_noise, epochs=1)
    assert [look.looks for look in made] == 4 * [2]
    assert noise.drawn == plain_noise.drawn
    for (name, ours), theirs in zip(watched.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert (ours.grad is None) == (theirs.grad is None), name
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad), name
    assert len(Store(tmp_path / "watched" / "analysis.zarr").names) == len(made)


class Collect(Logger):
    """Keeps what it is given."""

    name, version = "", ""

    def __init__(self):
        super().__init__()
        self.metrics, self.images = {}, []

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics

    def log_image(self, key, images, step=None):
        self.images.append((key, images[0].rpartition("/")[2]))

    def log_hyperparams(self, *_):
        pass


def test_both_modes_have_names_of_their_own(tmp_path):
    log = Collect()
    options = {"every": 1, "samples": 2}
    modes = [Bifurcation(steps=9, max_burn_in=50, generation=way, **options) for way in (False, True)]
    points = FixedPoints(generation=True, **options)
    fit(tmp_path, TASKS["beside"](), *modes, points, epochs=1, logger=[log])
    names = Store(tmp_path / "analysis.zarr").names
    assert names == ("bifurcation", "bifurcation_generation", "fixed_points_generation")
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    ours = {f"bifurcation{mode}{form}.png" for mode in ("", "_generation") for form in ("", "_3d")}
    ours |= {"bifurcation_modes.png", "bifurcation_pairs.png", "bifurcation_generation_pairs.png"}
    ours |= {f"fixed_points_generation{form}.png" for form in ("", "_eigenvalues")}
    assert ours <= pictures
    assert "fixed_points.png" not in pictures
    assert ("bifurcation_generation/bifurcation_generation", "bifurcation_generation.png") in log.images
    groups = {name.partition("/")[0] for name in log.metrics if "/" in name} - {"train", "val"}
    assert groups == set(names)
    assert set(modes[1].seconds) == {"bifurcation_generation", "drawing"}


def test_a_feedback_may_be_given_where_the_task_has_none(tmp_path):
    """Fed with nothing, it is the network under no input."""
    task = Sine(num_sequences=4, length=8, batch_size=2, num_probes=3)
    options = {"every": 9, "samples": 2, "steps": 5, "burn_in": 3, "draw": None}
    silent = Bifurcation(generation=lambda y, u: 0 * u.expand(*y.shape[:-1], -1), **options)
    fit(tmp_path, task, Bifurcation(**options), silent, cell=Elman)
    held, left = (looks(tmp_path, f"bifurcation{mode}") for mode in ("", "_generation"))
    assert np.ptp(left.y.values, axis=1).max() < 1e-12 < np.ptp(held.y.values, axis=1).max()


def test_a_given_feedback_goes_before_the_tasks(tmp_path):
    options = {"every": 9, "samples": 2, "steps": 5, "burn_in": 3, "draw": None}
    silent = Bifurcation(generation=lambda y, u: 0 * y, **options)
    fit(tmp_path, TASKS["instead"](), Bifurcation(**options), silent)
    held, left = (looks(tmp_path, f"bifurcation{mode}") for mode in ("", "_generation"))
    np.testing.assert_allclose(left.y[:, :, :, 1:], held.y[:, :, :, 1:], atol=1e-12)


def test_without_a_feedback_one_line_says_so(tmp_path):
    message = r"^generation=true is not possible with Sine, which does not tell what follows an output: train"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, Sine(num_sequences=4, length=8, batch_size=2), Bifurcation(generation=True))


def test_a_portrait_beside_the_tasks_own_is_refused(tmp_path):
    task = LineAttractor(num_sequences=4, num_validation=4, batch_size=2)
    message = "generation is not possible for a phase portrait beside the field of a LineAttractor"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, task, PhasePortrait(generation=lambda y, u: y))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", ["beside", "classes"])
def test_each_member_of_an_ensemble_hears_itself(tmp_path, alone, name):
    def outputs(system, x0):
        for _ in range(3):
            x0 = system.step(x0)
        axes = ("sample", "observable") if alone else ("probe", "sample", "observable")
        return xr.Dataset({"y": (axes, system.observe(x0).numpy())})

    task = TASKS[name]()
    callback = AnalysisCallback("end", outputs, every=9, samples=2, alone=alone, generation=True)
    learner, _ = fit(tmp_path, task, callback, epochs=2, ensemble=3)
    seen = looks(tmp_path, "end_generation")
    inputs, _ = task.probes()
    assert {"probe": len(inputs), "member": 3, "sample": 2}.items() <= dict(seen.sizes).items()
    for m, model in enumerate(freeze(learner.model).unstack()):
        for p, u in enumerate(inputs.double()):
            for s, x in enumerate(callback.initial_states(model.state_size)):
                expected = by_hand(model, name, u, x, 3)[-1]
                stored = seen.y.isel(epoch=-1, probe=p, member=m, sample=s)
                np.testing.assert_allclose(stored, expected, atol=1e-10)
    if alone:
        return
    apart = np.abs(seen.y.isel(epoch=-1).diff("member")).max()
    assert apart > 1e-3  # or the members would not have been told apart


def test_a_resumed_run_sees_what_the_unbroken_one_saw(tmp_path):
    options = {"every": 1, "samples": 2, "generation": True, "draw": None}
    task = TASKS["beside"]
    fit(tmp_path / "whole", task(), FixedPoints(**options), epochs=4)
    _, trainer = fit(tmp_path / "halves", task(), FixedPoints(**options), epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    fit(tmp_path / "halves", task(), FixedPoints(**options), epochs=4, ckpt_path=tmp_path / "half.ckpt")
    xr.testing.assert_identical(
        looks(tmp_path / "halves", "fixed_points_generation"),
        looks(tmp_path / "whole", "fixed_points_generation"),
    )


def contractive(**options):
    """h' = tanh(h / 2 - 2 y), y = 2 h, as `model._target_` for the command line."""
    model = RecurrentModel(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cell.weight_ih.fill_(-2.0)
        model.cell.weight_hh.fill_(0.5)
        model.readout.weight.fill_(2.0)
    return model


def test_both_modes_from_the_command_line_are_what_mathematics_says(cli, tmp_path):
    """Told nothing, h' = tanh(h / 2) rests at 0; left alone, h' = tanh(-3.5 h) jumps between two values."""
    kinds = ("bifurcation", "fixed_points", "lyapunov", "contraction", "attractors")
    code, _, err = cli(
        *("task=teacher_forced", "task.mode=instead", "task.task.num_sequences=4", "task.task.batch_size=4"),
        *("model=elman", f"model._target_={__name__}.contractive", "model.cell.hidden_size=1"),
        *("optim=adam", "optim.optimizer.lr=0.0", "trainer.max_epochs=1", "task.task.length=8"),
        *("callbacks=both_modes", "callbacks.attractors.samples=3", "callbacks.fixed_points.samples=3"),
        *("callbacks.lyapunov.steps=100", "callbacks.lyapunov.discard=100"),
        *("trainer=cpu", "logger=none", "run_dir=here"),
    )
    assert code == 0, err
    run = tmp_path / "here"
    modes = [f"{kind}{mode}" for kind in kinds for mode in ("", "_generation")]
    seen = {name: looks(run, name).isel(epoch=-1, probe=0) for name in modes}
    h = 1.0
    for _ in range(100):
        h = np.tanh(3.5 * h)
    held, left = seen["bifurcation"], seen["bifurcation_generation"]
    assert held.settled.all()
    assert left.settled.all()
    assert set(held.period.values.tolist()) == {1}
    assert set(left.period.values.tolist()) == {2}
    np.testing.assert_allclose(held.y, 0, atol=1e-6)
    np.testing.assert_allclose(
        np.sort(left.y[:, :2, 0]), [[-2 * h, 2 * h]] * left.sizes["sample"], rtol=1e-12
    )
    # the one fixed point of either, 0, attracts and repels; what is read off h adds an eigenvalue 0
    held, left = seen["fixed_points"], seen["fixed_points_generation"]
    assert (held.unstable.values.tolist(), left.unstable.values.tolist()) == ([0], [1])
    np.testing.assert_allclose(held.eigenvalue, [[0.5]], atol=1e-12)
    np.testing.assert_allclose(left.eigenvalue, [[-3.5, 0]], atol=1e-12)
    np.testing.assert_allclose(left.point, 0, atol=1e-12)
    held, left = seen["lyapunov"].exponent, seen["lyapunov_generation"].exponent
    assert held[0] == pytest.approx(np.log(0.5), abs=1e-6)
    assert left[0] == pytest.approx(np.log(3.5 * (1 - h**2)), abs=1e-6)
    # contractive as it is trained, certified; the loop stretches 3.5 times at 0
    held, left = seen["contraction"], seen["contraction_generation"]
    assert held.upper.values == pytest.approx(0.5, abs=1e-9)
    assert bool(held.contracting)
    assert float(left.upper.min()) >= 3.5
    assert not bool(left.contracting)
    held, left = seen["attractors"], seen["attractors_generation"]
    assert held.attractor_kind.values.tolist() == ["fixed point"]
    assert left.attractor_kind.values.tolist() == ["periodic orbit"]
    assert left.period.values.tolist() == [2]
    page = Page(run / "report.html")
    said = [row[1] for row in page.rows if row[0] == "silence"]
    assert said[0].startswith("fixed point y = ")
    assert said[1] == "period 2"
