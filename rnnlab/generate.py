"""Text that a language model goes on with, word by word.

    python -m rnnlab.generate RUN_DIR --prompt "The film was" --temperature 0.8

It needs what `train.py` left in the run's directory, and nothing of the data.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rnnlab.analysis import itinerary
from rnnlab.autonomous import Greedy, Network, _dtype, freeze, likeliest
from rnnlab.model import RecurrentModel
from rnnlab.runs import open_run

END, UNKNOWN = "<eos>", "<unk>"


@torch.no_grad()
def generate(
    model: Network,
    prompt: Tensor,
    *,
    words: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Let a language model go on from a prompt, feeding each word it says back to it.

    From states of zero it hears the prompt. Then each word is drawn with probabilities softmax(y / T) of its
    outputs y, or is the likeliest, as `Greedy` has it, at temperature T = 0.

    Args:
        model: The network, whose inputs are the numbers of words and whose outputs are one logit for each.
        prompt: What it hears first, `(time, *batch)` int64, on the model's device.
        words: How many words it says.
        temperature: T: 0 is always the likeliest word (of several, that of the lowest number), 1 what the
            network was trained for, infinity any word.
        generator: Where chance comes from, on the same device. Default: torch's own.

    Returns:
        The words said, `(words, *batch)` int64.

    Raises:
        ValueError: The prompt is empty, `words` below 1, `temperature` negative or no number, or the
            network's outputs are not finite.

    Example:
        >>> class Counter:
        ...     state_size = 5
        ...     def step(self, x, u): return torch.nn.functional.one_hot((u + 1) % 5, 5).to(x.dtype)
        ...     def read(self, x): return x
        >>> generate(Counter(), torch.tensor([[0], [3]]), words=4, temperature=0).squeeze(-1)
        tensor([4, 0, 1, 2])
    """
    if words < 1:
        raise ValueError(f"words={words} is not possible: give a whole number of at least 1.")
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature} is not possible: give 0 or a positive number.")
    x = _hear(model, prompt)
    said: list[Tensor] = []
    for _ in range(words):
        if said:
            x = model.step(x, said[-1])
        said.append(_next(model.read(x), temperature, generator))
    return torch.stack(said)


def _hear(model: Network, prompt: Tensor) -> Tensor:
    """The states `(*batch, state)` to which words `(time, *batch)` lead from zero."""
    if not prompt.ndim or not len(prompt):
        raise ValueError(f"prompt of shape {tuple(prompt.shape)} is not possible: give at least one word.")
    x = torch.zeros(*prompt.shape[1:], model.state_size, dtype=_dtype(model), device=prompt.device)
    for word in prompt:
        x = model.step(x, word)
    return x


def _next(y: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Words `(*batch)` for outputs `(*batch, word)`."""
    if not y.isfinite().all():
        raise ValueError("the network's outputs are no finite numbers: give another checkpoint.")
    if temperature == 0:
        return likeliest(y)
    # first the difference, which is zero for the likeliest whatever it is divided by
    scaled = (y - y.amax(-1, keepdim=True)) / max(temperature, torch.finfo(y.dtype).tiny)
    drawn = torch.multinomial(scaled.softmax(-1).flatten(0, -2), 1, generator=generator)
    return drawn.view(y.shape[:-1])


def read_prompt(text: str, vocabulary: Sequence[str]) -> tuple[list[int], list[str]]:
    """A prompt as numbers, and the words that are not in the vocabulary.

    Words are what white space separates, as in the corpus; a line break is `<eos>`. Words that are not in the
    vocabulary become `<unk>`.

    Raises:
        ValueError: There is no word in it, or one is not in the vocabulary, which has no `<unk>`.

    Example:
        >>> read_prompt("a crab\\na", ["<unk>", "<eos>", "a"])
        ([2, 0, 1, 2], ['crab'])
    """
    words = f" {END} ".join(text.replace("\r\n", "\n").split("\n")).split()
    if not words:
        raise ValueError(f"prompt={text!r} is not possible: give at least one word, or leave it out.")
    numbers = {word: number for number, word in enumerate(vocabulary)}
    unknown = [word for word in dict.fromkeys(words) if word not in numbers]
    if unknown and UNKNOWN not in numbers:
        raise ValueError(
            f"prompt={text!r} is not possible: {unknown[0]} is not in the vocabulary, "
            f"and {UNKNOWN}, which would stand for it, neither."
        )
    return [numbers.get(word, numbers.get(UNKNOWN, 0)) for word in words], unknown


def typeset(words: Sequence[str], width: int) -> str:
    """Words as text in lines of at most `width` characters; `<eos>` is a line break."""
    lines = " ".join(words).split(END)
    return "\n".join(
        textwrap.fill(line.strip(), width, break_long_words=False, break_on_hyphens=False) for line in lines
    ).strip("\n")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlab.generate", description="Let the language model of a run go on from a prompt."
    )
    parser.add_argument("directory", type=Path, help="of the run")
    parser.add_argument(
        "--prompt",
        default=END,
        help="what it hears first, words apart by spaces as in its corpus (%(default)s)",
    )
    parser.add_argument("--words", type=int, default=100, help="how many it says (%(default)s)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="0: always the likeliest word; 1: as often as it was taught; more: wilder (%(default)s)",
    )
    parser.add_argument("--samples", type=int, default=1, help="how many texts (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the chance in them (%(default)s)")
    parser.add_argument("--checkpoint", default="best", help="best, last or an epoch that was kept (best)")
    given = parser.parse_args(arguments)
    try:
        texts = _texts(given)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    width = shutil.get_terminal_size().columns
    print("\n\n* * *\n\n".join(typeset(text, width) for text in texts))
    return 0


def _texts(given: argparse.Namespace) -> list[list[str]]:
    """The prompt and what follows, word by word, for each sample."""
    if given.samples < 1:
        raise ValueError(f"samples={given.samples} is not possible: give a whole number of at least 1.")
    if not 0 <= given.seed < 2**32:
        raise ValueError(f"seed={given.seed} is not possible: give a whole number from 0 to 2**32 - 1.")
    checkpoint = int(given.checkpoint) if given.checkpoint.isdecimal() else given.checkpoint
    if checkpoint not in ("best", "last") and not isinstance(checkpoint, int):
        raise ValueError(f"checkpoint={checkpoint} is not possible: give best, last or a number of epochs.")
    run = open_run(given.directory)
    vocabulary = run.vocabulary
    model = run.load(checkpoint)
    if not isinstance(model, RecurrentModel) or not isinstance(model.encoder, torch.nn.Embedding):
        raise ValueError(f"{run.path} is no run of a language model: it has no words for inputs.")
    sizes = (model.encoder.num_embeddings, model.readout.out_features)
    if sizes != (len(vocabulary),) * 2:
        raise ValueError(
            f"{run.path / 'vocabulary.txt'} has {len(vocabulary)} words, the network {sizes[0]}: "
            "give the run the file it was trained with."
        )
    prompt, unknown = read_prompt(given.prompt, vocabulary)
    if unknown:
        print(f"not in the vocabulary, heard as {UNKNOWN}: {' '.join(unknown)}", file=sys.stderr)
    heard = torch.tensor(prompt)[:, None].expand(-1, given.samples)
    network = freeze(model)
    said = generate(
        network,
        heard,
        words=given.words,
        temperature=given.temperature,
        generator=torch.Generator().manual_seed(given.seed),
    )
    if given.temperature == 0:
        print(_repetition(network, heard[:, :1], given.words), file=sys.stderr)
    return [[vocabulary[number] for number in text] for text in torch.cat((heard, said)).T.tolist()]


def _repetition(network: Network, heard: Tensor, words: int) -> str:
    """Whether the likeliest words repeat themselves, in a sentence."""
    with torch.no_grad():
        found = itinerary(Greedy(network), _hear(network, heard), steps=words).squeeze()
    period, first = found["period"].item(), found["transient"].item() + 1
    if not period:
        return f"it has not come to repeat itself within {words} words"
    return f"it repeats itself from word {first} on, every {period} word{'s' * (period > 1)}"


if __name__ == "__main__":
    sys.exit(main())
