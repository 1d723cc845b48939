"""The numbers of an ensemble's members over the epochs: one array, and who is best by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

NAME = "members"  # of the group in the store
LOSS = "train/loss"
AXES = ("epoch", "probe")  # beside that of the members, of what there is one for each


def row(numbers: Mapping[str, Sequence[float] | np.ndarray], names: Sequence[str]) -> xr.Dataset:
    """One look at the members, for `Store.append`.

    Args:
        numbers: Of the members, `(member,)`, by name.
        names: All that there can be, the same at every look; what has no numbers now is NaN.

    Returns:
        `value (quantity, member)`: one array, so that a look is one small file.

    Example:
        >>> look = row({"train/loss": [0.5, 0.25]}, ["train/loss", "val/loss"])
        >>> look.value.sel(quantity="train/loss").values.tolist()
        [0.5, 0.25]
    """
    count = len(next(iter(numbers.values())))
    values = [np.asarray(numbers.get(name, np.full(count, np.nan)), dtype=float) for name in names]
    return xr.Dataset({"value": (("quantity", "member"), np.stack(values))}, coords={"quantity": list(names)})


def numbers(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """What was recorded by name, each `(epoch, member)`; that which never had a number is left out.

    Args:
        dataset: Rows as the store reads them, `value (epoch, quantity, member)`.
    """
    value = dataset["value"].transpose("quantity", "epoch", "member")
    found = zip(map(str, value["quantity"].values), value.values, strict=True)
    return {name: values for name, values in found if np.isfinite(values).any()}


def scored(found: Mapping[str, np.ndarray]) -> list[str]:
    """The names of losses, metrics and certificates, without those that are the same numbers again."""
    names: list[str] = []
    for name, values in found.items():
        again = any(np.array_equal(values, found[other], equal_nan=True) for other in names)
        if "/" in name and not again:
            names.append(name)
    return names


def ranking(dataset: xr.Dataset) -> list[int]:
    """The members by their training loss at the last row, the best first; those that stopped come last.

    Args:
        dataset: As for `numbers`.

    Example:
        >>> look = row({"train/loss": [0.5, 0.25, 0.1], "alive": [1, 1, 0]}, ["train/loss", "alive"])
        >>> ranking(look.expand_dims(epoch=[10]))
        [1, 0, 2]
    """
    last = {name: values[-1] for name, values in numbers(dataset).items()}
    loss = last.get(LOSS, np.full(dataset.sizes["member"], np.nan))
    stopped = last.get("alive", np.ones_like(loss)) == 0
    order = np.lexsort((np.nan_to_num(loss, nan=np.inf), stopped))
    return [int(i) for i in order]


def verdicts(dataset: xr.Dataset) -> xr.Dataset:
    """What looks say of each member in few numbers, and in a word: which kind of system it is.

    Args:
        dataset: Looks of an analysis of `rnnlab.analysis` with an axis `member`, or the rows of training.

    Returns:
        Numbers by name, with the axes of the looks, of probes and members; as `kind` the word, such as
        "2 stable, 1 saddle", where the analysis has one. Of an analysis that is not known here, what it
        has itself for each member: numbers, and its `signature` or first text.

    Example:
        >>> kind = [["stable focus", "saddle", "stable node"], ["unstable focus", "", ""]]
        >>> found = verdicts(xr.Dataset({"kind": (("member", "index"), kind), "unstable": 0}))
        >>> found.kind.values.tolist(), found["fixed points"].values.tolist()
        (['2 stable, 1 saddle', '1 unstable'], [3, 1])
    """
    read = next((read for needs, read in _READERS if needs <= set(dataset.data_vars)), _of_any)
    return xr.Dataset(read(dataset), coords={name: dataset[name] for name in AXES if name in dataset.coords})


def _of_training(dataset: xr.Dataset) -> dict[str, Any]:
    found = numbers(dataset)
    some = {name: found[name] for name in scored(found)}
    if "alive" in found and not found["alive"].all():
        some["kind"] = np.where(found["alive"] == 0, "stopped", "trains")
    return {name: (("epoch", "member"), values) for name, values in some.items()}


def _of_fixed_points(dataset: xr.Dataset) -> dict[str, Any]:
    kind = dataset["kind"].astype(str)
    groups = {name: _group(name) for name in np.unique(kind.values)}
    there = kind != ""
    stable = xr.apply_ufunc(np.char.startswith, kind, "stable")
    return {
        "kind": _tally(kind, "index", groups, ("stable", "saddle", "unstable", "non-hyperbolic", "unknown")),
        "fixed points": there.sum("index"),
        "stable ones": stable.sum("index"),
    }


def _group(kind: str) -> str:
    return kind if kind in ("", "non-hyperbolic") else kind.split()[0]


def _of_attractors(dataset: xr.Dataset) -> dict[str, Any]:
    kind = dataset["attractor_kind"].astype(str)
    names = ("fixed point", "periodic orbit", "torus", "chaotic attractor")
    groups = {name: "chaotic attractor" if name == "chaos" else name for name in np.unique(kind.values)}
    return {"kind": _tally(kind, "attractor", groups, names), "attractors": (kind != "").sum("attractor")}


def _of_exponents(dataset: xr.Dataset) -> dict[str, Any]:
    leading = dataset["exponent"].isel(mode=0)
    margin = 3 * dataset["standard_error"].isel(mode=0).fillna(0.0)
    words = xr.where(
        leading > margin, "chaos", xr.where(leading < -margin, "orbits come together", "neither")
    )
    return {"kind": xr.where(leading.isnull(), "diverged", words), "leading exponent": leading}


def _of_contraction(dataset: xr.Dataset) -> dict[str, Any]:
    upper, sampled = dataset["upper"], dataset["sampled"]
    unknown = xr.where((sampled >= 1).all("norm"), "not contracting in any norm", "not known")
    words = xr.where((upper < 1).any("norm"), "contracting for certain", unknown)
    return {"kind": words, "certified bound": upper.min("norm"), "largest seen": sampled.min("norm")}


def _of_smoothness(dataset: xr.Dataset) -> dict[str, Any]:
    last, power = (
        dataset["lipschitz"].isel(horizon=-1, drop=True),
        dataset["rate"].sel(law="power", drop=True),
    )
    return {
        "Lipschitz constant of V": last.sel(constant="V", drop=True),
        "Lipschitz constant of grad V": last.sel(constant="grad V", drop=True),
        "its power of N": power.sel(constant="grad V", drop=True),
    }


def _of_orbits(dataset: xr.Dataset) -> dict[str, Any]:
    y, settled, period = dataset["y"], dataset["settled"], dataset["period"]
    inner = [dim for dim in ("time", "observable") if dim in y.dims]
    finite = y.notnull().all(inner)
    words = xr.where(period == 1, "fixed point", xr.where(period > 1, "cycle", "oscillation"))
    words = xr.where(finite, xr.where(settled, words, "not settled"), "diverges")
    groups = {name: name for name in np.unique(words.values)}
    order = ("fixed point", "cycle", "oscillation", "not settled", "diverges")
    reach = y.max("time") - y.min("time")
    return {
        "kind": _tally(words, "sample", groups, order, counted=False),
        "peak to peak of y": reach.max([dim for dim in ("sample", "observable") if dim in reach.dims]),
    }


def _of_gradient_flow(dataset: xr.Dataset) -> dict[str, Any]:
    fate = dataset["fate"].astype(str)
    first = fate.isel(sequence=0, drop=True)
    return {
        "kind": xr.where((fate == first).all("sequence"), first, "differs between sequences"),
        "nats per step back": dataset["rate"].median("sequence"),
        "leading exponent": dataset["exponent"].median("sequence"),
    }


def _of_any(dataset: xr.Dataset) -> dict[str, Any]:
    axes = {dim for dim in dataset.dims if dim in (*AXES, "member")}
    own = {str(name): array for name, array in dataset.data_vars.items() if set(array.dims) == axes}
    texts = {name: array for name, array in own.items() if array.dtype.kind in "OUT"}
    found: dict[str, Any] = {k: v.astype(float) for k, v in own.items() if v.dtype.kind in "biuf"}
    if texts:
        found["kind"] = texts.get("signature", next(iter(texts.values()))).astype(str)
    return found


_READERS = (
    ({"value"}, _of_training),
    ({"attractor_kind"}, _of_attractors),
    ({"kind", "unstable"}, _of_fixed_points),
    ({"exponent", "standard_error"}, _of_exponents),
    ({"upper", "sampled"}, _of_contraction),
    ({"lipschitz", "rate"}, _of_smoothness),
    ({"fate", "rate"}, _of_gradient_flow),
    ({"y", "settled", "period"}, _of_orbits),
)
_PLURALS = {name: f"{name}s" for name in ("saddle", "fixed point", "periodic orbit", "chaotic attractor")} | {
    "torus": "tori"
}


def _tally(
    kind: xr.DataArray,
    dim: str,
    groups: Mapping[str, str],
    order: Sequence[str],
    *,
    counted: bool = True,
) -> xr.DataArray:
    """How many of each group are along an axis, in words; or, not counted, which there are."""
    kind = kind.transpose(..., dim)
    group = np.vectorize(groups.__getitem__, otypes=[str])(kind.values) if kind.size else kind.values
    counts = np.stack([(group == name).sum(-1) for name in order], -1)
    if not counted:
        counts = counts > 0
    rows, place = np.unique(counts.reshape(-1, len(order)), axis=0, return_inverse=True)
    words = []
    for row in rows:
        some = [(int(n), name) for n, name in zip(row, order, strict=True) if n]
        said = [f"{n} {_PLURALS.get(name, name) if n > 1 else name}" if counted else name for n, name in some]
        words.append(", ".join(said) if counted else " and ".join(said))
    texts = np.array([word or "none" for word in words], dtype=str)
    return xr.DataArray(texts[place].reshape(counts.shape[:-1]), dims=kind.dims[:-1])
