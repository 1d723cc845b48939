"""The sine task is what section 5.1 of Ribeiro et al. (2020) says."""

import math

import pytest
import torch

from datamodules import Sine


def test_targets_are_the_sine_of_the_accumulated_phase():
    inputs, targets = Sine().sequences()
    assert inputs.shape == targets.shape == (400, 100, 1)
    assert torch.allclose(targets.double(), torch.sin(inputs.double().cumsum(0)), atol=1e-4)
    assert inputs[0, 0].item() == pytest.approx(math.pi / 16)
    assert inputs[-1, -1].item() == pytest.approx(math.pi / 8)
    assert torch.equal(inputs, inputs[:1].expand_as(inputs))


def test_baseline_is_the_known_number():
    assert Sine().baselines["train/mse"] == pytest.approx(0.50061, abs=5e-6)


def test_probes_cover_the_range_and_have_names():
    inputs, names = Sine(num_probes=10).probes()
    assert inputs.shape == (10, 1)
    assert inputs[1].item() == pytest.approx(0.218, abs=5e-4)  # the paper's Fig. 4
    assert names[1] == "ω = 0.218"


def test_batches_are_contiguous_blocks_of_frequencies():
    task = Sine(num_sequences=6, length=3, batch_size=2)
    all_inputs, _ = task.sequences()
    got = torch.cat([inputs for inputs, _ in task.train_dataloader()], dim=1)
    assert torch.equal(got, all_inputs)


@pytest.mark.parametrize("key", ["num_sequences", "length", "batch_size", "num_probes"])
@pytest.mark.parametrize("value", [0, -3, 1.5])
def test_sizes_below_one_are_refused(key, value):
    with pytest.raises(ValueError, match=f"{key}={value}"):
        Sine(**{key: value})


def test_other_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"low=0\.3, high=0\.2 is not a range"):
        Sine(low=0.3, high=0.2)
    with pytest.raises(ValueError, match="batch_size=11 is not possible: there are 10 sequences"):
        Sine(num_sequences=10, batch_size=11)
