"""Attach a bifurcation diagram to a Lightning module that knows nothing of rnnlab.

    python examples/your_own_network.py

Trains an `nn.GRU` to remember the sign of a pulse, and watches how one resting state becomes two. Takes about
half a minute; the diagram is written to runs/your_own_network/figures/bifurcation.png.
"""

import pytorch_lightning as pl
import torch
from torch import nn

from callbacks import Bifurcation, Progress
from rnnlab.autonomous import wrap_torch
from rnnlab.task import Probes


class SignMemory(pl.LightningModule):
    """An ordinary module: a pulse of +1 or -1 comes first, its sign is wanted for ever after."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 16)
        self.readout = nn.Linear(16, 1)

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        outputs, _ = self.rnn(batch)
        return (self.readout(outputs) - batch[:1]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def pulses(length: int = 40, sequences: int = 64) -> torch.Tensor:
    """`(length, sequences, 1)`: a sign, then silence."""
    inputs = torch.zeros(length, sequences, 1)
    inputs[0, ::2], inputs[0, 1::2] = 1.0, -1.0
    return inputs


def main() -> None:
    """Train and watch."""
    pl.seed_everything(1, verbose=False)
    # these lines are all that watching takes
    watch = Bifurcation(
        every=5,
        samples=8,
        std=1.0,
        max_burn_in=2000,
        model=lambda module: wrap_torch(module.rnn, module.readout),
        probes=Probes(torch.zeros(1, 1), ("silence",)),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=150,
        callbacks=[watch, Progress()],
        default_root_dir="runs/your_own_network",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(SignMemory(), torch.utils.data.DataLoader([pulses() for _ in range(4)], batch_size=None))
    seen = watch.store.read("bifurcation")
    for epoch in (0, 50, 100, 150):
        y = seen.y.sel(epoch=epoch).isel(probe=0, time=-1, observable=0)
        print(f"epoch {epoch}: resting outputs {sorted(set(y.values.round(2).tolist()))}")


if __name__ == "__main__":
    main()
