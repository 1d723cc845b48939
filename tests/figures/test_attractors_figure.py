"""What is settled on is drawn in its share, its number and its range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnlab.figures import attractors, style
from rnnlab.figures.looks import Looks
from tests.figures.looks import gains, roots, settling

EPOCHS = np.arange(0, 1001, 50)


def of(figure: object, probe: int) -> list:
    """Traces that are seen when a probe is chosen."""
    visible = figure.layout.updatemenus[0].buttons[probe].args[0]["visible"]  # type: ignore[attr-defined]
    return [trace for trace, on in zip(figure.data, visible, strict=True) if on]  # type: ignore[attr-defined]


def test_shares_are_fractions_of_all_initial_states() -> None:
    dataset = settling(EPOCHS)
    found = attractors.shares(Looks.of(dataset, "x", ("kind",)))
    w = gains(EPOCHS, 3)
    assert list(found) == ["fixed point", "periodic orbit", "chaos", "undecided"]
    for kind, late in (("fixed point", 0.4), ("periodic orbit", 0.3), ("chaos", 0.2), ("undecided", 0.1)):
        early = 1.0 if kind == "fixed point" else 0.0
        np.testing.assert_allclose(found[kind], np.where(w < 1.5, early, late))
    np.testing.assert_allclose(sum(found.values()), 1)


def test_a_look_with_fewer_samples_counts_its_own_only() -> None:
    dataset = settling(EPOCHS)
    dataset["kind"][0, :, 10:] = ""
    found = attractors.shares(Looks.of(dataset, "x", ("kind",)))
    np.testing.assert_allclose(found["fixed point"][0], 1)


def test_stacked_areas_fill_the_panel_and_the_strip_counts_attractors() -> None:
    dataset = settling(EPOCHS)
    figure = attractors.kinds(dataset)
    mains, strips = figure.axes[::2], figure.axes[1::2]
    assert [axes.get_title() for axes in mains] == ["u = 0.0", "u = 0.1", "u = 0.2"]
    w = gains(EPOCHS, 3)
    for p, (axes, strip) in enumerate(zip(mains, strips, strict=True)):
        total = 0.0
        for area in axes.collections:
            (path,) = area.get_paths()
            x, y = path.vertices.T
            here = np.isclose(x, 1025)  # the end of the last look
            total += np.ptp(y[here])
        assert total == pytest.approx(1)
        (steps,) = strip.patches
        np.testing.assert_array_equal(
            steps.get_data().values, np.where(w[:, p] < 1, 1, np.where(w[:, p] < 1.5, 2, 3))
        )
        assert axes.get_xlim() == (-25, 1025)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "fixed point",
        "periodic orbit",
        "chaos",
        "undecided",
    ]


def test_ranges_run_from_low_to_high_in_the_colour_of_the_kind() -> None:
    from matplotlib.colors import to_hex

    dataset = settling(EPOCHS)
    figure = attractors.ranges(dataset)
    axes = figure.axes[2]  # w = 0.5 + 1.4 epoch / 1000
    strokes = {
        to_hex(c.get_color()[0]).upper(): {float(s[0, 0]): s[:, 1] for s in c.get_segments()}
        for c in axes.collections
    }
    w, x = 1.9, roots(1.9)[-1]
    np.testing.assert_allclose(strokes[attractors.KINDS["chaos"]][1000], [1.5 - w, w - 1.5])
    np.testing.assert_allclose(strokes[attractors.KINDS["periodic orbit"]][1000], [x - 0.1, x + 0.1])
    points = {
        (float(a), round(float(b), 9))
        for line in axes.lines
        if line.get_color() == style.BLUE
        for a, b in line.get_xydata()
    }
    assert (1000.0, round(-x, 9)) in points
    assert (0.0, 0.0) in points


def test_interactive_holds_the_same_for_every_probe() -> None:
    dataset = settling(EPOCHS)
    figure = attractors.interactive(dataset)
    w = gains(EPOCHS, 3)
    for p in range(3):
        bars = {t.name: np.asarray(t.y) for t in of(figure, p) if t.type == "bar"}
        np.testing.assert_allclose(sum(bars.values()), 1)
        np.testing.assert_allclose(bars["chaos"], np.where(w[:, p] < 1.5, 0, 0.2))
        (number,) = [t for t in of(figure, p) if t.yaxis == "y2"]
        assert max(number.y) == 3
        ranges = {t.name: t for t in of(figure, p) if t.yaxis == "y3"}
        chaos = ranges["chaos"]
        np.testing.assert_allclose(chaos.error_y.array, w[w[:, p] >= 1.5, p] - 1.5, atol=1e-6)
        np.testing.assert_allclose(np.asarray(chaos.customdata)[:, 2], 0.2)
    without = attractors.interactive(dataset.drop_vars(["y_min", "y_max"]))
    assert not [t for t in without.data if t.yaxis == "y3"]


@pytest.mark.filterwarnings("error")
def test_one_look_and_nothing_known_are_pictures_too(tmp_path: Path) -> None:
    dataset = settling(EPOCHS)
    nothing = dataset.copy(deep=True)
    nothing["kind"][:] = "undecided"
    nothing["attractor_kind"][:] = ""
    nothing["y_min"][:] = np.nan
    for empty in (dataset.isel(epoch=[0]), nothing, nothing.isel(attractor=slice(0))):
        for draw in (attractors.kinds, attractors.ranges):
            style.save_png(draw(empty), tmp_path / "figure.png")
        attractors.interactive(empty)


def test_what_cannot_be_drawn_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="attractors needs kind: the dataset has"):
        attractors.kinds(settling(EPOCHS).drop_vars("kind"))
    with pytest.raises(ValueError, match="ranges of attractors needs y_min, y_max"):
        attractors.ranges(settling(EPOCHS).drop_vars(["y_min", "y_max"]))
    with pytest.raises(ValueError, match="observable=1 is not there"):
        attractors.ranges(settling(EPOCHS), observable=1)
