"""Bounds stand where they are, and the ground is green exactly where contraction is certified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnlab.figures import contraction, style
from tests.figures.looks import gains, lipschitz

EPOCHS = np.arange(0, 1001, 50)


def green(axes: object) -> list[tuple[float, float]]:
    """Where the ground is green: from, to."""
    from matplotlib.colors import to_rgba

    spans = [p for p in axes.patches if tuple(p.get_facecolor()[:3]) == to_rgba(style.GREEN)[:3]]  # type: ignore[attr-defined]
    return [(p.get_x(), p.get_x() + p.get_width()) for p in spans]


def test_every_bound_has_its_line_on_a_logarithmic_axis_with_the_line_1() -> None:
    dataset = lipschitz(EPOCHS, probes=2)
    w = gains(EPOCHS, 2)
    for p, axes in enumerate(contraction.over_epochs(dataset).axes):
        assert axes.get_yscale() == "log"
        one, *lines = axes.lines
        assert set(one.get_ydata()) == {1}
        for n, factor in enumerate((1, 1.2, 0.97)):
            np.testing.assert_allclose(lines[2 * n].get_ydata(), factor * w[:, p])
            np.testing.assert_allclose(lines[2 * n + 1].get_ydata(), 0.95 * factor * w[:, p])
            assert lines[2 * n].get_color() == contraction.COLORS[n]
        np.testing.assert_allclose(lines[-1].get_ydata(), dataset["rate"][:, p])
        low, high = axes.get_ylim()
        assert low < 1 < high


def test_the_ground_is_green_where_one_norm_certifies_contraction() -> None:
    dataset = lipschitz(EPOCHS, probes=2)
    w = gains(EPOCHS, 2)
    figure = contraction.over_epochs(dataset)
    for p, axes in enumerate(figure.axes):
        (ground,) = green(axes)
        assert ground == (-25, EPOCHS[0.97 * w[:, p] < 1].max() + 25)
    assert "contracting for certain" in [t.get_text() for t in figure.legends[0].get_texts()]
    expanding = dataset.assign(upper=dataset["upper"] + 1)
    assert green(contraction.over_epochs(expanding).axes[0]) == []
    assert "contracting for certain" not in [t.name for t in contraction.interactive(expanding).data]


def test_a_bound_that_is_not_known_certifies_nothing() -> None:
    dataset = lipschitz(EPOCHS, probes=1)
    dataset["upper"][:5] = np.nan
    ((start, _),) = green(contraction.over_epochs(dataset).axes[0])
    assert start == 225
    two = lipschitz(EPOCHS, probes=2)
    two["upper"][:5, 1] = np.nan
    ((start, _),) = green(contraction.over_epochs(two, fold=True).axes[0])
    assert start == 225


def test_folded_the_worst_probe_counts() -> None:
    dataset = lipschitz(EPOCHS, probes=20)
    w = gains(EPOCHS, 20)
    (axes,) = contraction.over_epochs(dataset, fold=True).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), w[:, -1])
    ((_, end),) = green(axes)
    assert end == EPOCHS[0.97 * w[:, -1] < 1].max() + 25
    (axes,) = contraction.over_epochs(dataset, fold=True, probes=[0, 1]).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), w[:, 1])
    assert len(contraction.over_epochs(dataset).axes) == 12


def test_interactive_begins_with_all_probes_folded() -> None:
    dataset = lipschitz(EPOCHS, probes=3)
    w = gains(EPOCHS, 3)
    figure = contraction.interactive(dataset)
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == [contraction.ALL, "u = 0.0", "u = 0.1", "u = 0.2"]
    for button, probe in zip(buttons, (2, 0, 1, 2), strict=True):
        seen = [t for t, on in zip(figure.data, button.args[0]["visible"], strict=True) if on]
        lines = {t.name: t for t in seen}
        np.testing.assert_allclose(lines["certified bound, norm 2"].y, w[:, probe], rtol=1e-6)
        np.testing.assert_allclose(lines["largest seen, norm inf"].y, 1.14 * w[:, probe], rtol=1e-6)
        ground = np.asarray(lines["contracting for certain"].x)
        np.testing.assert_array_equal(ground, EPOCHS[0.97 * w[:, probe] < 1])
    assert figure.layout.yaxis.type == "log"
    assert "1" in figure.layout.yaxis.ticktext
    alone = contraction.interactive(dataset.isel(probe=[0], norm=[0]))
    assert alone.layout.updatemenus == ()
    assert "certified bound" in [t.name for t in alone.data]


@pytest.mark.filterwarnings("error")
def test_zero_infinity_and_nothing_are_pictures_too(tmp_path: Path) -> None:
    dataset = lipschitz(EPOCHS, probes=2)
    dataset["sampled"][0] = 0.0
    dataset["upper"][1] = np.inf
    dataset["rate"][2] = np.nan
    nothing = dataset.assign(upper=dataset["upper"] * np.nan, sampled=dataset["sampled"] * np.nan)
    for odd in (dataset, dataset.isel(epoch=[0]), nothing, dataset[["upper"]]):
        for fold in (False, True):
            figure = contraction.over_epochs(odd, fold=fold)
            assert np.isfinite(figure.axes[0].get_ylim()).all()
            style.save_png(figure, tmp_path / "figure.png")
        contraction.interactive(odd)


def test_what_cannot_be_drawn_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="contraction needs upper: the dataset has sampled, rate"):
        contraction.over_epochs(lipschitz(EPOCHS).drop_vars("upper"))
