"""Constants are those of costs known in closed form, never above the truth, and grow as they must."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import linregress
from torch import nn

from rnnlab.analysis import contraction, smoothness
from rnnlab.analysis import cost as costs
from rnnlab.analysis.cost import Cost
from rnnlab.autonomous import HeldInput, freeze
from rnnlab.cells import GRU, LSTM, Elman, Orthogonal, StableLSTM
from rnnlab.model import RecurrentModel
from rnnlab.objectives import CrossEntropy, LastStep, MeanSquaredError
from rnnlab.studies.chaotic_lstm import WEIGHTS

MEAN = MeanSquaredError()
ALONE = {"rays": 1, "radius": 1e-9, "points": 1}  # at theta itself; one weight, so one direction
STEPS = 256


class Scalar(nn.Module):
    """x' = a x + u, y = x."""

    state_size = 1

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([a], dtype=torch.float64))

    def step(self, x, u):
        return self.a * x + u

    def read(self, x):
        return x


def signal(kind, steps=STEPS):
    u = torch.zeros(steps, 1, 1, dtype=torch.float64)
    u[0 if kind == "impulse" else slice(None)] = 1
    return u, torch.zeros_like(u)


def slopes(a, n):
    """dV/da and d2V/da2 under an impulse, where y_t = a^(t - 1) and V = (1 / N) sum a^(2 t - 2)."""
    t = np.arange(1, n + 1)
    first, second = 2 * (t - 1) * a ** (2.0 * t - 3), 2 * (t - 1) * (2 * t - 3) * a ** (2.0 * t - 4)
    return first.sum() / n, second.sum() / n


def rates(found, law):
    return found["rate"].sel(law=law).values.tolist()


@pytest.mark.parametrize("a", [0.5, 0.9, 1.0, 1.1])
def test_constants_at_a_point_are_the_derivatives(a):
    found = smoothness(Scalar(a), *signal("impulse"), MEAN, **ALONE)
    exact = np.array([slopes(a, n) for n in found.horizon.values]).T
    np.testing.assert_allclose(found.gradient, exact[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.lipschitz.sel(constant="V"), exact[0], rtol=1e-4, atol=1e-15)
    np.testing.assert_allclose(found.lipschitz.sel(constant="grad V"), exact[1], rtol=1e-4, atol=1e-6)
    assert found.horizon.values.tolist() == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert found.resolved.all()


@pytest.mark.parametrize("a", [0.7, 1.05])
def test_they_are_never_above_the_supremum_over_the_ball_and_reach_it_here(a):
    # both derivatives rise with a, so the suprema are at the upper end
    found = smoothness(Scalar(a), *signal("impulse", 64), MEAN, rays=2, radius=0.1, points=5)
    highest = np.array([slopes(a * 1.1 * (1 + 1e-7), n) for n in found.horizon.values]).T
    for i, constant in enumerate(found.constant.values):
        seen = found.lipschitz.sel(constant=constant).values
        assert (seen <= highest[i] * (1 + 1e-6) + 1e-7).all()
        np.testing.assert_allclose(seen[1:], highest[i][1:], rtol=1e-4)
    # the cost is convex in a: the steepest chord joins the two last places
    for n, slope in zip(found.horizon.values, found.slope.max("ray").values, strict=True):
        high, low = (np.mean((a * share) ** (2.0 * np.arange(n))) for share in (1.1, 1.05))
        assert slope == pytest.approx((high - low) / (0.05 * a), rel=1e-5, abs=1e-12)


def test_the_sharpest_direction_is_one_step_of_a_power_iteration_on_the_hessian():
    class Diagonal(nn.Module):
        """y = (p, 10 q), whatever comes in: V = p^2 + 100 q^2."""

        state_size = 2

        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.tensor([1.0, 0.01]).double())

        def step(self, x, u):
            return self.p * u

        def read(self, x):
            return x

    u = torch.tensor([[[1.0, 10.0]]]).double()
    found = smoothness(
        Diagonal(), u, 0 * u, MEAN, rays=1, points=1, directions={"q": torch.tensor([0.0, 3.0])}
    )
    assert found.ray.values.tolist() == ["random 0", "q", "gradient", "sharpest"]
    # the gradient is (2, 2), the Hessian diag(2, 200)
    bend = found.bend.isel(horizon=0)
    assert bend.sel(ray="q").item() == pytest.approx(200, rel=1e-5)
    assert bend.sel(ray="gradient").item() == pytest.approx(math.hypot(2, 200) / math.sqrt(2), rel=1e-5)
    assert bend.sel(ray="sharpest").item() == pytest.approx(
        math.hypot(2 * 0.01, 200) / math.hypot(1, 0.01), rel=1e-5
    )
    assert found.lipschitz.sel(constant="grad V").item() == pytest.approx(200, rel=1e-5)


def test_expanding_the_cost_grows_as_the_theorem_allows_and_its_gradient_more_slowly():
    found = smoothness(Scalar(1.1), *signal("impulse"), MEAN, horizons=[64, 128, 192, 256], **ALONE)
    cost, gradient = rates(found, "exponential")
    assert cost == pytest.approx(2 * math.log(1.1), abs=1e-3)
    # the second derivative is N a^2N, far below a^3N
    assert 2 * math.log(1.1) < gradient < 2.2 * math.log(1.1)
    assert (found.misfit.sel(law="exponential") < 0.1 * found.misfit.sel(law="power")).all()


def test_neutral_the_powers_are_one_and_two_under_an_impulse_and_three_and_four_under_a_constant():
    exact = smoothness(Scalar(1.0), *signal("impulse"), MEAN, **ALONE)
    np.testing.assert_allclose(exact.gradient, exact.horizon - 1, rtol=1e-12)
    assert rates(exact, "power") == pytest.approx([1, 2], abs=0.06)
    # x = t leaves every compact set: the theorem's N and N^3 are then no bounds
    driven = smoothness(Scalar(1.0), *signal("constant"), MEAN, **ALONE)
    assert rates(driven, "power") == pytest.approx([3, 4], abs=0.05)


def test_contracting_the_constants_stay_bounded():
    # x tends to 1 / (1 - a): V = 4, V' = 16, V'' = 96
    found = smoothness(Scalar(0.5), *signal("constant", 512), MEAN, horizons=[128, 256, 512], **ALONE)
    np.testing.assert_allclose(found.cost[-1], 4, rtol=2e-2)
    np.testing.assert_allclose(found.lipschitz[:, -1], [16, 96], rtol=2e-2)
    assert rates(found, "power") == pytest.approx([0, 0], abs=0.03)


def test_what_the_theorem_says_of_one_is_reached_by_a_step_of_joint_constant_one():
    class Mixing(Scalar):
        """x' = u x + sqrt(1 - u^2) a: with u^2 = t / (t + 1), x = sqrt(t) a and V = a^2 (N + 1) / 2."""

        def step(self, x, u):
            return u * x + (1 - u * u).sqrt() * self.a

    t = torch.arange(STEPS, dtype=torch.float64)[:, None, None]
    found = smoothness(Mixing(0.8), (t / (t + 1)).sqrt(), 0 * t, MEAN, **ALONE)
    np.testing.assert_allclose(found.gradient, 0.8 * (found.horizon + 1), rtol=1e-9)
    np.testing.assert_allclose(found.lipschitz.sel(constant="grad V"), found.horizon + 1, rtol=1e-4)
    assert found["stretch"].values[0] == pytest.approx(1, abs=1e-9)
    assert rates(found, "power") == pytest.approx([1, 1], abs=0.05)


class Turning(Scalar):
    """The plane turned by the angle a; an input moves the first component, which is shown."""

    state_size = 2

    def step(self, x, u):
        cos, sin = self.a.cos(), self.a.sin()
        p, q = x[..., :1] + u, x[..., 1:]
        return torch.cat((cos * p - sin * q, sin * p + cos * q), -1)

    def read(self, x):
        return x[..., :1]


def test_an_isometry_has_powers_one_and_two_although_its_joint_constant_is_above_one():
    u, _ = signal("impulse")
    t = torch.arange(1, STEPS + 1, dtype=torch.float64)[:, None, None]
    found = smoothness(Turning(0.7), u, (0.7 * t).cos() - (0.7 * t).sin(), MEAN, **ALONE)
    assert rates(found, "power") == pytest.approx([1, 2], abs=0.1)
    assert found["stretch"].values[0] == pytest.approx(math.sqrt(2), rel=1e-3)  # turned, and moved by |x| = 1
    assert found["stretch"].values[0] <= math.sqrt(2) * (1 + 1e-12)
    growth = found.bound.sel(law="exponential").values[:, 0]
    assert growth == pytest.approx([math.log(2), 1.5 * math.log(2)], rel=1e-2)


class Alternating(Scalar):
    """x' = A(u) x with two nilpotent matrices: every eigenvalue is 0, every norm 2."""

    state_size = 2

    def step(self, x, u):
        start = u[..., 1:] * self.a
        p, q = x[..., :1] + start, x[..., 1:]
        even = u[..., :1]
        return 2 * torch.cat(((1 - even) * q, even * p), -1)


def test_gradients_explode_where_all_eigenvalues_are_zero():
    # so the largest eigenvalue is not the constant, and "above 1" no necessary condition along a sequence
    u = torch.zeros(64, 1, 2, dtype=torch.float64)
    u[::2, :, 0] = 1
    u[0, :, 1] = 1
    for even in (0.0, 1.0):
        held = Alternating(0.5)
        steps = [held.step(torch.eye(2).double(), torch.tensor([even, 0.0]).double())]
        assert torch.linalg.eigvals(steps[0]).abs().max() == 0
        assert torch.linalg.matrix_norm(steps[0], 2) == 2
    found = smoothness(
        Alternating(0.5), u, torch.zeros(64, 1, 2).double(), MEAN, horizons=[16, 32, 48, 64], **ALONE
    )
    assert rates(found, "exponential")[0] == pytest.approx(2 * math.log(2), abs=0.03)


def test_the_constant_of_a_step_is_its_norm_not_its_largest_eigenvalue():
    class Shear(Scalar):
        state_size = 2

        def step(self, x, u):
            return x @ torch.tensor([[0.5, 0.0], [10.0, 0.5]], dtype=torch.float64) + u

        def read(self, x):
            return self.a * x

    u, z = torch.ones(16, 1, 2).double(), torch.zeros(16, 1, 2).double()
    bounds = contraction(HeldInput(Shear(1.0), u[0]), torch.ones(1, 2).double())
    found = smoothness(Shear(1.0), u, z, MEAN, contraction=bounds, **ALONE)
    norm = math.sqrt(50.25 + 10 * math.sqrt(25.25))  # of [[1/2, 10], [0, 1/2]], whose eigenvalues are 1/2
    assert found["stretch"].values.tolist() == pytest.approx([norm] * 3, rel=1e-6)
    assert found["stretch"].values[2] >= norm


def test_the_stretch_of_the_step_counts_the_parameters():
    found = smoothness(Scalar(0.5), *signal("constant"), MEAN, **ALONE)
    # the derivatives are a by the state and x, which tends to 2, by a
    assert found["stretch"].values[0] == pytest.approx(math.sqrt(0.25 + 4), rel=1e-9)
    assert found["stretch"].isel(kind=slice(1, None)).isnull().all()


class Chaotic(nn.Module):
    """The chaotic LSTM of two units from h = c = 1/2, which the state is counted from."""

    state_size = 4

    def __init__(self, s):
        super().__init__()
        self.W = nn.Parameter(s * WEIGHTS.clone())

    def step(self, x, u):
        h, c = (x + u + 0.5).chunk(2, -1)
        i, f, g, o = (h @ self.W.mT).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return torch.cat((o.sigmoid() * c.tanh(), c), -1) - 0.5

    def read(self, x):
        return x[..., :2] + 0.5


def chaotic(s, horizons, **options):
    generator = torch.Generator().manual_seed(0)
    u = torch.zeros(horizons[-1], 8, 4, dtype=torch.float64)
    u[0] = 0.1 * torch.randn(8, 4, generator=generator, dtype=torch.float64)
    return smoothness(Chaotic(s), u, torch.zeros(len(u), 8, 2).double(), MEAN, horizons=horizons, **options)


def test_in_chaos_constants_grow_with_the_exponent_and_twice_the_exponent():
    # lambda_1 is 0.170 nats a step (tests/studies/test_chaotic_lstm.py); orbits of 72 steps scatter around it
    found = chaotic(1.0, list(range(12, 73, 6)), rays=0, points=1)
    cost, gradient = rates(found, "exponential")
    assert 0.12 < cost < 0.24
    assert 1.6 < gradient / cost < 2.6
    assert found.bound.sel(law="exponential").values[0, 0] > 5 * cost
    long = chaotic(1.0, [200], rays=0, points=1)
    assert float(long.gradient[0]) > 1e8
    assert not bool(long.resolved[0])


def test_out_of_chaos_the_same_network_is_smooth():
    found = chaotic(0.7, [25, 50, 100, 200], rays=2, points=3)
    assert found.resolved.all()
    assert float(found.lipschitz[0].max()) < 1
    assert float(found.lipschitz[1].max()) < 5


def test_a_cost_with_jumps_is_lipschitz_nowhere():
    # modReLU with b > 0 jumps by 2 b at 0, so the theorem does not speak of such networks
    model = freeze(RecurrentModel(1, 1, lambda input_size: Orthogonal(input_size, 1)))
    for name, value in (("cell.W", 0.0), ("cell.b", 0.3), ("readout.weight", 1.0), ("readout.bias", 0.0)):
        model.get_parameter(name).fill_(value)
    names = [name for name, p in model.named_parameters() for _ in range(p.numel())]
    along = torch.tensor([float(name == "cell.W") for name in names])
    u, z = torch.ones(1, 1, 1).double(), torch.ones(1, 1, 1).double()
    wide, close = (
        smoothness(model, u, z, MEAN, horizons=[1], rays=0, points=4, radius=r, directions={"W": along}).sel(
            ray="W"
        )
        for r in (1e-3, 1e-5)
    )
    # (b - 1)^2 on one side, (b + 1)^2 on the other: 4 b over the distance of the two middle points
    jump = 1.2 / (2 / 3 * 1e-3 * wide.attrs["length"])
    assert wide.slope.item() == pytest.approx(jump, rel=1e-2)
    assert close.slope.item() == pytest.approx(100 * jump, rel=1e-2)
    assert max(wide.steepest.item(), close.steepest.item()) < 5


CELLS = {"elman": Elman, "gru": GRU, "lstm": LSTM, "slstm": StableLSTM, "ornn": Orthogonal}


def trained(cell, *, inputs=1, outputs=1):
    torch.manual_seed(1)
    return RecurrentModel(inputs, outputs, lambda input_size: CELLS[cell](input_size, 4))


@pytest.mark.parametrize("cell", CELLS)
def test_side_by_side_and_one_by_one_give_the_same(cell, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    u, z = (torch.randn(12, 3, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    model = freeze(trained(cell))
    together = smoothness(model, u, z, MEAN, rays=2, points=3)
    monkeypatch.setattr(costs, "TOGETHER", 0)
    alone = smoothness(model, u, z, MEAN, rays=2, points=3)
    for name in ("cost", "gradient", "steepest", "slope", "stretch"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(together.bend, alone.bend, rtol=1e-3, atol=1e-5)
    # against the network itself
    mine = trained(cell).double()
    loss = MEAN(mine(u)[0], z)["loss"]
    loss.backward()
    assert together.cost[-1].item() == pytest.approx(loss.item(), rel=1e-12)
    squared = sum(p.grad.square().sum() for p in mine.parameters() if p.grad is not None)
    assert together.gradient[-1].item() == pytest.approx(math.sqrt(float(squared)), rel=1e-9)


def test_rates_are_those_of_a_linear_regression_over_the_longer_half():
    found = smoothness(freeze(trained("lstm")), *signal("constant", 64), MEAN, rays=2, points=3)
    use = found.horizon.values >= 8
    assert use.sum() == 4
    for law, x in (("power", np.log(found.horizon.values)), ("exponential", found.horizon.values)):
        for constant in found.constant.values:
            fit = linregress(x[use], np.log(found.lipschitz.sel(constant=constant).values[use]))
            one = found.sel(law=law, constant=constant)
            assert one["rate"].item() == pytest.approx(fit.slope)
            assert one["standard_error"].item() == pytest.approx(fit.stderr)


def test_the_network_is_not_touched():
    model = freeze(trained("lstm")).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    u = torch.ones(8, 2, 1).double()
    state = torch.get_rng_state()
    smoothness(model, u, u, MEAN, rays=1, points=1)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None
        assert not p.requires_grad


def test_a_loss_three_times_as_large_has_constants_three_times_as_large_and_the_same_rates():
    def threefold(outputs, targets):
        return {"loss": 3 * MEAN(outputs, targets)["loss"]}

    u, z = signal("impulse", 64)
    one, three = (smoothness(Scalar(1.02), u, z, loss, rays=1, points=3) for loss in (MEAN, threefold))
    np.testing.assert_allclose(three.lipschitz, 3 * one.lipschitz, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(three.rate, one.rate, atol=1e-5)


def test_a_sum_is_divided_by_time_and_sequences():
    generator = torch.Generator().manual_seed(0)
    u, z = (torch.randn(10, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, total = (Cost(Scalar(0.5), u, z, MeanSquaredError(reduction=r)) for r in ("mean", "sum"))
    for n in (1, 4, 10):
        assert float(mean.at(mean.theta, n)) == pytest.approx(float(total.at(total.theta, n)), rel=1e-12)


def test_the_horizon_of_a_last_step_are_the_last_steps_from_the_zero_state():
    generator = torch.Generator().manual_seed(0)
    u, z = torch.randn(6, 2, 1, generator=generator).double(), torch.ones(1, 2, 1).double()
    found = smoothness(Scalar(0.7), u, z, LastStep(MEAN), horizons=[1, 3, 6], rays=1, points=1)
    for n, value in zip((1, 3, 6), found.cost.values, strict=True):
        y = sum(0.7**k * u[-1 - k] for k in range(n))
        assert value == pytest.approx(float((y - z[0]).square().mean()), rel=1e-12)
    assert found.attrs["asked"] == "at the end"


def test_symbols_are_classified_at_the_last_step():
    generator = torch.Generator().manual_seed(0)
    u = torch.nn.functional.one_hot(torch.randint(0, 6, (20, 5), generator=generator), 6).double()
    classes = torch.randint(0, 4, (1, 5), generator=generator)
    model = freeze(trained("gru", inputs=6, outputs=4))
    found = smoothness(model, u, classes, LastStep(CrossEntropy(reduction="sum")), rays=1, points=1)
    assert found.cost[-1].item() == pytest.approx(
        torch.nn.functional.cross_entropy(model(u)[0][-1], classes[0]).item(), rel=1e-12
    )
    assert found.lipschitz.notnull().all()


def test_a_network_that_starts_elsewhere_is_called_not_stepped():
    class Elsewhere(Scalar):
        def forward(self, inputs):
            x, outputs = torch.ones(inputs.shape[1], 1).double(), []
            for u in inputs:
                x = self.step(x, u)
                outputs.append(x)
            return torch.stack(outputs), x

    u = torch.zeros(5, 1, 1).double()
    found = smoothness(Elsewhere(0.5), u, u, MEAN, horizons=[1], rays=1, points=1)
    assert found.cost.item() == 0.25
    assert found.gradient.item() == pytest.approx(1.0)


def test_operations_that_torch_cannot_batch_are_taken_one_by_one():
    class Branching(Scalar):
        def step(self, x, u):
            return x + u * self.a if float(self.a.detach()) > 0 else x

    found = smoothness(Branching(2.0), *signal("impulse", 4), MEAN, rays=1, points=1)
    assert found.cost[-1].item() == 4


def test_points_that_are_not_finite_are_counted_and_left_out():
    found = smoothness(Scalar(1e100), *signal("impulse", 8), MEAN, rays=1, points=3)
    assert found.lost.values.tolist() == [0, 0, 1, 1]
    assert found.lipschitz.isel(horizon=slice(2)).notnull().all()
    assert found.lipschitz.isel(horizon=slice(2, None)).isnull().all()
    assert found.rate.isnull().all()
    assert found.resolved.values.tolist() == [True, True, False, False]


def test_seeds_decide_and_nothing_else():
    u, z = signal("impulse", 16)
    model = freeze(trained("lstm"))
    one, same, other = (smoothness(model, u, z, MEAN, rays=2, points=3, seed=s) for s in (0, 0, 1))
    xr.testing.assert_identical(one, same)
    assert not np.allclose(one.steepest.sel(ray="random 0"), other.steepest.sel(ray="random 0"))


class Nothing(nn.Module):
    state_size = 1


U, Z = signal("impulse", 4)
REFUSED = [
    ({"network": object()}, TypeError, "give an nn.Module"),
    ({"network": Nothing()}, ValueError, "no parameters"),
    ({"network": nn.ParameterList([torch.ones(1).double()])}, TypeError, "cannot be run"),
    ({"network": Scalar(1.0).float()}, ValueError, "give float64"),
    ({"network": Scalar(0.0)}, ValueError, "weights of length 0.0"),
    ({"network": nn.Linear(1, 1).double()}, TypeError, r"Linear\(inputs\) gives a Tensor"),
    ({"network": Scalar(math.inf)}, ValueError, "weights of length inf"),
    ({"targets": Z[:, :0]}, ValueError, "do not fit targets"),
    ({"targets": torch.cat((Z, Z))}, ValueError, "8 time steps of targets do not fit 4"),
    ({"inputs": U * math.nan}, ValueError, "not finite at any horizon"),
    ({"horizons": [5]}, ValueError, "horizon 5 is not possible: .* from 1 to 4"),
    ({"horizons": [2, 1]}, ValueError, "give rising numbers"),
    ({"horizons": []}, ValueError, "give rising numbers"),
    ({"rays": -1}, ValueError, "rays=-1"),
    ({"points": 0}, ValueError, "points=0"),
    ({"radius": 0.0}, ValueError, "radius=0.0"),
    ({"directions": {"d": torch.ones(2)}}, ValueError, "direction 'd' of shape"),
    ({"directions": {"d": torch.zeros(1)}}, ValueError, "direction 'd' of shape"),
    ({"contraction": xr.Dataset()}, ValueError, "contraction has no sampled, upper"),
]


@pytest.mark.parametrize(("change", "error", "says"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_is_wrong_is_said_in_one_line(change, error, says):
    given = {"network": Scalar(1.0), "inputs": U, "targets": Z, "objective": MEAN} | change
    with pytest.raises(error, match=says) as caught:
        smoothness(**given)
    assert "\n" not in str(caught.value)
