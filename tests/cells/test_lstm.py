import warnings

import pytest
import torch
from torch import nn

from rnnlab.cells import LSTM
from rnnlab.cells.cudnn import flatten_weights


def test_step_by_hand():
    """One unit, one step, with the sigmoid and tanh written out."""
    cell = LSTM(1, 1).double()
    cell.weight_ih.data = torch.tensor([[0.1], [0.2], [0.3], [0.4]], dtype=torch.float64)
    cell.weight_hh.data = torch.tensor([[0.5], [-0.6], [0.7], [-0.8]], dtype=torch.float64)
    cell.bias_ih.data = torch.tensor([0.01, 0.02, 0.03, 0.04], dtype=torch.float64)
    cell.bias_hh.data = torch.tensor([1.0, 2.0, -1.0, -2.0], dtype=torch.float64)
    h, c, u = 0.9, -1.7, 0.35
    i, f, g, o = (
        w * u + v * h + a + b
        for w, v, a, b in zip(
            cell.weight_ih[:, 0].tolist(),
            cell.weight_hh[:, 0].tolist(),
            cell.bias_ih.tolist(),
            cell.bias_hh.tolist(),
            strict=True,
        )
    )

    def sigmoid(z):
        return 1 / (1 + torch.exp(torch.tensor(-z, dtype=torch.float64)).item())

    def tanh(z):
        return 2 * sigmoid(2 * z) - 1

    c_next = sigmoid(f) * c + sigmoid(i) * tanh(g)
    x = cell.step(torch.tensor([h, c], dtype=torch.float64), torch.tensor([u], dtype=torch.float64))
    assert x.tolist() == pytest.approx([sigmoid(o) * tanh(c_next), c_next], rel=1e-14)
    assert cell.output(x).tolist() == x[:1].tolist()


@pytest.mark.parametrize("hidden_size", [3, 64])
def test_float32_scan_is_that_of_torch_bit_for_bit(hidden_size):
    cell, network = LSTM(2, hidden_size), nn.LSTM(2, hidden_size)
    network.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    us, x0 = torch.randn(20, 5, 2), torch.randn(5, 2 * hidden_size)
    h, c = x0.chunk(2, dim=1)
    outputs, x = cell.scan(us, x0)
    expected, (h, c) = network(us, (h[None].contiguous(), c[None].contiguous()))
    assert torch.equal(outputs, expected)
    assert torch.equal(x, torch.cat([h[0], c[0]], dim=1))
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in cell.named_parameters():
        assert torch.equal(parameter.grad, getattr(network, f"{name}_l0").grad)


def test_memory_of_weights_is_left_alone_without_cudnn():
    cell = LSTM(2, 3)
    places = [parameter.data_ptr() for parameter in cell.parameters()]
    flatten_weights("LSTM", *cell.parameters())
    assert places == [parameter.data_ptr() for parameter in cell.parameters()]


@pytest.mark.gpu
def test_weights_lie_in_one_block_on_a_gpu():
    cell = LSTM(2, 3).cuda()
    blocks = {parameter.untyped_storage().data_ptr() for parameter in cell.parameters()}
    assert len(blocks) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cell.scan(torch.zeros(4, 2, 2, device="cuda"), cell.initial_state(2))
