"""Shares are even and complete; a launch leaves the process as it was."""

import os

import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.distributed import CHILD, gather, launching, shard


@given(st.integers(0, 50), st.integers(1, 8))
def test_shares_are_even_and_complete(length, world_size):
    parts = [list(range(length))[shard(length, rank, world_size)] for rank in range(world_size)]
    assert [i for part in parts for i in part] == list(range(length))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_alone_a_dataset_comes_back_as_it_is():
    dataset = xr.Dataset({"y": ("probe", [1.0, 2.0])})
    assert gather(dataset, "probe") is dataset


@pytest.mark.parametrize("fails", [False, True])
def test_a_launch_leaves_no_variables(monkeypatch, fails):
    monkeypatch.setenv("MASTER_PORT", "1234")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = dict(os.environ)

    def job():
        with launching("somewhere"):
            assert os.environ[CHILD] == "somewhere"
            os.environ |= {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "9"}
            if fails:
                raise KeyError("job")

    if fails:
        with pytest.raises(KeyError, match="job"):
            job()
    else:
        job()
    assert dict(os.environ) == before
