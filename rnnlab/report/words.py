"""What the last look of an analysis says, in words: rows of the page's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from rnnlab import members
from rnnlab.figures.attractors import KINDS
from rnnlab.figures.fixed_points import is_flow
from rnnlab.figures.looks import Looks

ERRORS = 3.0  # standard errors from zero that decide the sign of an exponent
SHOWN = 4  # numbers of a row
MEMBERS = 12  # of a kind that are listed
# how the names of what is seen in each mode end, the name of the mode, and what it means
MODES = {
    "": ("input held", "Every input is held; where one tells the network its last target, that too."),
    "_generation": (
        "generation mode",
        "The network is fed its own output: beside the held inputs, or, where these are words, its likeliest "
        "word after the held one. Where the likeliest is taken the map jumps: derivatives hold between the "
        "jumps, and indices of fixed points prove nothing.",
    ),
    "_driven": ("driven by data", "The network reads stretches of the data, one after another."),
}


def describe(look: xr.Dataset) -> list[tuple[str, str, str]]:
    """What each probe does now, in words.

    Args:
        look: One look of `rnnlab.analysis.orbit`.

    Returns:
        For each probe and observable: its name, what it does, the range of y.

    Example:
        >>> y = np.array([[[[0.5], [0.5]]], [[[0.1], [0.9]]]])
        >>> describe(xr.Dataset({
        ...     "y": (("probe", "sample", "time", "observable"), y),
        ...     "settled": (("probe", "sample"), [[True], [True]]),
        ...     "period": (("probe", "sample"), [[1], [2]]),
        ... }))
        [('probe 0', 'fixed point y = 0.5', '0.5'), ('probe 1', 'period 2', '0.1 to 0.9')]
    """
    axes = ("probe", "sample", "time", "observable")
    look = look.expand_dims([dim for dim in axes if dim not in look["y"].dims])
    y = look["y"].transpose("probe", "observable", "sample", "time")
    verdicts = {
        name: look[name].broadcast_like(y.isel(time=0, drop=True)).transpose("probe", "observable", "sample")
        for name in ("settled", "period", "diverged")
        if name in look
    }
    rows = []
    for p in range(y.sizes["probe"]):
        for o in range(y.sizes["observable"]):
            name = str(y["probe"].values[p]) if "probe" in y.coords else f"probe {p}"
            if y.sizes["observable"] > 1:
                name += f", {y['observable'].values[o]}" if "observable" in y.coords else f", y[{o}]"
            orbits = y.values[p, o]
            words = _words(orbits, {key: value.values[p, o] for key, value in verdicts.items()})
            finite = orbits[np.isfinite(orbits)]
            rows.append((name, words, _range(finite)))
    return rows


def _words(orbits: np.ndarray, verdicts: Mapping[str, np.ndarray]) -> str:
    """What the orbits `(sample, time)` of one probe do."""
    count = len(orbits)
    settled = verdicts.get("settled", np.ones(count, bool)).astype(bool)
    period = verdicts.get("period", np.zeros(count, int))
    diverged = verdicts.get("diverged", np.zeros(count, bool)).astype(bool)
    kinds: dict[str, int] = {}
    points: list[float] = []
    for i in range(count):
        if diverged[i] or not np.isfinite(orbits[i]).all():
            kind = "diverges"
        elif not settled[i]:
            kind = "not settled"
        elif period[i] == 1:
            kind = "fixed point"
            value = float(orbits[i].mean())
            if not any(abs(value - point) <= 1e-3 * max(abs(point), 1e-3) for point in points):
                points.append(value)
        elif period[i] > 1:
            kind = f"period {period[i]}"
        else:
            kind = "oscillation (quasi-periodic or long period)"
        kinds[kind] = kinds.get(kind, 0) + 1
    said = []
    for kind, times in kinds.items():
        if kind == "fixed point":
            kind = f"fixed point{'s' * (len(points) > 1)} y = {', '.join(f'{v:.3g}' for v in sorted(points))}"
        said.append(kind if times == count else f"{kind} ({times} of {count} initial states)")
    return "; ".join(said)


def _range(values: np.ndarray) -> str:
    if not values.size:
        return "no finite value"
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low} to {high}"


def describe_fixed_points(look: xr.Dataset) -> list[tuple[str, str, str]]:
    """Which fixed points each probe has now, and what speaks for the list being complete.

    Args:
        look: One look of `rnnlab.analysis.fixed_points`.

    Returns:
        For each probe: its name, its points by kind, what is known of completeness.

    Example:
        >>> describe_fixed_points(xr.Dataset({
        ...     "y": (("probe", "index", "observable"), [[[-0.9], [0.9], [0.0]]]),
        ...     "kind": (("probe", "index"), [["stable node", "stable focus", "saddle"]]),
        ...     "index_sum": ("probe", [1]), "not_converged": ("probe", [2]), "starts": ("probe", [50]),
        ... }))
        [('probe 0', '3: 2 stable, 1 saddle', 'index sum 1; 2 of 50 starts did not converge')]
    """
    looks = _one(look, "y", "kind")
    there = np.isfinite(looks.values("y", "index", "observable")[0]).all(-1)
    kinds = looks.values("kind", "index")[0].astype(str)
    index = looks.values("index_sum", missing=np.nan)[0]
    lost, starts = (looks.values(name, missing=-1)[0] for name in ("not_converged", "starts"))
    unseen = looks.values("unseen", missing=np.nan)[0]
    rows = []
    for p, name in enumerate(looks.names):
        groups: dict[str, int] = {}
        for kind in kinds[p][there[p]]:
            group = "of unknown kind" if not kind else kind if "hyper" in kind else kind.split()[0]
            groups[group] = groups.get(group, 0) + 1
        parts = [f"{n} {'saddles' if k == 'saddle' and n > 1 else k}" for k, n in groups.items()]
        said = []
        if np.isfinite(index[p]):
            warning = "" if index[p] == 1 else ": not 1, so points are missing or degenerate"
            said.append(f"index sum {int(index[p])}{warning}")
        if lost[p] >= 0:
            of = f" of {int(starts[p])}" if starts[p] >= 0 else ""
            said.append(f"{int(lost[p])}{of} starts did not converge" if lost[p] else "all starts converged")
        if np.isfinite(unseen[p]):
            said.append(f"chance that a new start finds a new point {100 * unseen[p]:.2g} %")
        rows.append(
            (name, f"{there[p].sum()}: {', '.join(parts)}" if parts else "none found", "; ".join(said))
        )
    return rows


def list_fixed_points(look: xr.Dataset) -> list[tuple[str, ...]]:
    """All fixed points of one look: probe, y, kind, unstable directions, leading eigenvalue, residual, error.

    Args:
        look: One look of `rnnlab.analysis.fixed_points`.
    """
    looks = _one(look, "y", "kind")
    y = looks.values("y", "index", "observable")[0]
    kind = looks.values("kind", "index")[0].astype(str)
    unstable = looks.values("unstable", "index", missing=-1)[0]
    residual, error = (looks.values(n, "index", missing=np.nan)[0] for n in ("residual", "correction"))
    eigenvalue = looks.values("eigenvalue", "index", "mode", missing=np.nan + 0j)[0]
    rows = []
    for p, i in zip(*np.nonzero(np.isfinite(y).all(-1)), strict=True):
        own = eigenvalue[p, i][np.isfinite(eigenvalue[p, i])]
        leading = own[np.argmax(own.real if is_flow(looks) else np.abs(own))] if len(own) else np.nan
        count = str(int(unstable[p, i])) if unstable[p, i] >= 0 else "?"
        known = (number(residual[p, i], 2), number(error[p, i], 2))
        rows.append((looks.names[p], _few(y[p, i]), kind[p, i] or "?", count, _complex(leading), *known))
    return rows


def describe_lyapunov(look: xr.Dataset) -> list[tuple[str, str, str, str]]:
    """What the leading exponent of each probe says, the first exponents, the dimension.

    Args:
        look: One look of `rnnlab.analysis.lyapunov_spectrum`.

    Returns:
        For each probe: its name, what nearby orbits do (of a network driven by data: two readings of the same
        from states that differ a little), exponents with standard errors, the Kaplan-Yorke dimension. A sign
        counts as known from three standard errors on, that of the mean over all orbits, or of each of them:
        those on different attractors may differ by far and yet agree in this.

    Example:
        >>> describe_lyapunov(xr.Dataset({
        ...     "exponent": (("probe", "mode"), [[0.4192, -1.6232]]),
        ...     "standard_error": (("probe", "mode"), [[0.002, 0.002]]),
        ...     "kaplan_yorke": ("probe", [1.258]),
        ... }))
        [('probe 0', 'nearby orbits part: chaos', '0.4192 ± 0.002, -1.623 ± 0.002', '1.26')]
    """
    looks = _one(look, "exponent")
    value = looks.values("exponent", "mode")[0].astype(float)
    error = looks.values("standard_error", "mode", missing=np.nan)[0]
    dimension = looks.values("kaplan_yorke", missing=np.nan)[0]
    each, own_error = (
        looks.values(name, "sample", "mode", missing=np.nan)[0].astype(float)
        for name in ("sample_exponent", "sample_error")
    )
    meaning = {True: "nearby orbits part: chaos", False: "nearby orbits come together"}
    if look.attrs.get("driven", False):
        meaning = {
            True: "readings part: what came before is never forgotten",
            False: "readings come together: what came before is forgotten",
        }
    rows = []
    for p, name in enumerate(looks.names):
        leading, sure = np.nan, set()
        if value.shape[1]:
            leading, margin = value[p, 0], ERRORS * np.nan_to_num(error[p, 0])
            sure = {leading > 0} if abs(leading) > margin else set()
        if not sure and each.size:
            orbits = each[p, :, 0]
            known = np.abs(orbits) > ERRORS * own_error[p, :, 0]
            sure = set((orbits > 0).tolist()) if known.all() else set()
        if np.isnan(leading):
            words = "not known: the orbits diverged"
        elif len(sure) == 2:
            words = f"{meaning[True]}; from other states not"
        else:
            words = meaning[bool(sure.pop())] if sure else "neither to within three standard errors"
        numbers = [
            number(v) + (f" ± {e:.1g}" if np.isfinite(e) else "")
            for v, e in zip(value[p, :SHOWN], error[p, :SHOWN], strict=True)
        ]
        more = [f"and {value.shape[1] - SHOWN} more"] if value.shape[1] > SHOWN else []
        rows.append((name, words, ", ".join(numbers + more), number(dimension[p], 3)))
    return rows


def describe_attractors(look: xr.Dataset) -> list[tuple[str, str, str, str, str]]:
    """What the initial states of each probe settle on.

    Args:
        look: One look of `rnnlab.analysis.attractors`.

    Returns:
        For each attractor: its probe, what it is, the part of the initial states that goes there with its
        confidence interval, the range of y, the leading exponent. Then those that went nowhere known.

    Example:
        >>> describe_attractors(xr.Dataset({
        ...     "kind": (("probe", "sample"), [["periodic orbit", "undecided"]]),
        ...     "attractor_kind": (("probe", "attractor"), [["periodic orbit"]]),
        ...     "period": (("probe", "attractor"), [[2]]),
        ...     "fraction": (("probe", "attractor"), [[0.5]]),
        ... }))
        [('probe 0', 'period 2', '50 %', '', ''), ('probe 0', 'undecided', '50 %', '', '')]
    """
    looks = _one(look, "kind", "attractor_kind")
    kind = looks.values("kind", "sample")[0].astype(str)
    table = looks.values("attractor_kind", "attractor")[0].astype(str)
    period, fraction, low, high, leading = (
        looks.values(name, "attractor", missing=np.nan)[0].astype(float)
        for name in ("period", "fraction", "fraction_low", "fraction_high", "leading_exponent")
    )
    nothing = np.full((*table.shape, 1), np.nan)
    least, most = (
        looks.values(name, "attractor", "observable")[0] if name in looks.data else nothing
        for name in ("y_min", "y_max")
    )
    rows = []
    for p, name in enumerate(looks.names):
        for a in np.flatnonzero(table[p] != ""):
            what = table[p, a]
            if what == "periodic orbit" and period[p, a] > 0:
                what = f"period {period[p, a]:.4g}"
            part = f"{100 * fraction[p, a]:.3g} %" if np.isfinite(fraction[p, a]) else ""
            if np.isfinite(low[p, a]) and np.isfinite(high[p, a]):
                part += f" ({100 * low[p, a]:.3g} to {100 * high[p, a]:.3g} %)"
            spans = [
                _range(np.array([least[p, a, o], most[p, a, o]]))
                for o in range(least.shape[-1])
                if np.isfinite([least[p, a, o], most[p, a, o]]).all()
            ]
            rows.append((name, what, part, "; ".join(spans[:SHOWN]), number(leading[p, a])))
        total = max(int((kind[p] != "").sum()), 1)
        for what in list(KINDS)[-2:]:
            if share := int((kind[p] == what).sum()):
                rows.append((name, what, f"{100 * share / total:.3g} %", "", ""))
    return rows


def describe_contraction(look: xr.Dataset) -> list[tuple[str, str, str, str, str, str]]:
    """What is certain of contraction under each probe.

    Args:
        look: One look of `rnnlab.analysis.contraction`.

    Returns:
        For each probe and norm: their names, the certified bound, the largest stretch seen, the rate, what
        follows.

    Example:
        >>> describe_contraction(xr.Dataset({
        ...     "upper": (("probe", "norm"), [[0.9, 1.2]]), "sampled": (("probe", "norm"), [[0.8, 1.1]]),
        ...     "rate": ("probe", [0.7]),
        ... }, coords={"norm": ["2", "inf"]}))[0]
        ('probe 0', '2', '0.9', '0.8', '0.7', 'contracting: one fixed point attracts all')
    """
    looks = _one(look, "upper")
    upper, sampled, rate = (
        looks.values(name, "norm", missing=np.nan)[0].astype(float) for name in ("upper", "sampled", "rate")
    )
    norms = looks.data["norm"].values.astype(str) if "norm" in looks.data.coords else [""] * upper.shape[1]
    rows = []
    for p, name in enumerate(looks.names):
        for n, norm in enumerate(norms):
            if upper[p, n] < 1:
                words = "contracting: one fixed point attracts all"
            elif sampled[p, n] >= 1:
                words = "not contracting in this norm"
            else:
                words = "not known: the bound is too wide"
            numbers = (number(upper[p, n]), number(sampled[p, n]), number(rate[p, n]))
            rows.append((name, str(norm), *numbers, words))
    return rows


def describe_smoothness(look: xr.Dataset) -> list[tuple[str, ...]]:
    """How smooth the cost is at the longest horizon, and how that changes with the number of steps N.

    Args:
        look: One look of `rnnlab.analysis.smoothness`.

    Returns:
        For the cost and for its gradient: its name, the lower bound on the Lipschitz constant, the fitted
        power of N and rate per step, each with its standard error, and what the theorem of Ribeiro et al.
        (2020) bounds the growth by.
    """
    stretch = float(look["stretch"].isel(kind=0))
    rows = []
    for constant, power in (("V", "N"), ("grad V", "N³")):
        one = look.sel(constant=constant)
        fitted = [
            f"{number(float(one['rate'].sel(law=law)))} ± {number(float(one['standard_error'].sel(law=law)))}"
            for law in ("power", "exponential")
        ]
        growth = float(one["bound"].sel(law="exponential").isel(kind=0))
        bound = f"{power} if L = 1; {number(growth)} nats a step at L = {number(stretch)}"
        least = number(float(one["lipschitz"][-1]))
        rows.append((f"{constant}, N = {int(look['horizon'][-1])}", least, *fitted, bound))
    return rows


def describe_gradient_flow(look: xr.Dataset) -> list[tuple[str, ...]]:
    """What becomes of the gradients of each sequence.

    Args:
        look: One look of `rnnlab.analysis.gradient_flow`.

    Returns:
        For each sequence: its number, what becomes of gradients, their rate and the leading Lyapunov exponent
        with standard errors, and its cost.
    """

    def measured(name: str, i: int) -> str:
        return f"{number(float(look[name][i]))} ± {number(float(look[f'{name}_error'][i]))}"

    return [
        (str(i), str(look["fate"].values[i]), measured("rate", i), measured("exponent", i), number(cost))
        for i, cost in enumerate(look["cost"].values)
    ]


def describe_members(dataset: xr.Dataset, rows: xr.Dataset | None = None) -> list[tuple[str, ...]]:
    """Which kinds of systems the members of an ensemble are at the last look, the commonest first.

    Args:
        dataset: Looks of an analysis with an axis `member`.
        rows: The numbers of the members while training, as the store keeps them.

    Returns:
        For each probe and kind: their names, how many members, which, the median of their training losses.
        Nothing where the analysis knows no kinds.

    Example:
        >>> look = xr.Dataset({"signature": (("epoch", "member"), [["1 sink", "1 cycle", "1 sink"]])})
        >>> describe_members(look.assign_coords(epoch=[10]))
        [('', '1 sink', '2 (67 %)', '0, 2', ''), ('', '1 cycle', '1 (33 %)', '1', '')]
    """
    found = members.verdicts(dataset.isel(epoch=[-1]))
    if "kind" not in found:
        return []
    looks = Looks.of(found.rename(member="state"), "the members", ["kind"])
    kind = looks.values("kind", "state")[0].astype(str)
    loss = np.full(kind.shape[1], np.nan)
    if rows is not None:
        loss = members.numbers(rows).get(members.LOSS, loss[None])[-1]
    said = []
    for name, own in zip(looks.names, kind, strict=True):
        names, counts = np.unique(own[own != ""], return_counts=True)
        for i in np.argsort(-counts, kind="stable"):
            which = np.flatnonzero(own == names[i])
            count = f"{counts[i]} ({100 * counts[i] / len(own):.0f} %)"
            listed = ", ".join(map(str, which[:MEMBERS])) + (", ..." if len(which) > MEMBERS else "")
            own_loss = loss[which][np.isfinite(loss[which])]
            median = number(float(np.median(own_loss))) if len(own_loss) else ""
            said.append((name, str(names[i]), count, listed, median))
    return said


def _one(look: xr.Dataset, *needs: str) -> Looks:
    return Looks.of(look.expand_dims("look"), "the last look", needs, observable=None)


def number(value: float, digits: int = 4) -> str:
    """A number as it is written, and nothing where there is none."""
    return "" if np.isnan(value) else f"{value:.{digits}g}"


def _few(values: Sequence[float] | np.ndarray) -> str:
    said = ", ".join(f"{value:.5g}" for value in values[:SHOWN])
    return f"{said}, ..." if len(values) > SHOWN else said


def _complex(value: complex) -> str:
    """A number as it is written, without an imaginary part that is zero.

    >>> _complex(0.5 + 0.25j), _complex(-1.5 + 0j)
    ('0.5 + 0.25i', '-1.5')
    """
    if np.isnan(value):
        return ""
    if value.imag == 0:
        return f"{value.real:.4g}"
    return f"{value.real:.4g} {'-' if value.imag < 0 else '+'} {abs(value.imag):.4g}i"
