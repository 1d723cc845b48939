"""TensorBoard, with epochs as x axis and pictures by path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import TensorBoardLogger as _TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers.epochs import CountsEpochs


class TensorBoardLogger(CountsEpochs, _TensorBoardLogger):
    """Event files in `run_dir/tensorboard`; see them with `tensorboard --logdir RUN_DIR`.

    Args:
        run_dir: Directory of the run.
        **options: Further arguments of `torch.utils.tensorboard.SummaryWriter`.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, run_dir: str | Path, **options: Any) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise ModuleNotFoundError(
                'logger=tensorboard needs a package that is not installed: pip install "rnnlab[tensorboard]".'
            ) from None
        super().__init__(
            save_dir=str(run_dir), name="", version="tensorboard", default_hp_metric=False, **options
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at their epoch."""
        epoch = self.finished_epochs(metrics, step)
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step=epoch)

    @rank_zero_only
    def log_image(self, key: str, images: list[str | Path], step: int | None = None) -> None:
        """Log pictures.

        Args:
            key: Name of the picture; of several, each gets its number too.
            images: PNG files.
            step: Finished epochs.
        """
        from PIL import Image

        epoch = self.finished_epochs({}, step)
        for number, path in enumerate(images):
            name = key if len(images) == 1 else f"{key}/{number}"
            with Image.open(path) as image:
                self.experiment.add_image(name, np.asarray(image.convert("RGB")), epoch, dataformats="HWC")
