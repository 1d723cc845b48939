"""What is said is drawn as it is: numbers at their place, texts letter by letter."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rnnlab.figures import style, words

EPOCHS = np.array([0, 10, 30])


def texts() -> xr.Dataset:
    """Two first words, three states: one loop of two words, later of three, and a text without any."""
    kind = np.full((3, 2, 3), "proven", dtype="<U10")
    transient = np.broadcast_to([0, 5, 12], (3, 2, 3)) + 10 * np.arange(3)[:, None, None]
    period = np.where(np.arange(3)[:, None, None] < 2, 2, 3) * np.ones((3, 2, 3), int)
    loop = np.where(period == 2, "the <unk>", "$ 5 & $")
    opening = np.full((3, 2, 3), "In a while")
    kind[:, 1, 0], kind[2, 0, 1], kind[2, 0, 2] = "undecided", "converging", "repeating"
    kind[0, 1, 2] = "diverged"
    none = np.isin(kind, ("undecided", "diverged"))
    transient[none], period[none], loop[none] = -1, 0, ""
    axes = ("epoch", "probe", "sample")
    values = {"kind": kind, "transient": transient, "period": period, "loop": loop, "opening": opening}
    return xr.Dataset(
        {name: (axes, value) for name, value in values.items()},
        coords={"epoch": EPOCHS, "probe": ["<eos>", "the"]},
        attrs={"steps": 400},
    )


def points(lines) -> set[tuple[float, float]]:
    found = [line.get_xydata() for line in lines]
    return {(float(x), float(y)) for xy in found for x, y in xy if np.isfinite([x, y]).all()}


def test_words_before_and_periods_are_where_they_belong() -> None:
    figure = words.over_epochs(texts())
    eos, strip, the, _ = figure.axes
    blue, orange, ink = (
        [line for line in eos.lines if line.get_color() == c] for c in (style.BLUE, style.ORANGE, style.INK)
    )
    assert points(blue) == {(e, 10.0 * i + t) for i, e in enumerate(EPOCHS) for t in (0, 5, 12)}
    assert points(orange) == {(0, 2), (10, 2), (30, 3)}
    assert points(ink) == set()
    # that from zero is joined by a line, the others are not
    (line,) = [line for line in blue if line.get_linestyle() != "None"]
    assert line.get_ydata().tolist() == [0, 10, 20]
    # no loop: open marks at the bound, and nothing else of it
    ink = [line for line in the.lines if line.get_color() == style.INK]
    assert points(ink) == {(e, 400) for e in EPOCHS}
    assert all(line.get_markerfacecolor() == "none" for line in ink)
    blue = [line for line in the.lines if line.get_color() == style.BLUE]
    assert points(blue) == {(0, 5), (10, 15), (10, 22), (30, 25), (30, 32)}  # what diverged is nowhere
    assert eos.get_yscale() == the.get_yscale() == "symlog"
    low, high = eos.get_ylim()
    assert low < 0 < 400 < high
    assert [axes.get_title() for axes in (eos, the)] == ["<eos>", "the"]
    assert strip.get_ylim() == (0, 1)


def test_the_strip_has_the_shares_of_the_kinds() -> None:
    figure = words.over_epochs(texts())
    strip = figure.axes[1]
    shares = {}
    for area in strip.collections:
        path = area.get_paths()[0].vertices
        inside = path[(path[:, 0] > 20) & (path[:, 0] <= 40)]
        shares[area.get_facecolor().tobytes()] = np.ptp(inside[:, 1])
    drawn = sorted(share for share in shares.values() if share > 0)
    np.testing.assert_allclose(drawn, [1 / 3, 1 / 3, 1 / 3])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        *("words before the loop", "its period", "none in 400 words"),
        *("proven", "converging", "repeating", "undecided", "diverged"),
    ]


def test_the_table_joins_what_is_the_same() -> None:
    look = texts().isel(epoch=1, drop=True)
    assert words.table(look) == [
        ("<eos>", "zero, 2 random", "10 to 22", "2", "proven", "the <unk>"),
        ("the", "zero", "", "", "none in 400 words", "(begins) In a while"),
        ("the", "2 random", "15 to 22", "2", "proven", "the <unk>"),
    ]
    rows = words.table(texts().isel(epoch=2, drop=True))
    assert [row[1:] for row in rows[:3]] == [
        ("zero", "20", "3", "proven", "$ 5 & $"),
        ("1 random", "25", "3", "converging", "$ 5 & $"),
        ("1 random", "32", "3", "repeating", "$ 5 & $"),
    ]


def test_texts_are_drawn_letter_by_letter() -> None:
    figure = words.loops(texts())
    said = [text.get_text() for text in figure.texts]
    assert said.count("$ 5 & $") == 4
    assert not any(text.get_parse_math() for text in figure.texts)
    assert said.count("<eos>") == said.count("the") == 1  # of rows with the same first word the first has it
    assert "What is said again and again, at epoch 30" in said


def test_long_and_foreign_texts_fit(tmp_path: Path) -> None:
    long = texts()
    long["loop"] = long["loop"].astype("<U2000")
    long["loop"][2, 0, 0] = " ".join(["<eos>"] * 60)
    long["loop"][2, 0, 1] = "戦場のヴァルキュリア 3"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = words.loops(long)
        assert style.save_png(figure, tmp_path / "a.png").stat().st_size > 5000
    renderer = FigureCanvasAgg(figure).get_renderer()
    right = max(text.get_window_extent(renderer).x1 for text in figure.texts)  # in pixels
    assert right <= figure.bbox.width
    lines = [text.get_text() for text in figure.texts if text.get_text().startswith("<eos> <eos>")]
    assert len(lines) == 3
    assert lines[-1].endswith(" ...")
    assert any(text.get_text().endswith("\N{REPLACEMENT CHARACTER} 3") for text in figure.texts)
    many = xr.concat([texts().assign_coords(probe=[f"a{i}", f"b{i}"]) for i in range(30)], "probe")
    rows = {text.get_text() for text in words.loops(many).texts}
    assert any(text.startswith("and ") for text in rows)


def test_the_interactive_figure_shows_the_same() -> None:
    figure = words.interactive(texts())
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["&lt;eos&gt;", "the"]
    before, period, none = figure.data[:3]
    np.testing.assert_allclose(before.customdata, [0, 5, 12, 10, 15, 22, 20, 25, 32])
    np.testing.assert_allclose(before.y, [0.5, 5, 12, 10, 15, 22, 20, 25, 32])
    np.testing.assert_allclose(before.x, np.repeat(EPOCHS, 3))
    np.testing.assert_allclose(period.y, [2] * 6 + [3] * 3)
    assert before.text[0] == "the &lt;unk&gt;"
    assert len(none.x) == 0
    the = figure.data[3:]
    np.testing.assert_allclose(the[2].y, [400, 400, 400])
    assert the[2].text[0] == "In a while"


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="needs transient"):
        words.over_epochs(texts().drop_vars("transient"))
    for draw in (words.loops, words.interactive):
        with pytest.raises(ValueError, match="needs loop"):
            draw(texts().drop_vars("loop"))
    with pytest.raises(ValueError, match="needs one parameter axis"):
        words.over_epochs(texts().isel(epoch=0, drop=True))


def test_one_look_and_a_picture(tmp_path: Path) -> None:
    one = texts().isel(epoch=[0])
    for name, draw in (("a", words.over_epochs), ("b", words.loops)):
        assert style.save_png(draw(one), tmp_path / f"{name}.png").stat().st_size > 5000
