"""Eigenvalues stand where they are in the plane, beside the line that decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import eigenvalues, style
from tests.figures.looks import pitchforks

EPOCHS = np.arange(0, 1001, 50)


def spiral(epochs: np.ndarray, angle: float = 1.0, **attrs: str) -> xr.Dataset:
    """One focus that loses its stability where rho = 0.5 + epoch / 1000 is 1; multipliers rho e^(+-i)."""
    rho = 0.5 + epochs / 1000
    value = rho[:, None] * np.exp(1j * angle * np.array([1, -1]))
    stable = rho < 1
    axes = ("epoch", "probe", "index")
    return xr.Dataset(
        {
            "kind": (axes, np.where(stable, "stable focus", "unstable focus")[:, None, None]),
            "unstable": (axes, np.where(stable, 0, 2)[:, None, None]),
            "eigenvalue": ((*axes, "mode"), value[:, None, None]),
        },
        coords={"epoch": epochs, "probe": ["p"]},
        attrs=attrs,
    )


def cloud(axes: object, color: str) -> np.ndarray:
    """Places of the last look's marks of one colour, as complex numbers."""
    from matplotlib.colors import to_rgba

    found = [
        np.asarray(c.get_offsets())
        for c in axes.collections  # type: ignore[attr-defined]
        if c.get_array() is None
        and len(c.get_edgecolor()) == 1
        and tuple(c.get_edgecolor()[0]) == to_rgba(color)
    ]
    places = np.concatenate([np.empty((0, 2)), *found])
    return np.sort_complex(places[:, 0] + 1j * places[:, 1])


def test_the_last_look_stands_where_its_eigenvalues_are() -> None:
    (axes,) = eigenvalues.plane(spiral(EPOCHS)).axes
    expected = np.sort_complex(1.5 * np.exp(1j * np.array([1, -1])))
    np.testing.assert_allclose(cloud(axes, style.ORANGE), expected)
    assert not len(cloud(axes, style.BLUE))
    (axes,) = eigenvalues.plane(spiral(EPOCHS[:5])).axes
    np.testing.assert_allclose(np.abs(cloud(axes, style.BLUE)), 0.7)


def test_the_paths_are_the_looks_before_the_older_the_paler() -> None:
    (axes,) = eigenvalues.plane(spiral(EPOCHS)).axes
    (path,) = [c for c in axes.collections if c.get_array() is not None]
    place = np.asarray(path.get_offsets())
    look = np.asarray(path.get_array())
    assert len(place) == 2 * (len(EPOCHS) - 1)
    np.testing.assert_allclose(np.hypot(*place.T), 0.5 + EPOCHS[look.astype(int)] / 1000)
    path.update_scalarmappable()
    light = np.asarray(path.get_facecolor())[:, 0]
    assert light[look.argmin()] > light[look.argmax()] + 0.3


def test_maps_have_the_unit_circle_and_flows_the_imaginary_axis() -> None:
    (axes,) = eigenvalues.plane(spiral(EPOCHS)).axes
    (circle,) = [np.asarray(line.get_xydata()) for line in axes.lines]
    np.testing.assert_allclose(np.hypot(*circle.T), 1)
    assert axes.get_aspect() == 1
    (axes,) = eigenvalues.plane(spiral(EPOCHS, time="continuous")).axes
    (line,) = axes.lines
    assert set(line.get_xdata()) == {0}
    kinds = [
        eigenvalues.interactive(spiral(EPOCHS, time=time)).layout.shapes[0]
        for time in ("discrete", "continuous")
    ]
    assert [(shape.type, shape.x0, shape.x1) for shape in kinds] == [("circle", -1, 1), ("line", 0, 0)]


def test_the_circle_and_all_eigenvalues_are_in_the_picture_unless_far_out_which_is_said() -> None:
    (axes,) = eigenvalues.plane(spiral(EPOCHS)).axes
    assert axes.get_ylim()[1] > 1.5 * np.sin(1)
    assert axes.get_xlim()[0] < -1
    dataset = spiral(EPOCHS)
    dataset["eigenvalue"][-1, 0, 0, 0] = 1000
    figure = eigenvalues.plane(dataset)
    assert figure.axes[0].get_xlim()[1] < 10
    assert "some are out of the picture" in [t.get_text() for t in figure.legends[0].get_texts()]
    notes = eigenvalues.interactive(dataset).layout.annotations
    assert [note.text for note in notes] == ["some are out of the picture"]
    assert not eigenvalues.interactive(spiral(EPOCHS)).layout.annotations


def test_the_slider_moves_every_probe_to_its_look() -> None:
    dataset = pitchforks(EPOCHS, probes=2).drop_sel(epoch=500)
    figure = eigenvalues.interactive(dataset, max_looks=7)
    steps = figure.layout.sliders[0].steps
    assert len(steps) == len(figure.frames) == 7
    assert [step.args[0][0] for step in steps] == [frame.name for frame in figure.frames]
    assert (steps[0].label, steps[-1].label) == ("0", "1000")
    buttons = figure.layout.updatemenus[0].buttons
    for frame in figure.frames:
        for probe, button in enumerate(buttons):
            seen = {"stable": [], "saddle, 1 unstable direction": [], "unstable, 2 directions": []}
            for trace, data in zip(frame.traces, frame.data, strict=True):
                if button.args[0]["visible"][trace]:
                    seen[figure.data[trace].name] += list(np.asarray(data.x))
            w = 0.5 + (1 + 0.2 * probe) * int(frame.name) / 1000
            own = dataset.sel(epoch=int(frame.name)).isel(probe=probe)
            assert bool(seen["unstable, 2 directions"]) == (w > 1)
            for name, count in (("stable", 0), ("unstable, 2 directions", 2)):
                expected = own["eigenvalue"].values[own["unstable"].values == count].real
                np.testing.assert_allclose(
                    np.unique(np.round(seen[name], 5)), np.unique(expected.round(5)), atol=1e-5
                )
    # and it starts at the last
    last = figure.frames[-1]
    for trace, data in zip(last.traces, last.data, strict=True):
        np.testing.assert_array_equal(figure.data[trace].x, data.x)


def test_many_eigenvalues_stay_below_the_caps() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(size=(100, 1, 30, 200, 2)).view(complex)[..., 0] / 2
    dataset = xr.Dataset(
        {
            "kind": (("epoch", "probe", "index"), np.full((100, 1, 30), "saddle")),
            "unstable": (("epoch", "probe", "index"), np.full((100, 1, 30), 3)),
            "eigenvalue": (("epoch", "probe", "index", "mode"), value),
        },
        coords={"epoch": np.arange(100)},
    )
    figure = eigenvalues.interactive(dataset, max_points=500, max_path=1000)
    assert max(len(data.x) for frame in figure.frames for data in frame.data) <= 500
    assert max(len(trace.x) for trace in figure.data) <= 1000
    (axes,) = eigenvalues.plane(dataset, max_points=2000).axes
    assert max(len(c.get_offsets()) for c in axes.collections) <= 2000


def test_where_there_are_too_many_the_least_stable_are_shown() -> None:
    size = np.linspace(0.2, 1.2, 50)
    dataset = spiral(EPOCHS).isel(epoch=[-1, 0]).drop_vars("eigenvalue")
    value = np.broadcast_to(size * np.exp(0.5j), (2, 1, 1, 50)).copy()
    dataset["eigenvalue"] = (("epoch", "probe", "index", "mode"), value)
    figure = eigenvalues.interactive(dataset, max_points=10, max_path=20)
    paths = [trace for trace in figure.data if trace.name == "all looks"]
    for shown in (*figure.data[1:], *paths):
        if len(shown.x):
            assert np.hypot(shown.x, shown.y).min() > size[-11]
    assert [len(path.x) for path in paths] == [20]
    assert sorted(np.unique(paths[0].customdata, return_counts=True)[1]) == [10, 10]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("time", ["discrete", "continuous"])
def test_one_look_and_no_point_are_a_picture_too(tmp_path: Path, time: str) -> None:
    dataset = spiral(EPOCHS, time=time)
    for empty in (dataset.isel(epoch=[-1]), dataset.isel(index=slice(0))):
        style.save_png(eigenvalues.plane(empty), tmp_path / "figure.png")
    figure = eigenvalues.interactive(dataset.isel(epoch=[-1]))
    assert figure.layout.sliders == ()
    np.testing.assert_allclose(np.hypot(figure.data[0].x, figure.data[0].y), 1.5, rtol=1e-6)


def test_what_cannot_be_drawn_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="eigenvalues needs eigenvalue: the dataset has kind, unstable"):
        eigenvalues.plane(spiral(EPOCHS).drop_vars("eigenvalue"))
