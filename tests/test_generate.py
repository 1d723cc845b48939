"""Text from a language model: against `Greedy`, against known probabilities, and as a person asks for it."""

import math
import re
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from scipy.stats import chisquare

import train
from rnnlab.autonomous import Greedy, freeze
from rnnlab.cells import LSTM
from rnnlab.generate import generate, main, read_prompt, typeset
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run
from tests.corpora import ROOT, write_corpus


def network(size=12, dtype=torch.float64, loud=3.0):
    torch.manual_seed(0)
    model = RecurrentModel(size, size, partial(LSTM, hidden_size=5), symbols=True, dropout=0.5)
    with torch.no_grad():
        model.readout.weight.mul_(100 * loud)
        model.encoder.weight.mul_(30)
    return model.to(dtype)


def always(probabilities, dtype=torch.float64):
    """A model whose next word has these probabilities, whatever came before."""
    model = network(len(probabilities)).to(dtype)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.copy_(torch.tensor(probabilities, dtype=torch.float64).log())
    return model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_temperature_zero_it_is_the_greedy_system(dtype):
    model = network(dtype=dtype)
    prompt = torch.randint(12, (3, 6), generator=seeded())
    said = generate(model, prompt, words=30, temperature=0)
    x = torch.zeros(6, 10, dtype=dtype)
    for word in prompt[:-1]:
        x = model.step(x, word)
    greedy = Greedy(model)
    x = greedy.start(x, prompt[-1])
    with torch.no_grad():
        for words in said:
            assert torch.equal(words, greedy.symbol(x))
            x = greedy.step(x)
    assert len(said.unique()) > 3
    assert said.dtype == torch.int64
    assert not torch.equal(said[:, 0], said[:, 1])


def test_of_words_that_are_equally_likely_the_first_is_the_likeliest():
    prompt = torch.zeros(1, 2, dtype=torch.int64)
    said = generate(always([0.1, 0.4, 0.1, 0.4]), prompt, words=5, temperature=0)
    assert (said == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.0, 3.0, math.inf])
def test_words_come_as_often_as_the_softmax_says(dtype, temperature):
    p = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
    prompt = torch.zeros(1, 200, dtype=torch.int64)
    model = always(p.tolist(), dtype)
    said = generate(model, prompt, words=100, temperature=temperature, generator=seeded(3))
    counts = said.flatten().bincount(minlength=5)
    expected = p ** (1 / temperature)
    expected = expected / expected.sum() * counts.sum()
    # of ten such tests one in a hundred thousand fails by chance; the seed is fixed
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-6
    # words of one text and of several do not depend on each other
    pairs = (5 * said[:-1] + said[1:]).flatten().bincount(minlength=25)
    joint = torch.outer(expected, expected).flatten() / expected.sum() ** 2 * pairs.sum()
    assert chisquare(pairs.numpy(), joint.numpy()).pvalue > 1e-6


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_close_to_temperature_zero_it_is_the_likeliest(temperature):
    model, prompt = network(dtype=torch.float32), torch.tensor([[0, 1, 2]])
    cold = generate(model, prompt, words=20, temperature=temperature, generator=seeded())
    assert torch.equal(cold, generate(model, prompt, words=20, temperature=0))


def test_the_words_said_are_heard():
    # the probability of a whole text, word by word, is what a run over it says
    model, prompt = network(4, loud=0.3), torch.tensor([[1], [2]]).expand(2, 4000)
    said = generate(model, prompt, words=2, temperature=1.0, generator=seeded())
    logits, _ = model.eval()(torch.tensor([[1] * 4, [2] * 4, [0, 1, 2, 3]]))
    first, second = logits[1, 0].softmax(-1), logits[2].softmax(-1)
    expected = (first[:, None] * second).flatten().detach() * 4000
    counts = (4 * said[0] + said[1]).bincount(minlength=16)
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-6
    assert (second[0] - second[1]).abs().max() > 0.1


def test_nothing_is_changed_and_the_seed_decides():
    model, prompt = network().train(), torch.tensor([[0] * 3])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    one, again, other = (
        generate(model, prompt, words=20, temperature=1.0, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one[:, 0], one[:, 1])
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature=-0.1 is not possible"),
        ({"temperature": math.nan}, "temperature=nan is not possible"),
        ({"words": 0}, "words=0 is not possible"),
        ({"prompt": torch.zeros(0, 2, dtype=torch.int64)}, r"prompt of shape \(0, 2\) is not possible"),
    ],
)
def test_what_is_not_possible(options, message):
    options = {"prompt": torch.zeros(1, 2, dtype=torch.int64), "words": 3, "temperature": 1.0} | options
    with pytest.raises(ValueError, match=message):
        generate(network(), options.pop("prompt"), **options)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_outputs_that_are_no_numbers_are_refused(temperature):
    model = network()
    model.readout.bias.data[3] = math.nan
    with pytest.raises(ValueError, match="outputs are no finite numbers"):
        generate(model, torch.tensor([[0]]), words=1, temperature=temperature)


@pytest.mark.parametrize(
    ("text", "numbers", "unknown"),
    [
        ("a b", [2, 3], []),
        ("  a\tb ", [2, 3], []),
        ("a\nb", [2, 1, 3], []),
        ("a\r\n\nb\n", [2, 1, 1, 3, 1], []),
        ("<eos>", [1], []),
        ("\n", [1], []),
        ("a, b c c", [0, 3, 0, 0], ["a,", "c"]),
    ],
)
def test_a_prompt_is_read_as_the_corpus_is(text, numbers, unknown):
    assert read_prompt(text, ("<unk>", "<eos>", "a", "b")) == (numbers, unknown)


def test_text_is_set_in_lines():
    words = ["<eos>", "=", "A", "=", "<eos>", "<eos>", "one", "two", "three", "@-@", "four", "<eos>"]
    assert typeset(words, 80) == "= A =\n\none two three @-@ four"
    assert typeset(words, 13) == "= A =\n\none two three\n@-@ four"


# from a run


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run whose data is gone."""
    folder = tmp_path_factory.mktemp("language")
    texts = write_corpus(folder / "texts")
    options = [f"task.data_dir={texts}", f"task.cache_dir={folder / 'cache'}", "task.allow_other_corpus=true"]
    options += ["task.batch_size=4", "task.eval_batch_size=4", "task.steps=20", "model.cell.hidden_size=6"]
    options += ["model.tied=true", "logger=none", "callbacks=none", "trainer=cpu", "trainer.max_epochs=2"]
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("train", ["task=wikitext2", *options, "checkpoint.keep=1", f"run_dir={folder / 'run'}"])
    OmegaConf.resolve(cfg)
    train.run(cfg)
    for path in (*texts.iterdir(), *(folder / "cache").rglob("*")):
        if path.is_file():
            path.unlink()
    return folder / "run"


@pytest.fixture
def ask(run_dir, capsys, monkeypatch):
    """Calls the command line; gives exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "60")

    def call(*arguments, folder=run_dir):
        code = main([str(folder), *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_run_speaks_without_its_data(ask, run_dir):
    code, out, err = ask("--prompt", "the crab", "--words", "40")
    assert (code, err) == (0, "")
    run = open_run(run_dir)
    ids = [run.vocabulary.index(word) for word in ("the", "crab")]
    said = generate(
        freeze(run.model),
        torch.tensor(ids)[:, None],
        words=40,
        temperature=0.8,
        generator=torch.Generator().manual_seed(0),
    )
    words = " ".join(run.vocabulary[number] for number in said[:, 0]).replace("<eos>", " ")
    assert out.split() == ["the", "crab", *words.split()]
    assert max(map(len, out.splitlines())) <= 60
    assert ask("--prompt", "the crab", "--words", "40")[1] == out
    assert ask("--prompt", "the crab", "--words", "40", "--seed", "1")[1] != out


def test_samples_and_the_default_prompt(ask):
    code, out, err = ask("--samples", "3", "--words", "20")
    assert (code, err) == (0, "")
    texts = out.split("* * *")
    assert len(texts) == 3
    assert len(set(texts)) == 3
    cold = ask("--samples", "3", "--temperature", "0")[1].split("\n\n* * *\n\n")
    assert len({text.strip() for text in cold}) == 1


def test_each_checkpoint_has_its_say(ask, run_dir):
    options = ("--temperature", "0.5", "--words", "60")
    last = ask("--checkpoint", "last", *options)[1]
    assert ask("--checkpoint", "2", *options)[1] == last
    assert ask("--checkpoint", "0", *options)[1] != last


def test_unknown_words_are_named_in_one_line(ask):
    code, out, err = ask("--prompt", "the Crab, the zebra\nthe", "--words", "1", "--temperature", "0")
    assert code == 0
    assert err.splitlines()[0] == "not in the vocabulary, heard as <unk>: Crab, zebra"
    assert out.startswith("the <unk> the <unk>\nthe")


def test_the_likeliest_words_come_to_repeat_themselves(ask, run_dir):
    code, _, err = ask("--temperature", "0", "--words", "200", "--prompt", "the", "--samples", "2")
    assert code == 0
    first, period = map(
        int, re.fullmatch(r"it repeats itself from word (\d+) on, every (\d+) words?\n", err).groups()
    )
    run = open_run(run_dir)
    prompt = torch.tensor([[run.vocabulary.index("the")]])
    words = generate(freeze(run.model), prompt, words=200, temperature=0)[:, 0].tolist()
    assert words[first - 1 : -period] == words[first - 1 + period :]
    assert first == 1 or words[first - 2] != words[first - 2 + period]
    assert all(words[-p:] != words[-2 * p : -p] for p in range(1, period))
    assert "not come to repeat itself within 1 words" in ask("--temperature", "0", "--words", "1")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", ""), "prompt='' is not possible: give at least one word, or leave it out."),
        (("--prompt", "  "), "prompt='  ' is not possible"),
        (("--temperature", "-1"), "temperature=-1.0 is not possible: give 0 or a positive number."),
        (("--temperature", "nan"), "temperature=nan is not possible"),
        (("--words", "0"), "words=0 is not possible: give a whole number of at least 1."),
        (("--samples", "0"), "samples=0 is not possible"),
        (("--seed", "-1"), "seed=-1 is not possible"),
        (("--checkpoint", "bset"), "checkpoint=bset is not possible: give best, last or a number of epochs."),
        (("--checkpoint", "7"), "was not kept: there is 0, 1, 2."),
    ],
)
def test_bad_input_gets_one_line(ask, arguments, message):
    code, out, err = ask(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_the_documentation_s_example(run_dir, capsys):
    page = (ROOT / "docs" / "language_model.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found = {}
    exec(block.replace('"RUN_DIR"', repr(str(run_dir))), found)
    assert found["said"].shape == (100, 5)
    assert len(capsys.readouterr().out.split()) == 100


def copied(run_dir, target):
    """The run without its checkpoints."""
    target.mkdir()
    for name in ("config.yaml", "status.json", "vocabulary.txt"):
        (target / name).write_bytes((run_dir / name).read_bytes())
    return target


def test_broken_runs_get_one_line(ask, run_dir, tmp_path):
    broken = copied(run_dir, tmp_path / "broken")

    def says(message):
        code, out, err = ask(folder=broken)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1

    says("best.ckpt does not exist")
    (broken / "checkpoints").symlink_to(run_dir / "checkpoints")
    words = (broken / "vocabulary.txt").read_bytes()
    size = words.count(b"\n")
    for text, count in ((b"", 0), (words + b"more\n", size + 1), (words.rstrip(b"\n"), size - 1)):
        (broken / "vocabulary.txt").write_bytes(text)
        says(f"vocabulary.txt has {count} words, the network {size}")
    (broken / "vocabulary.txt").write_bytes(words[:-3] + b"\xff\n")
    says("vocabulary.txt is not UTF-8")
    (broken / "vocabulary.txt").unlink()
    says("is no run of a language model: it has no vocabulary.txt")
    (broken / "config.yaml").unlink()
    says("holds no run")
