"""Teacher forcing tells what was wanted the step before, and its feedback closes the same loop."""

import math
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from torch import nn

from datamodules import CopyMemory, FlipFlop, Sine, Symbols, TeacherForced
from rnnlab.analysis import contraction, orbit
from rnnlab.autonomous import ClosedLoop, HeldInput, freeze
from rnnlab.cells import Elman
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from tests.trainers import quiet_trainer

sine = partial(Sine, num_sequences=6, length=9, batch_size=3)


@pytest.mark.parametrize("mode", ["beside", "instead"])
def test_inputs_are_the_targets_of_the_step_before(mode):
    plain, told = sine(), TeacherForced(sine(), mode=mode)
    for (us, ys), (inputs, targets) in zip(plain.train_dataloader(), told.train_dataloader(), strict=True):
        assert torch.equal(targets, ys)
        assert inputs.shape[2] == told.input_size == (2 if mode == "beside" else 1)
        assert torch.equal(inputs[1:, :, -1:], ys[:-1])
        assert (inputs[0, :, -1] == 0).all()
        if mode == "beside":
            assert torch.equal(inputs[..., :1], us)
    assert len(told.train_dataloader()) == 2
    assert told.val_dataloader() == []


def test_classes_are_told_as_one_hot_vectors():
    task = CopyMemory(symbols=2, delay=3, alphabet=2, num_sequences=4, num_validation=3, batch_size=4)
    told = TeacherForced(task)
    inputs, answers = next(iter(told.train_dataloader()))
    assert inputs.shape[2] == told.input_size == 4 + 3
    assert torch.equal(inputs[1:, :, 4:].argmax(-1), answers[:-1])
    assert torch.equal(inputs[1:, :, 4:].sum(-1), torch.ones(6, 4))
    assert told.input_norm == math.inf  # two one-hot vectors, side by side
    alone = TeacherForced(task, mode="instead")
    assert (alone.input_norm, alone.input_bound) == (1, 1)
    assert next(iter(alone.train_dataloader()))[0].abs().sum(-1).max() == 1
    (validation,) = told.val_dataloader()
    assert validation[0].shape == (7, 3, 7)


def test_feedback_is_what_is_told_when_the_network_is_right():
    told = TeacherForced(FlipFlop(num_sequences=2, batch_size=2, length=5))
    inputs, targets = next(iter(told.train_dataloader()))
    held = torch.cat((inputs[1, :, :3], torch.full((2, 3), 9.0)), -1)  # what stands for y is replaced
    assert torch.equal(told.feedback(targets[0], held), inputs[1])
    u = torch.arange(6.0)  # what is held stays as it is, for every row
    assert told.feedback(targets[0], u)[:, :3].tolist() == [[0, 1, 2], [0, 1, 2]]
    told = TeacherForced(
        CopyMemory(symbols=2, delay=3, alphabet=2, num_sequences=4, batch_size=4), mode="instead"
    )
    inputs, answers = next(iter(told.train_dataloader()))
    logits = 3.0 * nn.functional.one_hot(answers[3], 3) - 1
    assert torch.equal(told.feedback(logits, torch.zeros(3)), inputs[4])


def test_a_contractive_network_may_oscillate_when_it_hears_itself():
    """h' = tanh(-w y) / 2, y = c h: contractive under every held y, but its loop has a stable 2-cycle."""
    model = RecurrentModel(1, 1, partial(Elman, hidden_size=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cell.weight_ih.fill_(-2.0)
        model.cell.weight_hh.fill_(0.5)
        model.readout.weight.fill_(2.0)
    frozen = freeze(model)
    task = TeacherForced(sine(), mode="instead")
    inputs, _ = task.probes()
    x0 = torch.tensor([[0.3], [-0.2]]).double().expand(1, 2, 1)
    held = HeldInput(frozen, inputs[:, None])
    assert contraction(held, x0).upper.max().item() < 1
    rest = orbit(held, x0)
    assert rest.period.values.tolist() == [[1, 1]]
    loop = ClosedLoop(frozen, partial(task.feedback, u=inputs[:, None]))
    left = orbit(loop, loop.start(x0))
    assert left.settled.all()
    assert left.period.values.tolist() == [[2, 2]]
    assert abs(left.y[0, 0, 0, 0] - left.y[0, 0, 1, 0]) > 1


def test_it_is_trained_like_any_task(tmp_path):
    task = TeacherForced(sine())
    torch.manual_seed(0)
    model = RecurrentModel(task.input_size, task.output_size, partial(Elman, hidden_size=4))
    learner = SequenceLearner(model, task.objective, optimizer=partial(torch.optim.Adam, lr=0.01))
    trainer = quiet_trainer(epochs=2, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task)
    assert trainer.callback_metrics["train/loss"] < task.baselines["train/mse"] * 3


def test_what_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match="mode='both' is not possible"):
        TeacherForced(sine(), mode="both")
    with pytest.raises(ValueError, match="a Symbols is not possible: of 60 steps it asks at 1"):
        TeacherForced(Symbols(length=60))


def test_the_command_line_chooses_the_task_within():
    with initialize_config_module("conf", version_base="1.3"):
        options = ["task=teacher_forced", "task@task.task=flip_flop", "task.mode=instead"]
        task = instantiate(compose("train", options).task)
    assert isinstance(task.task, FlipFlop)
    assert task.input_size == 3
