"""Loops of symbols: what number theory says of digits, what mathematics says of states, and a naive twin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnlab.analysis import itinerary
from rnnlab.autonomous import Greedy
from rnnlab.maps import Logistic
from rnnlab.systems import Observed


class Rule:
    """x' = step(x), said by symbol(x), in words of functions."""

    def __init__(self, step, symbol, margin=None):
        self.step, self.symbol = step, symbol
        if margin is not None:
            self.margin = margin

    def observe(self, x):
        return x


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def above(level):
    return lambda x: (x[..., 0] > level).long()


def distance_to(level):
    return lambda x: (x[..., 0] - level).abs()


def spoken(tape, ratio=0.9):
    """Says a tape, whatever it holds, while the states, powers of the ratio, come together."""
    tape = torch.tensor(tape)
    return Rule(lambda x: ratio * x, lambda x: tape[(x[..., 0].log() / math.log(ratio)).round().long()])


def digits(base, n):
    return Rule(lambda x: base * x % n, lambda x: (base * x // n)[..., 0].long())


def of_fractions(base, n):
    """Digits of 1/n before they repeat, and the length of what repeats: textbook number theory."""
    rest, before = n, 0
    while (common := math.gcd(rest, base)) > 1:
        rest, before = rest // common, before + 1
    return before, next(k for k in range(1, n + 1) if (base**k - 1) % rest == 0)


@pytest.mark.parametrize("base", [2, 10, 12])
def test_digits_of_fractions_are_what_number_theory_says(base):
    n = torch.arange(2, 80, dtype=torch.float64)[:, None]
    found = itinerary(digits(base, n), torch.ones_like(n), steps=500)
    truth = [of_fractions(base, int(k)) for k in n[:, 0]]
    assert set(found.kind.values) == {"proven"}
    assert found.transient.values.tolist() == [before for before, _ in truth]
    assert found.period.values.tolist() == [period for _, period in truth]
    assert found.symbol.dtype == np.int64
    for row, k in enumerate(n[:, 0].tolist()):  # all 500 digits, also those that needed no computing
        number = base**500 // int(k)
        written = [number // base ** (499 - i) % base for i in range(500)]
        assert found.symbol.values[row].tolist() == written


def test_a_loop_of_symbols_may_be_shorter_than_that_of_states():
    """2^t mod 101 has period 100, for 2 is a primitive root; 2^50 = -1, so that x becomes 101 - x."""
    pair = Rule(lambda x: 2 * x % 101, lambda x: torch.minimum(x, 101 - x)[..., 0].long())
    found = itinerary(pair, column(1), steps=700)
    assert (found.kind.item(), found.period.item(), found.state_period.item()) == ("proven", 50, 100)
    # and a state that comes back need not be seen three times, nor for a quarter of the steps
    brief = itinerary(digits(10, 97), column(1), steps=600, repeats=50, share=1.0)
    assert (brief.kind.item(), brief.period.item()) == ("proven", 96)


def naive(tape, repeats, least):
    """The period and the start of the longest end that repeats often enough."""
    best = (0, -1)
    longest = 0
    for period in range(1, len(tape) // repeats + 1):
        start = len(tape) - period
        while start > 0 and tape[start - 1] == tape[start - 1 + period]:
            start -= 1
        length = len(tape) - start
        if length >= max(repeats * period, least) and length > longest:
            best, longest = (period, start), length
    return best


@settings(max_examples=300)
@given(st.data())
def test_the_loop_is_that_of_a_naive_search(data):
    word = st.lists(st.integers(0, 2), max_size=8)
    before, loop = data.draw(word), data.draw(word)
    tape = (before + data.draw(st.integers(0, 9)) * loop + data.draw(word))[:60] or [0]
    repeats, share = data.draw(st.integers(3, 5)), data.draw(st.sampled_from([0.05, 0.25, 0.8]))
    # states fall to 1 % in each step: any loop of symbols is one
    found = itinerary(spoken(tape, 0.01), column(1), steps=len(tape), repeats=repeats, share=share)
    period, start = naive(tape, repeats, share * len(tape))
    assert found.symbol.values[0].tolist() == tape
    assert (found.period.item(), found.transient.item()) == (period, start)
    assert found.kind.item() == ("converging" if period else "undecided")


def test_long_stretches_of_one_word_within_a_longer_loop_are_not_the_loop():
    """The X comes after 40 times a b, which is what the record happens to end with."""
    loop = [2] + 40 * [0, 1]
    found = itinerary(spoken(4 * loop), column(1), steps=4 * 81, share=0.2)
    assert (found.kind.item(), found.period.item(), found.transient.item()) == ("converging", 81, 0)
    # a record of just one X can't tell; but of a few words at the end it is not said that they go on
    rest = [int(digit) for digit in np.random.default_rng(0).integers(0, 3, 400)]
    found = itinerary(spoken(rest + 40 * [1]), column(1), steps=440)
    assert (found.kind.item(), found.period.item(), found.transient.item()) == ("undecided", 0, -1)


def thermostat(r, k):
    """x' = r x - k above zero and r x + k below: ends in k / (1 + r) and its negative, at the rate r."""
    return Rule(
        lambda x: r * x - k * x.sign(),
        above(0.0),
        distance_to(0.0),
    )


def test_a_loop_that_attracts_is_seen_and_in_the_end_proven():
    r, k = 0.97, 0.3
    x = 5.0
    signs = []
    for _ in range(400):
        signs.append(int(x > 0))
        x = r * x - k * (1 if x > 0 else -1)
    before = max(t for t in range(398) if signs[t] != signs[t + 2]) + 1
    found = itinerary(thermostat(r, k), column(5), steps=400)
    assert (found.kind.item(), found.period.item(), found.transient.item()) == ("converging", 2, before)
    assert before > 10
    assert found.state_period.item() == 2
    # distances fall as r^t from one part to the next
    reached = found.last_distance.item() / found.first_distance.item()
    parts = 3 * ((400 - before - 2) // 2 // 4) * 2
    assert reached == pytest.approx(r**parts, rel=1e-6)
    assert found.margin.item() == pytest.approx(k / (1 + r), rel=1e-3)
    longer = itinerary(thermostat(r, k), column(5), steps=3000)
    assert (longer.kind.item(), longer.period.item(), longer.transient.item()) == ("proven", 2, before)
    assert longer.margin.item() == pytest.approx(k / (1 + r), rel=1e-14)
    assert longer.last_distance.item() < 1e-14


@pytest.mark.parametrize(
    ("name", "system", "x0"),
    [
        ("chaos", Rule(Logistic(4.0).step, above(0.5)), 0.3),
        ("chaos unseen", Rule(Logistic(4.0).step, above(2.0)), 0.3),
        ("circle", Rule(lambda x: (x + (5**0.5 - 1) / 2) % 1, above(0.5)), 0.3),
        ("circle unseen", Rule(lambda x: (x + (5**0.5 - 1) / 2) % 1, above(2.0)), 0.3),
        ("a counter", Rule(lambda x: x + 1, above(5000.0)), 0.0),
        ("a slow escape", Rule(lambda x: 1.005 * x, above(1.0)), 1e-5),
        ("slower than can be told", Rule(lambda x: 0.9999 * x, above(-1.0)), 1.0),
    ],
)
def test_what_repeats_only_for_now_is_not_called_periodic(name, system, x0):
    found = itinerary(system, column(x0), steps=1600)
    shown = [found[key].item() for key in ("kind", "period", "transient", "state_period")]
    if name in ("chaos", "circle"):
        assert shown == ["undecided", 0, -1, 0]
        assert np.isnan(found.last_distance.item())
    else:
        assert shown == ["repeating", 1, 0, 0]
        assert found.last_distance.item() > 1e-5


def test_a_loop_of_symbols_over_a_longer_cycle_of_states():
    """z' = i z (1 + (1 - |z|) / 50) goes round in four steps, ever closer to |z| = 1; all say the same."""

    def turn(x):
        size = x.norm(dim=-1, keepdim=True)
        return torch.stack((-x[..., 1], x[..., 0]), -1) * (1 + (1 - size) / 50)

    said = Rule(turn, lambda x: (x[..., 0] > 9).long(), lambda x: 2 + x[..., 0])
    x0 = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    found = itinerary(said, x0, steps=400)
    shown = [found[key].item() for key in ("kind", "period", "transient", "state_period")]
    assert shown == ["converging", 1, 0, 4]
    assert found.margin.item() == pytest.approx(1, abs=2e-3)  # at z = -1, once in four steps
    assert found.last_distance.item() < 0.02 * found.first_distance.item()


def test_a_state_that_comes_to_rest_beyond_the_border_has_not_arrived():
    """x = 0.99^t is above 0.02 until t = 389 and below -0.02 never: the margin tells, states alone can't."""
    fall = Rule(lambda x: 0.99 * x, above(0.02), distance_to(0.02))
    blind = Rule(lambda x: 0.99 * x, above(0.02))
    stays = Rule(lambda x: 0.99 * x, above(-0.02), distance_to(-0.02))
    kinds = [itinerary(system, column(1), steps=380).kind.item() for system in (fall, blind, stays)]
    assert kinds == ["repeating", "converging", "converging"]
    symbol = itinerary(fall, column(1), steps=420).symbol.values[0]
    assert symbol.tolist() == 390 * [1] + 30 * [0]
    assert 0.99**389 > 0.02 > 0.99**390


def test_states_that_part_from_each_other_are_told_by_any_of_their_directions():
    """Forty components come together, two turn: a tenth of the number of directions is hidden nowhere."""
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]], dtype=torch.float64)
    matrix = torch.block_diag(0.9 * torch.eye(40, dtype=torch.float64), turn)
    x0 = torch.ones(2, 42, dtype=torch.float64)
    x0[1, 40:] = 0  # this one does not turn
    found = itinerary(Rule(lambda x: x @ matrix.T, above(-1.0)), x0, steps=300)
    assert found.kind.values.tolist() == ["repeating", "converging"]
    # the largest distance of the first part is |x0| (1 - 0.9), estimated to a quarter or so
    truth = math.sqrt(40) * 0.1
    assert found.first_distance.values[1] == pytest.approx(truth, rel=0.5)


class Saying(nn.Module):
    """Three words; the state is the logits: half of the old ones, and something for the word heard."""

    state_size = 3

    def __init__(self, gain):
        super().__init__()
        self.gain = torch.as_tensor(gain, dtype=torch.float64)
        self.reads = 0

    def step(self, x, u):
        return 0.5 * x + self.gain[u]

    def read(self, x):
        self.reads += 1
        return x


def test_ties_are_counted_and_the_lowest_number_speaks():
    """From zero all three are equal; 0 is said, then 2 and 1 are as likely as each other for ever."""
    words = Saying([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 5.0]])
    found = itinerary(Greedy(words), torch.zeros(1, 3, dtype=torch.float64), steps=100)
    assert found.symbol.values[0].tolist() == [0] + 99 * [1]
    assert (found.ties.item(), found.margin.item(), found.kind.item()) == (100, 0.0, "proven")
    words = Saying([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    found = itinerary(Greedy(words), torch.zeros(1, 3, dtype=torch.float64), steps=200)
    assert found.symbol.values[0].tolist() == (67 * [0, 1, 2])[:200]
    assert found.ties.item() == 1
    # before word 0 the logits are those of three words ago by 8, and what the words gave since
    a = np.linalg.solve(np.eye(3) - np.eye(3) / 8, [-1 / 4 + 1, 1 / 4 - 1 / 2, 1 / 2 - 1])
    assert found.margin.item() == pytest.approx(np.sort(a)[-1] - np.sort(a)[-2], rel=1e-12)


def test_each_step_reads_the_vocabulary_once():
    words = Saying(torch.randn(3, 3, dtype=torch.float64))
    itinerary(Greedy(words), torch.zeros(2, 3, dtype=torch.float64), steps=1)
    before, words.reads = words.reads, 0

    class Busy(Greedy):
        """Never at rest."""

        def follow(self, x):
            symbol, margin, following = super().follow(x)
            return symbol, margin, following + torch.rand(x.shape, dtype=x.dtype)

    itinerary(Busy(words), torch.zeros(2, 3, dtype=torch.float64), steps=101)
    assert words.reads == before + 100


def test_a_follow_is_symbol_margin_and_step():
    torch.manual_seed(1)
    system = Greedy(Saying(torch.randn(3, 3, dtype=torch.float64)))
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    x[0, 0] = 1.0  # a tie
    for ours, alone in zip(
        system.follow(x), (system.symbol(x), system.margin(x), system.step(x)), strict=True
    ):
        assert torch.equal(ours, alone)
    assert system.margin(x)[0, 0] == 0


def test_no_more_steps_than_needed_and_the_same_record():
    taken = []

    def counted(x):
        taken.append(len(x))
        return 10 * x % 7

    seven = Rule(counted, lambda x: (10 * x // 7)[..., 0].long(), lambda x: x[..., 0])
    short = itinerary(seven, column(1, 2), steps=1600)
    assert len(taken) < 60
    assert short.symbol.values[0, -6:].tolist() == [int("142857"[t % 6]) for t in range(1594, 1600)]
    assert short.margin.values.tolist() == [1, 1]
    # beside an orbit that never ends
    torch.manual_seed(0)
    mixed = Rule(
        lambda x: torch.where(x >= 1, 10 * x % 7, 4 * x * (1 - x)), lambda x: (10 * x // 7)[..., 0].long()
    )
    long = itinerary(mixed, column(1, 0.3), steps=1600)
    assert long.kind.values.tolist() == ["proven", "undecided"]
    assert long.symbol.values[0].tolist() == short.symbol.values[0].tolist()


def test_what_diverges_is_said_and_disturbs_no_other():
    system = Rule(lambda x: torch.where(x > 10, 1e9 * x, 0.5 * x), above(1.0), distance_to(1.0))
    found = itinerary(system, column(11, 3), steps=1200)
    assert found.kind.values.tolist() == ["diverged", "proven"]
    assert found.symbol.values[1].tolist() == [1, 1] + 1198 * [0]
    last = 34  # 11e9^t is finite up to 1e308
    assert found.symbol.values[0].tolist() == (last + 1) * [1] + (1200 - last - 1) * [-1]
    assert found.period.values.tolist() == [0, 1]
    assert found.transient.values.tolist() == [-1, 2]
    alone = itinerary(system, column(11), steps=1200)
    np.testing.assert_array_equal(alone.symbol[0], found.symbol[0])


def test_probes_together_are_probes_alone():
    n = torch.tensor([7.0, 12.0, 13.0], dtype=torch.float64)[:, None, None]
    x0 = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)[:, None].expand(3, 4, 1)
    together = itinerary(digits(10, n), x0, steps=200)
    assert together.symbol.dims == ("probe", "sample", "time")
    assert together.kind.dims == ("probe", "sample")
    for probe in range(3):
        alone = itinerary(digits(10, n[probe]), x0[probe], steps=200)
        for name in alone:
            np.testing.assert_array_equal(alone[name], together[name][probe], err_msg=name)


def test_random_streams_are_left_alone():
    state = torch.get_rng_state()
    itinerary(Rule(lambda x: 0.5 * x, above(0.0)), torch.ones(1, 40, dtype=torch.float64), steps=5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 is not possible: give a whole number of at least 1"),
        ({"steps": 2.5}, "steps=2.5 is not possible"),
        ({"repeats": 2}, "repeats=2 is not possible: give a whole number of at least 3"),
        ({"share": 0}, "share=0 is not possible: give a number above 0"),
        ({"share": 1.5}, "share=1.5 is not possible"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        itinerary(digits(10, 7), column(1), **options)
    assert "\n" not in str(caught.value)


def test_systems_without_symbols_are_refused():
    with pytest.raises(TypeError, match=r"a Logistic has no symbols: give a system with symbol\(x\)"):
        itinerary(Logistic(3.2), column(0.3))
    with pytest.raises(TypeError, match="a Observed has no symbols"):
        itinerary(Observed(digits(10, 7), lambda x: x), column(1))
    same = lambda x: x  # noqa: E731
    for symbol in (same, lambda x: x.long(), lambda x: -x[..., 0].long(), lambda x: 3):
        with pytest.raises(ValueError, match="give one whole number from 0 on for each"):
            itinerary(Rule(same, symbol), column(1))
    with pytest.raises(ValueError, match="give float64"):
        itinerary(digits(10, 7), column(1).float())
