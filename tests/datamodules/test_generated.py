"""The tasks of memory are what their papers say, read off the sequences themselves."""

import itertools
import math

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from datamodules import Adding, CopyMemory, FlipFlop, Symbols
from rnnlab.objectives import CrossEntropy, LastStep, MeanSquaredError

TASKS = (Adding, CopyMemory, FlipFlop, Symbols)
every_task = pytest.mark.parametrize("kind", TASKS)


# what all have in common


@every_task
def test_sizes_are_known_before_data_are_made_and_are_those_of_the_batches(kind):
    task = kind(num_sequences=30, num_validation=20, batch_size=15)
    batches = list(task.train_dataloader())
    assert len(batches) == 2
    for inputs, targets in (*batches, *task.val_dataloader()):
        assert inputs.dtype == torch.float32
        assert inputs.shape[0] == task.length
        assert inputs.shape[2] == task.input_size
        assert targets.shape[1] == inputs.shape[1]
        assert torch.linalg.vector_norm(inputs, task.input_norm, -1).max() <= task.input_bound
        logits = torch.randn(*inputs.shape[:2], task.output_size)
        scores = task.objective(logits, targets)
        assert math.isfinite(scores["loss"].item())


@every_task
def test_the_seed_decides_and_the_parts_have_streams_of_their_own(kind):
    task = kind(num_sequences=30, num_validation=20, batch_size=10)
    for part in ("train", "val"):
        for a, b in zip(
            task.sequences(part),
            kind(num_sequences=30, num_validation=20, batch_size=5).sequences(part),
            strict=True,
        ):
            assert torch.equal(a, b)
    assert not torch.equal(task.sequences()[0], kind(num_sequences=30, batch_size=10, seed=1).sequences()[0])
    same = kind(num_sequences=20, num_validation=20, batch_size=10)
    assert not torch.equal(same.sequences()[0], same.sequences("val")[0])
    longer = kind(num_sequences=40, num_validation=20, batch_size=10)
    assert torch.equal(longer.sequences("val")[0], task.sequences("val")[0])


@every_task
def test_making_data_leaves_torchs_generator_alone(kind):
    before = torch.get_rng_state()
    kind(num_sequences=10, num_validation=10, batch_size=10).sequences()
    assert torch.equal(torch.get_rng_state(), before)


@every_task
def test_probes_are_inputs_with_names(kind):
    task = kind()
    inputs, names = task.probes()
    assert inputs.shape == (len(names), task.input_size)
    assert inputs.dtype == torch.float64
    assert len(set(names)) == len(names)


@every_task
@pytest.mark.parametrize("key", ["num_sequences", "num_validation", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_sizes_out_of_range_are_refused(kind, key, value):
    with pytest.raises(ValueError, match=f"{key}={value}"):
        kind(**{key: value})


@every_task
def test_other_bad_values_are_refused(kind):
    with pytest.raises(ValueError, match="seed=-1 is not possible"):
        kind(seed=-1)
    with pytest.raises(ValueError, match="batch_size=11 is not possible: there are 10 sequences"):
        kind(num_sequences=10, batch_size=11)


@pytest.mark.parametrize("name", ["adding", "copy_memory", "flip_flop", "symbols"])
def test_config_makes_the_defaults(name):
    kind = {task.__name__.lower(): task for task in TASKS}[name.replace("_", "")]
    with initialize_config_module("conf", version_base="1.3"):
        task = instantiate(compose("train", [f"task={name}"]).task)
    assert type(task) is kind
    for a, b in zip(task.sequences(), kind().sequences(), strict=True):
        assert torch.equal(a, b)
    logits = torch.randn(task.length, task.num_sequences, task.output_size)
    scores, own = (t.objective(logits, task.sequences()[1]) for t in (task, kind()))
    assert scores == own


# symbols


def test_relevant_symbols_stand_where_they_may_and_make_the_class():
    task = Symbols(num_sequences=400, length=60)
    inputs, classes = task.sequences()
    symbols = inputs.argmax(-1)
    assert torch.equal(inputs.sum(-1), torch.ones(60, 400))
    assert classes.shape == (1, 400)
    seen = set()
    for sequence, number in zip(symbols.T.tolist(), classes[0].tolist(), strict=True):
        places = [place for place, symbol in enumerate(sequence, 1) if symbol < 2]
        assert len(places) == 2
        assert 10 <= places[0] <= 18
        assert 40 <= places[1] <= 49
        assert number == 2 * sequence[places[0] - 1] + sequence[places[1] - 1]
        seen |= {("first", places[0]), ("second", places[1]), ("class", number)}
    every = [("first", i) for i in range(10, 19)] + [("second", i) for i in range(40, 50)]
    assert seen == {*every, *(("class", i) for i in range(4))}
    assert set(symbols.flatten().tolist()) == set(range(6))


def test_the_baseline_answers_p_p():
    task = Symbols()
    for part in ("train", "val"):
        share = (task.sequences(part)[1] == 0).double().mean().item()
        assert task.baselines[f"{part}/accuracy"] == pytest.approx(share)
        assert share == pytest.approx(0.25, abs=0.05)


def test_every_symbol_is_a_probe():
    inputs, names = Symbols().probes()
    assert torch.equal(inputs, torch.eye(6).double())
    assert names == ("p", "q", "a", "b", "c", "d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 48}, "with length=48"),
        ({"first": (0, 18)}, r"first=\[0, 18\]"),
        ({"first": (18, 10)}, r"first=\[18, 10\]"),
        ({"first": (10, 40)}, r"first=\[10, 40\]"),
        ({"second": (40, 101)}, r"second=\[40, 101\]"),
        ({"second": (40.0, 49)}, r"second=\(40\.0, 49\)"),
        ({"first": (10,)}, r"first=\(10,\)"),
    ],
)
def test_places_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Symbols(**options)


# copy memory


def test_what_was_shown_is_to_be_said_after_the_signal():
    task = CopyMemory(symbols=4, delay=7, alphabet=3, num_sequences=50, batch_size=50)
    inputs, answers = task.sequences()
    assert task.length == 15
    symbols = inputs.argmax(-1)
    assert torch.equal(symbols[:4], answers[-4:])
    assert (symbols[4:10] == 3).all()
    assert (symbols[10] == 4).all()  # the delay is from the last symbol, step 4, to the signal, step 11
    assert (symbols[11:] == 3).all()
    assert (answers[:-4] == 3).all()
    assert set(symbols[:4].flatten().tolist()) == {0, 1, 2}


def test_the_baseline_is_what_blanks_and_guesses_cost():
    task = CopyMemory(symbols=4, delay=7, alphabet=3, num_sequences=50, batch_size=50)
    logits = torch.full((15, 50, 4), -1e3)
    logits[:-4, :, 3] = 0
    logits[-4:, :, :3] = 0
    scores = task.objective(logits, task.sequences()[1])
    assert scores["loss"].item() == pytest.approx(task.baselines["train/cross_entropy"], rel=1e-6)


# adding


def test_two_are_marked_one_in_each_half_and_their_sum_is_asked():
    numbers, marks = Adding(num_sequences=300, length=9).sequences()[0].unbind(-1)
    sums = Adding(num_sequences=300, length=9).sequences()[1]
    assert torch.equal(marks[:4].sum(0), torch.ones(300))
    assert torch.equal(marks[4:].sum(0), torch.ones(300))
    expected = [
        sum(x for x, m in zip(*row, strict=True) if m)
        for row in zip(numbers.T.tolist(), marks.T.tolist(), strict=True)
    ]
    assert sums[0, :, 0].tolist() == pytest.approx(expected)
    assert (marks.sum(1) > 0).all()  # every place is taken at times


def test_always_answering_one_costs_a_sixth():
    task = Adding(num_sequences=20_000, length=20)
    assert task.baselines["train/mse"] == pytest.approx(1 / 6, rel=0.03)
    with pytest.raises(ValueError, match="length=1 is not possible"):
        Adding(length=1)


# flip-flops


def test_outputs_keep_the_sign_of_the_last_pulse():
    inputs, memory = FlipFlop(num_sequences=20, batch_size=20, length=50).sequences()
    for sequence, wanted in zip(
        inputs.transpose(0, 1).tolist(), memory.transpose(0, 1).tolist(), strict=True
    ):
        state = [None] * 3
        for pulses, now in zip(sequence, wanted, strict=True):
            state = [p or s for p, s in zip(pulses, state, strict=True)]
            assert state == now
    assert (inputs[0] != 0).all()
    assert set(inputs.flatten().tolist()) == {-1.0, 0.0, 1.0}


def test_pulses_come_at_their_rate():
    inputs, _ = FlipFlop(num_sequences=500, length=201, rate=0.2).sequences()
    pulses = inputs[1:].abs().mean().item()
    assert pulses == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / inputs[1:].numel()))
    assert inputs[1:].mean().item() == pytest.approx(0, abs=4 * math.sqrt(0.2 / inputs[1:].numel()))


def test_probes_are_silence_and_every_pulse():
    inputs, names = FlipFlop(channels=2).probes()
    assert inputs.tolist() == [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]
    assert names == ("silence", "+1", "+2", "-1", "-2")


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, "often"])
def test_rates_that_are_no_probability_are_refused(rate):
    with pytest.raises(ValueError, match=f"rate={rate!r} is not possible"):
        FlipFlop(rate=rate)


# objectives


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_is_the_sum_of_minus_log_probabilities(reduction):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    classes = torch.randint(4, (5, 3), generator=generator)
    terms, right = [], []
    for t, b in itertools.product(range(5), range(3)):
        weights = logits[t, b].exp().tolist()
        terms.append(-math.log(weights[classes[t, b]] / sum(weights)))
        right.append(max(range(4), key=weights.__getitem__) == classes[t, b])
    scores = CrossEntropy(reduction=reduction)(logits, classes)
    assert scores["loss"].item() == pytest.approx(sum(terms) / (15 if reduction == "mean" else 1))
    assert scores["cross_entropy"].item() == pytest.approx(sum(terms) / 15)
    assert scores["accuracy"].item() == pytest.approx(sum(right) / 15)
    scored = CrossEntropy(reduction=reduction, scored=2)(logits, classes)
    assert scored["loss"] == scores["loss"]
    assert scored["accuracy"].item() == pytest.approx(sum(right[-6:]) / 6)


def test_the_last_step_is_all_that_counts():
    logits = torch.randn(5, 3, 4)
    classes = torch.tensor([[0, 1, 2]])
    objective = LastStep(CrossEntropy(reduction="sum"))
    assert objective.reduction == "sum"
    before = objective(logits, classes)
    logits[:-1] = 7.0
    assert objective(logits, classes) == before
    assert LastStep(MeanSquaredError())(torch.ones(5, 2, 1), torch.zeros(1, 2, 1))["mse"].item() == 1.0


def test_bad_objectives_are_refused():
    with pytest.raises(ValueError, match="reduction='max' is not possible"):
        CrossEntropy(reduction="max")
    with pytest.raises(ValueError, match="scored=0 is not possible"):
        CrossEntropy(scored=0)
