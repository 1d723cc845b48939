"""Interval arithmetic on a system's own code: bounds on values and derivatives that hold for whole boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

UNIT = 2.0**-53  # half the distance from 1 to the next float64
ULPS = 8 * UNIT  # how far elementary functions are widened, relative: at least 4 units in the last place
TINY = 1e-300  # and absolute: below 1e-308 float64 loses digits
INFINITY = torch.tensor(math.inf, dtype=torch.float64)

OPERATIONS: dict[str, Callable[..., Any]] = {}


class UnknownOperation(TypeError):
    """A function uses what interval arithmetic has no bounds for."""


class Interval:
    """A tensor of intervals [low, high], in float64, that takes part in torch functions.

    Put in place of a state, it carries through a system's own `step` or `velocity` bounds that hold for every
    state in a box, rounding included: `+ - * /` and square roots are rounded outward by one unit in the last
    place, sums and products with weights by the a-priori bound n u / (1 - n u) of Higham (2002), elementary
    functions by 4 units in the last place, more than torch's own are wrong by (a test measures it).

    It may carry `slope`, an interval tensor `(k, *shape)` that holds the derivative with respect to k
    variables; every operation then applies the chain rule. At kinks (relu, abs, clamp, maximum) that is the
    hull of the slopes from both sides, so that the mean value theorem holds; across a jump (sign,
    remainder) it is infinite. Where a function is not defined, as a quotient by an interval that holds zero,
    or nothing is known, bounds are NaN: only what is found true of bounds is proved.

    Known are the operations in `OPERATIONS`, as functions of torch, methods and operators. Anything else is
    refused by name.

    Args:
        low: Lower bounds, any shape, float64.
        high: Upper bounds, of the same shape. The very object `low` again makes a tensor of points.
        slope: Bounds on the derivative, or None for a constant.

    Raises:
        ValueError: The bounds are not in float64 or differ in shape.

    References:
        Moore, Kearfott and Cloud, "Introduction to Interval Analysis", SIAM 2009.
        Higham, "Accuracy and Stability of Numerical Algorithms", SIAM 2002, chapter 3.
        Rump, "Fast and parallel interval arithmetic", BIT 39, 1999: products by midpoint and radius.

    Example:
        >>> x = Interval(torch.tensor([-1.0]).double(), torch.tensor([2.0]).double())
        >>> torch.relu(x), x**2
        (Interval([0.0], [2.0]), Interval([0.0], [4.000000000000001]))
    """

    def __init__(self, low: Tensor, high: Tensor, slope: Interval | None = None) -> None:
        if low.dtype != torch.float64 or high.dtype != torch.float64 or low.shape != high.shape:
            raise ValueError(
                f"bounds of types {low.dtype}, {high.dtype} and shapes {tuple(low.shape)}, "
                f"{tuple(high.shape)} are not possible: give float64 of one shape."
            )
        self.low, self.high = low, high
        if slope is not None and slope.shape[1:] != low.shape:
            slope = slope.expand(slope.shape[0], *low.shape)
        self.slope = slope

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _operation(func.__name__)(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(_operation(name), self)

    def __bool__(self) -> bool:
        raise UnknownOperation(
            "an interval is neither true nor false: a system that branches cannot be certified."
        )

    def __repr__(self) -> str:
        return f"Interval({self.low.tolist()}, {self.high.tolist()})"

    def __len__(self) -> int:
        return len(self.low)

    def __iter__(self):
        return iter(_operation("unbind")(self))

    @property
    def shape(self) -> torch.Size:
        return self.low.shape

    @property
    def ndim(self) -> int:
        return self.low.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.low.dtype

    @property
    def device(self) -> torch.device:
        return self.low.device

    @property
    def requires_grad(self) -> bool:
        return False

    @property
    def mT(self) -> Interval:
        return _operation("transpose")(self, -1, -2)

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute value in each interval."""
        return torch.maximum(self.low.abs(), self.high.abs())


def _operation(name: str) -> Callable[..., Any]:
    """Look an operation up by the name of torch's function, method or operator."""
    name = name.strip("_") if name.startswith("__") else name
    if name not in OPERATIONS:
        raise UnknownOperation(
            f"torch.{name} is not known to interval arithmetic: known are {', '.join(sorted(OPERATIONS))}."
        )
    return OPERATIONS[name]


def differentiate(
    function: Callable[[Any], Any], low: Tensor, high: Tensor, *, columns: int | None = None
) -> tuple[Interval, Interval]:
    """Bounds on a function and on its derivative over boxes.

    Args:
        function: States `(*batch, n)` to `(*batch, m)`, rows independent, in known operations.
        low: Lower corners, `(*batch, n)`, float64.
        high: Upper corners.
        columns: How many derivatives to carry at once, which bounds the memory. Default: all n.

    Returns:
        The values, `(*batch, m)`, and the Jacobians, `(*batch, m, n)`.

    Raises:
        UnknownOperation: The function uses an operation that is not known.

    Example:
        >>> value, slope = differentiate(torch.tanh, -torch.ones(1).double(), torch.ones(1).double())
        >>> [round(bound.item(), 9) for bound in (value.high, slope.low, slope.high)]
        [0.761594156, 0.419974342, 1.0]
    """
    size = low.shape[-1]
    eye = torch.eye(size, dtype=low.dtype, device=low.device)
    parts, value = [], None
    for seeds in eye.split(columns or size):
        seeds = seeds.view(-1, *[1] * (low.ndim - 1), size).expand(-1, *low.shape)
        value = as_interval(function(Interval(low, high, Interval(seeds, seeds))))
        slope = value.slope
        if slope is None:
            zeros = value.low.new_zeros(len(seeds), *value.shape)
            slope = Interval(zeros, zeros)
        parts.append(slope)
    assert value is not None
    lows, highs = (
        torch.cat([getattr(part, side) for part in parts]).movedim(0, -1) for side in ("low", "high")
    )
    return Interval(value.low, value.high), Interval(lows, highs)


def as_interval(value: Any) -> Interval:
    """Numbers and tensors as tensors of points; an interval as it is."""
    if isinstance(value, Interval):
        return value
    # as_tensor alone would round numbers to float32
    exact = value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    return Interval(exact, exact)


# Rounding


def _down(x: Tensor) -> Tensor:
    """One unit down, except from an exact zero."""
    return torch.where(x == 0, x, torch.nextafter(x, -INFINITY))


def _up(x: Tensor) -> Tensor:
    return torch.where(x == 0, x, torch.nextafter(x, INFINITY))


def _widen(low: Tensor, high: Tensor, times: float = 1.0) -> tuple[Tensor, Tensor]:
    """Room for the error of elementary functions."""
    low = torch.sub(low, low.abs(), alpha=times * ULPS) - TINY
    return low, torch.add(high, high.abs(), alpha=times * ULPS) + TINY


def _gamma(n: int) -> float:
    """Twice Higham's bound on the relative error of a sum of n products, in any order."""
    return 2 * (n + 4) * UNIT


# Arithmetic without derivatives


def _plus(a: Interval | None, b: Interval | None) -> Interval | None:
    if a is None or b is None:
        return b if a is None else a
    return Interval(_down(a.low + b.low), _up(a.high + b.high))


def _negative(a: Interval | None) -> Interval | None:
    return None if a is None else Interval(-a.high, -a.low)


def _times(a: Interval | None, b: Interval | None) -> Interval | None:
    if a is None or b is None:
        return None
    products = [a.low * b.low]
    if a.low is not a.high:
        products.append(a.high * b.low)
    if b.low is not b.high:
        products += [end * b.high for end in ((a.low,) if a.low is a.high else (a.low, a.high))]
    low = high = products[0]
    for product in products[1:]:
        low, high = torch.minimum(low, product), torch.maximum(high, product)
    # nothing times something is nothing; this also keeps out subnormal numbers, which are slow
    zero = ((a.low == 0) & (a.high == 0) & (b.low == b.low)) | (
        (b.low == 0) & (b.high == 0) & (a.low == a.low)
    )
    return Interval(
        torch.nextafter(low, -INFINITY).masked_fill(zero, 0.0),
        torch.nextafter(high, INFINITY).masked_fill(zero, 0.0),
    )


def _weigh(x: Interval, weight: Tensor, apply: Callable[[Tensor, Tensor], Tensor], terms: int) -> Interval:
    """`apply(x, weight)`, linear in both, each result a sum of `terms` products."""
    unbounded = x.low.isinf() | x.high.isinf()
    infinite = bool(unbounded.any())
    low, high = x.low, x.high
    if infinite:
        low, high = low.masked_fill(unbounded, 0.0), high.masked_fill(unbounded, 0.0)
    center = low if low is high else low / 2 + high / 2
    error = _gamma(terms)
    radius = torch.maximum(high - center, center - low)
    spread = error * center.abs() + (1 + error) * radius
    # kept above zero wherever there is something, so that a spread of zero means exactness despite underflow
    spread = torch.where((center == 0) & (radius == 0), 0.0, spread.clamp(min=1e-200))
    size = torch.where(weight == 0, 0.0, weight.abs().clamp(min=1e-100))
    center, spread = apply(center, weight), (1 + 2 * error) * apply(spread, size)
    low, high = _down(center - spread), _up(center + spread)
    if infinite:
        reached = apply(unbounded.double(), (weight != 0).double()) > 0
        low, high = low.masked_fill(reached, -math.inf), high.masked_fill(reached, math.inf)
    return Interval(low, high)


def _fit(x: Interval, ndim: int) -> Interval | None:
    """The slope of `x`, ready to be combined with tensors of `ndim` axes."""
    slope = x.slope
    if slope is None or slope.ndim == ndim + 1:
        return slope
    shape = (slope.shape[0], *[1] * (ndim - x.ndim), *x.shape)
    low = slope.low.reshape(shape)
    return Interval(low, low if slope.low is slope.high else slope.high.reshape(shape))


def _chain(x: Interval, low: Tensor, high: Tensor, slope: Callable[[], Interval]) -> Interval:
    """The image [low, high] of `x` under a function whose derivative on `x` is `slope()`."""
    return Interval(low, high, None if x.slope is None else _times(slope(), x.slope))


# Operations


def operation(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return enter


@operation("add", "radd")
def add(a: Any, b: Any) -> Interval:
    a, b = as_interval(a), as_interval(b)
    ndim = max(a.ndim, b.ndim)
    return Interval(_down(a.low + b.low), _up(a.high + b.high), _plus(_fit(a, ndim), _fit(b, ndim)))


@operation("neg", "negative")
def neg(x: Interval) -> Interval:
    return Interval(-x.high, -x.low, _negative(x.slope))


@operation("pos", "positive", "clone", "detach", "contiguous", "double")
def same(x: Interval) -> Interval:
    return x


@operation("sub", "subtract")
def sub(a: Any, b: Any) -> Interval:
    return add(a, neg(as_interval(b)))


@operation("rsub")
def rsub(a: Any, b: Any) -> Interval:
    return sub(b, a)


@operation("mul", "rmul", "multiply")
def mul(a: Any, b: Any) -> Interval:
    a, b = as_interval(a), as_interval(b)
    ndim, value = max(a.ndim, b.ndim), _times(a, b)
    assert value is not None
    slope = _plus(_times(_fit(a, ndim), b), _times(a, _fit(b, ndim)))
    return Interval(value.low, value.high, slope)


@operation("reciprocal")
def reciprocal(x: Interval) -> Interval:
    holds_zero = ~((x.low > 0) | (x.high < 0))
    low = torch.nextafter(1 / x.high, -INFINITY).masked_fill(holds_zero, math.nan)
    high = torch.nextafter(1 / x.low, INFINITY).masked_fill(holds_zero, math.nan)
    return _chain(x, low, high, lambda: neg(power(Interval(low, high), 2)))


@operation("div", "divide", "true_divide", "truediv")
def div(a: Any, b: Any) -> Interval:
    return mul(a, reciprocal(as_interval(b)))


@operation("rdiv", "rtruediv")
def rdiv(a: Any, b: Any) -> Interval:
    return div(b, a)


@operation("pow")
def power(x: Any, exponent: Any) -> Interval:
    if isinstance(exponent, Tensor) and exponent.numel() == 1:
        exponent = exponent.item()
    if isinstance(exponent, Interval | Tensor) or exponent != int(exponent) or not isinstance(x, Interval):
        raise UnknownOperation(
            f"a power of {exponent} is not known to interval arithmetic: give a whole number."
        )
    n = int(exponent)
    if n < 0:
        return reciprocal(power(x, -n))
    if n == 0:
        return as_interval(torch.ones_like(x.low))
    base = absolute(Interval(x.low, x.high)) if n % 2 == 0 else x
    ends = [Interval(end, end) for end in (base.low, base.high)]
    low, high = ends
    for _ in range(n - 1):  # powers of the ends, each with its rounding: monotone, hence tight
        low, high = (_times(part, end) for part, end in zip((low, high), ends, strict=True))
        assert low is not None
        assert high is not None
    # no power of a non-negative base is below zero
    least = torch.where(base.low >= 0, low.low.clamp(min=0), low.low)
    return _chain(
        x, least, high.high, lambda: mul(power(Interval(x.low, x.high), n - 1), float(n)) if n > 1 else one(x)
    )


def one(x: Interval) -> Interval:
    return as_interval(torch.ones_like(x.low))


@operation("square")
def square(x: Interval) -> Interval:
    return power(x, 2)


@operation("sqrt")
def sqrt(x: Interval) -> Interval:
    low, high = x.low.sqrt(), torch.where(x.low < 0, math.nan, x.high).sqrt()
    low, high = _down(low), _up(high)
    return _chain(x, low, high, lambda: reciprocal(mul(Interval(low, high), 2.0)))


@operation("exp")
def exp(x: Interval) -> Interval:
    low, high = _widen(x.low.exp(), x.high.exp())
    low = low.clamp(min=0)
    return _chain(x, low, high, lambda: Interval(low, high))


@operation("log")
def log(x: Interval) -> Interval:
    low, high = _widen(x.low.log(), torch.where(x.low < 0, math.nan, x.high).log())
    return _chain(x, low, high, lambda: reciprocal(Interval(x.low, x.high)))


def _bell(x: Interval, scale: float) -> Interval:
    """4 s(t) s(-t), t = scale x, with s the logistic function: even, falling with the distance from 0."""
    size = absolute(Interval(x.low, x.high))
    low, high = (4 * (scale * t).sigmoid() * (-scale * t).sigmoid() for t in (size.high, size.low))
    low, high = _widen(low, high, times=4)
    return Interval(low.clamp(min=0), high)


@operation("sigmoid")
def sigmoid(x: Interval) -> Interval:
    low, high = _widen(x.low.sigmoid(), x.high.sigmoid())
    return _chain(x, low.clamp(min=0), high.clamp(max=1), lambda: mul(_bell(x, 1.0), 0.25))


@operation("tanh")
def tanh(x: Interval) -> Interval:
    low, high = _widen(x.low.tanh(), x.high.tanh())
    return _chain(x, low.clamp(min=-1), high.clamp(max=1), lambda: _bell(x, 2.0))


def _wave(x: Interval, function: Callable[[Tensor], Tensor], top: float) -> Interval:
    """The range of sin or cos, which is 1 at `top`, -1 half a turn later."""
    ends = function(x.low), function(x.high)
    low, high = _widen(torch.minimum(*ends), torch.maximum(*ends))

    def meets(phase: float) -> Tensor:
        first, last = ((end - phase) / (2 * math.pi) for end in (x.low, x.high))
        slack = 1e-14 * (1 + torch.maximum(first.abs(), last.abs()) ** 2)
        return ~((last + slack).floor() < (first - slack).ceil())

    low = torch.where(meets(top + math.pi), -1.0, low)
    return Interval(low.clamp(min=-1), torch.where(meets(top), 1.0, high).clamp(max=1))


@operation("sin")
def sin(x: Interval) -> Interval:
    wave = _wave(x, torch.sin, math.pi / 2)
    return _chain(x, wave.low, wave.high, lambda: _wave(x, torch.cos, 0.0))


@operation("cos")
def cos(x: Interval) -> Interval:
    wave = _wave(x, torch.cos, 0.0)
    return _chain(x, wave.low, wave.high, lambda: neg(_wave(x, torch.sin, math.pi / 2)))


@operation("abs", "absolute")
def absolute(x: Interval) -> Interval:
    low = torch.maximum(x.low, -x.high).clamp(min=0)

    def slope() -> Interval:
        ones = torch.ones_like(low)
        return Interval(torch.where(x.low > 0, ones, -ones), torch.where(x.high < 0, -ones, ones))

    return _chain(x, low, torch.maximum(-x.low, x.high), slope)


@operation("sign", "sgn")
def sign(x: Interval) -> Interval:
    def slope() -> Interval:
        flat = (x.low > 0) | (x.high < 0)
        jump = torch.where(flat, 0.0, INFINITY)
        return Interval(-jump, jump)

    return _chain(x, x.low.sign(), x.high.sign(), slope)


@operation("maximum")
def maximum(a: Any, b: Any) -> Interval:
    a, b = as_interval(a), as_interval(b)
    low, high = torch.maximum(a.low, b.low), torch.maximum(a.high, b.high)
    if a.slope is None and b.slope is None:
        return Interval(low, high)
    ndim = max(a.ndim, b.ndim)
    first, second = _fit(a, ndim), _fit(b, ndim)
    zero = as_interval(torch.zeros_like(low))
    first, second = (zero if slope is None else slope for slope in (first, second))
    least, most = torch.minimum(first.low, second.low), torch.maximum(first.high, second.high)
    for only, slope in ((a.low > b.high, first), (b.low > a.high, second)):
        least, most = torch.where(only, slope.low, least), torch.where(only, slope.high, most)
    return Interval(low, high, Interval(least, most))


@operation("minimum")
def minimum(a: Any, b: Any) -> Interval:
    return neg(maximum(neg(as_interval(a)), neg(as_interval(b))))


@operation("relu")
def relu(x: Interval, inplace: bool = False) -> Interval:
    return maximum(x, 0.0)


@operation("clamp", "clip")
def clamp(x: Interval, min: Any = None, max: Any = None) -> Interval:
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


@operation("remainder", "mod")
def remainder(x: Any, divisor: Any) -> Interval:
    if isinstance(divisor, Interval | Tensor) or not divisor > 0 or not isinstance(x, Interval):
        raise UnknownOperation(
            f"a remainder by {divisor} is not known to interval arithmetic: give a number above 0."
        )
    times = (x.low / divisor).floor()
    rest = sub(x, mul(Interval(times, times), divisor))
    smooth = (rest.low >= 0) & (rest.high < divisor)
    low, high = torch.where(smooth, rest.low, 0.0), torch.where(smooth, rest.high, divisor)
    if rest.slope is None:
        return Interval(low, high)
    return Interval(
        low,
        high,
        Interval(
            torch.where(smooth, rest.slope.low, -math.inf), torch.where(smooth, rest.slope.high, math.inf)
        ),
    )


@operation("lerp")
def lerp(start: Any, end: Any, weight: Any) -> Interval:
    return add(start, mul(weight, sub(end, start)))


@operation("sum")
def total(x: Interval, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Interval:
    axes = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = sorted({axis % x.ndim - x.ndim for axis in axes})
    count = math.prod(x.shape[axis] for axis in axes)

    def add_up(x: Interval) -> Interval:
        low, high = (
            end.sum(axes, keepdim) + sign * _gamma(count) * end.abs().sum(axes, keepdim)
            for end, sign in ((x.low, -1), (x.high, 1))
        )
        return Interval(_down(low), _up(high))

    value = add_up(x)
    return Interval(value.low, value.high, None if x.slope is None else add_up(x.slope))


@operation("mean")
def mean(x: Interval, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Interval:
    value = total(x, dim, keepdim)
    return div(value, x.low.numel() / max(value.low.numel(), 1))


@operation("linear")
def linear(x: Any, weight: Any, bias: Any = None) -> Interval:
    x, weight = as_interval(x), _points(weight)

    def rows(x: Interval) -> Interval:
        return _weigh(x, weight, F.linear, weight.shape[-1])

    value = rows(x)
    value = Interval(value.low, value.high, None if x.slope is None else rows(x.slope))
    return value if bias is None else add(value, bias)


@operation("matmul", "mm", "bmm", "mv", "rmatmul")
def matmul(a: Any, b: Any) -> Interval:
    left = isinstance(a, Interval)
    x, weight = (a, _points(b)) if left else (b, _points(a))
    terms = weight.shape[-2 if left and weight.ndim > 1 else -1]

    def apply(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight if left else weight @ x

    value = _weigh(x, weight, apply, terms)
    if x.slope is None:
        return value
    # each derivative is multiplied as the value is, whatever the number of axes
    return Interval(
        value.low, value.high, _weigh(x.slope, weight, torch.vmap(apply, in_dims=(0, None)), terms)
    )


def _points(weight: Any) -> Tensor:
    if isinstance(weight, Interval):
        raise UnknownOperation("a product of two interval matrices is not known to interval arithmetic.")
    return weight.detach().double()


@operation("to")
def to(x: Interval, *args: Any, **kwargs: Any) -> Interval:
    for dtype in (*args, *kwargs.values()):
        if isinstance(dtype, torch.dtype) and dtype != torch.float64:
            raise UnknownOperation(
                f"interval arithmetic is done in float64 alone, not in {dtype}: freeze the model."
            )
    return x


@operation("type_as")
def type_as(x: Interval, other: Any) -> Interval:
    return to(x, other.dtype)


def _arrange(name: str) -> Callable[..., Any]:
    """An operation that moves entries about: the same on both bounds and on each derivative."""
    move = getattr(Tensor, name, None) or getattr(torch, name)

    def arranged(first: Any, *args: Any, **kwargs: Any) -> Any:
        several = not isinstance(first, Interval)
        parts: list[Interval] = [as_interval(part) for part in first] if several else [first]

        def moved(tensors: Sequence[Tensor]) -> Any:
            return move(tensors if several else tensors[0], *args, **kwargs)

        low = moved([part.low for part in parts])
        point = all(part.low is part.high for part in parts)
        high = low if point else moved([part.high for part in parts])
        count = max((len(part.slope.low) for part in parts if part.slope is not None), default=0)
        if not count:
            return _pair(low, high)
        slopes = [
            (zeros := part.low.new_zeros(count, *part.shape), zeros)
            if part.slope is None
            else (part.slope.low, part.slope.high)
            for part in parts
        ]
        slope_low, slope_high = (
            torch.vmap(lambda *t: moved(cast(Any, t)))(*side) for side in zip(*slopes, strict=True)
        )
        return _pair(low, high, slope_low, slope_high)

    return arranged


def _pair(low: Any, high: Any, slope_low: Any = None, slope_high: Any = None) -> Any:
    if isinstance(low, Tensor):
        return Interval(low, high, None if slope_low is None else Interval(slope_low, slope_high))
    if slope_low is None:
        return tuple(_pair(*ends) for ends in zip(low, high, strict=True))
    return tuple(_pair(*ends) for ends in zip(low, high, slope_low, slope_high, strict=True))


for _name in (
    *("chunk", "split", "unbind", "stack", "cat", "concat", "reshape", "view", "flatten", "unflatten"),
    *(
        "expand",
        "broadcast_to",
        "repeat",
        "unsqueeze",
        "squeeze",
        "select",
        "narrow",
        "index_select",
    ),
    *("transpose", "swapaxes", "permute", "movedim", "flip", "roll"),
):
    OPERATIONS[_name] = _arrange(_name)
OPERATIONS["getitem"] = _arrange("__getitem__")


@operation("expand_as")
def expand_as(x: Interval, other: Any) -> Interval:
    return x.expand(other.shape)


@operation("reshape_as", "view_as")
def reshape_as(x: Interval, other: Any) -> Interval:
    return x.reshape(other.shape)


def _plain(name: str) -> Callable[..., Any]:
    """What does not depend on the values."""
    ask = getattr(Tensor, name, None) or getattr(torch, name)
    return lambda x, *args, **kwargs: ask(x.low, *args, **kwargs)


for _name in (
    "size",
    "dim",
    "numel",
    "is_floating_point",
    "zeros_like",
    "ones_like",
    "new_zeros",
    "new_ones",
):
    OPERATIONS[_name] = _plain(_name)


def _operator(name: str) -> Callable[..., Any]:
    def operator(self: Interval, *args: Any) -> Any:
        return _operation(name)(self, *args)

    return operator


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "mod", "neg", "pos", "abs"),
    *("matmul", "rmatmul", "getitem", "lt", "le", "gt", "ge", "eq", "ne", "rpow", "rmod", "floordiv"),
):
    setattr(Interval, f"__{_name}__", _operator(f"__{_name}__"))
