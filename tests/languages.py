"""A language to be learned in a moment, and what its texts say."""

from pathlib import Path

from datamodules import WikiText2
from tests.corpora import write_corpus


def language(folder, **options):
    """The task on texts made in a folder, `texts`."""
    texts, sizes = write_corpus(Path(folder) / "texts"), {"batch_size": 4, "eval_batch_size": 4, "steps": 7}
    return WikiText2(
        data_dir=texts, cache_dir=Path(folder) / "cache", allow_other_corpus=True, **sizes | options
    )


def tokens(path):
    """The words of a file, read without torchtext."""
    lines = Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    return [word for line in lines for word in [*line.split(), "<eos>"]]


def numbered(path, vocabulary):
    """The same as positions in a vocabulary."""
    positions = {word: i for i, word in enumerate(vocabulary)}
    return [positions.get(word, positions["<unk>"]) for word in tokens(path)]
