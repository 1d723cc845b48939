"""How much of what differs between runs each of their parameters explains, and how much is chance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

DEGREE = 3  # of the polynomial in ranks for numbers with many values
PERMUTATIONS = 999
LEVEL = 0.05
ROUNDING = 1e-9  # shares that differ by less are equal


class Importance(NamedTuple):
    """How the variance of a number over runs is divided.

    Attributes:
        effects: A row for each parameter, in the order given, with the columns `share` of the variance that
            it explains alone; `chance`, which a parameter without any effect exceeds with a probability of
            0.05; `p`, the probability of such a share, or a larger one, by chance; `df`, degrees of freedom
            that it takes. Empty where nothing can be said.
        seeds: Share of runs that differ in their seeds alone; NaN where there are no such runs.
        rest: What is left: what parameters do together, and of runs without repetitions the seeds' share.
        runs: How many have a finite value.
        undecided: Why nothing can be said; empty where something can.
    """

    effects: pd.DataFrame
    seeds: float
    rest: float
    runs: int
    undecided: str = ""


def importance(values: Any, parameters: pd.DataFrame, *, seed: int = 0) -> Importance:
    r"""Divide the variance of a number over runs among the parameters of the runs.

    Main effects of an additive model, fitted by least squares to all runs with a finite value. Each value of
    a parameter is a level of its own; a number with more different values than a third of the combinations,
    as in a random search, enters by a cubic in its ranks, so that it makes no difference whether it was drawn
    on a linear or a logarithmic scale. A parameter's sum of squares :math:`Q` is what the fit loses without
    it (in a balanced grid the classical one), and its share

    .. math:: (Q - d\, s^2) / Q_\text{all}

    with :math:`d` degrees of freedom and the mean square :math:`s^2` of chance: parameters that do nothing
    have on average a share of zero (Kelley's :math:`\varepsilon^2`), and so may be a little below. What is
    chance depends on the design. In a complete grid with several seeds it is what differs between runs with
    equal parameters. Else it is what the additive model leaves over, of the mean of each combination: there
    interactions take part by chance. The shares of effects, seeds and rest add up to one.

    How large a share may be by chance is asked twice, and the more careful answer taken: of the ratio of mean
    squares when the residuals of the model without the parameter are permuted (Freedman and Lane 1983), and
    of Fisher's F distribution. A handful of runs has few permutations, and decides nothing.

    Args:
        values: One a run, `(runs,)`, any unit; what is not finite is left out.
        parameters: A row for each run, a column for each parameter, numbers or anything else; without seeds.
        seed: Of the permutations.

    Raises:
        ValueError: There are not as many values as rows.

    References:
        Kelley, "An unbiased correlation ratio measure", PNAS 21, 1935.
        Freedman and Lane, "A nonstochastic interpretation of reported significance levels", Journal of
        Business and Economic Statistics 1, 1983.
        Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML
        2014: the same question with forests in place of the additive model.

    Example:
        >>> runs = pd.DataFrame({"model": ["LSTM", "GRU"] * 6, "length": [50] * 6 + [100] * 6})
        >>> losses = [1.0, 3.0, 1.1, 3.1, 0.9, 2.9] * 2
        >>> importance(losses, runs).effects["share"].round(3).tolist()
        [0.993, -0.001]
    """
    y = np.asarray(values, dtype=float)
    if len(y) != len(parameters):
        raise ValueError(f"{len(y)} values of {len(parameters)} runs are not possible: give one a run.")
    there = np.isfinite(y)
    y, own = y[there], parameters.loc[there]
    kept = [name for name in own if own[name].nunique(dropna=False) > 1]
    none = Importance(pd.DataFrame(columns=["share", "chance", "p", "df"]), math.nan, math.nan, len(y))
    if not kept:
        return none._replace(undecided="all runs with a value have the same parameters")
    total = float(((y - y.mean()) ** 2).sum())
    if total <= (ROUNDING * np.abs(y).max()) ** 2 * len(y):
        return none._replace(undecided="all runs have the same value")

    cell = own[kept].astype(str).groupby(kept, sort=False).ngroup().to_numpy()
    counts = np.bincount(cell)
    means = np.bincount(cell, weights=y) / counts
    between = float((counts * (means - y.mean()) ** 2).sum())
    repeated = len(y) - len(counts)
    seeds = (total - between) / repeated * (len(y) - 1) / total if repeated else math.nan
    complete = len(counts) == math.prod(own[name].nunique(dropna=False) for name in kept)
    weight = np.ones(len(y))
    if repeated and not complete:  # runs of one combination share its interactions: they are one unit
        own = own.iloc[np.unique(cell, return_index=True)[1]]
        y, cell, weight = means, np.arange(len(counts)), np.sqrt(counts)
    blocks = {name: _basis(own[name]) for name in kept}
    intercept = weight[:, None]
    weighted = {name: block * intercept for name, block in blocks.items()}
    y = y * weight
    design = np.hstack([intercept, *weighted.values()])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        why = "combinations for as many parameters" if len(kept) > 1 else "runs for as many values"
        return none._replace(seeds=seeds, undecided=f"{len(counts)} {why} do not tell their effects apart")
    pure = complete and repeated > 0
    free = repeated if pure else len(y) - design.shape[1]
    if free < 1:
        return none._replace(seeds=seeds, undecided=f"{len(y)} runs are too few to tell effects from chance")

    full = _orthonormal(design)
    within = _orthonormal(np.eye(len(counts))[cell]) if pure else full
    generator = np.random.default_rng(seed)
    orders = np.stack([generator.permutation(len(y)) for _ in range(PERMUTATIONS)], axis=1)
    rows: dict[Any, dict[str, float]] = {}
    for name in kept:
        others = _orthonormal(np.hstack([intercept, *(b for key, b in weighted.items() if key != name)]))
        df = full.shape[1] - others.shape[1]
        fitted = others @ (others.T @ y)
        trials = np.column_stack([y, fitted[:, None] + (y - fitted)[orders]])
        explained = _explained(full, trials) - _explained(others, trials)
        error = ((trials**2).sum(0) - _explained(within, trials)) / free
        ratio = explained / df / np.maximum(error, ROUNDING * total / len(y))
        limit = max(np.quantile(ratio[1:], 1 - LEVEL), special.fdtri(df, free, 1 - LEVEL))
        chance = df * (limit - 1) * error[0] / total
        share = (explained[0] - df * error[0]) / total
        p = (1 + (ratio[1:] >= ratio[0] * (1 - ROUNDING)).sum()) / (1 + PERMUTATIONS)
        p = max(p, special.fdtrc(df, free, ratio[0]))
        rows[name] = {"share": share, "chance": chance, "p": p, "df": df}
    effects = pd.DataFrame.from_dict(rows, orient="index")
    rest = 1 - sum(row["share"] for row in rows.values()) - (0 if math.isnan(seeds) else seeds)
    return Importance(effects, seeds, rest, int(there.sum()))


def _basis(column: pd.Series) -> np.ndarray:
    """Columns that span the functions of a parameter, but the constant: `(runs, df)`."""
    values = column.astype(object).where(column.notna(), None).tolist()
    numeric = np.array([isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values])
    numbers = np.array([v if is_number else 0.0 for v, is_number in zip(values, numeric, strict=True)], float)
    distinct = np.unique(numbers[numeric])
    smooth = len(distinct) > max(DEGREE + 1, len(values) / 3)
    labels = ["" if smooth and is_number else repr(v) for v, is_number in zip(values, numeric, strict=True)]
    levels = list(dict.fromkeys(labels))
    dummies = np.array([[label == level for level in levels[1:]] for label in labels], float)
    if not smooth:
        return dummies
    rank = pd.Series(numbers[numeric]).rank().to_numpy()
    ranks = np.zeros(len(values))
    ranks[numeric] = 2 * (rank - 0.5) / len(rank) - 1
    powers = np.polynomial.legendre.legvander(ranks, DEGREE)[:, 1:] * numeric[:, None]
    return np.hstack([dummies, powers])


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """A basis of what the columns, which are independent, span."""
    return np.linalg.qr(columns)[0]


def _explained(basis: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Of each column the sum of squares within a subspace."""
    return ((basis.T @ trials) ** 2).sum(0)
