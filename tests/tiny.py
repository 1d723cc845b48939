"""A training of one number, which takes no time."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint


class Tiny(pl.LightningModule):
    """Logs as any LightningModule does, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, dtype=torch.float64)
        torch.nn.init.constant_(self.layer.weight, 0.1)
        torch.nn.init.constant_(self.layer.bias, 0.0)
        self.seen: list[dict[str, float]] = []

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(
            torch.linspace(0, 1, 3, dtype=torch.float64)[:, None], batch_size=3
        )

    val_dataloader = test_dataloader = train_dataloader

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        return (self.layer(batch) - batch).square().mean()

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.seen.append({"train/loss": loss.item()})
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))
        self.seen[-1]["val/loss"] = float(self.loss(batch))

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Direct(Tiny):
    """Logs as the house's learner does: itself, once an epoch, before a checkpoint is saved."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.last = self.loss(batch)
        return self.last

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def on_train_epoch_end(self) -> None:
        epoch = self.current_epoch + 1
        for logger in self.loggers:
            logger.log_metrics({"epoch": epoch, "train/loss": self.last.item()}, step=epoch)


def trainer(loggers: Any, epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=loggers,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=bool([c for c in callbacks if isinstance(c, Checkpoint)]),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
