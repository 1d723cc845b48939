"""Exponents, their errors and how they converged are drawn as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnnlab.figures import lyapunov, style
from tests.figures.looks import spectra

EPOCHS = np.arange(0, 1001, 50)


def panels(figure: object) -> tuple[list, list]:
    """Panels and the strips under them."""
    axes = figure.axes  # type: ignore[attr-defined]
    return [a for a in axes if a.get_title()], [a for a in axes if not a.get_title()]


def test_every_exponent_is_a_line_and_the_leading_one_stands_out() -> None:
    dataset = spectra(EPOCHS, probes=2)
    mains, _ = panels(lyapunov.over_epochs(dataset))
    for p, axes in enumerate(mains):
        zero, *lines = axes.lines
        assert set(zero.get_ydata()) == {0}
        assert len(lines) == 3
        w = 0.5 + (1 + 0.2 * p) * EPOCHS / 1000
        for line, rank in zip(lines, (2, 1, 0), strict=True):  # the leading one on top
            np.testing.assert_allclose(line.get_ydata(), 0.2 * (w - 1.2 - rank))
        assert lines[-1].get_linewidth() > 1.5 * lines[0].get_linewidth()
    figure = lyapunov.interactive(dataset)
    for p in range(2):
        on = [t for t, probe in zip(figure.data, shown(figure, p), strict=True) if probe]
        (leading,) = [t for t in on if t.name == "λ<sub>1</sub>" and t.yaxis == "y" and t.mode == "lines"]
        np.testing.assert_allclose(leading.y, dataset["exponent"][:, p, 0], rtol=1e-6)
        np.testing.assert_allclose(leading.customdata, 0.01, rtol=1e-6)


def shown(figure: object, probe: int) -> list[bool]:
    return figure.layout.updatemenus[0].buttons[probe].args[0]["visible"]  # type: ignore[attr-defined]


def test_bands_are_two_standard_errors_to_either_side() -> None:
    dataset = spectra(EPOCHS, probes=1)
    (axes,), _ = panels(lyapunov.over_epochs(dataset))
    heights = [
        np.ptp(path.vertices[:, 1][np.isclose(path.vertices[:, 0], 500)])
        for c in axes.collections
        for path in c.get_paths()
    ]
    np.testing.assert_allclose(heights, 0.04)
    figure = lyapunov.interactive(dataset)
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 3
    for band in bands:
        there = np.asarray(band.y)[np.asarray(band.x) == 500]
        np.testing.assert_allclose(np.ptp(there), 0.04, rtol=1e-4)


def test_the_dimension_is_shown_where_it_says_something() -> None:
    dataset = spectra(EPOCHS, probes=2)
    mains, strips = panels(lyapunov.over_epochs(dataset))
    assert len(mains) == len(strips) == 2
    for p, strip in enumerate(strips):
        np.testing.assert_array_equal(strip.lines[0].get_ydata(), dataset["kaplan_yorke"][:, p])
    at_rest = spectra(EPOCHS[:10], probes=2)
    assert float(at_rest["kaplan_yorke"].max()) == 0
    assert panels(lyapunov.over_epochs(at_rest))[1] == []
    names = [{trace.name for trace in lyapunov.interactive(d).data} for d in (dataset, at_rest)]
    assert ["Kaplan-Yorke dimension" in found for found in names] == [True, False]


def test_the_curves_of_the_last_look_run_to_its_exponents() -> None:
    dataset = spectra(EPOCHS, probes=2)
    for p, axes in enumerate(lyapunov.convergence(dataset).axes):
        curve = axes.lines[-1]
        np.testing.assert_array_equal(curve.get_xdata(), dataset.time)
        np.testing.assert_allclose(curve.get_ydata(), float(dataset["exponent"][-1, p, 0]) + 1 / dataset.time)
    first = lyapunov.convergence(dataset, look=0).axes[0].lines[-1]
    np.testing.assert_allclose(first.get_ydata()[-1], float(dataset["exponent"][0, 0, 0]) + 1 / 500)
    curves = [
        t
        for t in lyapunov.interactive(dataset).data
        if t.hovertemplate and t.hovertemplate.startswith("time")
    ]
    assert len(curves) == 2 * 3
    without = lyapunov.interactive(dataset.drop_vars("running"))
    assert {trace.yaxis for trace in without.data} == {"y", "y2"}


def test_many_exponents_are_few_lines_and_strong_contraction_does_not_squash_the_rest() -> None:
    dataset = spectra(EPOCHS, probes=1, count=400)
    (axes,), _ = panels(lyapunov.over_epochs(dataset))
    assert len(axes.lines) - 1 <= lyapunov.MOST
    low, high = axes.get_ylim()
    assert low > 4 * float(dataset["exponent"][..., 4].min())
    assert high > float(dataset["exponent"].max())
    assert len(lyapunov.interactive(dataset).data) < 100


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    dataset = spectra(EPOCHS, probes=2)
    dataset["exponent"][3] = np.nan
    dataset["exponent"][:, :, 2] = -np.inf
    dataset["running"][:, :, :, 2] = -np.inf
    dataset["standard_error"][:, :, 1] = np.inf
    figure = lyapunov.over_epochs(dataset)
    assert np.isfinite(figure.axes[0].get_ylim()).all()
    style.save_png(figure, tmp_path / "figure.png")
    style.save_png(lyapunov.convergence(dataset), tmp_path / "figure.png")
    lyapunov.interactive(dataset)
    dataset["exponent"][:] = np.nan
    style.save_png(lyapunov.over_epochs(dataset), tmp_path / "figure.png")
    style.save_png(lyapunov.over_epochs(spectra(EPOCHS[:1])), tmp_path / "figure.png")
    lyapunov.interactive(dataset)


def test_units_are_said() -> None:
    dataset = spectra(EPOCHS, probes=1)
    assert panels(lyapunov.over_epochs(dataset))[0][0].get_ylabel() == "exponent\n(nats per time step)"
    dataset["exponent"].attrs["units"] = "nats per unit time"
    assert lyapunov.interactive(dataset).layout.yaxis.title.text == "exponent (nats per unit time)"


def test_what_cannot_be_drawn_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="convergence needs running: the dataset has"):
        lyapunov.convergence(spectra(EPOCHS).drop_vars("running"))
    with pytest.raises(ValueError, match="exponents needs exponent"):
        lyapunov.interactive(spectra(EPOCHS).drop_vars("exponent"))
