"""Training histories of many runs: every run is seen, and the median is that of all seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rnnlab.figures import histories, style
from rnnlab.figures.histories import Line, median


def line(values: list[float], kind: str = "a", panel: str = "", seed: str = "1", **more: object) -> Line:
    return Line(
        pd.Series(values, index=range(1, len(values) + 1), dtype=float), kind, panel, seed, "val/x", **more
    )  # type: ignore[arg-type]


def grid() -> list[Line]:
    """Two kinds, two panels, three seeds each: the values are kind + panel + seed / 100."""
    return [
        line([k + p + s / 100] * 5, f"kind {k}", f"panel {p}", f"seed {s}", baseline=0.5)
        for p in (1, 2)
        for k in (10, 20)
        for s in (1, 2, 9)
    ]


def test_the_median_keeps_those_that_have_finished() -> None:
    runs = [line([0.2, 1.0]), line([0.4, 0.5, 0.6, 0.7]), line([0.3, 0.4, 0.5, 0.6])]
    assert median(runs).tolist() == [0.3, 0.5, 0.6, 0.7]  # of (1, 0.6, 0.5) at epoch 3


def test_the_median_leaves_out_those_that_were_killed_if_most_have_finished() -> None:
    runs = [line([0.2, 1.0], finished=False), line([0.4, 0.5, 0.6, 0.7]), line([0.3, 0.4, 0.5, 0.6])]
    assert median(runs).tolist() == pytest.approx([0.35, 0.45, 0.55, 0.65])


def test_the_median_of_others_ends_with_the_first_of_them() -> None:
    runs = [line([1.0, 9.0], finished=False), line([2.0, 2.0, 8.0], finished=False), line([4.0])]
    assert median(runs).to_dict() == {1: 2.0, 2: 4.0}  # of (9, 2, 4): the last has finished


def test_the_median_passes_over_a_run_without_a_number() -> None:
    assert median([line([np.nan]), line([1.0, 2.0])]).to_dict() == {1: 1.0, 2: 2.0}
    assert median([line([np.nan])]).empty


def test_the_median_of_one_is_that_one_without_its_gaps() -> None:
    only = line([1.0, np.nan, np.inf, 3.0])
    assert median([only]).to_dict() == {1: 1.0, 4: 3.0}


def test_curves_have_a_panel_each_with_all_seeds_and_medians() -> None:
    figure = histories.curves(grid(), "x")
    assert [axes.get_title() for axes in figure.axes] == ["panel 1", "panel 2"]
    for p, axes in enumerate(figure.axes, 1):
        solid = [one for one in axes.lines if one.get_linestyle() == "-"]
        thin = [one for one in solid if one.get_linewidth() < 1]
        thick = {one.get_color(): one.get_ydata()[0] for one in solid if one.get_linewidth() > 2}
        assert len(thin) == 6
        assert len(thick) + len(thin) == len(solid)
        assert thick == {style.BLUE: pytest.approx(10.02 + p), style.ORANGE: pytest.approx(20.02 + p)}
        (dashed,) = [one for one in axes.lines if one.get_linestyle() == "--"]
        assert set(dashed.get_ydata()) == {0.5}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kind 10", "kind 20", "baseline"]


def test_a_run_that_has_not_finished_ends_in_a_circle() -> None:
    figure = histories.curves([line([1.0, 2.0], finished=False), line([1.0, 3.0], seed="2")])
    (circle,) = [one for one in figure.axes[0].lines if one.get_marker() == "o"]
    assert (circle.get_xdata().tolist(), circle.get_ydata().tolist()) == ([2], [2.0])
    assert "not finished" in [text.get_text() for text in figure.legends[0].get_texts()]
    (trace,) = histories.interactive([line([1.0, 2.0], finished=False)]).data
    assert trace.marker.size.tolist() == [0, 7]


@pytest.mark.parametrize(("epochs", "scale"), [((100, 1001), "log"), ((100, 1000), "linear")])
def test_epochs_are_logarithmic_where_runs_differ_much_in_length(epochs: tuple[int, int], scale: str) -> None:
    runs = [line([1.0] * n, seed=str(n)) for n in epochs]
    assert histories.curves(runs).axes[0].get_xscale() == scale
    figure = histories.interactive(runs)
    assert figure.layout.xaxis.type == scale
    (menu,) = figure.layout.updatemenus
    assert [button.args[0] for button in menu.buttons] == [{"xaxis.type": "linear"}, {"xaxis.type": "log"}]
    assert menu.active == int(scale == "log")


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 0.01], "log"), ([1.0, 0.5], "linear"), ([1.0, 0.0], "linear")]
)
def test_values_are_logarithmic_where_they_span_decades(values: list[float], scale: str) -> None:
    assert histories.curves([line(values)]).axes[0].get_yscale() == scale
    assert histories.interactive([line(values)]).layout.yaxis.type == ("log" if scale == "log" else None)


def test_seeds_have_a_panel_each_with_all_metrics() -> None:
    runs = grid() + [one._replace(name="train/x", baseline=9.0) for one in grid()]
    figure = histories.seeds(runs)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"panel {p}, seed {s}" for p in (1, 2) for s in (1, 2, 9)]
    for axes in figure.axes:
        styles = [(one.get_color(), one.get_linestyle()) for one in axes.lines]
        assert len(set(styles)) == 5  # two kinds by two metrics, and the baseline of the first metric
        (baseline,) = [one for one in axes.lines if one.get_color() == histories.BASELINE]
        assert set(baseline.get_ydata()) == {0.5}
    many = [line([1.0, 2.0], seed=str(s)) for s in range(20)]
    assert len(histories.seeds(many).axes) == histories.SEEDS


def test_interactive_has_all_runs_and_hides_a_kind_in_all_panels() -> None:
    figure = histories.interactive(grid(), "x")
    assert len(figure.data) == 2 * 2 * (3 + 1)
    shown = [trace for trace in figure.data if trace.showlegend]
    assert [trace.name for trace in shown] == ["kind 10", "kind 20"]
    assert {trace.legendgroup for trace in figure.data} == {"kind 10", "kind 20"}
    thick = [trace.y[0] for trace in figure.data if trace.line.width > 2]
    assert thick == pytest.approx([11.02, 21.02, 12.02, 22.02])
    assert [shape.y0 for shape in figure.layout.shapes] == [0.5, 0.5]
    assert [note.text for note in figure.layout.annotations] == [
        "panel 1, baseline 0.5",
        "panel 2, baseline 0.5",
    ]


def test_many_points_are_thinned_without_losing_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "POINTS", 20_000)
    rng = np.random.default_rng(0)
    values = rng.normal(size=20000)
    values[[3, 12345, 15432]] = 40.0, -60.0, 50.0
    runs = [line(list(values), seed=str(s)) for s in range(20)]
    figure = histories.interactive(runs)
    sizes = [len(trace.x) for trace in figure.data]
    assert max(sizes) <= 1000
    assert sum(sizes) < 1.1 * histories.POINTS
    for trace in (figure.data[0], figure.data[-1]):
        assert (max(trace.y), min(trace.y)) == (50.0, -60.0)
        assert (trace.x[0], trace.x[-1]) == (1, 20000)


def test_no_more_panels_than_can_be_seen() -> None:
    runs = [line([1.0, 2.0], panel=str(p)) for p in range(50)]
    assert len(histories.curves(runs).axes) == histories.PANELS
    assert len(histories.interactive(runs).data) == histories.PANELS


def test_many_kinds_have_a_colour_each_and_some_names() -> None:
    figure = histories.interactive([line([1.0, 2.0], kind=str(k)) for k in range(40)])
    assert len({trace.line.color for trace in figure.data}) == 40
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert (named[0], named[-1], len(named)) == ("0", "39", 6)


def test_names_are_escaped() -> None:
    figure = histories.interactive([line([1.0, 2.0], "<b>", "<i>")], "<u>")
    assert figure.data[0].name == "&lt;b&gt;"
    assert "<b>" not in figure.to_json().replace("\\u003c", "<").replace('legendgroup":"<b>', "")


@pytest.mark.parametrize("draw", [histories.curves, histories.seeds, histories.interactive])
def test_without_any_number_there_is_one_clear_line(draw: object) -> None:
    assert callable(draw)
    for runs in ([], [line([np.nan, np.inf])]):
        with pytest.raises(ValueError, match="no run has a finite value"):
            draw(runs)
