"""WikiText-2: articles of the English Wikipedia, word by word (Merity et al. 2017)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.contiguous import ContiguousBatches
from datamodules.corpus import PARTS, Corpus, cache_folder, load, sha256, text_files
from datamodules.generated import check_sizes
from datamodules.hub import fetch, holds_hub_files
from rnnlab.objectives import Objective, TokenCrossEntropy
from rnnlab.task import Probes, Task, Watched

HASHES = {
    "train": "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
    "valid": "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    "test": "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
}
WORDS = {"train": 2_088_628, "valid": 217_646, "test": 245_569}
VOCABULARY = 33_278
END = "<eos>"
HELD = (END, "the")
DIRECTIONS = ("is", "Valkyria", "<unk>")


class WikiText2(Task):
    """Say the next word: the corpus WikiText-2, or any other in three text files.

    Words are what white space separates; each line ends in `<eos>`. The text is read in `batch_size` columns
    side by side, `steps` words at a time, and the state is carried from batch to batch.

    The files are read once: their words are kept as numbers in the cache, found again by the hash of the
    text. Without `data_dir` they are fetched from the Hugging Face Hub.

    References:
        S. Merity et al., Pointer sentinel mixture models, ICLR (2017). The text is licensed under CC BY-SA.
        A. H. Ribeiro et al., Beyond exploding and vanishing gradients, AISTATS (2020), section 5.3.

    Args:
        data_dir: Folder with train.txt, valid.txt and test.txt, or wiki.train.tokens and so on. Default: what
            was fetched, or is fetched now.
        batch_size: Columns of the training text, over all processes.
        eval_batch_size: The same of validation and test; every word of them counts, whatever the number.
        steps: Words of a column in a batch: how far back gradients go.
        epochs_per_pass: In how many epochs the training text is gone through once. Of a long text one pass
            takes long; each part of it can be an epoch with its line in the log and its looks.
        held: The words held as constant inputs. Default: `<eos>` and "the", if the corpus has them.
        directions: The words along whose rows of the softmax states are looked at. Default: "is",
            "Valkyria" and `<unk>`, if the corpus has them.
        num_excerpts: How many stretches of the validation text drive the network in `excerpts`.
        excerpt_length: Words in each, or fewer where the text is short.
        allow_other_corpus: Take a text that is not WikiText-2. Its vocabulary is that of train.txt; other
            words become `<unk>`.
        cache_dir: Where numbers and what is fetched are kept. Default: ~/.cache/rnnlab.
        objective: Default: cross entropy of the next word, averaged.

    Raises:
        ValueError: A size is below 1, the text is not that of WikiText-2, is empty or is not UTF-8, or a word
            is not in the vocabulary.
        TypeError: Words are not given as strings.
        FileNotFoundError: There is no such folder, or a file is missing.
        OSError: The cache can't be written, or nothing can be fetched.
    """

    symbols = True
    contiguous = True

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        batch_size: int = 100,
        eval_batch_size: int = 10,
        steps: int = 80,
        epochs_per_pass: int = 1,
        held: Sequence[str] | None = None,
        directions: Sequence[str] | None = None,
        num_excerpts: int = 2,
        excerpt_length: int = 1500,
        allow_other_corpus: bool = False,
        cache_dir: str | Path | None = None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        check_sizes(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            steps=steps,
            epochs_per_pass=epochs_per_pass,
            num_excerpts=num_excerpts,
            excerpt_length=excerpt_length,
        )
        self.batch_size, self.eval_batch_size, self.steps = batch_size, eval_batch_size, steps
        self.epochs_per_pass = epochs_per_pass
        self.num_excerpts, self.excerpt_length = num_excerpts, excerpt_length
        cache = cache_folder(cache_dir)
        folder = None if data_dir is None else Path(str(data_dir)).expanduser()
        if folder is None or holds_hub_files(folder):
            folder = fetch(cache, HASHES, folder)
        self.vocabulary, self.parts = _corpus(text_files(folder), allow_other_corpus, cache)
        self.input_size = self.output_size = len(self.vocabulary)
        columns = {"train": batch_size, "valid": eval_batch_size, "test": eval_batch_size}
        for part, words in self.parts.items():
            if columns[part] > len(words):
                name = "batch_size" if part == "train" else "eval_batch_size"
                raise ValueError(
                    f"{name}={columns[part]} is not possible: the text of {part} has {len(words)} words."
                )
        self._columns = columns
        self._numbers = {word: i for i, word in enumerate(self.vocabulary)}
        self.held = self._words("held", held, HELD)
        if not self.held:
            raise ValueError(f"held={held} is not possible: give at least one word.")
        self.directions = self._words("directions", directions, DIRECTIONS)
        self.objective: Objective = objective or TokenCrossEntropy()
        self.baselines = unigram_perplexities(self.parts, self.input_size)

    def _words(self, name: str, given: Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
        if given is None:
            return tuple(word for word in default if word in self._numbers)
        if isinstance(given, str) or not all(isinstance(word, str) for word in given):
            raise TypeError(f"{name}={given!r} is not possible: give a list of words, numbers in quotes.")
        for word in given:
            if word not in self._numbers:
                near = difflib.get_close_matches(word, self.vocabulary, cutoff=0.75)
                hint = f"Did you mean {', '.join(near)}?" if near else "Give words of the training text."
                raise ValueError(f"{name}={word!r} is not in the vocabulary. {hint}")
        return tuple(given)

    def train_dataloader(self) -> ContiguousBatches:
        """Batches of the training text."""
        return self._batches("train")

    def val_dataloader(self) -> ContiguousBatches:
        """Batches of the validation text."""
        return self._batches("valid")

    def test_dataloader(self) -> ContiguousBatches:
        """Batches of the test text."""
        return self._batches("test")

    def _batches(self, part: str) -> ContiguousBatches:
        rank, world_size = self.share
        columns = self._columns[part]
        if columns % world_size:
            name = "batch_size" if part == "train" else "eval_batch_size"
            raise ValueError(f"{name}={columns} can't be shared evenly by {world_size} processes.")
        return ContiguousBatches(
            self.parts[part],
            start=self._numbers[END],
            columns=columns,
            steps=self.steps,
            complete=part != "train",
            parts=self.epochs_per_pass if part == "train" else 1,
            rank=rank,
            world_size=world_size,
        )

    def probes(self) -> Probes:
        """The words that are held, inputs `(word,)` int64."""
        return Probes(torch.tensor([self._numbers[word] for word in self.held]), self.held)

    def excerpts(self) -> Probes:
        """Stretches of the validation text, evenly spaced, inputs `(stretch, time)` int64."""
        text = self.parts["valid"]
        count = min(self.num_excerpts, len(text))
        spacing = len(text) // count
        length = min(self.excerpt_length, spacing)
        starts = [i * spacing for i in range(count)]
        inputs = torch.stack([text[start : start + length] for start in starts]).long()
        return Probes(inputs, tuple(f"valid from word {start + 1}" for start in starts))

    def watch(self, model: Any) -> Watched:
        """The mean of the cell's outputs h, and h along the softmax's rows e of words, e h / |e|."""
        rows = model.readout.weight[[self._numbers[word] for word in self.directions]]
        rows = torch.nn.functional.normalize(rows, dim=-1)

        def look(states: Tensor) -> Tensor:
            outputs = model.cell.output(states)
            return torch.cat([outputs.mean(-1, keepdim=True), outputs @ rows.T], dim=-1)

        return Watched(look, ("mean", *self.directions))


def unigram_perplexities(parts: Mapping[str, Tensor], size: int) -> dict[str, float]:
    """Perplexity when each word is given its frequency in the training text, by the name of the metric.

    A part that has words which the training text never has, at infinite cost, is left out.

    Example:
        >>> text = torch.tensor([0, 0, 1, 1])
        >>> unigram_perplexities({"train": text, "valid": text[:1], "test": torch.tensor([2])}, 3)
        {'train/perplexity': 2.0, 'val/perplexity': 2.0}
    """
    counts = {part: torch.bincount(words, minlength=size).double() for part, words in parts.items()}
    frequencies = counts["train"] / counts["train"].sum()
    stages = {"train": "train", "valid": "val", "test": "test"}
    costs = {
        f"{stages[part]}/perplexity": -torch.special.xlogy(count, frequencies).sum() / count.sum()
        for part, count in counts.items()
    }
    return {name: cost.exp().item() for name, cost in costs.items() if cost.isfinite()}


def _corpus(files: Mapping[str, Path], allow_other: bool, cache: Path) -> Corpus:
    hashes = {part: sha256(files[part]) for part in PARTS}
    other = [part for part in PARTS if hashes[part] != HASHES[part]]
    if other and not allow_other:
        raise ValueError(
            f"{files[other[0]]} is not the text of WikiText-2 (its SHA-256 is {hashes[other[0]][:8]}..., not "
            f"{HASHES[other[0]][:8]}...): give the unchanged files, or task.allow_other_corpus=true."
        )
    corpus = load(files, hashes, cache)
    counts = {part: len(words) for part, words in corpus.parts.items()}
    if not other and (counts != WORDS or len(corpus.vocabulary) != VOCABULARY):
        raise ValueError(
            f"WikiText-2 was read as {counts} words and a vocabulary of {len(corpus.vocabulary)}, not "
            f"{WORDS} and {VOCABULARY}: install torchtext==0.6.0."
        )
    return corpus
