"""Looks at networks of words: held, fed back and driven by text, against what mathematics says of them."""

import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

import callbacks
from callbacks import AnalysisCallback, Bifurcation, Contraction, FixedPoints, Lyapunov
from callbacks.bifurcation import draw
from datamodules.contiguous import ContiguousBatches
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import LSTM, Cell, StableLSTM
from rnnlab.figures import bifurcation, lyapunov
from rnnlab.figures.modes import modes, modes_3d
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import TokenCrossEntropy
from rnnlab.report import words, write_report
from rnnlab.store import Store
from rnnlab.systems import Observed
from rnnlab.task import Probes, Task, Watched
from tests.test_report import Page
from tests.trainers import quiet_trainer

GAINS = torch.tensor([[0.5, 0.1], [1.2, 0.2], [-0.8, 0.3], [0.9, 0.05]]).double()  # of each word, (word, z)
NEXT = (1, 0, 2, 0)  # what is said after it: the words 0 and 1 in turn, or 2 for ever


class Gains(Cell):
    """z' = a_u z + 1 for word u, and the word itself: the derivative by z is the diagonal of a_u."""

    def __init__(self, input_size, words):
        super().__init__(input_size, 2 + words, words)
        self.shift = torch.nn.Parameter(torch.ones(2))

    def step(self, x, u):
        z = u[..., :2] * x[..., :2] + self.shift
        return torch.cat((z, u[..., 2:].expand(*z.shape[:-1], -1)), -1)

    def push(self, x, u, dx, du=None):
        dz = u[..., :2, None] * dx[..., :2, :]
        return self.step(x, u), torch.cat((dz, torch.zeros_like(dx[..., 2:, :])), -2)

    def output(self, x):
        return x[..., 2:]


def speaker(gains=GAINS, following=NEXT):
    """A network that says what `following` says, whatever z is."""
    count = len(gains)
    model = RecurrentModel(
        count, count, partial(Gains, words=count), symbols=True, embedding_size=2 + count
    ).double()
    with torch.no_grad():
        model.encoder.weight.copy_(torch.cat((gains, torch.eye(count)), 1))
        model.readout.weight.copy_(torch.eye(count)[list(following)].T)
        model.readout.bias.zero_()
    return model


class Text(Task):
    """A text of few words, two of which no picture nor page may read as formulas or tags."""

    symbols = contiguous = True

    def __init__(self, text, vocabulary=("$", "<unk>", "is", "the"), held=(0, 2), excerpts=None):
        super().__init__()
        self.text, self.vocabulary, self.held = torch.tensor(text), tuple(vocabulary), list(held)
        self.input_size = self.output_size = len(vocabulary)
        self.objective, self.baselines = TokenCrossEntropy(), {}
        self.stretches = excerpts

    def train_dataloader(self):
        return ContiguousBatches(self.text, start=0, columns=4, steps=10)

    def probes(self):
        return Probes(torch.tensor(self.held), tuple(self.vocabulary[i] for i in self.held))

    def excerpts(self):
        count = len(self.stretches)
        return Probes(torch.tensor(self.stretches), tuple(f"excerpt {i}" for i in range(count)))

    def watch(self, model):
        return Watched(lambda x: x[..., :2], ("$", "<unk>"))


def fit(tmp_path, task, *made, model=None, rate=0.0):
    torch.manual_seed(0)
    model = speaker() if model is None else model
    learner = SequenceLearner(model, task.objective, optimizer=partial(torch.optim.SGD, lr=rate))
    trainer = quiet_trainer(*made, epochs=1, default_root_dir=tmp_path)
    trainer.fit(learner, datamodule=task)


def looks(tmp_path, name):
    return Store(tmp_path / "analysis.zarr").read(name).load()


def text(length, seed=0, count=4):
    return np.random.default_rng(seed).integers(0, count, length).tolist()


def logarithms(said):
    """Mean of ln |a| of these words, `(z,)`, the larger first."""
    return GAINS[list(said)].abs().log().mean(0).numpy()


EXPONENTS = {"samples": 3, "count": 2, "steps": 300, "discard": 60, "every": 9, "draw": None}


def test_exponents_with_a_word_held_are_those_of_its_gains(tmp_path):
    fit(tmp_path, Text(text(80), held=range(4)), Lyapunov(**EXPONENTS))
    seen = looks(tmp_path, "lyapunov").isel(epoch=-1)
    np.testing.assert_allclose(seen.exponent, GAINS.abs().log(), atol=1e-9)
    assert not seen.attrs["driven"]


def test_exponents_in_generation_mode_are_those_of_the_loop(tmp_path):
    fit(tmp_path, Text(text(80), held=[3, 2]), Lyapunov(generation=True, **EXPONENTS))
    seen = looks(tmp_path, "lyapunov_generation").isel(epoch=-1)
    np.testing.assert_allclose(seen.exponent[0], logarithms([0, 1]), atol=1e-9)
    np.testing.assert_allclose(seen.exponent[1], logarithms([2]), atol=1e-9)


def test_exponents_driven_by_text_are_sums_over_its_words(tmp_path):
    stretches = [text(400, seed) for seed in (1, 2)]
    task = Text(text(80), excerpts=stretches)
    fit(tmp_path, task, Lyapunov(driven=True, **(EXPONENTS | {"steps": None})))
    seen = looks(tmp_path, "lyapunov_driven").isel(epoch=-1)
    for p, stretch in enumerate(stretches):
        counts = np.bincount(stretch[60:], minlength=4) / 340
        np.testing.assert_allclose(seen.exponent[p], counts @ GAINS.abs().log().numpy(), atol=1e-9)
    assert seen.probe.values.tolist() == ["excerpt 0", "excerpt 1"]
    assert seen.attrs["driven"]
    assert seen.time[-1] == 340


def test_the_error_of_a_text_is_that_of_its_words_however_many_read_it(tmp_path):
    """Words drawn independently: the error is the deviation of ln |a| over the root of their number."""
    stretch = text(2060)
    expected = GAINS[stretch].abs().log().std(0).numpy() / np.sqrt(2000)
    for samples in (1, 9):
        options = EXPONENTS | {"samples": samples, "steps": None}
        fit(tmp_path / str(samples), Text(text(80), excerpts=[stretch]), Lyapunov(driven=True, **options))
        error = looks(tmp_path / str(samples), "lyapunov_driven").isel(epoch=-1).standard_error.values[0]
        assert (error > 0.7 * expected).all()
        assert (error < 2.0 * expected).all()


def test_an_excerpt_too_short_is_one_line(tmp_path):
    message = r"^discard=60 and steps=300 are not possible: the sequence has 100 steps\.$"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, Text(text(80), excerpts=[text(100)]), Lyapunov(driven=True, **EXPONENTS))


def rest(word):
    """Where z rests with a word held."""
    return (1 / (1 - GAINS[word])).numpy()


def test_diagrams_are_those_of_the_words(tmp_path):
    options = {"every": 9, "samples": 3, "steps": 12, "draw": None, "tolerance": 1e-9}
    made = Bifurcation(**options), Bifurcation(generation=True, **options)
    fit(tmp_path, Text(text(80)), *made)
    held, left = (looks(tmp_path, made_.name).isel(epoch=-1) for made_ in made)
    for seen in (held, left):
        assert seen.observable.values.tolist() == ["$", "<unk>"]
        assert seen.settled.all()
    assert set(held.period.values.flat) == {1}
    for p, word in enumerate((0, 2)):
        assert (np.abs(held.y[p] - rest(word)) < 1e-7).all()
    assert left.period.values.tolist() == [[2] * 3, [1] * 3]
    # z' = a_0 (a_1 z + 1) + 1 after word 0, and the other way round
    a, b = GAINS[:2].numpy()
    turn = np.sort(np.stack([(a + 1) / (1 - a * b), (b + 1) / (1 - a * b)]), 0)
    np.testing.assert_allclose(np.sort(left.y[0, :, :2], 1), np.stack([turn] * 3), atol=1e-7)
    assert (np.abs(left.y[1] - rest(2)) < 1e-7).all()


def test_a_long_loop_is_found_where_one_looks_for_it(tmp_path):
    count = 40
    gains = 0.3 + 0.6 * torch.rand(count, 2, generator=torch.Generator().manual_seed(0)).double()
    task = partial(Text, text(80), [str(i) for i in range(count)])
    ring = [(i + 1) % count for i in range(count)]
    for name, options, period in (("short", {}, 0), ("long", {"steps": 100, "max_period": 50}, 40)):
        callback = Bifurcation(every=9, samples=2, generation=True, draw=None, **options)
        fit(tmp_path / name, task(), callback, model=speaker(gains, ring))
        seen = looks(tmp_path / name, "bifurcation_generation").isel(epoch=-1)
        assert seen.settled.all()
        assert set(seen.period.values.flat) == {period}


@pytest.mark.parametrize(
    "callback",
    [
        Bifurcation(every=9, samples=2, steps=30, burn_in=40, generation=True, draw=None),
        Lyapunov(**(EXPONENTS | {"steps": 50, "discard": 20}), generation=True),
    ],
    ids=["bifurcation", "lyapunov"],
)
def test_all_words_are_read_off_once_a_step_and_none_is_stored(tmp_path, callback, monkeypatch):
    reads, read = [], RecurrentModel.read
    monkeypatch.setattr(RecurrentModel, "read", lambda self, x: reads.append(x.shape) or read(self, x))
    fit(tmp_path, Text(text(80)), callback)
    looked = 2  # before and after the only epoch
    assert 70 * looked <= len(reads) <= 73 * looked  # a few to see that the system is one
    seen = looks(tmp_path, callback.name)
    assert seen.sizes.get("observable", 2) == 2
    assert "word" not in seen.dims


def test_fixed_points_are_words_held_or_said_for_ever(tmp_path):
    options = {"every": 9, "samples": 6, "draw": None}
    made = FixedPoints(**options), FixedPoints(generation=True, **options)
    fit(tmp_path, Text(text(80)), *made)
    held, left = (looks(tmp_path, made_.name).isel(epoch=-1) for made_ in made)
    for p, word in enumerate((0, 2)):
        np.testing.assert_allclose(held.point[p, 0, :2], rest(word), atol=1e-9)
        np.testing.assert_allclose(held.point[p, 0, 2:], np.eye(4)[word], atol=1e-12)
        spectrum = np.sort(np.abs(held.eigenvalue[p, 0].values))[::-1]
        np.testing.assert_allclose(
            spectrum, [*np.sort(GAINS[word].abs().numpy())[::-1], *[0] * 4], atol=1e-12
        )
    assert (held.index_sum == 1).all()
    # left alone only the word 2 is followed by itself, and no theorem counts points of a map that jumps
    there = left.unstable.values >= 0
    assert there[1].any()
    points = left.point.values[there]
    np.testing.assert_allclose(points, [[*rest(2), *np.eye(4)[2]]] * len(points), atol=1e-9)
    assert "index_sum" not in left
    assert "index_sum_is_one" in made[0].summary(held)
    assert "index_sum_is_one" not in made[1].summary(left)
    said = [[row[2] for row in words.describe_fixed_points(seen)] for seen in (held, left)]
    assert all(line.startswith("index sum 1") for line in said[0])
    assert not any("index" in line for line in said[1])


def test_pictures_and_page_show_words_as_they_are_written(tmp_path):
    short = {"every": 1, "samples": 2}
    steps = {"steps": 12, "max_burn_in": 60}
    exponents = {"steps": 40, "discard": 10, "count": 2}
    made = [Bifurcation(generation=way, **short, **steps) for way in (False, True)]
    made += [FixedPoints(generation=way, draw=None, **short) for way in (False, True)]
    made += [Lyapunov(generation=way, draw=None, **short, **exponents) for way in (False, True)]
    made += [Lyapunov(driven=True, **short, **exponents)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The .* figure could not be drawn")
        fit(tmp_path, Text(text(80), held=(0, 1), excerpts=[text(60)]), *made)
    pictures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"bifurcation_modes", "bifurcation_modes_3d", "lyapunov_driven"} <= pictures
    held, left = looks(tmp_path, "bifurcation"), looks(tmp_path, "bifurcation_generation")
    flat = modes(held, left)
    assert len(flat.axes) == 2 * 4  # two observables, two words in two modes
    assert [axes.get_ylabel() for axes in flat.axes[::4]] == [r"\$", "<unk>"]
    titles = ["input held", "input held", "generation mode", "generation mode"]
    assert [axes.get_title().split(": ")[1] for axes in flat.axes[:4]] == titles
    assert len(modes_3d(held, left).axes) == 8
    figures = [flat, modes_3d(held, left), *draw(left).values()]
    figures += [lyapunov.over_epochs(looks(tmp_path, "lyapunov"))]
    said = []
    for figure in figures:
        figure.draw_without_rendering()
        texts = list(figure.findobj(lambda each: hasattr(each, "get_text")))
        said += [each.get_text() for each in texts if "$" in each.get_text()]
    # each dollar of a word is escaped; a formula has two that are not
    plain = [each for each in said if r"\$" in each]
    assert plain
    assert all(each.replace(r"\$", "").count("$") in (0, 2) for each in said)
    menu = bifurcation.interactive(left).layout.updatemenus[0].buttons
    assert [button.label for button in menu][:2] == ["$ → $", "&lt;unk&gt; → $"]

    page = Page(write_report(tmp_path))
    assert "could not be shown" not in page.text
    assert "Bifurcation: input held, generation mode" in page.text
    assert "Lyapunov: input held, generation mode, driven by data" in page.text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count('<div class="modes three">') == 1
    assert html.count('<h3 class="mode">Driven by data</h3>') == 1
    rows = [row[0] for row in page.rows]
    assert {"$, $", "<unk>, <unk>", "excerpt 0"} <= set(rows)
    tags = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert "&lt;unk&gt;" in tags
    assert "<unk>" not in tags


@pytest.mark.parametrize(
    ("leading", "error", "orbits", "driven", "said"),
    [
        (-0.05, 0.05, [(-0.001, 1e-5), (-0.1, 0.001)], False, "nearby orbits come together"),
        (
            0.05,
            0.05,
            [(-0.001, 1e-5), (0.1, 0.001)],
            False,
            "nearby orbits part: chaos; from other states not",
        ),
        (-0.05, 0.05, [(-0.001, 1.0), (-0.1, 0.001)], False, "neither to within three standard errors"),
        (-0.1, 0.001, [(-0.1, 0.001)] * 2, True, "readings come together: what came before is forgotten"),
        (0.1, 0.001, [(0.1, 0.001)] * 2, True, "readings part: what came before is never forgotten"),
    ],
)
def test_orbits_on_different_attractors_may_agree_in_the_sign(leading, error, orbits, driven, said):
    """Two loops of words contract at different rates: their spread is no doubt of the sign."""
    each = np.array(orbits)[None]
    look = xr.Dataset(
        {
            "exponent": (("probe", "mode"), [[leading]]),
            "standard_error": (("probe", "mode"), [[error]]),
            "sample_exponent": (("probe", "sample", "mode"), each[..., :1]),
            "sample_error": (("probe", "sample", "mode"), each[..., 1:]),
        },
        attrs={"driven": driven},
    )
    assert words.describe_lyapunov(look)[0][1] == said


SMALL = {
    "Attractors": {"samples": 2, "max_burn_in": 200},
    "Bifurcation": {"samples": 2, "steps": 8, "max_burn_in": 60},
    "Contraction": {"samples": 2, "steps": 8},
    "FixedPoints": {"samples": 2},
    "GradientFlow": {"sequences": 2, "max_lag": 4, "moments": 3},
    "Lyapunov": {"samples": 2, "steps": 20, "discard": 5},
    "PhasePortrait": {"samples": 2, "steps": 8, "resolution": 4},
    "Smoothness": {"sequences": 2},
    "Words": {"samples": 2, "steps": 60},
}
ABSTRACT = {"AnalysisCallback", "CostCallback"}
COST = {"GradientFlow", "Smoothness"}


def test_no_callback_is_forgotten_here():
    kinds = {name for name in callbacks.__all__ if issubclass(getattr(callbacks, name), AnalysisCallback)}
    assert kinds - ABSTRACT == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_every_callback_looks_at_a_network_of_words(tmp_path, name):
    """At one that is trained on a text whose last batch is shorter than the others."""
    made = [getattr(callbacks, name)(every=9, **SMALL[name])]
    if name not in COST | {"Words"}:
        made.append(getattr(callbacks, name)(every=9, generation=True, draw=None, **SMALL[name]))
    model = RecurrentModel(4, 4, partial(LSTM, hidden_size=3), symbols=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The .* figure could not be drawn")
        fit(tmp_path, Text(text(90)), *made, model=model, rate=0.1)
    for callback in made:
        seen = looks(tmp_path, callback.name)
        assert seen.epoch.values.tolist() == [0, 1]
        if "probe" in seen.dims:
            assert seen.probe.values.tolist() == ["$", "is"]
    if name == "Contraction":
        held, left = (looks(tmp_path, callback.name).upper for callback in made)
        assert np.isfinite(held).all()
        assert np.isinf(left).all()  # a map that jumps has no Lipschitz constant


@pytest.mark.parametrize("name", sorted(set(SMALL) - COST - {"Lyapunov"}))
def test_what_looks_at_maps_is_not_driven(name):
    with pytest.raises(ValueError, match=f"^driven=true is not possible with {name}, which looks at maps"):
        getattr(callbacks, name)(driven=True)


def test_the_certificate_of_a_held_word_is_that_of_the_cell(tmp_path):
    """Though the task looks at two numbers of the state only."""
    model = RecurrentModel(4, 4, partial(StableLSTM, hidden_size=3), symbols=True)
    fit(tmp_path, Text(text(80)), Contraction(every=9, samples=2, steps=8, draw=None), model=model)
    seen = looks(tmp_path, "contraction").isel(epoch=-1)
    frozen = freeze(model)
    for p, word in enumerate((0, 2)):
        own = frozen.lipschitz(torch.tensor([word]), torch.tensor([word])).item()
        assert seen.upper.sel(norm="2")[p] <= own * (1 + 1e-12)
    system = Observed(HeldInput(frozen, torch.tensor([0])), lambda x: x[..., :1])
    assert system.lipschitz().item() == frozen.lipschitz(torch.tensor([0]), torch.tensor([0])).item()
