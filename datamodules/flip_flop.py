"""Flip-flops: remember the sign of the last pulse, in several channels at once (Sussillo and Barak 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.generated import Generated, check_sizes
from rnnlab.objectives import MeanSquaredError, Objective
from rnnlab.task import Probes


class FlipFlop(Generated):
    """Each channel brings a pulse of +1 or -1 now and then; its output keeps the sign of the last one.

    All channels begin with a pulse. A network that has learned the task with three channels has eight stable
    fixed points under no input, one for each memory, and saddles between them. Answering 0 costs the number
    of channels.

    References:
        D. Sussillo and O. Barak, Opening the black box: low-dimensional dynamics in high-dimensional
        recurrent neural networks, Neural Computation 25 (2013), section 3.

    Args:
        num_sequences: Sequences to learn from.
        num_validation: Further sequences to validate with.
        length: Time steps of a sequence.
        channels: Number of bits.
        rate: Probability of a pulse, for each channel and step.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch.
        seed: Seed of the sequences and of the shuffling.
        objective: Default: squared error of all steps.

    Raises:
        ValueError: A size is out of range, or `rate` is not above 0 and at most 1.

    Example:
        >>> task = FlipFlop(num_sequences=1, batch_size=1, length=8, channels=1, rate=0.3)
        >>> inputs, memory = next(iter(task.train_dataloader()))
        >>> inputs.flatten().int().tolist(), memory.flatten().int().tolist()
        ([1, 0, 1, -1, 0, 0, 0, 0], [1, 1, 1, -1, -1, -1, -1, -1])
    """

    input_bound = 1.0

    def __init__(
        self,
        *,
        num_sequences: int = 1000,
        num_validation: int = 200,
        length: int = 100,
        channels: int = 3,
        rate: float = 0.1,
        batch_size: int = 100,
        shuffle: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(
            num_sequences=num_sequences,
            num_validation=num_validation,
            length=length,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
        )
        check_sizes(channels=channels)
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ValueError(f"rate={rate!r} is not possible: give a probability above 0, at most 1.")
        self.channels, self.rate = channels, rate
        self.input_size = self.output_size = channels
        self.objective: Objective = objective or MeanSquaredError()
        self.baselines = {f"{part}/mse": float(channels) for part in ("train", "val")}

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = (self.length, count, self.channels)
        pulse = torch.rand(shape, generator=generator) < self.rate
        pulse[0] = True
        signs = 2.0 * torch.randint(2, shape, generator=generator) - 1
        steps = torch.arange(self.length)[:, None, None].expand(shape)
        latest = torch.where(pulse, steps, 0).cummax(0).values
        return torch.where(pulse, signs, 0.0), signs.gather(0, latest)

    def probes(self) -> Probes:
        """No input, under which all memories have to be kept, and a pulse of each channel, held."""
        eye = torch.eye(self.channels, dtype=torch.float64)
        inputs = torch.cat((torch.zeros_like(eye[:1]), eye, -eye))
        names = [f"{sign}{i + 1}" for sign in "+-" for i in range(self.channels)]
        return Probes(inputs, ("silence", *names))
