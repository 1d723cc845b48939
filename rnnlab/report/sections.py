"""How each analysis is shown: one function an analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from rnnlab import members
from rnnlab.figures import (
    attractors,
    bifurcation,
    contraction,
    eigenvalues,
    fixed_points,
    gradient_flow,
    lyapunov,
    smoothness,
    training,
)
from rnnlab.figures import members as distribution
from rnnlab.figures import words as texts
from rnnlab.report import portraits, words
from rnnlab.report.parts import fold, plotly, table, text

FEW = 12  # series that still make a readable panel
SPREAD = "The line is the median, the band holds four fifths of the members, thin lines are single ones."


def _bifurcation(dataset: xr.Dataset) -> str:
    """The diagrams to turn, and what each probe did at the last look."""
    last = dataset.isel(epoch=-1, drop=True)
    rows = table(("probe", "what it does now", "range of y"), words.describe(last))
    finite = np.isfinite(dataset["y"].values).any()
    some = dataset.isel(observable=slice(FEW)) if "observable" in dataset.dims else dataset
    return (
        f"<p>Where the network goes under each constant input, once it has settled, over "
        f"{_looks(dataset)}. "
        "A fixed point is one dot, a cycle of period p are p dots, an oscillation is a closed loop.</p>"
        f"{plotly(bifurcation.interactive(some)) if finite else '<p>No orbit stayed finite.</p>'}"
        f"<h3>At epoch {int(dataset.epoch[-1])}</h3>{rows}"
    )


def _observables(dataset: xr.Dataset, variable: str = "y") -> list[str]:
    count = dataset.get(variable, dataset).sizes.get("observable", 1)
    if count == 1:
        return [""]
    if "observable" in dataset.coords:
        return [str(name) for name in dataset["observable"].values]
    return [f"y[{i}]" for i in range(count)]


def show(name: str, dataset: xr.Dataset, rows: xr.Dataset | None = None) -> str:
    """The section of an analysis; where its own way fails (an older dataset, say), the generic one.

    Args:
        name: The analysis.
        dataset: All looks.
        rows: Of an ensemble, the numbers of its members while training.
    """
    try:
        if "member" in dataset.dims and name not in TOGETHER:
            return _ensemble(name, dataset, rows)
        return SECTIONS.get(name, generic)(dataset.load())
    except Exception as error:  # the numbers are worth having
        reason = f"{name} could not be shown in its own way: {error}".splitlines()[0]
        return f'<p class="note">{text(reason)}</p>' + generic(dataset)


def generic(dataset: xr.Dataset) -> str:
    """Any analysis: what is in it, and lines for all that is few numbers a look."""
    rows = [
        (name, ", ".join(f"{dim} {size}" for dim, size in variable.sizes.items()), variable.dtype)
        for name, variable in dataset.data_vars.items()
    ]
    series: dict[str, Any] = {}
    for name, variable in dataset.data_vars.items():
        values = np.abs(variable.values) if variable.dtype.kind == "c" else variable.values
        if values.dtype.kind not in "biuf" or not 0 < values[0].size <= FEW:
            continue
        flat = values.reshape(len(values), -1).astype(float)
        labels = [""] if flat.shape[1] == 1 else [f"/{i}" for i in _labels(variable)]
        series |= {f"{name}{label}": flat[:, i] for i, label in enumerate(labels)}
    frame = pd.DataFrame(series, index=pd.Index(dataset.epoch.values, name="epoch"))
    lines = plotly(training.interactive(frame)) if frame.count().sum() else ""
    return lines + table(("variable", "axes", "type"), rows)


def _ensemble(name: str, dataset: xr.Dataset, rows: xr.Dataset | None) -> str:
    """The distribution over the members, then the best of them by itself."""
    best = members.ranking(rows)[0] if rows is not None else 0
    kinds = words.describe_members(dataset, rows)
    heads = ("probe", "kind", "members", "which", "median training loss")
    try:
        diagram = plotly(distribution.interactive(dataset))
    except ValueError as error:  # an analysis without a number for each member
        diagram = f'<p class="note">{text(error)}</p>'
    table_of_kinds = (
        f"<h3>Kinds at epoch {int(dataset.epoch[-1])}</h3>"
        + fold(f"all {len(kinds)} kinds", table(heads, kinds), len(kinds))
        if kinds
        else ""
    )
    why = "whose training loss is lowest" if rows is not None else "the first"
    return (
        f"<p>All {dataset.sizes['member']} members over {_looks(dataset)}. {SPREAD}</p>"
        f"{diagram}{table_of_kinds}<h3>Member {best} by itself, {why}</h3>"
        + show(name, dataset.isel(member=best, drop=True))
    )


def _members(dataset: xr.Dataset) -> str:
    """How the members learned, and a table of them, the best first."""
    found = members.numbers(dataset)
    alive, names = found["alive"][-1], members.scored(found)
    rows = [
        (i, *(words.number(found[name][-1, i]) for name in names), "" if alive[i] else "stopped")
        for i in members.ranking(dataset)
    ]
    heads = ("member", *names, "")
    rest = len(rows) - FEW
    return (
        f"<p>{int(alive.sum())} of {len(rows)} members are training, over {_looks(dataset)}; one whose loss "
        f"or gradient is no longer finite stops. Member 0 has the first seed. {SPREAD}</p>"
        f"{plotly(distribution.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + table(heads, rows[:FEW])
        + (fold(f"the other {rest} members", table(heads, rows[FEW:]), rest, most=0) if rest > 0 else "")
    )


def _labels(variable: xr.DataArray) -> list[str]:
    axis = variable.dims[1]
    if variable.ndim == 2 and axis in variable.coords:
        return [str(label) for label in variable[axis].values]
    return [str(i) for i in range(int(np.prod(variable.shape[1:])))]


def _fixed_points(dataset: xr.Dataset) -> str:
    """Points over epochs, their eigenvalues, and all points of the last look."""
    last = dataset.isel(epoch=-1, drop=True)
    summary = words.describe_fixed_points(last)
    listed = words.list_fixed_points(last)
    heads = ("probe", "y", "kind", "unstable directions", "leading eigenvalue", "residual", "error")
    diagrams = "".join(
        (f"<h3>{text(name)}</h3>" if name else "") + plotly(fixed_points.interactive(dataset, observable=i))
        for i, name in enumerate(_observables(dataset)[:FEW])
    )
    found = bool(np.isfinite(dataset["y"].values).any())
    plane = found and "eigenvalue" in dataset and bool(np.isfinite(dataset["eigenvalue"].values).any())
    flow = dataset.attrs.get("time") == "continuous"
    border, inside = ("imaginary axis", "Left of") if flow else ("unit circle", "Within")
    return (
        f"<p>States that stay where they are under each constant input, by the output y there, over "
        f"{_looks(dataset)}. Full blue circles attract what is near; the others repel in one direction or "
        "more: it is they that part the basins. Strokes at the foot mark looks whose list is known to be "
        "incomplete, or may be.</p>"
        f"{diagrams if found else '<p>No fixed point has been found.</p>'}"
        + (
            "<h3>Eigenvalues</h3>"
            f"<p>Of the Jacobian at every fixed point. {inside} the {border} deviations die out: a point "
            "changes its stability where an eigenvalue crosses it. Move the slider to see it happen.</p>"
            f"{plotly(eigenvalues.interactive(dataset))}"
            if plane
            else ""
        )
        + f"<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + table(("probe", "fixed points", "is the list complete?"), summary)
        + fold(f"all {len(listed)} points", table(heads, listed), len(listed))
    )


def _lyapunov(dataset: xr.Dataset) -> str:
    """Exponents over epochs, how they converged, and those of the last look."""
    rows = words.describe_lyapunov(dataset.isel(epoch=-1, drop=True))
    units = text(dataset["exponent"].attrs.get("units", "nats per time step"))
    driven = dataset.attrs.get("driven", False)
    if driven:
        said = (
            "How fast two readings of the same data from states that differ a little part (above zero) or "
            f"come together (below: the network forgets what came before), {units}"
        )
        count = sum("come together" in row[1] for row in rows)
        share = f"{_share(count, len(rows), 'excerpts')} read so that what came before is forgotten"
    else:
        said = f"How fast nearby orbits part (above zero: chaos) or come together (below), {units}"
        share = f"{_share(sum('chaos' in row[1] for row in rows), len(rows), 'probes')} chaotic"
    heads = ("excerpt" if driven else "probe", "what it says", "exponents ± standard error")
    return (
        f"<p>{said}, over {_looks(dataset)}; bands are two standard errors wide to either side. "
        f"At the last look {share}.</p>"
        f"{plotly(lyapunov.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + table((*heads, "Kaplan-Yorke dimension"), rows)
    )


def _attractors(dataset: xr.Dataset) -> str:
    """What initial states settle on over epochs, and the attractors of the last look."""
    last = dataset.isel(epoch=-1, drop=True)
    rows = words.describe_attractors(last)
    heads = ("probe", "attractor", "of the initial states", "range of y", "leading exponent")
    several = [row[0] for row in rows if row[1] not in ("undecided", "diverged")]
    many = len({name for name in several if several.count(name) > 1})
    probes = dataset.sizes.get("probe", 1)
    diagrams = "".join(
        (f"<h3>{text(name)}</h3>" if name else "") + plotly(attractors.interactive(dataset, observable=i))
        for i, name in enumerate(_observables(dataset, "y_mean")[:FEW])
    )
    return (
        f"<p>What the initial states settle on under each constant input, over {_looks(dataset)}: which part "
        "of them goes to which kind of attractor, how many attractors there are, and the values that the "
        f"output runs through on each. At the last look {_share(many, probes, 'probes')} "
        "multistable.</p>"
        f"{diagrams}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + fold(f"all {len(rows)} attractors", table(heads, rows), len(rows))
    )


def _contraction(dataset: xr.Dataset) -> str:
    """Bounds over epochs, and those of the last look."""
    rows = words.describe_contraction(dataset.isel(epoch=-1, drop=True))
    heads = ("probe", "norm", "certified bound", "largest seen", "rate", "what follows")
    certain, probes = (
        len({row[0] for row in rows if row[5].startswith("contracting")}),
        len({row[0] for row in rows}),
    )
    return (
        f"<p>By how much one step can draw two states apart at most, over {_looks(dataset)}: the truth lies "
        "between the certified bound and the largest stretch seen. Where a bound is below 1 (green), every "
        "orbit goes to the same fixed point, for certain; the rate is how fast they come together in the "
        f"long run. At the last look {_share(certain, probes, 'probes')} certified.</p>"
        f"{plotly(contraction.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + fold(f"all {len(rows)} bounds", table(heads, rows), len(rows))
    )


def _smoothness(dataset: xr.Dataset) -> str:
    """The constants against the number of time steps, and what the last look says of their growth."""
    heads = (
        "Lipschitz constant of",
        "at least",
        "grows as a power of N",
        "or by nats a step",
        "the theorem's",
    )
    return (
        f"<p>How steep and how bent the cost of N time steps is near the weights, over {_looks(dataset)}: "
        "the largest found in a ball around them, which is a lower bound. Straight lines are powers of N; in "
        "chaos the constants grow exponentially. Open circles: more bent than can be seen.</p>"
        f"{plotly(smoothness.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + table(heads, words.describe_smoothness(dataset.isel(epoch=-1, drop=True)))
    )


def _gradient_flow(dataset: xr.Dataset) -> str:
    """Norms against time and lag, rates over epochs, and those of the last look."""
    rows = words.describe_gradient_flow(dataset.isel(epoch=-1, drop=True))
    heads = ("sequence", "gradients are", "nats per step back", "leading exponent", "cost")
    return (
        f"<p>How the gradient of the cost changes on its way back through time, over {_looks(dataset)}. "
        "A cost that asks at every step hides what vanishes: follow the part from the last output. Below "
        "zero nats a step it vanishes, above it explodes; bars are two standard errors to either side.</p>"
        f"{plotly(gradient_flow.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + fold(f"all {len(rows)} sequences", table(heads, rows), len(rows))
    )


def _words(dataset: xr.Dataset) -> str:
    """Words before the loop over epochs, and the loops of the last look as text."""
    rows = texts.table(dataset.isel(epoch=-1, drop=True))
    steps = dataset.attrs["steps"]
    return (
        f"<p>What the network says, up to {steps} words, when each likeliest word is fed back, over "
        f"{_looks(dataset)}. A loop goes on for ever where the state itself came back, bit for bit (proven), "
        "and most likely where states come closer from round to round (converging); else it is known to "
        "repeat as far as the record goes.</p>"
        f"{plotly(texts.interactive(dataset))}<h3>At epoch {int(dataset.epoch[-1])}</h3>"
        + fold(f"all {len(rows)} loops", table(texts.HEADS, rows), len(rows))
    )


def _looks(dataset: xr.Dataset) -> str:
    first, last = int(dataset.epoch[0]), int(dataset.epoch[-1])
    count = dataset.sizes["epoch"]
    return f"one look at epoch {first}" if count == 1 else f"{count} looks at epochs {first} to {last}"


def _share(count: int, total: int, what: str) -> str:
    """So many of all, and the verb.

    >>> _share(0, 3, "probes"), _share(1, 3, "probes"), _share(3, 3, "probes")
    ('none of 3 probes is', '1 of 3 probes is', 'all 3 probes are')
    """
    if count == total > 1:
        return f"all {total} {what} are"
    return f"{count or 'none'} of {total} {what} {'is' if count < 2 else 'are'}"


# how an analysis is shown, by its name in the store; all others are shown by `generic`
# in the order of the page
SECTIONS: dict[str, Callable[[xr.Dataset], str]] = {
    members.NAME: _members,
    "phase_portrait": portraits.phase_portrait,
    "bifurcation": _bifurcation,
    "attractors": _attractors,
    "fixed_points": _fixed_points,
    "lyapunov": _lyapunov,
    "contraction": _contraction,
    "smoothness": _smoothness,
    "gradient_flow": _gradient_flow,
    "words": _words,
}
# those that show all members of an ensemble in their own way
TOGETHER = (members.NAME, "phase_portrait")
