"""Batches are cut and shared so that the number of processes changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlab.task import SequenceBatches

INPUTS = torch.arange(2 * 12, dtype=torch.float64).reshape(2, 12, 1)


def batches(**options):
    return SequenceBatches(INPUTS, -INPUTS, **options)


@given(st.sampled_from([1, 2, 3, 4]), st.booleans(), st.integers(0, 3), st.integers(0, 5))
def test_processes_together_see_each_batch(world_size, shuffle, seed, epoch):
    def run(rank, world_size):
        loader = batches(batch_size=12 // 2, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        loader.set_epoch(epoch)
        return [set(inputs[0].flatten().tolist()) for inputs, _ in loader]

    if 6 % world_size:
        with pytest.raises(ValueError, match="can't be shared evenly"):
            run(0, world_size)
        return
    alone = run(0, 1)
    shared = [run(rank, world_size) for rank in range(world_size)]
    for i, batch in enumerate(alone):
        assert set().union(*(parts[i] for parts in shared)) == batch
        assert sum(len(parts[i]) for parts in shared) == len(batch)


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        loader = batches(batch_size=12, shuffle=True, seed=seed)
        loader.set_epoch(epoch)
        torch.rand(3)  # the global stream is not asked
        return next(iter(loader))[0][0].flatten().tolist()

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == INPUTS[0].flatten().tolist()


def test_inputs_and_targets_stay_together():
    loader = batches(batch_size=5, shuffle=True)
    assert len(loader) == 3
    sizes = []
    for inputs, targets in loader:
        assert torch.equal(inputs, -targets)
        sizes.append(inputs.shape[1])
    assert sizes == [5, 5, 2]


def test_one_label_a_sequence():
    labels = torch.arange(12)
    loader = SequenceBatches(INPUTS, labels, batch_size=4, shuffle=True, targets_axis=0)
    for inputs, targets in loader:
        assert torch.equal(inputs[0].flatten().long(), targets)


@pytest.mark.parametrize("batch_size", [0, 13, -1])
def test_batch_size_is_checked(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size} is not possible: there are 12 sequences"):
        batches(batch_size=batch_size)
