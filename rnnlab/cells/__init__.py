"""Recurrent cells: one family, one file."""

from rnnlab.cells.base import Cell
from rnnlab.cells.elman import Elman
from rnnlab.cells.gru import GRU
from rnnlab.cells.lstm import LSTM
from rnnlab.cells.orthogonal import Orthogonal
from rnnlab.cells.stable_lstm import StableLSTM
from rnnlab.cells.stack import Stack

__all__ = ["GRU", "LSTM", "Cell", "Elman", "Orthogonal", "StableLSTM", "Stack"]
