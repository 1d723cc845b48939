"""Copy memory: repeat some symbols after a long silence (Arjovsky et al. 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datamodules.generated import Generated, check_sizes, one_hot
from rnnlab.objectives import CrossEntropy, Objective
from rnnlab.task import Probes


class CopyMemory(Generated):
    """Symbols are shown, then blanks, then a signal, from which on the symbols are to be said again in order.

    A sequence has `symbols` random symbols, `delay` - 1 blanks, the signal, and `symbols` blanks; the answer
    is blank but for the last `symbols` steps, which are the symbols shown. Inputs are one-hot vectors: the
    symbols, blank, signal. Without any memory the best cross entropy, blanks and then guesses, is
    symbols log(alphabet) / (delay + 2 symbols).

    References:
        M. Arjovsky, A. Shah and Y. Bengio, Unitary evolution recurrent neural networks, ICML (2016).

    Args:
        num_sequences: Sequences to learn from.
        num_validation: Further sequences to validate with.
        symbols: How many are to be remembered.
        delay: Steps from the last symbol to the signal.
        alphabet: How many different symbols there are.
        batch_size: Sequences in a batch, over all processes.
        shuffle: Whether sequences change batches from epoch to epoch.
        seed: Seed of the sequences and of the shuffling.
        objective: Default: cross entropy of all steps, and the accuracy of those that repeat.

    Raises:
        ValueError: A size is out of range.

    Example:
        >>> task = CopyMemory(symbols=3, delay=5, alphabet=2, num_sequences=1, batch_size=1)
        >>> inputs, answers = next(iter(task.train_dataloader()))
        >>> inputs.argmax(-1)[:, 0].tolist(), answers[:, 0].tolist()
        ([0, 1, 1, 2, 2, 2, 2, 3, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 1])
    """

    input_bound = 1.0
    input_norm = 1

    def __init__(
        self,
        *,
        num_sequences: int = 1000,
        num_validation: int = 1000,
        symbols: int = 10,
        delay: int = 100,
        alphabet: int = 8,
        batch_size: int = 100,
        shuffle: bool = False,
        seed: int = 0,
        objective: Objective | None = None,
    ) -> None:
        check_sizes(symbols=symbols, delay=delay, alphabet=alphabet)
        super().__init__(
            num_sequences=num_sequences,
            num_validation=num_validation,
            length=delay + 2 * symbols,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
        )
        self.symbols, self.delay, self.alphabet = symbols, delay, alphabet
        self.input_size, self.output_size = alphabet + 2, alphabet + 1
        self.objective: Objective = objective or CrossEntropy(scored=symbols)
        chance = symbols * math.log(alphabet) / self.length
        self.baselines = {f"{part}/cross_entropy": chance for part in ("train", "val")}

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shown = torch.randint(self.alphabet, (self.symbols, count), generator=generator)
        blank, signal = self.alphabet, self.alphabet + 1
        inputs = torch.full((self.length, count), blank)
        answers = inputs.clone()
        inputs[: self.symbols] = answers[-self.symbols :] = shown
        inputs[-self.symbols - 1] = signal
        return one_hot(inputs, self.input_size), answers

    def probes(self) -> Probes:
        """Silence, under which symbols have to be kept, and each symbol and the signal, held."""
        order = [self.alphabet, *range(self.alphabet), self.alphabet + 1]
        names = ("blank", *(f"symbol {i}" for i in range(self.alphabet)), "signal")
        return Probes(torch.eye(self.input_size, dtype=torch.float64)[order], names)
