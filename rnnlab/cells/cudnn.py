"""How cuDNN wants the weights of its recurrent kernels to lie in memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch.backends.cudnn.rnn import get_cudnn_mode
from torch.nn import Parameter


def flatten_weights(
    kernel: Literal["RNN_RELU", "RNN_TANH", "LSTM", "GRU"],
    weight_ih: Parameter,
    weight_hh: Parameter,
    bias_ih: Parameter,
    bias_hh: Parameter,
) -> None:
    """Move the weights of one layer into one block of memory, in place; without CUDA and cuDNN do nothing.

    Otherwise cuDNN copies them into such a block at every call and warns about it. Call it whenever the
    weights may have moved: at the end of the constructor and of `_apply` (that is `.to`, `.double`...).
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    if not all(weight.is_cuda and torch.backends.cudnn.is_acceptable(weight) for weight in weights):
        return
    hidden_size, input_size = weight_hh.shape[1], weight_ih.shape[1]
    mode = get_cudnn_mode(kernel)
    with torch.no_grad(), torch.cuda.device_of(weight_ih):
        # (weights per layer, projection, layers, batch first, both directions) = (4, 0, 1, no, no)
        torch._cudnn_rnn_flatten_weight(weights, 4, input_size, mode, hidden_size, 0, 1, False, False)
