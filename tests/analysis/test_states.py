"""Bad input is refused in one line, before any work."""

import pytest
import torch
from torch import nn

from rnnlab.analysis.states import batch_axes, check_states, one_thread
from rnnlab.autonomous import HeldInput, freeze, wrap_torch
from rnnlab.maps import Henon, Linear, Logistic, Lorenz

X0 = torch.rand(5, 2, dtype=torch.float64)


def gru(state=4):
    return freeze(wrap_torch(nn.GRU(1, state)))


@pytest.mark.parametrize("shape", [(5, 2), (1, 2), (3, 5, 2)])
def test_what_can_be_used_comes_back_mapped(shape):
    x = torch.rand(shape, dtype=torch.float64)
    assert torch.equal(check_states(Henon(), x), Henon().step(x))


def test_a_vector_field_gives_its_velocity():
    x = torch.rand(4, 3, dtype=torch.float64)
    assert torch.equal(check_states(Lorenz(), x), Lorenz().velocity(x))


class Neighbours:
    """Each state sees the mean of the batch."""

    def step(self, x):
        return x - x.mean(0, keepdim=True)

    observe = step


class Shrinks:
    def step(self, x):
        return x[..., :1]

    observe = step


@pytest.mark.parametrize(
    ("system", "x0", "error", "message"),
    [
        (object(), X0, TypeError, "no dynamical system"),
        (Henon(), X0.tolist(), TypeError, "x0 of type list"),
        (Henon(), X0[0], ValueError, r"give \(sample, state\) or \(probe, sample, state\)"),
        (Henon(), X0[None, None], ValueError, r"x0 of shape \(1, 1, 5, 2\)"),
        (Henon(), X0[:, :0], ValueError, r"x0 of shape \(5, 0\)"),
        (Henon(), X0.float(), ValueError, "give float64"),
        (Henon(), X0[:0], ValueError, "is empty: give at least one state"),
        (Henon(), X0 / 0, ValueError, "5 of 5 states hold NaN or infinity"),
        (Henon(), torch.rand(5, 3).double(), ValueError, "is 3 the size of its state"),
        (Linear(torch.eye(3)), X0, ValueError, "is 2 the size of its state"),
        (HeldInput(gru(), torch.zeros(1)), X0, ValueError, "is 2 the size of its state"),
        (Shrinks(), X0, ValueError, r"to shape \(5, 1\)"),
        (Logistic(float("nan")), X0, ValueError, "to NaN: are its parameters finite"),
        (Neighbours(), X0, ValueError, "rows of x0 are not independent"),
    ],
)
def test_what_cannot_is_refused(system, x0, error, message):
    with pytest.raises(error, match=message) as caught:
        check_states(system, x0)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers():
    network = gru()
    with torch.no_grad():
        network.cell.weight_hh[0, 0] = float("nan")
    with pytest.raises(ValueError, match="are its parameters finite"):
        check_states(HeldInput(network, torch.zeros(1)), torch.rand(3, 4, dtype=torch.float64))


def test_batch_normalisation_in_train_mode_is_noticed():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2).double()

        def step(self, x):
            return self.norm(x).tanh()

        observe = step

    system = Normed()
    with pytest.raises(ValueError, match="Give a system in eval mode"):
        check_states(system, X0)
    check_states(system.eval(), X0)


def test_axes_have_names():
    assert batch_axes(X0) == ("sample",)
    assert batch_axes(X0[None]) == ("probe", "sample")


@pytest.mark.parametrize("fails", [False, True])
def test_threads_come_back(fails):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
