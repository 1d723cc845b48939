"""What holds for every analysis: it changes nothing, works on any network, and refuses what it can't use."""

import copy
import random

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from rnnlab.analysis import attractors, contraction, fixed_points, lyapunov_spectrum, orbit, periodic_orbits
from rnnlab.autonomous import HeldInput, freeze, wrap_torch
from rnnlab.cells import StableLSTM
from rnnlab.maps import Henon, Logistic
from rnnlab.model import RecurrentModel
from tests.analysis.test_states import Neighbours

CHECKED = {
    "fixed_points": fixed_points,
    "periodic_orbits": lambda system, x0: periodic_orbits(system, x0, max_period=2, duration=50),
    "lyapunov_spectrum": lambda system, x0: lyapunov_spectrum(system, x0, steps=20, discard=10),
    "attractors": lambda system, x0: attractors(system, x0, record=50, max_burn_in=200, steps=50),
    "contraction": lambda system, x0: contraction(system, x0, steps=10, burn_in=10),
}
ALL = {"orbit": lambda system, x0: orbit(system, x0, steps=5, max_burn_in=50), **CHECKED}


@pytest.fixture(params=ALL)
def analysis(request):
    return ALL[request.param]


def states(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class User(nn.Module):
    """A network that knows nothing of rnnlab, with parts that remember in what mode they are."""

    state_size = 3

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.outer = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))

    def step(self, x, u):
        return torch.tanh(self.inner(x) + u)

    def read(self, x):
        return self.outer(x)


@pytest.mark.filterwarnings("ignore:the indices of the fixed points")
def test_looking_changes_nothing(analysis):
    model = User().train()
    before = copy.deepcopy(model.state_dict())
    loss = model.step(torch.zeros(4, 3), torch.ones(1)).square().sum()
    torch.manual_seed(1)
    streams = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    x0 = states(4, 3)
    kept = x0.clone()
    settings = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    found = analysis(HeldInput(freeze(model), torch.ones(1)), x0)
    assert isinstance(found, xr.Dataset)
    assert torch.equal(x0, kept)
    assert settings == (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert torch.equal(streams[0], torch.get_rng_state())
    assert streams[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    loss.backward()
    assert all(p.requires_grad and p.grad is not None for p in model.inner.parameters())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:the indices of the fixed points")
def test_a_network_with_gradients_keeps_them(analysis):
    model = User().double().eval()  # not frozen
    loss = model.step(torch.zeros(4, 3).double(), torch.ones(1).double()).square().sum()
    analysis(HeldInput(model, torch.ones(1)), states(4, 3))
    assert all(p.requires_grad for p in model.parameters())
    loss.backward()


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize(
    ("system", "x0", "message"),
    [
        (Henon(), states(4, 3), "is 3 the size of its state"),
        (Henon(), states(0, 2), "is empty"),
        (Henon(), states(4, 2).float(), "give float64"),
        (Henon(), states(4, 2) / 0, "NaN or infinity"),
        (Logistic(float("nan")), states(4, 1), "are its parameters finite"),
        (Neighbours(), states(4, 2), "not independent"),
    ],
)
def test_what_cannot_be_used_is_refused(name, system, x0, message):
    with pytest.raises(ValueError, match=message) as caught:
        CHECKED[name](system, x0)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:the indices of the fixed points")
@pytest.mark.parametrize(
    "network",
    [
        lambda: wrap_torch(nn.GRU(2, 3)),
        lambda: wrap_torch(nn.LSTM(2, 2, num_layers=2), nn.Linear(2, 1)),
        User,
    ],
    ids=["gru", "two layers", "own"],
)
def test_probes_together_are_probes_one_by_one(analysis, network):
    torch.manual_seed(2)
    model = freeze(network())
    width = 1 if isinstance(model, User) else 2
    inputs, x0 = states(3, width), states(3, 4, model.state_size, seed=1)
    together = analysis(HeldInput(model, inputs[:, None]), x0)
    for probe in range(3):
        alone = analysis(HeldInput(model, inputs[probe]), x0[probe])
        assert set(alone) == set(together)
        for key in alone:
            a, b = alone[key], together[key]
            b = b.isel(probe=probe) if "probe" in b.dims else b
            if key in ("burn_in", "last_state", "settled", "drift", "y") and analysis is not ALL["orbit"]:
                continue
            if analysis is ALL["orbit"] or b.dims != a.dims:
                continue  # the burn-in is common to all probes
            b = b.isel({dim: slice(size) for dim, size in a.sizes.items()})
            if a.dtype.kind in "fc":
                np.testing.assert_allclose(a.values, b.values, rtol=1e-5, atol=1e-7, err_msg=key)
            else:
                assert a.values.tolist() == b.values.tolist(), key


@pytest.mark.parametrize("u", [-1.0, 0.0, 0.4, 1.0])
def test_a_projected_stable_lstm_has_one_fixed_point_and_forgets(u):
    model = RecurrentModel(1, 1, lambda input_size: StableLSTM(input_size, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    model.constrain()
    certificate = model.cell.certificates()["contraction"]
    system = HeldInput(freeze(model), torch.tensor([u]))
    x0 = states(30, 12)
    bound = contraction(system, x0)
    upper = bound.upper.sel(norm="inf").item()
    assert upper < 1
    assert certificate < 1
    assert upper <= certificate * (1 + 1e-9)
    points = fixed_points(system, x0)
    assert points.sizes["index"] == 1
    assert points.kind.values[0].startswith("stable")
    assert points.attrs["index_sum"] == 1
    leading = lyapunov_spectrum(system, x0[:3], count=1, steps=200).exponent.item()
    assert leading <= np.log(upper)
    assert bound.rate.sel(norm="inf").item() <= bound.sampled.sel(norm="inf").item() <= upper
