"""Teacher forcing: a task whose network is told what it should have said the step before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.generated import one_hot
from rnnlab.task import Probes, Task

Mode = Literal["beside", "instead"]


class TeacherForced(Task):
    """Another task, with the wanted output of the step before as an input.

    In training the network sees y_{t-1} of the data; left alone it sees its own y_{t-1}, and is another
    dynamical system (Ribeiro et al. 2020, Fig. 2): `ClosedLoop(model, partial(task.feedback, u=u))` under the
    held input u. Before the first step y is zero. Classes come as one-hot vectors, and the network's own are
    the likeliest.

    Args:
        task: The task, with targets at every step.
        mode: "beside": inputs are (u_t, y_{t-1}); "instead": they are y_{t-1}, and u_t is not told.

    Raises:
        ValueError: `mode` is something else, or the task asks at the last step only.

    Example:
        >>> from datamodules import Sine
        >>> task = TeacherForced(Sine(num_sequences=10, length=5, batch_size=2))
        >>> inputs, targets = next(iter(task.train_dataloader()))
        >>> inputs.shape, torch.equal(inputs[1:, :, 1:], targets[:-1])
        (torch.Size([5, 2, 2]), True)
    """

    def __init__(self, task: Task, *, mode: Mode = "beside") -> None:
        super().__init__()
        if mode not in ("beside", "instead"):
            raise ValueError(f"mode={mode!r} is not possible: choose beside or instead.")
        self.task, self.mode = task, mode
        inputs, targets = next(iter(task.train_dataloader()))
        if len(targets) != len(inputs):
            raise ValueError(
                f"a {type(task).__name__} is not possible: of {len(inputs)} steps it asks at {len(targets)}, "
                "and what is not asked cannot be told. Give a task with a target at every step."
            )
        self.classes = not targets.is_floating_point()
        self.output_size, self.output_names = task.output_size, task.output_names
        self.input_size = task.output_size + (task.input_size if mode == "beside" else 0)
        bound = 1.0 if self.classes else float(targets.abs().max())
        self.input_bound = max(bound, task.input_bound) if mode == "beside" else bound
        if self.classes and mode == "instead":
            self.input_norm = 1
        self.objective, self.baselines = task.objective, task.baselines

    def feedback(self, y: Tensor, u: Tensor) -> Tensor:
        """The input after the output y: a held input `(*batch, input)` with y in the place of what was told.

        Args:
            y: Outputs, `(*batch, output)`; logits where targets are classes.
            u: Held inputs as `probes` has them; leading axes broadcast.
        """
        told = one_hot(y.argmax(-1), self.output_size).to(y.dtype) if self.classes else y
        kept = u[..., : self.input_size - self.output_size]
        return torch.cat((kept.expand(*told.shape[:-1], -1), told), -1)

    def train_dataloader(self) -> Told:
        """Batches `(inputs, targets)`, time first."""
        self.task.trainer = self.trainer  # which knows this process's share
        return Told(self, self.task.train_dataloader())

    def val_dataloader(self) -> Told | list[Told]:
        """The same of what validates, if the task has it."""
        if type(self.task).val_dataloader is pl.LightningDataModule.val_dataloader:
            return []
        self.task.trainer = self.trainer
        return Told(self, self.task.val_dataloader())

    def tell(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Inputs `(time, batch, input)` with the targets of the step before."""
        told = one_hot(targets, self.output_size) if self.classes else targets
        told = torch.cat((torch.zeros_like(told[:1]), told[:-1])).to(inputs.dtype)
        return torch.cat((inputs, told), -1) if self.mode == "beside" else told

    def probes(self) -> Probes:
        """Those of the task, with nothing told; nothing at all where its inputs are not told."""
        if self.mode == "instead":
            return Probes(torch.zeros(1, self.input_size, dtype=torch.float64), ("silence",))
        inputs, names = self.task.probes()
        nothing = torch.zeros(len(inputs), self.output_size, dtype=torch.float64)
        return Probes(torch.cat((inputs.double(), nothing), -1), names)


class Told:
    """Batches of a task with what was wanted the step before."""

    def __init__(self, forced: TeacherForced, batches: Any) -> None:
        self.forced, self.batches = forced, batches
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; Lightning calls it."""
        cast(Any, self.batches).set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.batches:
            yield self.forced.tell(inputs, targets), targets
