"""Words in and out, carried states, dropout: model and learner against what is written out by hand."""

import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn
from torch.nn import functional as F

from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.ensemble import Ensemble
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import CrossEntropy, LinearOutputs, TokenCrossEntropy
from tests.languages import language, numbered
from tests.trainers import quiet_trainer

CELLS = [Elman, GRU, LSTM, StableLSTM, Orthogonal]


def network(size=11, cell=LSTM, hidden=6, **options):
    torch.manual_seed(1)
    return RecurrentModel(size, size, partial(cell, hidden_size=hidden), symbols=True, **options)


def some_words(size=11, time=9, batch=3):
    return torch.randint(size, (time, batch), generator=torch.Generator().manual_seed(2))


# the model


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"tied": True}, {"embedding_size": 4}, {"num_layers": 2}])
def test_a_run_over_words_is_step_after_step(cell, options):
    model, words = network(cell=cell, **options).double(), some_words()
    outputs, last = model(words)
    x = torch.zeros(3, model.state_size, dtype=torch.float64)
    for word, output in zip(words, outputs, strict=True):
        x = model.step(x, word)
        torch.testing.assert_close(model.read(x), output, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(x, last, rtol=1e-10, atol=1e-12)


def test_words_are_rows_of_the_embedding_and_of_the_readout():
    model, words = network(tied=True), some_words()
    features, _ = model.cell.scan(model.encoder.weight[words], torch.zeros(3, 12))
    torch.testing.assert_close(model(words)[0], features @ model.encoder.weight.T + model.readout.bias)


def test_outputs_that_are_not_multiplied_out_are_the_same():
    model, words = network(), some_words()
    outputs, x = model(words)
    unread, last = model.unread(words)
    torch.testing.assert_close(unread.features @ unread.weight.T + unread.bias, outputs)
    assert torch.equal(x, last)


@pytest.mark.parametrize("options", [{"tied": True}, {"embedding_size": 4, "num_layers": 2}])
def test_sizes_and_initial_values(options):
    model = network(400, hidden=30, **options)
    width = options.get("embedding_size", 30)
    assert model.encoder.weight.shape == (400, width)
    assert model.readout.weight.shape == (400, 30)
    assert not model.readout.bias.any()
    for weight in (model.encoder.weight, model.readout.weight):
        assert 0.099 < weight.abs().max() <= 0.1
        # a uniform number from -0.1 to 0.1 has variance 0.01 / 3; within five standard errors
        assert weight.var().item() == pytest.approx(0.01 / 3, rel=5 * math.sqrt(0.8 / weight.numel()))


def test_tied_weights_are_one_parameter_whose_gradient_is_that_of_both_places():
    tied, apart = network(tied=True).double(), network().double()
    apart.load_state_dict(tied.state_dict())
    assert len(list(apart.parameters())) == len(list(tied.parameters())) + 1
    words = some_words()
    for model in (tied, apart):
        model(words)[0].square().sum().backward()
    both = apart.encoder.weight.grad + apart.readout.weight.grad
    assert apart.encoder.weight.grad.abs().max() > 1e-3
    torch.testing.assert_close(tied.encoder.weight.grad, both)


@pytest.mark.parametrize("change", [copy.deepcopy, freeze, lambda model: model.double()])
def test_tied_weights_stay_one(change):
    model = change(network(tied=True))
    assert model.readout.weight is model.encoder.weight
    model.load_state_dict(network(tied=True).state_dict())
    assert model.readout.weight is model.encoder.weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.5}, "dropout=1.5 is not possible: give a number from 0 to below 1"),
        ({"dropout": 1.0}, "dropout=1.0 is not possible"),
        ({"dropout": -0.1}, "dropout=-0.1 is not possible"),
        ({"dropout": math.nan}, "dropout=nan is not possible"),
        ({"tied": True, "embedding_size": 5}, "the embedding is 11 x 5, the readout 11 x 6"),
        ({"symbols": False, "tied": True}, "tied=True, embedding_size=None is not possible"),
        ({"symbols": False, "embedding_size": 3}, "embedding_size=3 is not possible"),
        (
            {"encoder": torch.nn.Linear(11, 6)},
            "a Linear as encoder is not possible: the inputs .* are symbols",
        ),
    ],
)
def test_what_is_not_possible(options, message):
    with pytest.raises(ValueError, match=message):
        RecurrentModel(11, 11, partial(LSTM, hidden_size=6), **{"symbols": True, **options})


def test_an_ensemble_refuses_what_it_would_not_do():
    with pytest.raises(ValueError, match=r"dropout=0.5 is not possible for the members of an ensemble"):
        Ensemble([RecurrentModel(1, 1, partial(LSTM, hidden_size=6), dropout=0.5) for _ in range(2)])


# dropout


class Seen(nn.Module):
    """A cell's place: notes what comes in, shows ones."""

    state_size = output_size = 1000

    def initial_state(self, batch):
        return torch.zeros(batch, 1000)

    def scan(self, us, x0):
        self.us = us
        return torch.ones(*us.shape[:2], 1000), x0


def test_dropout_acts_before_the_first_and_after_the_last_layer_in_training_only():
    p = 0.3
    model = network(size=5, hidden=1000, dropout=p)
    model.cell, model.encoder.weight.data[:] = Seen(), 1.0
    words = torch.zeros(4, 50, dtype=torch.int64)
    model.train()
    features = model.unread(words)[0].features
    for values in (model.cell.us, features):
        kept = values != 0
        assert torch.allclose(values[kept], torch.tensor(1 / (1 - p)))
        # 200 000 draws: within five standard deviations
        share = kept.double().mean().item()
        assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / kept.numel())
    # not the same units at each step, nor in both places
    assert not torch.equal(model.cell.us[0], model.cell.us[1])
    assert not torch.equal(model.cell.us, features)
    model.eval()
    features = model.unread(words)[0].features
    assert torch.equal(model.cell.us, torch.ones_like(model.cell.us))
    assert torch.equal(features, torch.ones_like(features))


def test_looking_never_drops_anything():
    model, words = network(dropout=0.5, tied=True).train(), some_words()
    before = torch.get_rng_state()
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.step(x, words[0]), model.step(x, words[0]))
    assert torch.equal(model.read(x), model.read(x))
    frozen = freeze(model)
    assert torch.equal(frozen(words)[0], frozen(words)[0])
    HeldInput(frozen, words[0]).jacobian(x.double())
    assert torch.equal(torch.get_rng_state(), before)


def test_each_process_drops_other_units():
    masks, again = [], []
    for kept in (masks, again):
        for rank in range(3):
            learner = SequenceLearner(
                network(dropout=0.5).train(), TokenCrossEntropy(), optimizer=torch.optim.Adam
            )
            learner.trainer = SimpleNamespace(global_rank=rank, current_epoch=0)
            torch.manual_seed(5)  # as all processes do
            learner.on_train_start()
            kept.append(learner.model.dropout(torch.ones(200)) != 0)
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))
    for i in range(3):
        for j in range(i):
            # two fair coins agree in half of 200 places, give or take 7
            assert 60 < (masks[i] == masks[j]).sum() < 140


# what is certified


def brute_force(model, words, samples=400):
    """The largest growth of the distance of two states in the max norm of (h, c) under any of the words."""
    generator = torch.Generator().manual_seed(0)
    cell = model.cell
    n = cell.output_size
    f = cell.forget_bound
    h = torch.rand(2, samples, 1, n, generator=generator, dtype=torch.float64) * 2 - 1
    c = (torch.rand(2, samples, 1, n, generator=generator, dtype=torch.float64) * 2 - 1) / (1 - f)
    one, other = torch.cat((h, c), -1)
    apart = (one - other).abs().amax(-1)
    grown = (model.step(one, words) - model.step(other, words)).abs().amax(-1)
    return (grown / apart).max().item()


def test_the_stable_lstm_is_bound_by_the_longest_word_after_every_update(tmp_path):
    bounds = []

    class Watch(SequenceLearner):
        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            cell, rows = self.model.cell, self.model.encoder.weight.detach()
            bounds.append(cell.input_bound)
            assert cell.input_bound >= max(rows[i].abs().max().item() for i in range(len(rows)))
            # the forget gates under each word by itself, whatever h in [-1, 1]
            w, u = (weight.detach().double().chunk(4)[1] for weight in (cell.weight_hh, cell.weight_ih))
            b = (cell.bias_ih + cell.bias_hh).detach().double().chunk(4)[1]
            for row in rows.double():
                assert (w.abs().sum(1) + u @ row + b).sigmoid().max() < cell.forget_bound
            assert cell.certificates()["contraction"] < 1

    task = language(tmp_path)
    model = network(task.input_size, StableLSTM, tied=True)
    make = partial(torch.optim.Adam, lr=3e-2)
    learner = Watch(model, task.objective, optimizer=make, carry_state=True)
    quiet_trainer(epochs=2).fit(learner, datamodule=task)
    assert len(bounds) > 10
    assert bounds[-1] > 2 * bounds[0]  # words did grow
    factor = model.cell.certificates()["contraction"]
    assert brute_force(freeze(model), torch.arange(task.input_size)) <= factor < 1


@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_certified_of_a_loaded_network_is_of_its_own_words(layers):
    trained = network(cell=StableLSTM, num_layers=layers)
    with torch.no_grad():
        trained.encoder.weight[3, 2] = -7.0
    trained.constrain()
    loaded = network(cell=StableLSTM, num_layers=layers)
    nn.ModuleDict({"model": loaded}).load_state_dict(
        {f"model.{name}": value for name, value in trained.state_dict().items()}
    )
    cells = [model.cell if layers == 1 else model.cell.layers[0] for model in (loaded, trained)]
    assert [cell.input_bound for cell in cells] == [7.0, 7.0]
    assert cells[0].certificates() == cells[1].certificates()
    if layers == 2:
        assert loaded.cell.layers[1].input_bound == 1.0


# the objective


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_objective_is_torch_s_cross_entropy_of_the_words_that_are_asked(reduction):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 3, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (4, 3), generator=generator)
    targets[2:, 2] = -100
    logits = features @ weight.T + bias
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    for outputs in (logits, LinearOutputs(features, weight, bias)):
        scores = TokenCrossEntropy(reduction=reduction)(outputs, targets)
        torch.testing.assert_close(scores["loss"], nats if reduction == "sum" else nats / 10)
        torch.testing.assert_close(scores["cross_entropy"], nats / 10)
        assert scores["weight"].item() == 10


def test_a_batch_that_asks_nothing_counts_for_nothing():
    outputs = LinearOutputs(torch.ones(2, 3, 5), torch.ones(7, 5), None)
    scores = TokenCrossEntropy()(outputs, torch.full((2, 3), -100))
    assert {name: value.item() for name, value in scores.items()} == {
        "loss": 0,
        "cross_entropy": 0,
        "weight": 0,
    }


def test_perplexity():
    conclude = TokenCrossEntropy().conclude
    assert conclude({"cross_entropy": math.log(965.0)})["perplexity"] == pytest.approx(965.0)
    assert conclude({"cross_entropy": 1e6})["perplexity"] == math.inf


# the learner


class Rows(DummyLogger):
    """Keeps the rows it is given."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append(dict(metrics))


@pytest.mark.parametrize("tied", [False, True])
def test_an_epoch_is_truncated_backpropagation_with_the_state_carried(tmp_path, tied):
    task, clip = language(tmp_path, steps=5), 0.05
    logger = Rows()
    make = partial(torch.optim.Adam, lr=1e-2)
    learner = SequenceLearner(
        network(task.input_size, tied=tied), task.objective, optimizer=make, clip_norm=clip, carry_state=True
    )
    quiet_trainer(epochs=2, logger=logger, precision="64-true").fit(learner, datamodule=task)

    # torch's own modules, the text cut by hand
    text = numbered(tmp_path / "texts" / "train.txt", task.vocabulary)
    columns = len(text) // 4
    before = [task.vocabulary.index("<eos>"), *text]
    start = network(task.input_size, tied=tied).double()
    embedding = nn.Embedding(*start.encoder.weight.shape).double()
    lstm = nn.LSTM(6, 6).double()
    readout = nn.Linear(6, task.output_size).double()
    embedding.load_state_dict(start.encoder.state_dict())
    lstm.load_state_dict({f"{name}_l0": value for name, value in start.cell.state_dict().items()})
    readout.load_state_dict(start.readout.state_dict())
    if tied:
        readout.weight = embedding.weight
    parameters = list(nn.ModuleList([embedding, lstm, readout]).parameters())
    optimizer, losses = make(parameters), []
    for _ in range(2):
        state, total = None, 0.0
        for first in range(0, columns, 5):
            times = range(first, min(first + 5, columns))
            inputs = torch.tensor([[before[c * columns + t] for c in range(4)] for t in times])
            targets = torch.tensor([[text[c * columns + t] for c in range(4)] for t in times])
            outputs, state = lstm(embedding(inputs), state)
            state = tuple(part.detach() for part in state)
            loss = F.cross_entropy(readout(outputs).flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            total += loss.item() * targets.numel()
        losses.append(total / (4 * columns))
    assert [row["train/loss"] for row in logger.rows] == pytest.approx(losses, rel=1e-9)
    assert [row["train/perplexity"] for row in logger.rows] == pytest.approx(
        list(map(math.exp, losses)), rel=1e-9
    )
    ours = learner.model.state_dict()
    for name, value in readout.state_dict().items():
        torch.testing.assert_close(ours[f"readout.{name}"], value, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours["encoder.weight"], embedding.weight.data, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours["cell.weight_hh"], lstm.weight_hh_l0.data, rtol=1e-7, atol=1e-9)


def test_other_objectives_get_outputs_that_are_multiplied_out(tmp_path):
    task = language(tmp_path, objective=CrossEntropy())
    learner = SequenceLearner(
        network(task.input_size), task.objective, optimizer=torch.optim.Adam, carry_state=True
    )
    quiet_trainer(epochs=1, limit_train_batches=2, limit_val_batches=1).fit(learner, datamodule=task)
