"""Parts of different lengths are put together; gaps say that they are gaps."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.labelled import concatenate, missing


def part(points, name):
    count = len(points)
    return xr.Dataset(
        {
            "point": (("probe", "index", "state"), np.array([points], float).reshape(1, count, 2)),
            "unstable": (("probe", "index"), np.arange(count)[None]),
            "kind": (("probe", "index"), np.array([["saddle"] * count]).reshape(1, count).astype("U6")),
            "value": (("probe", "index"), np.ones((1, count), complex)),
            "sure": (("probe", "index"), np.ones((1, count), bool)),
            "steps": ((), 3),
        },
        coords={"probe": [name], "state": ["a", "b"]},
        attrs={"tolerance": 1e-10},
    )


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_each_part_is_there_and_the_rest_is_missing(counts):
    parts = [part([(i, -i)] * count, f"probe {i}") for i, count in enumerate(counts)]
    whole = concatenate(parts, "probe")
    assert whole.sizes == {"probe": len(counts), "index": max(counts), "state": 2}
    assert whole.attrs == {"tolerance": 1e-10}
    assert whole.steps.item() == 3
    for i, count in enumerate(counts):
        one = whole.sel(probe=f"probe {i}")
        xr.testing.assert_equal(one.isel(index=slice(count)), parts[i].isel(probe=0))
        gap = one.isel(index=slice(count, None))
        assert gap.point.isnull().all()
        assert gap.value.isnull().all()
        assert (gap.unstable == -1).all()
        assert (gap.kind == "").all()
        assert not gap.sure.any()
        assert whole.unstable.dtype.kind == "i"


def test_axes_with_coordinates_must_agree():
    with pytest.raises(ValueError, match="along state"):
        concatenate([part([(0, 0)], "a"), part([(0, 0)], "b").isel(state=[0])], "probe")


@pytest.mark.parametrize(
    ("kind", "value"), [("u1", 255), ("i4", -1), ("?", False), ("U3", ""), ("M8[s]", "NaT")]
)
def test_missing(kind, value):
    assert missing(np.dtype(kind)) == value
