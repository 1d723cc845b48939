"""Where the numbers of a run go: `metrics.csv` always, W&B and TensorBoard when asked for."""

from rnnlab.loggers.csv import MetricsCSV
from rnnlab.loggers.epochs import CountsEpochs
from rnnlab.loggers.tensorboard import TensorBoardLogger
from rnnlab.loggers.wandb import WandbError, WandbLogger

__all__ = ["CountsEpochs", "MetricsCSV", "TensorBoardLogger", "WandbError", "WandbLogger"]
