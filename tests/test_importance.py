"""Shares of variance against analyses of variance by hand, permutations counted in full, and known models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from rnnlab.importance import importance

RNG = np.random.default_rng


def grid(seeds: int = 1, **levels: list[object]) -> pd.DataFrame:
    rows = [row for row in itertools.product(*levels.values()) for _ in range(seeds)]
    return pd.DataFrame(rows, columns=list(levels))


def test_over_all_permutations_a_share_is_zero() -> None:
    """By hand: E[Q] = d Q_all / (N - 1) and E[s^2] = Q_all / (N - 1)."""
    runs = pd.DataFrame({"model": ["a", "a", "b", "b", "b"]})
    shares = [
        importance(order, runs).effects.loc["model", "share"]
        for order in itertools.permutations([1, 2, 4, 8, 16])
    ]
    assert np.mean(shares) == pytest.approx(0, abs=1e-12)
    assert np.std(shares) > 0.1


def test_an_additive_model_without_noise_is_divided_exactly() -> None:
    runs = grid(model=["a", "b", "c"], length=[50, 100], order=["x", "y"])
    effects = {
        "model": {"a": 0.0, "b": 1.0, "c": 5.0},
        "length": {50: 0.0, 100: 3.0},
        "order": {"x": 7.0, "y": 7.0},
    }
    y = sum(runs[name].map(own).astype(float) for name, own in effects.items())
    found = importance(y, runs)
    parts = {name: np.var(list(own.values())) for name, own in effects.items()}
    for name, part in parts.items():
        assert found.effects.loc[name, "share"] == pytest.approx(part / sum(parts.values()), abs=1e-12)
    assert found.effects["df"].tolist() == [2, 1, 1]
    assert found.effects.loc["model", "p"] <= 0.01
    assert found.effects.loc["order", "p"] > 0.5
    assert found.rest == pytest.approx(0, abs=1e-9)
    assert math.isnan(found.seeds)


def test_a_balanced_grid_gives_the_analysis_of_variance() -> None:
    """Sums of squares by loops; the interaction has no part in chance, which is the seeds'."""
    runs = grid(seeds=3, model=["a", "b", "c"], length=[50, 100])
    y = (
        RNG(0).normal(size=18)
        + 2 * (runs["model"] == "b")
        + 3 * ((runs["model"] == "c") & (runs["length"] == 50))
    )
    found = importance(y, runs)
    mean, total = y.mean(), ((y - y.mean()) ** 2).sum()
    q = {
        name: sum((y[own].mean() - mean) ** 2 * len(own) for own in runs.groupby(name).groups.values())
        for name in runs
    }
    within = sum(
        ((y[own] - y[own].mean()) ** 2).sum() for own in runs.groupby(["model", "length"]).groups.values()
    )
    s2 = within / 12
    assert found.effects.loc["model", "share"] == pytest.approx((q["model"] - 2 * s2) / total)
    assert found.effects.loc["length", "share"] == pytest.approx((q["length"] - s2) / total)
    assert found.seeds == pytest.approx(s2 * 17 / total)
    together = total - q["model"] - q["length"] - within
    assert found.rest == pytest.approx((together - 2 * s2) / total)
    assert found.runs == 18


def test_an_unbalanced_design_is_compared_with_the_fit_without_the_parameter() -> None:
    runs = pd.DataFrame({"model": list("aabbbaabab"), "length": [1, 2, 3, 1, 2, 3, 3, 2, 2, 3]})
    y = RNG(1).normal(size=10) + (runs["model"] == "a") + runs["length"]
    found = importance(y, runs)

    def left(*columns: object) -> float:
        x = np.column_stack([np.ones(10), *columns])
        return float(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum())

    model = runs["model"] == "a"
    length = [runs["length"] == 2, runs["length"] == 3]
    # runs are repeated and the grid is complete: chance is what is left within its cells
    within = sum(((y[own] - y[own].mean()) ** 2).sum() for own in runs.groupby(list(runs)).groups.values())
    s2 = within / (10 - len(runs.drop_duplicates()))
    assert len(runs.drop_duplicates()) == 6
    q = left(*length) - left(model, *length)
    assert found.effects.loc["model", "share"] == pytest.approx((q - s2) / ((y - y.mean()) ** 2).sum())


def test_a_random_search_is_divided_as_it_was_made() -> None:
    rng = RNG(2)
    lr, model = 10 ** rng.uniform(-4, -1, 1000), rng.choice(["a", "b"], 1000)
    width = rng.uniform(8, 256, 1000)
    y = math.sqrt(0.5 / 0.75) * (np.log10(lr) + 2.5) + math.sqrt(0.3) * np.where(model == "a", 1, -1)
    y += math.sqrt(0.2) * rng.normal(size=1000)
    found = importance(y, pd.DataFrame({"lr": lr, "model": model, "width": width}))
    assert found.effects["share"].tolist() == pytest.approx([0.5, 0.3, 0.0], abs=0.03)
    assert found.rest == pytest.approx(0.2, abs=0.03)
    assert found.effects["p"].tolist() == [0.001, 0.001, pytest.approx(found.effects.loc["width", "p"])]
    assert found.effects.loc["width", "p"] > 0.05
    same = importance(y, pd.DataFrame({"lr": np.log(lr), "model": model, "width": width**3}))
    pd.testing.assert_frame_equal(found.effects, same.effects)  # the scale makes no difference


def test_an_optimum_in_the_middle_is_an_effect() -> None:
    lr = np.geomspace(1e-4, 1e-1, 24)
    found = importance(np.log10(lr / 3e-3) ** 2, pd.DataFrame({"lr": RNG(3).permutation(lr)}))
    assert found.effects.loc["lr", "p"] > 0.05
    found = importance(np.log10(lr / 3e-3) ** 2, pd.DataFrame({"lr": lr}))
    assert found.effects.loc["lr", "share"] == pytest.approx(1, abs=1e-6)


def test_seeds_of_one_combination_are_no_evidence_for_its_parameters() -> None:
    """Combinations at random, two seeds each: what is explained, and how surely, is that of their means."""
    rng = RNG(4)
    ones = pd.DataFrame({"lr": rng.uniform(size=16), "model": rng.choice(["a", "b"], 16)})
    runs = ones.loc[np.repeat(np.arange(16), 2)].reset_index(drop=True)
    y = np.repeat(rng.normal(size=16) + (ones["model"] == "a"), 2).to_numpy() + 0.3 * rng.normal(size=32)
    means = y.reshape(16, 2).mean(1)
    found, alone = importance(y, runs), importance(means, ones)
    assert found.undecided == alone.undecided == ""
    ratio = 2 * np.var(means) * 16 / (np.var(y) * 32)
    assert ratio < 0.98
    for column in ("share", "chance"):
        np.testing.assert_allclose(found.effects[column], ratio * alone.effects[column])
    np.testing.assert_array_equal(found.effects[["p", "df"]], alone.effects[["p", "df"]])
    within = ((y.reshape(16, 2) - means[:, None]) ** 2).sum() / 16
    assert found.seeds == pytest.approx(within / np.var(y, ddof=1))


def test_chance_and_p_say_the_same() -> None:
    rng = RNG(5)
    decided = []
    for trial in range(40):
        runs = grid(seeds=3, model=["a", "b"], length=[1, 2, 3])
        y = rng.normal(size=18) + 0.9 * (runs["model"] == "a")
        found = importance(y, runs, seed=trial).effects
        both = (found["share"] >= found["chance"]) == (found["p"] <= 0.05)
        near = (found["p"] - 0.05).abs() < 0.005  # a quantile lies between two permutations
        assert (both | near).all()
        decided += (found["p"] <= 0.05).tolist()
    assert 0 < sum(decided) < len(decided)


def test_a_handful_of_runs_decides_nothing() -> None:
    """Two groups of two and three runs, parted in full: a tenth of the ways to share them out does so."""
    found = importance([0.0, 0.1, 1.0, 1.1, 0.9], pd.DataFrame({"model": list("aabbb")})).effects.loc["model"]
    assert found["share"] > 0.9
    assert found["chance"] >= found["share"] - 1e-9
    assert found["p"] == pytest.approx(0.1, abs=0.03)


def test_why_nothing_can_be_said() -> None:
    for y, runs, why in (
        ([1.0, 2.0], {"a": [1, 1]}, "all runs with a value have the same parameters"),
        ([1.0, math.nan], {"a": [1, 2]}, "all runs with a value have the same parameters"),
        ([2.0, 2.0], {"a": [1, 2]}, "all runs have the same value"),
        ([1.0, 2.0, 4.0], {"a": [1, 2, 3]}, "3 runs are too few"),
        (
            [1.0, 2.0, 3.0, 5.0],
            {"a": [1, 1, 2, 2], "b": list("xxyy")},
            "2 combinations for as many parameters",
        ),
        ([1.0, 2.0, 3.0], {"a": list("xyz"), "b": [1, 1, 2]}, "do not tell their effects apart"),
    ):
        found = importance(y, pd.DataFrame(runs))
        assert why in found.undecided
        assert len(found.effects) == 0
    with pytest.raises(ValueError, match="2 values of 3 runs are not possible"):
        importance([1.0, 2.0], pd.DataFrame({"a": [1, 2, 3]}))


def test_what_has_no_value_is_left_out() -> None:
    runs = grid(seeds=3, model=["a", "b"])
    y = np.array([1.0, 1.1, 0.9, 2.0, 2.2, 1.9])
    more = pd.concat([runs, runs], ignore_index=True)
    found = importance([*y, *[math.nan, math.inf] * 3], more)
    pd.testing.assert_frame_equal(found.effects, importance(y, runs).effects)
    assert found.runs == 6


def test_options_that_some_runs_do_not_have() -> None:
    """A learning rate in half of the runs, none in the others: the others are a level of their own."""
    rng = RNG(6)
    lr: list[object] = [*rng.uniform(size=30), *["none"] * 30]
    y = np.array([3 * v if isinstance(v, float) else 5.0 for v in lr]) + 0.1 * rng.normal(size=60)
    found = importance(y, pd.DataFrame({"lr": pd.Series(lr, dtype=object)}))
    assert found.effects.loc["lr", "share"] > 0.98
    assert found.effects.loc["lr", "df"] == 4
