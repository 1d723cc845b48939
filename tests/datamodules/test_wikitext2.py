"""The language task: its words, batches and probes, on texts made here and on the real one where it is."""

import math
import re
from collections import Counter

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from datamodules import WikiText2
from datamodules.text import read_words
from datamodules.wikitext2 import unigram_perplexities
from rnnlab.cells import LSTM
from rnnlab.model import RecurrentModel
from rnnlab.objectives import TokenCrossEntropy
from tests.corpora import ROOT, WORDS, real_data, write_corpus
from tests.trainers import quiet_trainer


@pytest.fixture
def folder(tmp_path):
    return write_corpus(tmp_path / "text")


@pytest.fixture
def make(folder, tmp_path):
    """A task on a text made here, with further options."""
    small = {"batch_size": 4, "eval_batch_size": 2, "steps": 7}
    given = {"data_dir": folder, "cache_dir": tmp_path / "cache", "allow_other_corpus": True}
    return lambda **options: WikiText2(**given | small | options)


def words_of(folder, part):
    return read_words(folder / f"{part}.txt")


# sizes, words, baselines


def test_it_is_a_task_of_symbols_that_goes_on(make):
    task = make()
    assert task.symbols
    assert task.contiguous
    assert task.input_size == task.output_size == len(task.vocabulary) == len(set(task.vocabulary))
    assert set(task.vocabulary) == {*WORDS, "=", "<eos>"}
    assert isinstance(task.objective, TokenCrossEntropy)


def test_batches_are_the_text(make, folder):
    task = make()
    eos = task.vocabulary.index("<eos>")
    for part, loader, columns in (
        ("train", task.train_dataloader(), 4),
        ("valid", task.val_dataloader(), 2),
        ("test", task.test_dataloader(), 2),
    ):
        inputs, targets = (torch.cat(side) for side in zip(*loader, strict=True))
        words = words_of(folder, part)
        asked = [task.vocabulary[n] for n in targets.T.flatten() if n != -100]
        assert asked == words[: len(words) // columns * columns if part == "train" else None]
        assert inputs.shape[1] == columns
        before = [task.vocabulary[n] for n in inputs.T.flatten()]
        assert before[0] == "<eos>"
        assert before[1 : len(asked)] == asked[:-1]
        assert (inputs[targets == -100] == eos).all()


def test_processes_share_the_columns(make, monkeypatch):
    task = make()
    whole = [next(iter(loader)) for loader in (task.train_dataloader(), task.val_dataloader())]
    shares = []
    for rank in range(2):
        monkeypatch.setattr(WikiText2, "share", (rank, 2))
        shares.append([next(iter(loader)) for loader in (task.train_dataloader(), task.val_dataloader())])
    for batch, *parts in zip(whole, *shares, strict=True):
        for side in (0, 1):
            assert torch.equal(batch[side], torch.cat([part[side] for part in parts], dim=1))
    monkeypatch.setattr(WikiText2, "share", (0, 4))
    task.train_dataloader()
    with pytest.raises(ValueError, match="eval_batch_size=2 can't be shared evenly by 4 processes"):
        task.val_dataloader()


def test_the_training_text_in_several_epochs(make):
    task = make(epochs_per_pass=3)
    whole, part = make().train_dataloader(), task.train_dataloader()
    assert len(part) == math.ceil(len(whole) / 3)
    assert len(task.val_dataloader()) == len(make().val_dataloader())
    part.set_epoch(2)
    assert torch.equal(list(part)[-1][1], list(whole)[-1][1])


def test_the_baseline_is_what_frequencies_cost(make, folder):
    counts = Counter(words_of(folder, "train"))
    total = sum(counts.values())
    baselines = make().baselines
    assert set(baselines) == {"train/perplexity", "val/perplexity", "test/perplexity"}
    for part, stage in (("train", "train"), ("valid", "val"), ("test", "test")):
        words = words_of(folder, part)
        nats = -sum(math.log(counts[word] / total) for word in words) / len(words)
        assert baselines[f"{stage}/perplexity"] == pytest.approx(math.exp(nats), rel=1e-12)


def test_a_uniform_text_has_the_perplexity_of_its_vocabulary():
    text = torch.arange(7, dtype=torch.int32)
    assert unigram_perplexities({"train": text, "valid": text, "test": text}, 7) == pytest.approx(
        {"train/perplexity": 7.0, "val/perplexity": 7.0, "test/perplexity": 7.0}
    )


def test_words_that_training_never_sees_are_unknown(make, folder):
    (folder / "train.txt").write_text("a b a\n", encoding="utf-8")
    for part in ("valid", "test"):
        (folder / f"{part}.txt").write_text("a z b\n", encoding="utf-8")
    task = make(batch_size=1)
    assert task.vocabulary == ("<unk>", "<eos>", "a", "b")
    assert [task.vocabulary[n] for n in task.parts["valid"]] == ["a", "<unk>", "b", "<eos>"]
    assert task.held == ("<eos>",)
    assert task.directions == ("<unk>",)
    assert set(task.baselines) == {"train/perplexity"}  # <unk> costs infinity


# what is looked at


def test_probes_are_held_words(make):
    inputs, names = make().probes()
    assert names == ("<eos>", "the")
    task = make(held=["Ōsaka", "1990", "<unk>"])
    inputs, names = task.probes()
    assert names == ("Ōsaka", "1990", "<unk>")
    assert inputs.dtype == torch.int64
    assert [task.vocabulary[n] for n in inputs] == list(names)


def test_excerpts_are_stretches_of_the_validation_text(make, folder):
    task = make(num_excerpts=3, excerpt_length=10)
    words = words_of(folder, "valid")
    inputs, names = task.excerpts()
    assert inputs.dtype == torch.int64
    assert inputs.shape == (3, 10)
    for row, name in zip(inputs, names, strict=True):
        start = int(name.removeprefix("valid from word ")) - 1
        assert [task.vocabulary[n] for n in row] == words[start : start + 10]
    assert len(set(names)) == 3
    assert make(num_excerpts=2, excerpt_length=10**6).excerpts().inputs.shape == (2, len(words) // 2)


def test_states_are_watched_by_their_mean_and_along_rows_of_the_softmax(make):
    task = make(directions=["is", "café"])
    shape = task.shape
    model = RecurrentModel(cell=lambda input_size: LSTM(input_size, 5), **shape).double()
    look, names = task.watch(model)
    assert names == ("mean", "is", "café")
    states = torch.randn(3, 2, model.cell.state_size, dtype=torch.float64)
    outputs = model.cell.output(states)
    seen = look(states)
    assert seen.shape == (3, 2, 3)
    for i in range(3):
        for j in range(2):
            h = outputs[i, j].tolist()
            assert seen[i, j, 0].item() == pytest.approx(sum(h) / len(h))
            for k, word in enumerate(("is", "café"), start=1):
                e = model.readout.weight[task.vocabulary.index(word)].tolist()
                along = sum(a * b for a, b in zip(e, h, strict=True)) / math.hypot(*e)
                assert seen[i, j, k].item() == pytest.approx(along)


def test_defaults_as_far_as_the_corpus_has_them(make):
    assert make().directions == ("is", "<unk>")
    assert make(directions=[]).directions == ()


# what is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"held": ["caf"]}, ValueError, r"held='caf' is not in the vocabulary. Did you mean café\?"),
        ({"held": ["xyzzy"]}, ValueError, "held='xyzzy' is not in the vocabulary. Give words of the"),
        ({"directions": ["Is", "cra"]}, ValueError, "directions='Is' is not in the vocabulary."),
        ({"held": "the"}, TypeError, "held='the' is not possible: give a list of words"),
        ({"held": [1990]}, TypeError, r"held=\[1990\] is not possible: give a list of words, numbers in"),
        ({"held": []}, ValueError, r"held=\[\] is not possible: give at least one word"),
        ({"steps": 0}, ValueError, "steps=0 is not possible"),
        ({"num_excerpts": 0}, ValueError, "num_excerpts=0 is not possible"),
        ({"batch_size": 10**5}, ValueError, "batch_size=100000 is not possible: the text of train has"),
        ({"eval_batch_size": 10**5}, ValueError, "eval_batch_size=100000 is not possible: the text of valid"),
        ({"data_dir": "nowhere"}, FileNotFoundError, "data_dir=nowhere is no folder"),
    ],
)
def test_options_that_are_not_possible(make, options, error, message):
    with pytest.raises(error, match=message) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_another_corpus_must_be_allowed(make, folder):
    with pytest.raises(
        ValueError, match=r"train.txt is not the text of WikiText-2 \(its SHA-256 is"
    ) as caught:
        make(allow_other_corpus=False)
    assert "task.allow_other_corpus=true" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [(b"", "is empty"), (b"\xff\xfe", "is not UTF-8")])
def test_texts_that_are_none(make, folder, text, message):
    (folder / "valid.txt").write_bytes(text)
    with pytest.raises(ValueError, match=f"valid.txt {message}"):
        make()


# in training


def composed(*overrides):
    with initialize_config_module("conf", version_base="1.3"):
        return compose("train", ["task=wikitext2", *overrides])


def test_config_makes_the_defaults(folder, tmp_path):
    given = [f"task.data_dir={folder}", f"task.cache_dir={tmp_path}", "task.allow_other_corpus=true"]
    task = instantiate(composed(*given, "task.batch_size=3", "task.held=[the, '<eos>']").task)
    own = WikiText2(data_dir=folder, cache_dir=tmp_path, allow_other_corpus=True, batch_size=3)
    assert task.held == ("the", "<eos>")
    for name in ("vocabulary", "directions", "steps", "eval_batch_size", "epochs_per_pass", "excerpt_length"):
        assert getattr(task, name) == getattr(own, name)


def test_the_guide_makes_a_corpus_of_a_book(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    book = ["The crab, a crab.", "", "The crab swims: once.", "A crab's crab."] * 2 + ["Never, a song."] * 2
    (tmp_path / "book.txt").write_text("\n".join(book), encoding="utf-8")
    guide = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        exec(block, {})
    lines = (tmp_path / "my_corpus" / "train.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "The crab , a crab ."
    assert lines[2] == "The crab <unk> <unk> <unk> ."
    assert capsys.readouterr().out.startswith("7 ('<unk>', '<eos>', ")


# the real one


def test_the_real_corpus_is_read_as_it_was_counted(tmp_path):
    task = WikiText2(data_dir=real_data("wikitext-2"), cache_dir=tmp_path)
    assert {part: len(words) for part, words in task.parts.items()} == {
        "train": 2_088_628,
        "valid": 217_646,
        "test": 245_569,
    }
    assert len(task.vocabulary) == 33_278
    assert round(task.baselines["val/perplexity"], 2) == 965.09
    assert round(task.baselines["test/perplexity"], 2) == 911.71
    assert task.directions == ("is", "Valkyria", "<unk>")
    assert sum((targets != -100).sum().item() for _, targets in task.val_dataloader()) == 217_646


def test_an_excerpt_of_the_real_corpus_is_learned_from(tmp_path):
    from rnnlab.learner import SequenceLearner

    task = WikiText2(
        data_dir=real_data("wikitext-2-mini"),
        cache_dir=tmp_path,
        allow_other_corpus=True,
        batch_size=20,
        steps=20,
    )
    model = RecurrentModel(cell=lambda input_size: LSTM(input_size, 16), embedding_size=8, **task.shape)
    learner = SequenceLearner(
        model,
        task.objective,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        carry_state=True,
    )
    trainer = quiet_trainer(epochs=1, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task)
    assert trainer.callback_metrics["val/perplexity"] < 0.5 * task.input_size
