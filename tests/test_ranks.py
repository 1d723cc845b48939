"""Several processes that share out a look see what one process sees."""

import math
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import xarray as xr

import callbacks
from callbacks import AnalysisCallback
from datamodules import FitzHughNagumo, Sine, TeacherForced
from rnnlab.analysis import orbit
from rnnlab.autonomous import ClosedLoop, freeze
from rnnlab.cells import GRU, Elman
from rnnlab.model import RecurrentModel
from rnnlab.shares import everyone, sharing
from rnnlab.store import Store
from tests.callbacks.test_language_looks import ABSTRACT, Text, speaker, text
from tests.ranks import on_ranks
from tests.test_train import LOOKS as LOOKED
from tests.test_train import SMALL, start

EPOCHS = (0, 1, 2)  # a look at each, the last one after a restart


def network(task, recurrent):
    """Three units whose weights of recurrence are these, and small random ones besides."""
    model = RecurrentModel(task.input_size, task.output_size, partial(Elman, hidden_size=3))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            if name.endswith("weight_hh"):
                parameter.copy_(torch.tensor(recurrent))
    return model


def turning(task, angle=0.9, gain=1.3, slow=0.98):
    """Two units go round: how long until it settles is up to the start, and where they are then to that."""
    c, s = gain * math.cos(angle), gain * math.sin(angle)
    return network(task, [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, slow]])


def resting(task):
    """With several fixed points."""
    return network(task, [[1.6, 0.2, 0.0], [0.0, 1.4, -0.3], [0.1, 0.0, 0.7]])


def planar(task):
    torch.manual_seed(4)
    return RecurrentModel(task.input_size, task.output_size, partial(GRU, hidden_size=2))


def wide(task):
    """More units than a power method carries vectors, so that it has to find out when it is done."""
    torch.manual_seed(1)
    model = RecurrentModel(task.input_size, task.output_size, partial(Elman, hidden_size=16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def three():
    return Sine(num_sequences=7, length=24, batch_size=4, num_probes=3)


def one():
    return TeacherForced(three(), mode="instead")


def field():
    return FitzHughNagumo(num_sequences=4, num_validation=4)


def language():
    return Text(text(80), held=(0, 1, 2), excerpts=[text(100, seed) for seed in (1, 2, 3)])


ALONE = {"generation": True}
LOOKS = {
    "Attractors": {"samples": 5, "max_burn_in": 400},
    "Bifurcation": {"samples": 5, "std": 1.0, "steps": 70, "max_burn_in": 2000},
    "Contraction": {"samples": 3, "steps": 12},
    "FixedPoints": {"samples": 5},
    "GradientFlow": {"sequences": 5, "max_lag": 9, "moments": 3},
    "Lyapunov": {"samples": 3, "count": 2, "steps": 60, "discard": 20},
    "PhasePortrait": {"samples": 3, "steps": 20, "resolution": 5},
    "Smoothness": {"sequences": 5, "points": 3, "rays": 1},
    "Words": {"samples": 3, "steps": 40},
}
CASES = {  # what looks, how, at which task's network
    "attractors": ("Attractors", {}, three, resting),
    "attractors that turn": ("Attractors", {}, three, turning),
    "attractors of one probe": ("Attractors", ALONE, one, resting),
    "bifurcation": ("Bifurcation", {}, three, partial(turning, angle=0.4 * math.pi, gain=1.2, slow=0.95)),
    "bifurcation of one probe": ("Bifurcation", ALONE, one, turning),
    "bifurcation of one row": ("Bifurcation", ALONE | {"samples": 1}, one, turning),
    "bifurcation of words": ("Bifurcation", ALONE, language, None),
    "contraction": ("Contraction", {}, three, resting),
    "contraction of one probe": ("Contraction", ALONE, one, resting),
    "fixed points": ("FixedPoints", {}, three, resting),
    "fixed points of one probe": ("FixedPoints", ALONE, one, resting),
    "gradient flow": ("GradientFlow", {}, three, wide),
    "lyapunov": ("Lyapunov", {}, three, turning),
    "lyapunov of one probe": ("Lyapunov", ALONE, one, turning),
    "lyapunov driven": ("Lyapunov", {"driven": True}, language, None),
    "phase portrait": ("PhasePortrait", {}, field, planar),
    "phase portraits": ("PhasePortrait", {}, three, resting),
    "smoothness": ("Smoothness", {}, three, turning),
    "words": ("Words", {}, language, None),
}


SIZES = {2: list(CASES), 3: [case for case in CASES if case.endswith((" of one probe", " of one row"))]}


def test_no_callback_is_forgotten_here():
    kinds = {name for name in callbacks.__all__ if issubclass(getattr(callbacks, name), AnalysisCallback)}
    assert kinds - ABSTRACT == {kind for kind, *_ in CASES.values()} == set(LOOKS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": "rows"}, "share='rows' is not possible: give probe, row or inside."),
        (
            {"share": "row", "alone": True},
            "share='row' is not possible with warm or alone, which are of whole",
        ),
        (
            {"share": "row", "warm": dict},
            "share='row' is not possible with warm or alone, which are of whole",
        ),
    ],
)
def test_what_cannot_be_shared_so_is_refused_in_one_line(options, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        AnalysisCallback("orbit", orbit, **options)


def test_rows_that_are_none_are_refused_by_one_process_too(tmp_path):
    """A mean over the samples would be that of one row."""
    task = three()

    def mean(system, x0):
        return xr.Dataset(
            {"mean": ("probe", x0.mean((1, 2)).numpy()), "x": (("probe", "sample"), x0[..., 0])}
        )

    module = SimpleNamespace(model=resting(task), device=torch.device("cpu"), objective=task.objective)
    callback = AnalysisCallback("mean", mean, share="row")
    callback.setup(Ranks(tmp_path, task), module, "fit")
    message = "share='row' is not possible for mean with the axes ('probe',): give (probe, sample, ...) and"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        callback.look(Ranks(tmp_path, task), module, 0)


class Ranks(SimpleNamespace):
    """As much of a trainer as a look asks for, on one of several processes."""

    def __init__(self, folder, task):
        rank = dist.get_rank() if dist.is_initialized() else 0
        super().__init__(
            default_root_dir=folder,
            datamodule=task,
            is_global_zero=not rank,
            current_epoch=0,
            max_epochs=9,
            loggers=[],
        )


def everything(folder):
    """Look at all there is three times: at first, after a step of training, and after a restart."""
    for case in SIZES[dist.get_world_size() if dist.is_initialized() else 2]:
        kind, options, make_task, make_model = CASES[case]
        task = make_task()
        model = speaker() if make_model is None else make_model(task)
        module = SimpleNamespace(model=model, device=torch.device("cpu"), objective=task.objective)
        trainer = Ranks(folder / case, task)
        for epoch in EPOCHS:
            trainer.current_epoch = epoch if epoch == EPOCHS[-1] else 0
            if epoch in (EPOCHS[0], EPOCHS[-1]):
                callback = getattr(callbacks, kind)(draw=None, **LOOKS[kind] | options)
                callback.setup(trainer, module, "fit")
                with sharing():
                    everyone("here")  # as the trainer waits for all before it starts
                callback.on_train_start(trainer, module)
            if epoch:
                callback.look(trainer, module, epoch + 1)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.001)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A folder with what one process sees in `1`, two in `2`, three in `3`."""
    folder = tmp_path_factory.mktemp("ranks")
    everything(folder / "1")
    on_ranks(everything, folder, *SIZES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("size", "case"), [(size, case) for size in SIZES for case in SIZES[size]])
def test_several_processes_see_what_one_sees(seen, size, case):
    stores = [Store(seen / str(number) / case / "analysis.zarr") for number in (1, size)]
    (name,) = stores[0].names
    assert stores[1].names == (name,)
    ours, theirs = (store.read(name).load() for store in stores)
    assert ours.epoch.values.tolist() == theirs.epoch.values.tolist() == [0, 2, 3]
    assert ours.sizes == theirs.sizes
    assert ours.attrs == theirs.attrs
    assert set(ours.variables) == set(theirs.variables)
    for key in ours.variables:
        a, b = ours[key], theirs[key]
        assert (a.dims, a.attrs) == (b.dims, b.attrs), key
        if a.dtype.kind in "fc":
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=key)
        else:
            assert a.values.tolist() == b.values.tolist(), key


@pytest.mark.slow
def test_a_store_that_cannot_be_written_ends_all_ranks_with_one_line(tmp_path):
    Store(tmp_path / "here" / "analysis.zarr").append("other", xr.Dataset({"x": 1.0}), epoch=0)
    (tmp_path / "here" / "analysis.zarr" / "bifurcation").write_text("in the way")
    looks = ("callbacks=bifurcation", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=2")
    process = start(*SMALL, *LOOKED, *looks, "logger=none", "run_dir=here", cwd=tmp_path)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 1
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    assert "cannot write the analysis store" in errors[0]
    assert "Traceback" not in output


@pytest.mark.slow
def test_orbits_wait_for_those_of_other_processes(seen):
    """Left to themselves some would be recorded from an earlier time: nothing above would be equal."""
    task = one()
    model, options = freeze(turning(task)), LOOKS["Bifurcation"]
    callback = callbacks.Bifurcation(generation=True, **options)
    loop = ClosedLoop(model, partial(task.feedback, u=task.probes().inputs.double()))
    starts = loop.start(callback.initial_states(3))
    burn_ins = [
        int(orbit(loop, x, steps=1, max_period=0, max_burn_in=2000, tolerance=1e-4).burn_in)
        for x in starts.split(1)
    ]
    assert max(burn_ins[1::2]) < max(burn_ins)  # the second process's
    look = Store(seen / "2" / "bifurcation of one probe" / "analysis.zarr").read("bifurcation_generation")
    assert set(look.burn_in.isel(epoch=0).values.flat) == {max(burn_ins)}
