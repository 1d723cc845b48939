from functools import partial

import pytest
import torch
from torch import nn

from rnnlab.autonomous import HeldInput, wrap_torch
from rnnlab.cells import GRU, StableLSTM
from rnnlab.families import between, through
from rnnlab.model import RecurrentModel
from rnnlab.systems import jacobian


def pair(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(), make()


MAKERS = {
    "gru": lambda: wrap_torch(nn.GRU(2, 3), nn.Linear(3, 1)),
    "lstm of two layers": lambda: wrap_torch(nn.LSTM(2, 3, num_layers=2), nn.Linear(3, 1)),
    "stack": lambda: RecurrentModel(2, 1, partial(GRU, hidden_size=3), num_layers=2),
    "model": lambda: RecurrentModel(2, 1, partial(StableLSTM, hidden_size=3)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_ends_are_the_networks_and_the_middle_their_mean(name):
    a, b = pair(MAKERS[name])
    line = between(a, b)
    u, x = torch.randn(2).double(), torch.randn(5, a.state_size).double()
    a, b = a.double(), b.double()
    with torch.no_grad():
        for s, network in ((0.0, a), (1.0, b)):
            assert line(s).state_size == network.state_size
            assert torch.equal(line(s).step(x, u), network.step(x, u))
            assert torch.equal(line(s).read(x), network.read(x))
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            p.copy_(0.7 * p + 0.3 * q)
        torch.testing.assert_close(line(0.3).step(x, u), a.step(x, u))
        torch.testing.assert_close(line(torch.tensor(0.3).double()).read(x), a.read(x), rtol=1e-6, atol=1e-7)


def test_the_derivative_is_that_of_the_line():
    a, b = pair(MAKERS["gru"])
    line, u, x = between(a, b), torch.randn(2).double(), torch.randn(4, 3).double()

    def rule(s):
        return HeldInput(line(s), u).step(x)

    s = torch.tensor(0.4, dtype=torch.float64)
    exact = torch.func.jvp(rule, (s,), (torch.ones_like(s),))[1]
    rough = (rule(0.4 + 1e-5) - rule(0.4 - 1e-5)) / 2e-5
    torch.testing.assert_close(exact, rough, rtol=1e-7, atol=1e-9)
    assert float(exact.abs().max()) > 1e-3
    # and states have theirs
    system = HeldInput(line(s), u)
    rough = (system.step(x + 1e-5) - system.step(x - 1e-5)) / 2e-5
    torch.testing.assert_close(jacobian(system, x).sum(-1), rough, rtol=1e-7, atol=1e-9)


def test_the_networks_stay_as_they_are():
    a, b = pair(MAKERS["gru"])
    kept = {name: value.clone() for name, value in a.state_dict().items()}
    line = between(a, b)
    line(0.5).step(torch.zeros(1, 3).double(), torch.zeros(2).double())
    assert all(torch.equal(value, kept[name]) for name, value in a.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in a.parameters())
    before = line(0.5).step(torch.zeros(1, 3).double(), torch.zeros(2).double())
    with torch.no_grad():
        a.cell.weight_hh.zero_()
        a.cell.bias_hh.add_(1)
    assert torch.equal(before, line(0.5).step(torch.zeros(1, 3).double(), torch.zeros(2).double()))


def test_networks_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"cell\.weight_ih has shape \(9, 2\) in a and \(12, 2\) in b"):
        between(wrap_torch(nn.GRU(2, 3)), wrap_torch(nn.GRU(2, 4)))
    with pytest.raises(ValueError, match=r"readout\.weight has shape \(1, 3\) in a and None in b"):
        between(wrap_torch(nn.GRU(2, 3), nn.Linear(3, 1)), wrap_torch(nn.GRU(2, 3)))
    a, b = wrap_torch(nn.GRU(2, 3)), wrap_torch(nn.GRU(2, 3))
    a.register_buffer("count", torch.tensor(1))
    b.register_buffer("count", torch.tensor(2))
    with pytest.raises(ValueError, match="count holds no real numbers"):
        between(a, b)


@pytest.mark.parametrize("name", MAKERS)
def test_a_number_gives_a_whole_network_and_a_tensor_the_same_dynamics(name):
    a, b = pair(MAKERS[name])
    line, u = between(a, b), torch.randn(2).double()
    s = torch.tensor(0.3, dtype=torch.float64)
    whole, moving = HeldInput(line(0.3), u), HeldInput(line(s), u)
    x = torch.randn(a.state_size).double()
    torch.testing.assert_close(whole.step(x), moving.step(x), rtol=1e-14, atol=1e-14)
    assert isinstance(line(0.3), type(a))
    assert (whole.reduced() is None) == (HeldInput(a, u).reduced() is None)
    # closed forms of the derivative move with the weights
    torch.testing.assert_close(jacobian(moving, x), jacobian(whole, x), rtol=1e-12, atol=1e-14)
    plain = torch.func.jacfwd(moving.step)(x)
    torch.testing.assert_close(jacobian(moving, x), plain, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(jacobian(moving, x), jacobian(HeldInput(line(0.0), u), x), atol=1e-3)


def three():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [wrap_torch(nn.GRU(2, 3), nn.Linear(3, 1)) for _ in range(3)]


def test_through_networks_at_their_epochs_and_straight_between():
    networks = three()
    path, u, x = through(networks, [0, 10, 15]), torch.randn(2).double(), torch.randn(4, 3).double()
    assert path.epochs == [0, 10, 15]
    assert len(path.pieces) == 2
    for epoch, network in zip(path.epochs, networks, strict=True):
        assert torch.equal(path(epoch).step(x, u), network.double().step(x, u))
    for epoch, piece, s in ((4.0, 0, 0.4), (12.0, 1, 0.4), (17.0, 1, 1.4), (-2.0, 0, -0.2)):
        expected = between(networks[piece], networks[piece + 1])(s).step(x, u)
        torch.testing.assert_close(path.pieces[piece](epoch).step(x, u), expected, rtol=1e-13, atol=1e-14)
        if 0 <= epoch <= 15:
            torch.testing.assert_close(path(epoch).step(x, u), expected, rtol=1e-13, atol=1e-14)


def test_through_is_differentiable_in_the_epoch_within_a_piece():
    path, u, x = through(three(), [0, 10, 15]), torch.randn(2).double(), torch.randn(4, 3).double()
    for rule, epoch in ((path, 12.0), (path, 3.0), (path.pieces[0], 10.0), (path.pieces[1], 10.0)):

        def moved(epoch, rule=rule):
            return rule(epoch).step(x, u)

        s = torch.tensor(epoch, dtype=torch.float64)
        exact = torch.func.jvp(moved, (s,), (torch.ones_like(s),))[1]
        rough = (moved(epoch + 1e-4) - moved(epoch - 1e-4)) / 2e-4
        torch.testing.assert_close(exact, rough, rtol=1e-6, atol=1e-9)
        assert float(exact.abs().max()) > 1e-3
    # the two pieces leave the knot between them in different directions
    left, right = (path.pieces[k](10.1).step(x, u) for k in (0, 1))
    assert not torch.allclose(left, right, atol=1e-4)


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([0, 10], "3 networks and 2 epochs make no curve"),
        ([0, 10, 10], "epochs 10, 10 are not possible"),
        ([0, 10, 5], "epochs 10, 5 are not possible"),
        ([0, float("nan"), 5], "epochs 0, nan are not possible"),
    ],
)
def test_epochs_must_rise(epochs, message):
    with pytest.raises(ValueError, match=message):
        through(three(), epochs)


def test_all_networks_must_be_of_one_build():
    with pytest.raises(ValueError, match=r"cell\.weight_ih has shape \(9, 2\) in a and \(12, 2\) in b"):
        through([*three(), wrap_torch(nn.GRU(2, 4), nn.Linear(4, 1))], [0, 10, 15, 20])


def test_one_network_and_epochs_outside_are_refused():
    with pytest.raises(ValueError, match="1 networks and 1 epochs"):
        through(three()[:1], [0])
    path = through(three(), [0, 10, 15])
    for epoch in (-0.1, 15.1, float("nan")):
        with pytest.raises(ValueError, match="is not possible: give one from 0 to 15"):
            path(epoch)
