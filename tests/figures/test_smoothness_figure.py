"""Constants stand where they are, beside the theorem's rates; landscapes show what was computed."""

import numpy as np
import pytest
import xarray as xr

from rnnlab.figures import landscape, smoothness, style
from rnnlab.report import sections, words

HORIZONS = np.array([1, 2, 4, 8, 16, 100])
KINDS = ["with parameters, seen", "of the state, seen", "of the state, certified"]


def look(power=0.5):
    values = np.stack([3 * HORIZONS**power, 2.0 * HORIZONS ** (2 * power)])
    return xr.Dataset(
        {
            "lipschitz": (("constant", "horizon"), values),
            "resolved": ("horizon", HORIZONS < 100),
            "rate": (("constant", "law"), [[power, 0.01], [2 * power, 0.02]]),
            "standard_error": (("constant", "law"), np.full((2, 2), 0.05)),
            "stretch": ("kind", [1.5, 1.25, np.inf]),
            "bound": (("constant", "law", "kind"), np.full((2, 2, 3), 0.81)),
        },
        coords={
            "horizon": HORIZONS,
            "constant": ["V", "grad V"],
            "law": ["power", "exponential"],
            "kind": KINDS,
        },
    )


def looks(count):
    parts = [look(0.1 * k) for k in range(count)]
    return xr.concat(parts, "epoch").assign_coords(epoch=100 * np.arange(count))


def drawn(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line.get_ydata()


def test_one_look_and_the_theorem_s_rates_through_its_first_point():
    dataset = look()
    for constant, axes in enumerate(smoothness.against_horizon(dataset).axes):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        line, dots, hidden, *_ = axes.lines
        np.testing.assert_array_equal(line.get_ydata(), dataset.lipschitz[constant])
        # where the curvature is larger than what is seen, a ring; of the cost itself nothing is hidden
        assert hidden.get_xdata().tolist() == ([100] if constant else [])
        assert len(dots.get_xdata()) + len(hidden.get_xdata()) == len(HORIZONS)
        first = dataset.lipschitz.values[constant, 0]
        power = ("N", "N³")[constant]
        np.testing.assert_allclose(
            drawn(axes, f"theorem, L = 1: {power}"), first * HORIZONS ** (1.0, 3.0)[constant]
        )
        np.testing.assert_allclose(
            drawn(axes, ("theorem, L = 1.5: L²ᴺ", "theorem, L = 1.5: L³ᴺ")[constant]),
            first * 1.5 ** ((2, 3)[constant] * (HORIZONS - 1.0)),
        )
        low, high = axes.get_ylim()
        assert low < dataset.lipschitz[constant].min() < dataset.lipschitz[constant].max() < high < 1e6


def test_a_contracting_network_has_no_line_of_growth():
    dataset = look()
    dataset["stretch"][0] = 0.9
    for axes in smoothness.against_horizon(dataset).axes:
        assert len([line for line in axes.lines if str(line.get_label()).startswith("theorem")]) == 1


def test_of_many_looks_some_are_drawn_the_first_and_the_last_among_them():
    figure = smoothness.against_horizon(looks(30))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == smoothness.MOST
    assert (labels[0], labels[-1]) == ("epoch 0", "epoch 2900")


def test_over_epochs_the_longest_horizon_and_the_power():
    dataset = looks(4)
    above, below = smoothness.over_epochs(dataset).axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), dataset.lipschitz[:, 0, -1])
    np.testing.assert_array_equal(above.lines[1].get_ydata(), dataset.lipschitz[:, 1, -1])
    np.testing.assert_array_equal(below.containers[0][0].get_ydata(), dataset.rate[:, 0, 0])
    np.testing.assert_array_equal(below.containers[1][0].get_ydata(), dataset.rate[:, 1, 0])


@pytest.mark.parametrize("dataset", [look(), looks(3)], ids=["one", "several"])
def test_interactive_shows_the_same(dataset):
    figure = smoothness.interactive(dataset)
    last = [trace for trace in figure.data if trace.mode == "lines+markers"][
        dataset.sizes.get("epoch", 1) - 1
    ]
    expected = dataset.lipschitz.isel(constant=0)
    np.testing.assert_array_equal(last.y, expected.isel(epoch=-1) if "epoch" in dataset.dims else expected)
    assert "circle-open" in figure.data[-3].marker.symbol


def test_nothing_finite_is_drawn_as_nothing():
    dataset = look()
    dataset["lipschitz"][:] = np.nan
    for draw in (smoothness.against_horizon, smoothness.interactive):
        draw(dataset)


@pytest.mark.parametrize("draw", [smoothness.against_horizon, smoothness.over_epochs, smoothness.interactive])
def test_what_cannot_be_drawn_is_said(draw):
    with pytest.raises(ValueError, match="needs lipschitz"):
        draw(xr.Dataset())
    with pytest.raises(ValueError, match="one axis of looks, such as epoch: lipschitz has"):
        draw(looks(2).expand_dims(member=2))


def test_over_epochs_needs_epochs():
    with pytest.raises(ValueError, match="draw one look by against_horizon"):
        smoothness.over_epochs(look())


def test_the_page_has_a_section_and_says_what_the_last_look_is():
    rows = words.describe_smoothness(looks(3).isel(epoch=-1))
    assert rows[0] == (
        "V, N = 100",
        "7.536",
        "0.2 ± 0.05",
        "0.01 ± 0.05",
        "N if L = 1; 0.81 nats a step at L = 1.5",
    )
    assert rows[1][0] == "grad V, N = 100"
    page = sections.show("smoothness", looks(3))
    assert "could not be shown" not in page
    assert "grad V, N = 100" in page


def plain(points=7):
    a = np.linspace(-1, 1, points)
    return xr.Dataset(
        {
            "cost": ("a", a**2 + 0.5),
            "center_cost": 0.5,
            "length": ("axis", [3.0]),
            "minima_density": 0.25,
            "variation": 2.0,
            "second_difference": 0.01,
            "lost": 0.0,
        },
        coords={"a": a, "axis": ["gradient"]},
        attrs={"horizon": 40},
    )


def surface(points=5, path=True):
    a, b = np.linspace(-1, 1, points), np.linspace(-2, 2, points)
    cost = 0.01 + a[:, None] ** 2 + b[None, :] ** 2
    found = xr.Dataset(
        {"cost": (("a", "b"), cost), "center_cost": 0.01, "length": ("axis", [1.0, 1.0])},
        coords={"a": a, "b": b, "axis": ["principal 0", "principal 1"]},
    )
    if not path:
        return found
    places = np.array([[-1.0, -2.0], [-0.5, 1.0], [0.2, 0.1]])
    return found.assign(path=(("epoch", "axis"), places), path_share=("axis", [0.8, 0.15])).assign_coords(
        epoch=[0, 10, 20]
    )


def test_a_curve_has_gaps_where_the_cost_is_not_finite():
    dataset = plain()
    dataset["cost"][2] = np.inf
    (axes,) = landscape.curve(dataset).axes
    line, center = axes.lines
    assert np.isnan(line.get_ydata()).nonzero()[0].tolist() == [2]
    assert center.get_ydata() == [0.5]
    assert axes.get_xlabel() == "along gradient, in lengths of 3"
    assert axes.get_ylabel() == "cost of 40 steps"


def test_a_surface_has_a_along_x_and_the_path_in_it():
    dataset = surface()
    axes, bar = landscape.surface(dataset).axes
    mesh = axes.collections[0]
    np.testing.assert_allclose(mesh.get_array(), dataset.cost.transpose("b", "a"))
    path, end, center = axes.lines
    np.testing.assert_array_equal(np.stack(path.get_data(), 1), dataset.path)
    assert path.get_color() == style.ORANGE
    assert [text.get_text() for text in axes.texts] == ["epoch 0", "epoch 20"]
    assert axes.get_xlabel() == "along principal 0, 80 % of the path"
    assert (float(end.get_xdata()[0]), float(center.get_xdata()[0])) == (0.2, 0)
    assert bar.get_yscale() == "log"


def test_a_surface_without_a_path_or_with_nothing_finite():
    assert len(landscape.surface(surface(path=False)).axes[0].lines) == 1
    empty = surface()
    empty["cost"][:] = np.nan
    landscape.surface(empty)
    flat = surface()
    flat["cost"][:] = 1.0
    landscape.surface(flat)


def test_a_landscape_of_other_axes_is_refused():
    with pytest.raises(ValueError, match="with the axes a is needed: there is a, b"):
        landscape.curve(surface())
    with pytest.raises(ValueError, match="with the axes a, b is needed: there is no cost"):
        landscape.surface(xr.Dataset())
