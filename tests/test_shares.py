"""Rows are dealt out evenly, and all processes go on with the whole."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.shares import cat_rows, everyone, join_rows, shared, sharing
from tests.ranks import on_ranks


def dealt(count, size):
    return [list(range(count))[rank:count:size] for rank in range(size) if rank < count]


@given(st.integers(1, 40), st.integers(1, 9))
def test_what_was_dealt_is_put_back_in_its_order(count, size):
    parts = dealt(count, size)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    (tensor,) = cat_rows([(torch.tensor([part, part]),) for part in parts], 1)
    assert tensor.tolist() == [list(range(count))] * 2
    # rows differ in length along another axis
    labelled = [
        xr.Dataset({"x": (("row", "index"), np.ones((len(p), len(p))) * np.array(p)[:, None])}) for p in parts
    ]
    assert join_rows(labelled, "row").x[:, 0].values.tolist() == list(range(count))


def test_alone_all_is_done_here():
    done = []
    with sharing():
        assert everyone(3) == [3]
        shared(lambda rows: done.append(list(range(5))[rows]), 5)
    assert done == [[0, 1, 2, 3, 4]]
    assert shared(lambda rows: (rows.start, rows.stop), 0) == [(0, 0)]


def rows_of_ranks(folder):
    """What each process does and finds, for the test to look at."""
    rank, size = dist.get_rank(), dist.get_world_size()
    x = torch.arange(14.0).view(2, 7)
    done, found = {}, {}

    def square(rows):
        done["square"] = x[0, rows].int().tolist()
        return x[:, rows] ** 2, x[:, rows] > 3

    def vote(rows):
        """Until all rows of all processes are done: row i takes i turns."""
        turns = 0
        while not all(everyone(turns >= max(range(7)[rows]))):
            turns += 1
        done["vote"] = turns
        inner = shared(lambda rows: list(range(3))[rows], 3)
        return xr.Dataset({"turns": ("row", [turns] * len(range(7)[rows])), "inner": ("i", inner[0])})

    shared(square, 7)
    outside = done.pop("square")
    with sharing():
        squares, large = cat_rows(shared(square, 7), 1)
        found["squares"], found["large"] = squares.tolist(), large.tolist()
        turns = join_rows(shared(vote, 7, in_step=True), "row")
        found["turns"], found["inner"] = turns.turns.values.tolist(), turns.inner.values.tolist()
        found["sum"] = sum(shared(lambda rows: sum(range(7)[rows]), 7))
        found["one"] = shared(lambda rows: [rank, list(range(1))[rows]], 1)
        found["nobody asks within a part"] = shared(lambda rows: everyone(rank), 2)
        found["everyone"] = everyone(10 * rank)
        with pytest.raises(RuntimeError, match=r"^the processes have parted ways: they have \[5, 6"):
            shared(lambda rows: 0, 5 + rank)
    assert not dist.is_initialized() or everyone(rank) == [rank]
    (folder / f"{rank}.json").write_text(json.dumps({"outside": outside, "done": done, "found": found}))
    assert size > 1


def test_each_process_does_its_part_and_finds_the_whole(tmp_path):
    on_ranks(rows_of_ranks, tmp_path, 2, 3)
    x = torch.arange(14.0).view(2, 7)
    for size in (2, 3):
        told = [json.loads((tmp_path / str(size) / f"{rank}.json").read_text()) for rank in range(size)]
        assert [each["outside"] for each in told] == [list(range(7))] * size
        assert [each["done"]["square"] for each in told] == dealt(7, size)
        assert [each["done"]["vote"] for each in told] == [6] * size
        for each in told:
            assert each["found"] == {
                "squares": (x**2).tolist(),
                "large": (x > 3).tolist(),
                "turns": [6] * 7,
                "inner": [0, 1, 2],
                "sum": 21,
                "one": [[0, [0]]],
                "nobody asks within a part": [[0], [1]],
                "everyone": [10 * rank for rank in range(size)],
            }
