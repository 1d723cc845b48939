"""Text to numbers by torchtext.

torchtext is archived upstream. 0.6.0, its last release in pure Python, works beside any torch; no other
module imports it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torchtext.data import Field
from torchtext.datasets import LanguageModelingDataset
from torchtext.vocab import Vocab

END, UNKNOWN = "<eos>", "<unk>"


def read_words(path: str | Path) -> list[str]:
    """The words of a text file as torchtext reads WikiText: split at white space, and `<eos>` ends each line.

    A blank line is an `<eos>` too.

    Args:
        path: Text in UTF-8.

    Raises:
        ValueError: The file is empty, or is not UTF-8.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "train.txt").write_text(" = Crabs = \\n\\nA crab", encoding="utf-8")
        ...     read_words(Path(folder, "train.txt"))
        ['=', 'Crabs', '=', '<eos>', '<eos>', 'A', 'crab', '<eos>']
    """
    try:
        words = LanguageModelingDataset(str(path), Field(tokenize=str.split)).examples[0].text
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}): convert it, with iconv say."
        ) from None
    if not words:
        raise ValueError(f"{path} is empty: give a text.")
    return words


def vocabulary_of(words: Iterable[str]) -> tuple[str, ...]:
    """Each word once: `<unk>`, `<eos>`, then the others by falling frequency.

    Equally frequent words come by their code points, so the order is the same on every machine.

    Example:
        >>> vocabulary_of("b a c c <eos> a c <eos>".split())
        ('<unk>', '<eos>', 'c', 'a', 'b')
    """
    return tuple(Vocab(Counter(words), specials=[UNKNOWN, END]).itos)


def numbered(words: Iterable[str], vocabulary: tuple[str, ...]) -> np.ndarray:
    """Positions in the vocabulary, `(word,)` int32; those of `<unk>` for words that are not there.

    Example:
        >>> numbered(["c", "d"], ("<unk>", "<eos>", "c")).tolist()
        [2, 0]
    """
    numbers = {word: i for i, word in enumerate(vocabulary)}
    return np.array([numbers.get(word, numbers[UNKNOWN]) for word in words], dtype=np.int32)
