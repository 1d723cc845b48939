import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rnnlab import softmax
from rnnlab.softmax import cross_entropy_sum


def problem(rows, classes, hidden, *, bias=True, ignored=(), seed=0, dtype=torch.float64, size=1.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return size * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    targets = torch.randint(classes, (rows,), generator=generator)
    targets[list(ignored)] = -100
    return (
        draw(rows, hidden).requires_grad_(),
        draw(classes, hidden).requires_grad_(),
        draw(classes).requires_grad_() if bias else None,
        targets,
    )


def naive(features, weight, bias, targets, ignore_index=-100):
    logits = F.linear(features, weight, bias)
    return F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), reduction="sum", ignore_index=ignore_index
    )


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, [t for t in inputs if t is not None])


def assert_same(inputs, scale=1.0, **tolerance):
    ours, plain = cross_entropy_sum(*inputs), naive(*inputs)
    torch.testing.assert_close(ours, plain, **tolerance)
    pairs = zip(gradients(scale * ours, *inputs[:3]), gradients(scale * plain, *inputs[:3]), strict=True)
    for ours, plain in pairs:
        torch.testing.assert_close(ours, plain, **tolerance)


@pytest.fixture
def chunks_of(monkeypatch):
    """Makes chunks of so many rows of float64 logits."""
    return lambda rows, classes: monkeypatch.setitem(softmax._CHUNK, "cpu", rows * classes * 8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ignored", [(), (0, 5, 6), range(12), range(17)])
@pytest.mark.parametrize("rows", [1, 4, 5, 16, 17, 100])  # in a chunk, of 17
def test_same_as_torch(chunks_of, rows, bias, ignored):
    chunks_of(rows, 11)
    assert_same(problem(17, 11, 3, bias=bias, ignored=ignored), scale=-0.3)


@pytest.mark.parametrize("chunk", [1, 7, 8 * 11])  # bytes: less than a row makes one row
def test_rows_one_by_one(monkeypatch, chunk):
    monkeypatch.setitem(softmax._CHUNK, "cpu", chunk)
    assert_same(problem(5, 11, 3))


@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(1, 12),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_same_as_torch_for_any_sizes(rows, classes, hidden, chunk, bias, seed):
    before = dict(softmax._CHUNK)
    softmax._CHUNK["cpu"] = chunk * classes * 8
    try:
        ignored = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))[: seed % (rows + 1)]
        assert_same(problem(rows, classes, hidden, bias=bias, ignored=ignored.tolist(), seed=seed))
    finally:
        softmax._CHUNK.update(before)


@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(chunks_of, bias):
    chunks_of(2, 6)
    features, weight, b, targets = problem(5, 6, 3, bias=bias, ignored=[1])
    given = [features, weight] if b is None else [features, weight, b]

    def loss(features, weight, b=None):
        return 0.7 * cross_entropy_sum(features, weight, b, targets)

    assert torch.autograd.gradcheck(loss, given)


def test_all_equal_logits_give_log_of_the_number_of_classes():
    total = cross_entropy_sum(torch.zeros(10, 2), torch.zeros(50, 2), None, torch.arange(10))
    assert total.item() == pytest.approx(10 * torch.tensor(50.0).log().item())


def test_batches_of_any_shape_and_strides():
    features, weight, bias, targets = problem(24, 7, 3)
    cube, square = features.view(4, 6, 3).transpose(0, 1), targets.view(4, 6).T
    torch.testing.assert_close(
        cross_entropy_sum(cube, weight, bias, square), naive(features, weight, bias, targets)
    )
    (grad,) = torch.autograd.grad(cross_entropy_sum(cube, weight, bias, square), features)
    (plain,) = torch.autograd.grad(naive(features, weight, bias, targets), features)
    torch.testing.assert_close(grad, plain)


def test_no_rows():
    features, weight, bias, targets = problem(0, 7, 3)
    total = cross_entropy_sum(features, weight, bias, targets)
    assert total.item() == 0
    assert all(not g.any() for g in gradients(total, features, weight, bias))


def test_another_ignored_index():
    features, weight, bias, targets = problem(9, 7, 3)
    ours = cross_entropy_sum(features, weight, bias, targets, ignore_index=int(targets[0]))
    torch.testing.assert_close(ours, naive(features, weight, bias, targets, ignore_index=int(targets[0])))


def test_ignored_rows_count_for_nothing_whatever_they_say():
    features, weight, bias, targets = problem(6, 7, 3, ignored=[2])
    bias.data[0] = -torch.inf  # a class that is shut, which an ignored target must not stand for
    targets[targets == 0] = 1
    assert_same((features, weight, bias, targets))


@pytest.mark.parametrize("kept", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1)])
def test_only_the_gradients_that_are_wanted(chunks_of, kept):
    chunks_of(4, 7)
    inputs = problem(9, 7, 3)
    full = gradients(naive(*inputs), *inputs[:3])
    for i, t in enumerate(inputs[:3]):
        t.requires_grad_(i in kept)
    cross_entropy_sum(*inputs).backward()
    for i, t in enumerate(inputs[:3]):
        assert (t.grad is None) == (i not in kept)
        if i in kept:
            torch.testing.assert_close(t.grad, full[i])


def test_a_graph_that_is_kept_gives_the_same_again():
    inputs = problem(9, 7, 3)
    total = cross_entropy_sum(*inputs)
    first = torch.autograd.grad(0.5 * total, inputs[:3], retain_graph=True)
    copies = [g.clone() for g in first]
    second = torch.autograd.grad(0.5 * total, inputs[:3])
    for a, b, c in zip(first, copies, second, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(b, c)


def test_tied_weights_add_up():
    _, weight, bias, targets = problem(9, 7, 3)
    words = torch.arange(9) % 7
    ours = gradients(cross_entropy_sum(weight[words].tanh(), weight, bias, targets), weight, bias)
    plain = gradients(naive(weight[words].tanh(), weight, bias, targets), weight, bias)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_is_differentiable_once():
    features, weight, bias, targets = problem(5, 7, 3)
    total = cross_entropy_sum(features, weight, bias, targets)
    with pytest.raises(RuntimeError, match="differentiated once: leave out create_graph=True"):
        torch.autograd.grad(total, features, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_stay_finite(dtype, size):
    inputs = problem(40, 30, 1, dtype=dtype)
    inputs[1].data.mul_(size)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    assert_same(inputs, **tolerance)
    assert cross_entropy_sum(*inputs).isfinite()


def test_float32_is_good_to_its_rounding(chunks_of):
    chunks_of(64, 400)
    inputs = problem(1000, 800, 20, size=0.5)
    rounded = [None if t is None else t.detach().float() for t in inputs[:3]]
    for t in rounded:
        t.requires_grad_()
    exact_inputs = [t.detach().double().requires_grad_() for t in rounded]
    exact, ours = naive(*exact_inputs, inputs[3]), cross_entropy_sum(*rounded, inputs[3])
    assert ours.item() == pytest.approx(exact.item(), rel=3e-7)
    pairs = zip(gradients(ours, *rounded), gradients(exact, *exact_inputs), strict=True)
    for a, b in pairs:
        assert (a - b).norm() < 2e-6 * b.norm()


def in_bfloat16(*inputs):
    with torch.autocast("cpu", torch.bfloat16):
        return cross_entropy_sum(*inputs)


@pytest.mark.parametrize("grad", [True, False])
def test_autocast_multiplies_in_its_type_and_sums_in_float32(chunks_of, grad):
    chunks_of(64, 400)
    features, weight, bias, targets = problem(1000, 800, 20, size=0.5, dtype=torch.float32)
    inputs = features, weight, bias
    exact = naive(*inputs, targets)
    with torch.set_grad_enabled(grad):
        ours = in_bfloat16(*inputs, targets)
    assert ours.dtype == torch.float32
    # bfloat16 rounds by 2^-9; errors of a thousand losses average out
    assert ours.item() == pytest.approx(exact.item(), rel=1e-3)
    assert ours.item() != pytest.approx(exact.item(), rel=1e-7)
    if grad:
        found = gradients(ours, *inputs)
        for a, b in zip(found, gradients(exact, *inputs), strict=True):
            assert a.dtype == torch.float32
            assert (a - b).norm() < 2**-6 * b.norm()
        # chunks are added up in float32: a sum of bfloat16 numbers that is none itself
        assert not torch.equal(found[1], found[1].bfloat16().float())


def test_autocast_of_features_that_are_bfloat16_already():
    features, weight, bias, targets = problem(100, 80, 20, size=0.5, dtype=torch.float32)
    half = features.detach().bfloat16().requires_grad_()
    total = in_bfloat16(half, weight, bias, targets)
    assert [g.dtype for g in gradients(total, half, weight)] == [torch.bfloat16, torch.float32]


def test_autocast_leaves_float64_alone():
    inputs = problem(9, 7, 3)
    ours = in_bfloat16(*inputs)
    torch.testing.assert_close(ours, naive(*inputs))


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation makes, and how many multiplications there are of matrices."""

    def __init__(self):
        super().__init__()
        self.largest = self.multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[-2:]
            self.multiplications += a.shape[0] * a.shape[1] * b.shape[1]
        return out


@pytest.mark.parametrize("train", [True, False])
def test_never_all_logits_and_none_twice(chunks_of, train):
    rows, classes, hidden = 600, 500, 10
    chunks_of(25, classes)
    features, weight, bias, targets = problem(rows, classes, hidden)
    with torch.set_grad_enabled(train), Sizes() as seen:
        total = cross_entropy_sum(features, weight, bias, targets)
    with seen:
        if train:
            total.backward()
    assert seen.largest == 25 * classes
    assert seen.multiplications == (3 if train else 1) * rows * classes * hidden


@pytest.mark.parametrize("wrong", [7, -1, 12345, -101])
def test_a_target_that_is_no_class(wrong):
    features, weight, bias, targets = problem(5, 7, 3)
    targets[3] = wrong
    with pytest.raises(ValueError, match=rf"^target {wrong} is not possible: give 0 to 6, or -100\.$"):
        cross_entropy_sum(features, weight, bias, targets)


def test_sizes_that_do_not_fit():
    features, weight, bias, targets = problem(5, 7, 3)
    with pytest.raises(ValueError, match=r"^features of length 2 are not possible: weight has 3 columns\.$"):
        cross_entropy_sum(features[:, :2], weight, bias, targets)
    with pytest.raises(ValueError, match=r"^targets of shape \(4,\) are not possible: .*\(5,\)\.$"):
        cross_entropy_sum(features, weight, bias, targets[:4])
