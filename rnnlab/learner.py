"""How a network learns: one LightningModule for every model and task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from rnnlab.model import RecurrentModel
from rnnlab.objectives import Objective


class DivergedError(RuntimeError):
    """The loss is no longer a finite number."""


class SequenceLearner(pl.LightningModule):
    """Minimises an objective over sequences.

    Each epoch ends in one row of numbers (`train/loss`, `train/mse`, `lr`, `grad_norm`, `clipped`,
    `val/...`), given to every logger before a checkpoint is written: what a checkpoint has seen is on record.
    `grad_norm` is the mean norm before clipping, `clipped` the fraction of updates that were clipped.

    The learning-rate schedule is stepped here rather than by Lightning, which steps it after checkpoints are
    saved: a resumed run would start one step late.

    Args:
        model: The network.
        objective: Loss and metrics.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes a schedule, stepped once an epoch, from the optimiser. Default: constant rate.
        monitor: The number a `ReduceLROnPlateau` schedule watches.
        clip_norm: Largest norm of the gradient over all parameters. Default: no clipping.
        carry_state: Start each batch of an epoch, but the first, where the one before stopped: truncated
            backpropagation through time, for tasks that are `contiguous`. A run that was stopped within an
            epoch starts that epoch again, from its beginning and from zero states.

    Raises:
        ValueError: `clip_norm` is not positive.
        DivergedError: While training, when the loss or a parameter is no longer finite.
    """

    def __init__(
        self,
        model: RecurrentModel,
        objective: Objective,
        *,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        monitor: str = "train/loss",
        clip_norm: float | None = None,
        carry_state: bool = False,
    ) -> None:
        super().__init__()
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(
                f"clip_norm={clip_norm} is not possible: give a positive number, or null for no clipping."
            )
        self.model = model
        self.objective = objective
        self.monitor = monitor
        self.clip_norm = clip_norm
        self.carry_state = carry_state
        self._carried: dict[str, Tensor] = {}
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._scheduler: LRScheduler | None = None
        self._restored_scheduler: dict[str, Any] | None = None
        self._sums: dict[str, Tensor] = {}
        self._weight = 0

    def configure_optimizers(self) -> Optimizer:
        """The optimiser; its schedule is kept by the learner."""
        optimizer = self._make_optimizer(self.model.parameters())
        if self._make_scheduler is not None:
            self._scheduler = self._make_scheduler(optimizer)
            if self._restored_scheduler is not None:
                self._scheduler.load_state_dict(self._restored_scheduler)
        return optimizer

    def forward(self, inputs: Tensor, x0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs and last states of the network; see `RecurrentModel.forward`."""
        return self.model(inputs, x0)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch `(inputs, targets)`."""
        scalars = self._evaluate(batch, batch_idx)
        loss = scalars["loss"]
        # one process can ask without cost on a CPU; elsewhere the end of the epoch asks for all
        if loss.device.type == "cpu" and self.trainer.world_size == 1 and not math.isfinite(loss.item()):
            self._diverged(loss.item(), f"batch {batch_idx + 1}")
        self._add("train", scalars, batch[0].shape[1])
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Scalars of one validation batch, averaged over the epoch."""
        if self.trainer.sanity_checking:
            return
        self._add("val", self._evaluate(batch, batch_idx), batch[0].shape[1])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Scalars of one test batch, averaged over the epoch."""
        self._add("test", self._evaluate(batch, batch_idx), batch[0].shape[1])

    def _evaluate(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        inputs, targets = batch
        stage = str(self.trainer.state.stage)
        x0 = self._carried.get(stage) if batch_idx else None
        # the readout of a large vocabulary is left to an objective that can do without all outputs at once
        run: Any = self.model.unread if getattr(self.objective, "reads", False) else self.model
        outputs, x = run(inputs, x0)
        if self.carry_state:
            self._carried[stage] = x.detach()
        scalars = self.objective(outputs, targets)
        if getattr(self.objective, "reduction", "mean") == "sum":
            # gradients are averaged over processes, which would divide a sum by their number
            scalars["loss"] = scalars["loss"] * self.trainer.world_size
        return scalars

    def _add(self, stage: str, scalars: dict[str, Tensor], sequences: int) -> None:
        """Add to the sums of an epoch; what counts is the objective's `weight`, else the sequences."""
        weight = scalars.get("weight", torch.as_tensor(float(sequences), device=self.device)).to(self._exact)
        terms = {f"{stage}/{n}": value.detach() * weight for n, value in scalars.items() if n != "weight"}
        terms[f"{stage}/weight"] = weight
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clip the norm over all parameters, and keep count of it."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self.clip_norm is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            clipped = torch.zeros_like(norm)
        else:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            clipped = (norm > self.clip_norm).to(norm.dtype)
        self._add("updates", {"grad_norm": norm, "clipped": clipped}, 1)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update, after which the parameters are put back where the cell wants them."""
        super().optimizer_step(*args, **kwargs)
        self.model.constrain()

    @property
    def _exact(self) -> torch.dtype:
        """The longest floating-point type of the device."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def _means(self, *stages: str) -> dict[str, float]:
        """Averages over the epoch and over processes, by name."""
        names = [name for name in self._sums if name.split("/")[0] in stages]
        if not names:
            return {}
        sums = torch.stack([self._sums.pop(name).to(self._exact) for name in names])
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        totals = dict(zip(names, sums.tolist(), strict=True))
        return {
            name: total / totals[f"{name.split('/')[0]}/weight"]
            for name, total in totals.items()
            if not name.endswith("/weight")
        }

    def _conclusions(self, row: dict[str, float]) -> dict[str, float]:
        """What the objective makes of the means over the epoch, such as a perplexity."""
        conclude: Any = getattr(self.objective, "conclude", lambda means: {})
        stages: dict[str, dict[str, float]] = {}
        for name, value in row.items():
            stage, quantity = name.split("/", 1)
            stages.setdefault(stage, {})[quantity] = value
        return {f"{s}/{k}": v for s, means in stages.items() for k, v in conclude(means).items()}

    def on_train_epoch_end(self) -> None:
        """Write the epoch's row, step the schedule, and refuse to go on from a loss that is not finite."""
        means = self._means("train", "val", "updates")
        epoch = self.current_epoch + 1
        if not math.isfinite(means["train/loss"]):
            self._diverged(means["train/loss"])
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        row = {name: value for name, value in means.items() if not name.startswith("updates/")}
        row |= self._conclusions(row)
        row |= {
            "lr": optimizer.param_groups[0]["lr"],
            "grad_norm": means["updates/grad_norm"],
            "clipped": means["updates/clipped"],
        }
        row |= {f"certificate/{name}": value for name, value in self.model.cell.certificates().items()}
        self.log_dict({k: torch.tensor(v, dtype=self._exact) for k, v in row.items()}, logger=False)
        for logger in self.loggers:
            logger.log_metrics({"epoch": epoch, **row}, step=epoch)
        if isinstance(self._scheduler, ReduceLROnPlateau):
            if self.monitor not in row:
                raise ValueError(f"monitor={self.monitor!r} is not logged: choose one of {', '.join(row)}.")
            self._scheduler.step(row[self.monitor])
        elif self._scheduler is not None:
            self._scheduler.step()

    def on_test_epoch_end(self) -> None:
        """Write the test's numbers."""
        row = self._means("test")
        row |= self._conclusions(row)
        self.log_dict(row, logger=False)
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch, **row}, step=self.current_epoch)

    def _diverged(self, loss: float, where: str = "its mean") -> None:
        raise DivergedError(
            f"The loss became {loss} in epoch {self.current_epoch + 1} ({where}); "
            "the last good checkpoint is kept. Lower optim.optimizer.lr or set optim.clip_norm."
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the schedule and the random states, so that a resumed run goes on as if unbroken."""
        checkpoint["scheduler"] = self._scheduler.state_dict() if self._scheduler else None
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        states: list[Any] = [state]
        if dist.is_available() and dist.is_initialized():
            states = [None] * dist.get_world_size()
            dist.all_gather_object(states, state)
        checkpoint["rng"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the schedule and the random states."""
        self._restored_scheduler = checkpoint.get("scheduler")
        if self._scheduler is not None and self._restored_scheduler is not None:
            self._scheduler.load_state_dict(self._restored_scheduler)
        self._restored_rng = checkpoint.get("rng")

    def on_train_start(self) -> None:
        """Continue the random stream where the checkpoint left it; each process has one of its own."""
        states = getattr(self, "_restored_rng", None)
        states = [states] if isinstance(states, dict) else states or []  # of one process, once
        rank = self.trainer.global_rank
        if rank < len(states):
            torch.set_rng_state(states[rank]["cpu"].cpu())
            if "cuda" in states[rank] and self.device.type == "cuda":
                torch.cuda.set_rng_state(states[rank]["cuda"].cpu(), self.device)
        elif rank:
            # processes share their seed, and would drop the same units of their columns
            torch.manual_seed(torch.initial_seed() + 1_000_003 * rank + self.current_epoch)
