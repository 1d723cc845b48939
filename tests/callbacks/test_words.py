"""Texts watched live: what the network really says, in its task's words, and training untouched."""

from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from callbacks import Words
from callbacks.words import SHOWN, summary, told
from datamodules import Sine
from rnnlab.autonomous import freeze
from rnnlab.cells import GRU, LSTM
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import TokenCrossEntropy
from rnnlab.report import write_report
from rnnlab.store import Store
from rnnlab.task import Probes, SequenceBatches, Task
from tests.trainers import quiet_trainer

LOOP = ("<unk>", "&", "$x$", "the", "<b>ham</b>")


class Rhyme(Task):
    """Says five words again and again, after a line of noise; a sixth word is never heard."""

    symbols = True
    vocabulary = (*LOOP, "never")
    input_size = output_size = len(vocabulary)
    objective = TokenCrossEntropy()

    def __init__(self, noise=False):
        super().__init__()
        self.baselines = {}
        generator = torch.Generator().manual_seed(3)
        text = (torch.arange(41)[:, None] + torch.arange(5)) % 5
        self.text = torch.randint(0, 6, (41, 5), generator=generator) if noise else text

    def train_dataloader(self):
        rank, world_size = self.share
        return SequenceBatches(self.text[:-1], self.text[1:], batch_size=5, rank=rank, world_size=world_size)

    def probes(self):
        return Probes(torch.tensor([5, 0, 3]), ("never", "<unk>", "the"))


def fit(folder, *callbacks, task=Rhyme, cell=GRU, epochs=4, lr=0.05, ckpt_path=None, save=None):
    pl.seed_everything(7, verbose=False)
    data = task()
    model = RecurrentModel(cell=partial(cell, hidden_size=8), tied=True, **data.shape)
    learner = SequenceLearner(model, data.objective, optimizer=partial(torch.optim.Adam, lr=lr))
    trainer = quiet_trainer(*callbacks, epochs=epochs, default_root_dir=folder)
    trainer.fit(learner, datamodule=data, ckpt_path=ckpt_path)
    if save is not None:
        trainer.save_checkpoint(save, weights_only=False)
    return learner, trainer


def looks(folder):
    return Store(folder / "analysis.zarr").read("words").load()


def watch(**options):
    return Words(**{"samples": 3, "steps": 120, "std": 2.0, **options})


@pytest.fixture(scope="module")
def rhymed(tmp_path_factory):
    """A network that has learned the rhyme, and its looks."""
    folder = tmp_path_factory.mktemp("rhyme")
    callback = watch(every=30)
    learner, _ = fit(folder, callback, epochs=60)
    return folder, callback, learner


def test_what_was_learned_by_heart_is_said_for_ever(rhymed):
    folder, _, _ = rhymed
    last = looks(folder).isel(epoch=-1)
    assert last.probe.values.tolist() == ["never", "<unk>", "the"]
    assert last.period.values.tolist() == 3 * [[5, 5, 5]]
    assert set(last.kind.values.flat) <= {"proven", "converging"}
    assert set(last.loop.values.flat) == {" ".join(LOOP)}
    # from zero, and once it has heard one word of the rhyme, it goes on as in the text
    assert last.transient.values[1:, 0].tolist() == [0, 0]
    assert last.opening.values[2, 0].split()[:3] == ["<b>ham</b>", "<unk>", "&"]
    assert len(last.opening.values[2, 0].split()) == SHOWN + 1


def test_what_is_stored_is_what_the_network_says_one_word_after_another(tmp_path):
    callback = watch(every=3, draw=None)
    learner, _ = fit(tmp_path, callback, task=partial(Rhyme, noise=True), cell=LSTM, epochs=3)
    model, seen = freeze(learner.model), looks(tmp_path)
    assert seen.epoch.values.tolist() == [0, 3]
    last = seen.isel(epoch=-1)
    states = callback.initial_states(model.state_size)
    assert states.dtype == torch.float64
    assert (states[0] == 0).all()
    assert states[1:].std() == pytest.approx(2.0, rel=0.4)
    for p, word in enumerate([5, 0, 3]):
        for s, x in enumerate(states):
            x, said = x[None], []
            symbol = torch.tensor([word])
            for _ in range(120):
                x = model.step(x, symbol)
                symbol = model.read(x).argmax(-1)
                said.append(symbol.item())
            assert last.symbol.values[p, s].tolist() == said
            words = [Rhyme.vocabulary[i] for i in said[:SHOWN]]
            assert last.opening.values[p, s] == " ".join(words) + " ..."
            if last.period[p, s] > 0:
                start, period = int(last.transient[p, s]), int(last.period[p, s])
                around = [Rhyme.vocabulary[i] for i in said[start : start + period]]
                assert sorted(last.loop.values[p, s].split()) == sorted(around)


def test_training_is_bit_equal_with_and_without_looking(tmp_path):
    watched, _ = fit(tmp_path / "watched", watch(every=1, draw=None), epochs=3)
    state = torch.get_rng_state()
    plain, _ = fit(tmp_path / "plain", epochs=3)
    assert torch.equal(state, torch.get_rng_state())
    for ours, theirs in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours.grad, theirs.grad)
    assert watched.training == plain.training


def test_a_resumed_run_sees_what_the_unbroken_one_saw(tmp_path):
    fit(tmp_path / "whole", watch(draw=None))
    checkpoint = tmp_path / "half.ckpt"
    fit(tmp_path / "broken", watch(draw=None), epochs=2, save=checkpoint)
    fit(tmp_path / "broken", watch(draw=None), ckpt_path=checkpoint)
    assert looks(tmp_path / "whole").sizes["epoch"] == 5
    xr.testing.assert_identical(looks(tmp_path / "broken"), looks(tmp_path / "whole"))


def test_figures_and_a_page_with_the_text_escaped(rhymed):
    folder, _, _ = rhymed
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["words.png", "words_loops.png"]
    page = write_report(folder).read_text(encoding="utf-8")
    assert "could not be shown" not in page
    assert "<td>&lt;unk&gt; &amp; $x$ the &lt;b&gt;ham&lt;/b&gt;</td>" in page
    assert "<b>" not in page[page.index("<h2>Words") : page.index("<h2>", page.index("<h2>Words") + 5)]


def test_tasks_without_words_are_refused_in_one_line(tmp_path):
    task = Sine(num_sequences=4, length=8, batch_size=2)
    model = RecurrentModel(1, 1, partial(GRU, hidden_size=2))
    learner = SequenceLearner(model, task.objective, optimizer=torch.optim.Adam)
    trainer = quiet_trainer(watch(), default_root_dir=tmp_path)
    with pytest.raises(ValueError, match=r"words is not possible with Sine, whose inputs are no") as caught:
        trainer.fit(learner, datamodule=task)
    assert "\n" not in str(caught.value)


def found(*texts, transient, period):
    return xr.Dataset(
        {
            "symbol": (("sample", "time"), list(texts)),
            "transient": ("sample", transient),
            "period": ("sample", period),
        }
    )


def test_equal_loops_are_equal_texts_wherever_they_begin():
    texts = [[2, 0, 1, 0, 3, 0, 1, 0, 3], [1, 0, 3, 0, 1, 0, 3, 0, 1], [3, 1, 2, 3, 1, 0, 0, -1, -1]]
    said = told(found(*texts, transient=[1, 0, -1], period=[4, 4, 0]), ["a", "b", "c", "d"])
    assert said.loop.values.tolist() == ["a b a d", "a b a d", ""]
    assert said.opening.values.tolist() == ["c a b a d a b a d", "b a d a b a d a b", "d b c d b a a"]
    numbers = told(found(*texts, transient=[1, 0, -1], period=[4, 4, 0]), ())
    assert numbers.loop.values.tolist() == ["0 1 0 3", "0 1 0 3", ""]


def test_long_texts_end_in_an_ellipsis():
    for length in (SHOWN - 1, SHOWN, SHOWN + 1):
        said = told(found(list(range(length)), transient=[0], period=[length]), [str(i) for i in range(99)])
        words = [str(i) for i in range(length)][:SHOWN] + ["..."] * (length > SHOWN)
        assert said.loop.item() == said.opening.item() == " ".join(words)


def test_scalars_for_the_log():
    look = xr.Dataset(
        {
            "symbol": (("probe", "sample", "time"), np.zeros((2, 3, 900), int)),
            "kind": (
                ("probe", "sample"),
                [["proven", "converging", "repeating"], ["undecided", "proven", "diverged"]],
            ),
            "period": (("probe", "sample"), [[2, 2, 4], [0, 2, 0]]),
            "transient": (("probe", "sample"), [[10, 20, 30], [-1, 5, -1]]),
            "loop": (("probe", "sample"), [["a b", "a c", "a a a d"], ["", "a b", ""]]),
        }
    )
    assert summary(look) == {
        "periodic": 4 / 6,
        "proven": 2 / 6,
        "words_before": 25.0,  # of 5, 10, 20, 30 and twice 900 or more
        "period": 2.0,
        "loops": 3.0,
    }
    none = look.isel(probe=[1], sample=[0])
    said = summary(none)
    assert (said["periodic"], said["words_before"], said["loops"]) == (0.0, 900.0, 0.0)
    assert np.isnan(said["period"])
