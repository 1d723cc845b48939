"""The distribution over members is drawn as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import members as figures
from rnnlab.figures import style
from rnnlab.members import row
from tests.figures.looks import lipschitz, pitchforks, spectra

EPOCHS = np.arange(0, 1001, 100)


def ensemble(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.rename(probe="member").drop_vars("member")


def several_probes(count: int) -> xr.Dataset:
    one = ensemble(spectra(EPOCHS, probes=9))
    shifted = [one.assign(exponent=one["exponent"] + 0.1 * i) for i in range(count)]
    return xr.concat(shifted, "probe").assign_coords(probe=[f"u = {i}" for i in range(count)])


def corners(collection: object, at: float) -> list[float]:
    """The heights at which an area has corners."""
    vertices = np.concatenate([path.vertices for path in collection.get_paths()])  # type: ignore[attr-defined]
    return vertices[np.isclose(vertices[:, 0], at), 1].tolist()


def test_median_band_and_a_line_a_member() -> None:
    figure = figures.over_epochs(ensemble(spectra(EPOCHS, probes=9)))
    shares, leading = figure.axes
    exponent = spectra(EPOCHS, probes=9)["exponent"].isel(mode=0).values
    *lines, median = leading.lines
    assert len(lines) == 9
    for line, values in zip(lines, exponent.T, strict=True):
        np.testing.assert_allclose(line.get_ydata(), values)
    np.testing.assert_allclose(median.get_ydata(), np.median(exponent, 1))
    assert median.get_linewidth() > 2 * lines[0].get_linewidth()
    low, high = np.quantile(exponent[5], (0.1, 0.9))
    found = corners(leading.collections[0], 500)
    assert (min(found), max(found)) == pytest.approx((low, high))
    assert shares.get_ylim() == (0, 1)
    assert shares.get_ylabel() == "share of\n9 members"


def test_shares_of_kinds_are_stacked_and_add_up() -> None:
    epochs = EPOCHS + 1  # no member is just at its bifurcation
    dataset = ensemble(pitchforks(epochs, probes=5, state=1))
    figure = figures.over_epochs(dataset)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["2 stable, 1 unstable", "1 stable"]
    w = 0.5 + (1 + 0.2 * np.arange(5)) * epochs[:, None] / 1000
    part = (w > 1).mean(1)
    assert 0 < part[4] < 1
    lower, upper = figure.axes[0].collections
    for edge, share in zip(epochs - 50, part, strict=True):  # where the look's own piece begins
        assert share == pytest.approx(max(corners(lower, edge)))
        assert {round(share, 6), 1.0} <= {round(y, 6) for y in corners(upper, edge)}
    found = figures.Distribution.of(dataset)
    np.testing.assert_allclose(found.shares["2 stable, 1 unstable"][:, 0], part)
    page = figures.interactive(dataset)
    bars = {trace.name: trace for trace in page.data if trace.type == "bar"}
    np.testing.assert_allclose(bars["2 stable, 1 unstable"].y, part)
    np.testing.assert_allclose(bars["1 stable"].y, 1 - part)


def test_rare_kinds_are_the_others() -> None:
    kinds = [f"kind {i}" for i in range(9) for _ in range(10 - i)]
    dataset = xr.Dataset({"word": (("epoch", "member"), [kinds])}, coords={"epoch": [3]})
    found = figures.Distribution.of(dataset)
    assert list(found.shares) == ["kind 0", "kind 1", "kind 2", "kind 3", "kind 4", "others"]
    assert found.shares["others"][0, 0] == pytest.approx((5 + 4 + 3 + 2) / len(kinds))
    assert len(set(found.colors().values())) == 6
    (axes,) = figures.over_epochs(dataset).axes
    assert len(axes.collections) == 6


def test_a_number_that_tells_no_more_than_the_kinds_is_left_out() -> None:
    axes = ("epoch", "member")
    dataset = xr.Dataset(
        {"signature": (axes, [["1 sink"] * 3] * 2), "saddles": (axes, np.zeros((2, 3), int))}
    )
    dataset = dataset.assign_coords(epoch=[0, 10])
    assert len(figures.over_epochs(dataset).axes) == 1
    dataset["saddles"][1, 2] = 4
    assert len(figures.over_epochs(dataset).axes) == 2
    assert len(figures.over_epochs(dataset[["saddles"]] * 0).axes) == 1


def test_probes_have_columns_and_a_menu() -> None:
    dataset = several_probes(5)
    figure = figures.over_epochs(dataset)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["u = 0", "u = 2", "u = 4"]
    figure = figures.over_epochs(dataset, probes=["u = 3"])
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["u = 3"]
    expected = np.median(dataset["exponent"].isel(mode=0, probe=3), 1)
    np.testing.assert_allclose(figure.axes[1].lines[-1].get_ydata(), expected)
    page = figures.interactive(dataset)
    assert [button.label for button in page.layout.updatemenus[0].buttons] == [f"u = {i}" for i in range(5)]
    on = page.layout.updatemenus[0].buttons[3].args[0]["visible"]
    (median,) = [
        t
        for t, v in zip(page.data, on, strict=True)
        if v and t.customdata is not None and t.type == "scatter"
    ]
    np.testing.assert_allclose(median.y, expected, rtol=1e-6)


def test_losses_have_a_logarithmic_axis_and_gaps() -> None:
    rows = []
    for epoch in (10, 20, 30):
        numbers = {"train/loss": np.array([1.0, 2.0, 4.0]) * 10.0 ** (-epoch / 10)}
        if epoch != 20:
            numbers["val/loss"] = 2 * numbers["train/loss"]
        rows.append(row(numbers, ["train/loss", "val/loss"]).expand_dims(epoch=[epoch]))
    dataset = xr.concat(rows, "epoch")
    train, val = figures.over_epochs(dataset).axes
    assert train.get_yscale() == "log"
    np.testing.assert_allclose(train.lines[-1].get_ydata(), [0.2, 0.02, 0.002])
    assert val.lines[-1].get_xdata().tolist() == [10, 30]
    np.testing.assert_allclose(val.lines[-1].get_ydata(), [0.4, 0.004])
    page = figures.interactive(dataset)
    assert page.layout.yaxis.type == "log"
    assert page.layout.yaxis2.title.text == "val/loss"


def test_what_is_not_finite_is_left_out() -> None:
    dataset = ensemble(lipschitz(EPOCHS, probes=4))
    dataset["upper"][:, 1] = np.inf
    dataset["upper"][3] = np.inf
    figure = figures.over_epochs(dataset)
    bound = figure.axes[1].lines[-1]
    assert 300 not in bound.get_xdata()
    others = dataset["upper"].min("norm").isel(member=[0, 2, 3], epoch=5)
    assert bound.get_ydata()[list(bound.get_xdata()).index(500)] == pytest.approx(float(others.median()))
    figures.interactive(dataset)


def test_looks_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = several_probes(2)
    whole = figures.Distribution.of(dataset)
    monkeypatch.setattr(figures, "PART", dataset.nbytes // 4)
    parts = figures.Distribution.of(dataset)
    for name, values in whole.numbers.items():
        np.testing.assert_array_equal(parts.numbers[name], values)
    for name, values in whole.shares.items():
        np.testing.assert_array_equal(parts.shares[name], values)


def test_one_look_and_many_members_are_drawn(tmp_path: Path) -> None:
    dataset = ensemble(spectra(EPOCHS[5:6], probes=200))
    figure = figures.over_epochs(dataset)
    assert len(figure.axes[1].lines) == figures.LINES + 1
    assert style.save_png(figure, tmp_path / "one.png").stat().st_size > 5000
    figures.interactive(dataset)


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an axis member: this is of a single network"):
        figures.over_epochs(spectra(EPOCHS))
    bare = xr.Dataset({"cloud": (("epoch", "member", "point"), np.zeros((1, 2, 3)))})
    with pytest.raises(ValueError, match="needs a number or a word for each: there is cloud"):
        figures.interactive(bare)
    with pytest.raises(ValueError, match="probe"):
        figures.over_epochs(several_probes(2), probes=["u = 9"])
