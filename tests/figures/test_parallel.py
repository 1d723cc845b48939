"""Parallel coordinates: where lines run, and what colour they have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rnnlab.figures.parallel import coordinates


def ordered(values: list[object], levels: list[object]) -> pd.Categorical:
    return pd.Categorical(values, categories=pd.Index(levels, dtype=object), ordered=True)


def axes(runs: dict[str, pd.Categorical], best: list[float], *, largest: bool = True) -> dict[str, dict]:
    figure = coordinates(pd.DataFrame(runs), np.array(best), "loss", largest=largest)
    (trace,) = figure.data
    found = {axis["label"]: axis.to_plotly_json() for axis in trace.dimensions}
    return found | {"color": {"values": np.array(trace.line.color)}}


def test_levels_have_places_and_equal_runs_do_not_hide_each_other() -> None:
    model = ordered(["b", "a", "a", "a<b", "b"], ["a", "b", "a<b"])
    found = axes({"model": model}, [0.1, 0.4, 0.2, 0.3, np.nan])
    assert found["model"]["ticktext"] == ["a", "b", "a&lt;b"]
    assert list(found["model"]["tickvals"]) == [0, 1, 2]
    levels = np.round(found["model"]["values"]).astype(int)
    # in the order in which they are drawn: without a value, then from bad to good
    assert levels.tolist() == [1, 1, 0, 2, 0]
    assert len(set(found["model"]["values"])) == 5
    assert np.abs(found["model"]["values"] - levels).max() < 0.3


def test_many_numbers_are_on_a_scale_logarithmic_over_decades() -> None:
    rates = np.geomspace(1e-4, 1e-1, 20)
    sizes = np.arange(10, 30)
    found = axes(
        {"lr": ordered(rates.tolist(), rates.tolist()), "size": ordered(sizes.tolist(), sizes.tolist())},
        np.arange(20.0).tolist(),
    )
    np.testing.assert_allclose(found["lr"]["values"], np.log10(rates))
    np.testing.assert_allclose(found["size"]["values"], sizes)
    for label, position in (("lr", np.log10), ("size", lambda x: x)):
        texts = [float(said) for said in found[label]["ticktext"]]
        assert 3 <= len(texts) <= 8
        np.testing.assert_allclose(found[label]["tickvals"], position(np.array(texts)))


@pytest.mark.parametrize("largest", [True, False])
def test_colours_go_from_bad_to_good_and_what_has_no_value_is_below(largest: bool) -> None:
    length = ordered([50, 50, 100, 100], [50, 100])
    found = axes({"length": length}, [1.0, 3.0, np.nan, 2.0], largest=largest)
    color, height = found["color"]["values"], np.asarray(found["loss"]["values"])
    np.testing.assert_allclose(color, [-0.25, 0, 0.5, 1])
    np.testing.assert_allclose(height[1:], [1, 2, 3] if largest else [3, 2, 1])
    assert height[0] < 1
    assert found["loss"]["ticktext"][0] == "no value"
    assert found["loss"]["tickvals"][0] == height[0]


def test_nothing_has_a_value_yet_or_all_the_same() -> None:
    length = ordered([50, 100], [50, 100])
    assert axes({"length": length}, [np.nan, np.inf])["loss"]["ticktext"] == ["no value"]
    for largest in (True, False):
        found = axes({"length": length}, [0.5, 0.5], largest=largest)
        assert found["loss"]["ticktext"] == ["0.5"]
        assert found["color"]["values"].tolist() == [1, 1]


def test_bad_input_is_one_clear_line() -> None:
    runs = pd.DataFrame({"length": ordered([50, 100], [50, 100])})
    with pytest.raises(ValueError, match="1 values of 2 runs are not possible"):
        coordinates(runs, np.array([1.0]), "loss", largest=True)
    with pytest.raises(ValueError, match="the runs have the same parameters"):
        coordinates(runs[[]], np.array([1.0, 2.0]), "loss", largest=True)
