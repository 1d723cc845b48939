"""What docs/papers/attractors_2020.md says about the claims of Ribeiro et al. (2020), checked."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import logm

from datamodules import Adding, Sine, Symbols
from rnnlab.analysis import (
    certified_fixed_points,
    continuation,
    contraction,
    fixed_points,
    lyapunov_spectrum,
    orbit,
)
from rnnlab.autonomous import HeldInput, Wrapped, freeze
from rnnlab.cells import Elman, Orthogonal, StableLSTM
from rnnlab.maps import Henon, Linear, TanhMap
from rnnlab.studies.chaotic_lstm import START, ScaledLSTM, cost, origin_eigenvalues
from rnnlab.systems import Iterated, jacobian


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def elman(weights, biases=None, inputs=None, nonlinearity="tanh"):
    cell = Elman(1 if inputs is None else len(inputs[0]), len(weights), nonlinearity=nonlinearity).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_hh.copy_(double(*weights))
        if biases is not None:
            cell.bias_hh.copy_(double(*biases))
        if inputs is not None:
            cell.weight_ih.copy_(double(*inputs))
    return cell


def plain(system):
    """The system without a derivative of its own."""

    class Steps:
        step = staticmethod(system.step)

    return Steps()


# section 1: eigenvalues of the recurrent matrix


def test_all_eigenvalues_zero_and_yet_two_attractors():
    """x1 = tanh(4 (x1 - x2) + 4), x2 = tanh(4 (x1 - x2) + 10): with x2 near 1 the first is a switch."""
    cell = elman([[4.0, -4.0], [4.0, -4.0]], biases=[4.0, 10.0])
    assert torch.linalg.matrix_norm(cell.weight_hh @ cell.weight_hh).item() == 0  # nilpotent
    found = certified_fixed_points(HeldInput(freeze(Wrapped(cell)), torch.zeros(1).double()))
    assert (found.certified, found.undecided) == (3, 0)
    assert sorted(found.unstable.values.tolist()) == [0, 0, 1]


def test_gradients_explode_with_all_eigenvalues_zero_at_every_step():
    """Two units that excite one another, of which an alternating input shuts one at every step."""
    cell = elman([[0.0, 2.0], [2.0, 0.0]], inputs=[[1.0, 0.0], [0.0, 1.0]], nonlinearity="relu")
    inputs = double([-1.0, -100.0], [-100.0, -1.0])
    x, product = double(0.0, 1.0), torch.eye(2).double()
    for t in range(20):
        held = HeldInput(Wrapped(cell), inputs[t % 2])
        slope = jacobian(held, x)
        assert torch.linalg.eigvals(slope).abs().max() == 0
        assert torch.linalg.matrix_norm(slope, 2) == 2
        x, product = held.step(x), slope @ product
    assert x.tolist() == [0.0, 1.0]  # on an orbit of period 2
    assert torch.linalg.matrix_norm(product, 2) == 2.0**20


def test_where_attractors_are_gradients_vanish():
    """tanh(2 x) has two attractors, L = 2, and derivatives along orbits that fade by 0.166 a step."""
    switch = TanhMap(2.0)
    x = torch.linspace(-2, 2, 40).double()[:, None].requires_grad_()
    end = x
    for _ in range(60):
        end = switch.step(end)
    (slope,) = torch.autograd.grad(end.sum(), x)
    assert end.detach().round(decimals=6).unique().abs().tolist() == pytest.approx([0.957504, 0.957504])
    assert slope.max() < 1e-30
    assert jacobian(switch, end[-1].detach()).item() == pytest.approx(2 * (1 - 0.957504**2), abs=1e-5)


# section 3.1: entropy


@pytest.mark.parametrize("diagonal", [(2.0, 0.125), (1.0, 0.5), (0.5, 0.5), (3.0, 2.0)])
def test_the_entropy_bound_holds_in_the_other_direction(diagonal):
    """Of a normal density under a linear map H is known; as printed the bound fails but for equality."""

    def entropy(covariance):
        return 0.5 * math.log(np.linalg.det(2 * math.pi * math.e * covariance))

    a, before = np.diag(diagonal), np.array([[1.0, 0.3], [0.3, 0.5]])
    change = entropy(a @ before @ a.T) - entropy(before)
    bound = 2 * math.log(max(diagonal))
    assert change == pytest.approx(math.log(np.prod(diagonal)))
    assert change <= bound + 1e-12
    assert (change >= bound - 1e-12) == (diagonal[0] == diagonal[1])


def test_chaos_lowers_the_entropy():
    """What H changes by is the mean of ln |det J|, the sum of all exponents."""
    start = torch.zeros(1, 2).double()
    found = lyapunov_spectrum(Henon(1.4, 0.3), start, steps=1000, discard=100)
    assert found.exponent[0] > 0.35
    assert found.exponent.sum().item() == pytest.approx(math.log(0.3), abs=1e-9)
    found = lyapunov_spectrum(ScaledLSTM(1.0), START[None], steps=500, discard=100)
    assert found.exponent[0] > 0.1
    assert found.exponent.sum().item() == pytest.approx(-6.5, abs=0.3)


def test_a_contraction_can_keep_every_bit_it_was_told():
    """x' = (x + 2 u) / 3: the history of bits is read off the state, by the digits in base three."""
    bits = torch.randint(2, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    x = 0
    for u in bits:  # exactly, in units of 3^-30
        x = (x + 2 * u * 3**30) // 3
    read = [(x // 3 ** (29 - k)) % 3 // 2 for k in range(30)]
    assert read == bits[::-1]


def test_what_a_contraction_was_told_fades_at_its_rate_under_any_input():
    """Two stable LSTMs told different things at first and the same ever after: the certificate bounds all."""
    torch.manual_seed(0)
    cell = StableLSTM(1, 20).double()
    cell.constrain()
    factor = cell.certificates()["contraction"]
    x = torch.zeros(2, 40).double()
    inputs = 2 * torch.rand(40, 1, 1).double() - 1
    with torch.no_grad():
        x = cell.step(x, double([-1.0], [1.0]))
        apart = [(x[0] - x[1]).abs().max().item()]
        for u in inputs:
            x = cell.step(x, u.expand(2, 1))
            apart.append((x[0] - x[1]).abs().max().item())
    assert factor < 1
    assert all(now <= factor * before for before, now in itertools.pairwise(apart))
    assert 0 < apart[-1] < 1e-6 * apart[0]


def test_a_contraction_does_not_stop_parameters_from_learning():
    """x' = w x + 1: dx_t/dx_0 = w^t vanishes, d(x_t - 10)^2/dw tends to -64 at w = 1/2 and leads out."""
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x0 = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    x = x0
    for _ in range(200):
        x = w * x + 1
    gradient, early = torch.autograd.grad((x - 10) ** 2, (w, x0))
    assert gradient.item() == pytest.approx(-64)
    assert abs(early) < 1e-50


# section 3.2: contraction


def test_contraction_depends_on_the_norm():
    """One matrix stretches by ten in the Euclidean norm and contracts in another."""
    found = contraction(Linear(double([0.5, 10.0], [0.0, 0.5])), torch.ones(1, 2).double())
    assert found.sampled.sel(norm="2") > 10
    assert found.upper.sel(norm="weighted") < 0.51
    # so does a stable LSTM, certified in the max norm
    cell = StableLSTM(1, 200).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias_ih[:200] = 20.0  # input gates open
        cell.bias_ih[200:400] = -20.0  # forget gates shut
        cell.weight_hh[400:600, 0] = 0.09
    before = cell.weight_hh.detach().clone()
    cell.constrain()
    assert torch.equal(before, cell.weight_hh)  # it is in the region
    assert cell.certificates()["contraction"] < 1
    slope = jacobian(HeldInput(Wrapped(cell), torch.zeros(1).double()), torch.zeros(400).double())
    assert torch.linalg.matrix_norm(slope.detach(), 2) > 1.2


# section 3.3: attractors


def test_an_attractor_by_the_paper_need_not_be_stable():
    """x' = x + 0.3 (1 - cos x) on the circle: all orbits end at 0, and a push of 0.01 leads once around."""
    x, path = double(0.01), []
    for _ in range(20_000):
        x = x + 0.3 * (1 - x.cos())
        path.append(x.item())
    assert max(abs((v + math.pi) % (2 * math.pi) - math.pi) for v in path) > 3
    assert path[-1] == pytest.approx(2 * math.pi, abs=1e-3)
    assert path[-1] < 2 * math.pi


def test_memory_without_attractors_lasts_but_for_noise():
    """x' = x keeps any number, but no point attracts; tanh(2 x) keeps a sign under bounded noise."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.18 * (2 * torch.rand(2000, 200, generator=generator).double() - 1)
    switch, integrator = torch.ones(200, 1).double() * 0.8, torch.ones(200).double() * 0.8
    for step in noise:
        switch = TanhMap(2.0).step(switch) + step[:, None]
        integrator = integrator + step
    assert (switch > 0.7).all()
    assert 0.2 < (integrator < 0).double().mean() < 0.8  # forgotten: as good as a coin
    # and for ever: [0.7, 1.2] is mapped into itself, whatever the noise
    assert TanhMap(2.0).step(double(0.7)).item() - 0.18 > 0.7


# section 4.1: the chaotic LSTM


def test_three_steps_come_by_a_fold_while_the_fixed_point_is_stable():
    """So an oscillation needs no Neimark-Sacker bifurcation, and orbits from one start miss an attractor."""
    assert abs(origin_eigenvalues(0.76)).max() < 0.97
    near = 1e-3 * torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).double()
    seen = orbit(ScaledLSTM(0.76), torch.cat((START[None], near)), burn_in=2000)
    assert seen.settled.all()
    assert seen.period.values.tolist() == [3, 1]
    cycle = torch.from_numpy(seen.last_state.values[:1])
    down = continuation(ScaledLSTM, cycle, (0.76, 0.70), period=3, name="s")
    assert down.bifurcation_type.values.tolist() == ["saddle-node"]
    fold = down.bifurcation_parameter.item()
    assert fold == pytest.approx(0.7450347804, abs=1e-9)
    assert abs(origin_eigenvalues(fold)).max() < 0.94
    # at the fold a multiplier of the cycle is 1, found without the continuation
    point = down.bifurcation_point.values[0]
    three = Iterated(ScaledLSTM(fold), 3)
    x = torch.from_numpy(point)
    assert (three.step(x) - x).abs().max() < 1e-9
    values = torch.linalg.eigvals(jacobian(plain(three), x))
    assert (values - 1).abs().min() < 1e-5
    up = continuation(ScaledLSTM, cycle, (0.76, 0.86), period=3, name="s")
    assert up.bifurcation_type.values.tolist() == ["period doubling"]
    assert up.bifurcation_parameter.item() == pytest.approx(0.8467327645, abs=1e-9)


def test_the_cost_jumps_where_the_start_changes_its_attractor():
    """Between s = 0.7458 and 0.7464 the rest of the paper's start gives way to the cycle of three."""
    around = double(0.7458, 0.7464)
    for steps, rise in ((200, 1.08), (1600, 1.2)):
        below, above = cost(around, steps=steps)
        assert above / below > rise
        before = cost(around - 0.0006, steps=steps)
        assert abs(before[1] / before[0] - 1) < 0.03


def test_rest_costs_less_than_nearly_all_chaos():
    inside = torch.linspace(0.888, 1.461, 1000).double()
    assert (cost(inside) > cost(double(0.7))).double().mean() > 0.98


# section 4.2 and the proofs: smoothness of the cost


def squaring(angle, steps):
    """V of z' = z^2 on the unit circle from e^(i angle), in the disc, with all targets 1."""
    powers = 2.0 ** torch.arange(1, steps + 1, dtype=torch.float64)
    return (2 - 2 * torch.cos(powers * angle[..., None])).mean(-1)


def test_the_rates_of_theorem_1_are_not_reached_but_those_of_a_bounded_output_are():
    """On a bounded set slopes grow like 2^N / N and curvatures like 4^N / N at L = 2: not 4^N, not 8^N."""
    slope = torch.func.grad(lambda a, n: squaring(a, n), 0)
    curvature = torch.func.grad(slope, 0)
    for steps in (6, 9, 12):
        angles = torch.linspace(0, 2 * math.pi, 8 * 2**steps + 1).double()
        steepest = torch.func.vmap(lambda a, n=steps: slope(a, n))(angles).abs().max().item()
        most = curvature(double(0.0).squeeze(), steps).item()
        assert 0.8 < steepest * steps / 2**steps / 2 < 2.01
        assert most * steps == pytest.approx(2 * (4 ** (steps + 1) - 4) / 3)
    # that is the map: z_t = e^(i 2^t angle)
    z = torch.exp(1j * double(0.3).squeeze())
    costs = []
    for _ in range(9):
        z = z * z
        costs.append((z - 1).abs() ** 2)
    assert torch.stack(costs).mean().item() == pytest.approx(squaring(double(0.3), 9).item())


@pytest.mark.parametrize("steps", [4, 8, 12])
def test_local_minima_fill_the_whole_parameter_space(steps):
    """At least 2^N of them: the last term of the slope outweighs the others where its sine is +-1."""
    count = 2**steps
    angles = 2 * math.pi * (torch.arange(2 * count).double() + 0.5) / (2 * count)
    powers = 2.0 ** torch.arange(1, steps + 1, dtype=torch.float64)
    slopes = (powers * torch.sin(powers * angles[:, None])).sum(-1)
    assert torch.equal(slopes.sign(), torch.tensor([1.0, -1.0]).double().repeat(count))


def test_the_rates_at_one_are_reached_with_the_constant_of_the_state():
    """x' = x - x^2 / 2 + theta, [0, 1] into itself, slope up to 1: V' = -(N + 1), V'' grows as N^3 / 6."""

    def v(theta, steps):
        x, total = torch.zeros_like(theta), torch.zeros_like(theta)
        for _ in range(steps):
            x = x - x * x / 2 + theta
            total = total + (x - 1) ** 2
        return total / steps

    zero = double(0.0).squeeze()
    for steps in (10, 100, 400):
        slope = torch.func.grad(v)(zero, steps)
        curvature = torch.func.grad(torch.func.grad(v))(zero, steps)
        t = np.arange(1, steps + 1)
        assert slope.item() == pytest.approx(-(steps + 1))
        assert curvature.item() == pytest.approx((t**2 + (t - 1) * t * (2 * t - 1) / 6).sum() * 2 / steps)
    assert curvature.item() / steps**3 == pytest.approx(1 / 6, rel=0.02)


def test_the_paper_s_constant_is_never_one_for_an_orthogonal_network():
    """A unit that is on moves by 1 with its b and by a unit vector times the state: sqrt 2 together."""
    torch.manual_seed(0)
    cell = Orthogonal(1, 8).double()
    x, u = torch.randn(8).double(), torch.ones(1).double()

    y = cell.step(x.requires_grad_(), u)
    rows = [torch.autograd.grad(part, (x, cell.b), retain_graph=True) for part in y]
    jointly = torch.stack([torch.cat(row) for row in rows])
    assert torch.linalg.matrix_norm(jointly[:, :8], 2).item() == pytest.approx(1)
    assert torch.linalg.matrix_norm(jointly, 2).item() == pytest.approx(math.sqrt(2))


def test_lemma_2_lacks_a_constant():
    """Cross entropy with y = 0 has the slope 1/2 at 0, where K1 |y| + K2 max(|y'|, |z'|) vanishes."""
    loss = lambda a: -np.log1p(-1 / (1 + np.exp(-a)))  # noqa: E731
    for size in (1e-2, 1e-4, 1e-6):
        assert loss(size) - loss(0) > 0.49 * size
        assert loss(size) - loss(0) < 1.0 * size  # but K0 = 1 would do


# the orthogonal network as a dynamical system (sections 4 and 5)


def ornn(matrix, b, held=0.0):
    """x' = modReLU(held + B^T x) with the matrix B^T and the thresholds b."""
    cell = Orthogonal(1, len(b)).double()
    with torch.no_grad():
        cell.A.copy_(torch.from_numpy(np.real(logm(matrix.T))).triu(1))
        cell.b.copy_(double(*b))
        cell.W.copy_(torch.as_tensor(held, dtype=torch.float64).expand(len(b))[:, None])
        torch.testing.assert_close(cell.recurrent_matrix().mT, torch.from_numpy(matrix), atol=1e-12, rtol=0)
    return HeldInput(freeze(Wrapped(cell)), torch.ones(1).double())


def random_ornn(seed, low, high, size=6):
    torch.manual_seed(seed)
    cell = Orthogonal(1, size).double()
    with torch.no_grad():
        cell.A.copy_(torch.randn(size, size).triu(1))
        cell.b.uniform_(low, high)
    return HeldInput(freeze(Wrapped(cell)), double(0.7))


@pytest.mark.parametrize("seed", range(5))
def test_modrelu_brings_states_closer_or_apart_by_the_sign_of_b(seed):
    x, w = torch.randn(2, 500, 6, generator=torch.Generator().manual_seed(seed)).double()
    for low, high, sign in ((-1.0, 0.0, -1), (0.0, 1.0, 1)):
        system = random_ornn(seed, low, high)
        change = (system.step(x) - system.step(w)).norm(dim=-1) / (x - w).norm(dim=-1) - 1
        assert (sign * change > -1e-12).all()
        assert (sign * change > 1e-3).any()


@pytest.mark.parametrize("seed", range(3))
def test_no_tangent_vector_of_an_orthogonal_network_ever_grows(seed):
    """The Jacobian is D B^T with D = diag(0 or 1), whatever b: all exponents are at most 0."""
    system, x = random_ornn(seed, -0.5, 0.5), torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    x, product = x.double(), torch.eye(6).double().expand(20, 6, 6)
    for _ in range(50):
        slope = jacobian(plain(system), x)
        assert torch.linalg.svdvals(slope).max() <= 1 + 1e-12
        x, product = system.step(x), slope @ product
        assert torch.linalg.svdvals(product).max() <= 1 + 1e-10
        assert x.isfinite().all()


def test_above_zero_modrelu_jumps():
    system = ornn(np.eye(2), (0.3, -0.3))
    near = system.step(double([1e-9, 0.0], [-1e-9, 0.0]))
    assert (near[0] - near[1]).tolist() == pytest.approx([0.6, 0.0], abs=1e-6)
    assert random_ornn(0, -0.5, 0.5).lipschitz().item() == math.inf
    assert random_ornn(0, -0.5, 0.0).lipschitz().item() == pytest.approx(1)


def test_without_thresholds_above_zero_no_oscillation_stands_alone():
    """b <= 0: every motion scaled towards the fixed point in its midst is a motion, too."""
    turn, rest = rotation(0.7), np.array([3.0, 2.0])
    system = ornn(turn, (-0.1, -0.1), rest + 0.1 - turn @ rest)
    rest = torch.from_numpy(rest)
    torch.testing.assert_close(system.step(rest), rest)
    x = rest + double([1.5, 0.0], [0.75, 0.0], [0.0, 0.1])
    for _ in range(1000):
        x = system.step(x)
    torch.testing.assert_close((x - rest).norm(dim=-1), double(1.5, 0.75, 0.1))


def test_without_thresholds_above_zero_what_is_between_fixed_points_is_fixed():
    """A rotation about an axis, its thresholds made up for by the input: the axis is a line of rest."""
    turn = np.eye(3)
    turn[:2, :2] = rotation(1.0)
    system = ornn(turn, (-0.2, -0.2, -0.2), 0.2 + np.array([1.0, 1.0, 0.0]) - turn @ [1.0, 1.0, 0.0])
    ends = double([1.0, 1.0, 1.0], [1.0, 1.0, 4.0])
    torch.testing.assert_close(system.step(ends), ends)
    between = torch.lerp(ends[0], ends[1], double(*np.linspace(0, 1, 7))[:, None])
    torch.testing.assert_close(system.step(between), between)


def test_an_orthogonal_network_has_a_pitchfork():
    """As b of one unit passes 0, one stable fixed point gives way to two: +-b / (1 - cos)."""
    start = 0.1 * torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double()
    seen = orbit(ornn(rotation(0.5), (-0.1, -1.0)), start)
    assert seen.period.values.tolist() == [1] * 20
    assert (seen.y == 0).all()
    system, away = ornn(rotation(0.5), (0.1, -1.0)), 0.1 / (1 - math.cos(0.5))
    seen = orbit(system, start)
    assert seen.period.values.tolist() == [1] * 20
    ends = seen.y.values[:, -1]
    assert sorted({round(v, 9) for v in ends[:, 0]}) == pytest.approx([-away, away])
    found = fixed_points(system, start)
    assert sorted(found.point.values[:, 0].tolist()) == pytest.approx([-away, 0, away])
    values = torch.linalg.eigvals(jacobian(system, double(away, 0.0))).abs()
    assert sorted(values.tolist()) == pytest.approx([0, math.cos(0.5)])  # it attracts


def test_an_orthogonal_network_begins_to_oscillate():
    """Two units turn and shrink, two dead ones take what is lost: an attracting oscillation for b > 0."""
    shrink, turn = 0.9, 2 * math.pi / 8
    c, s = shrink * rotation(turn), math.sqrt(1 - shrink**2) * np.eye(2)
    matrix = np.block([[c, s], [-s, c.T]])
    start = 0.01 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).double()
    seen = orbit(ornn(matrix, (-0.1, -0.1, -10.0, -10.0)), start)
    assert seen.period.values.tolist() == [1] * 20
    assert (seen.y == 0).all()
    system = ornn(matrix, (0.1, 0.1, -10.0, -10.0))
    seen = orbit(system, start)
    assert seen.settled.all()
    assert (seen.period == 8).all()
    assert seen.y.isel(observable=0).max() > 1
    assert seen.y.isel(observable=0).min() < -1
    assert (seen.y.isel(observable=[2, 3]) == 0).all()
    growth = lyapunov_spectrum(system, torch.from_numpy(seen.last_state.values[:1]), count=2, steps=80)
    assert growth.exponent.values.ravel() == pytest.approx([math.log(0.9)] * 2, abs=1e-9)


# sections 5 and 6: what contractions can and cannot do


def test_a_contraction_oscillates_for_four_hundred_steps():
    """x' = c + r R(w) (x - c), r = 0.9999, from 0 like the trained ones, with a tenth of their error."""
    inputs, targets = (part.double() for part in Sine().sequences())
    frequency = inputs[0, :, 0]
    x, shrink = torch.ones_like(frequency).to(torch.complex128), 0.9999
    total = 0.0
    for target in targets[..., 0]:
        x = shrink * torch.exp(1j * frequency) * x  # x - c, with c = -1
        total += (x.imag - target).square().mean().item()
    assert len(targets) == 400
    assert total / 400 < 3e-4


def test_a_contraction_solves_the_temporal_order_task():
    """A delay line that halves what it hands on: Lipschitz constant 1/2, one fixed point, accuracy one."""
    task = Symbols(length=300, num_validation=200)
    inputs, classes = task.sequences("val")
    told = (inputs[..., 1] - inputs[..., 0]).double()  # q: 1, p: -1, else 0
    x = torch.zeros(200, 300).double()
    for u in told:
        x = torch.cat((u[:, None], x[:, :-1] / 2), 1)
    age = torch.arange(300).double()
    heard = x * 2**age  # a linear readout: the step that is k old was halved k times
    first, second = (heard[:, 300 - last : 301 - first].sum(1) for first, last in (task.first, task.second))
    answers = torch.stack([-first - second, second - first, first - second, first + second], 1).argmax(1)
    assert torch.equal(answers, classes[0])
    steps = 0.5 * torch.diag(torch.ones(299), -1).double()
    assert torch.linalg.matrix_norm(steps, 2) == 0.5


def test_adding_needs_no_attractor():
    """x' = x + marked u: exact for every length, and every point of the line is a neutral fixed point."""
    inputs, targets = next(iter(Adding(length=60, num_sequences=40, batch_size=40).train_dataloader()))
    x = torch.zeros(40).double()
    for u in inputs.double():
        x = x + u[:, 0] * u[:, 1]
    torch.testing.assert_close(x, targets.double().flatten(), atol=1e-6, rtol=0)


def test_the_kolmogorov_sinai_entropy_needs_no_volume_to_be_kept():
    """x' = 4 x (1 - x) is two to one; its entropy is ln 2, the mean of ln |4 - 8 x| by its density."""
    x = (1 - np.cos(math.pi * (np.arange(200_000) + 0.5) / 200_000)) / 2  # quantiles of that density
    assert np.log(abs(4 - 8 * x)).mean() == pytest.approx(math.log(2), abs=1e-4)
    image = np.sort(4 * x * (1 - x))
    assert abs(image - x).max() < 1e-4  # it is invariant
