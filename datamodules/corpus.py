"""A text in three parts as numbers, kept on disk from the first time on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PARTS = ("train", "valid", "test")


class Corpus(NamedTuple):
    """A text as numbers.

    Attributes:
        vocabulary: The words that numbers stand for.
        parts: Of train, valid and test each: positions in the vocabulary, `(word,)` int32, memory-mapped.
    """

    vocabulary: tuple[str, ...]
    parts: dict[str, Tensor]


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where things are kept that can be made again: `folder`, or `rnnlab` where the system keeps caches."""
    if folder is not None:
        return Path(folder).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home if home and os.path.isabs(home) else "~/.cache").expanduser() / "rnnlab"


def text_files(folder: str | Path) -> dict[str, Path]:
    """The texts in a folder by part: `{train,valid,test}.txt`, or `wiki.{train,valid,test}.tokens`.

    Raises:
        FileNotFoundError: There is no such folder, or it lacks a part.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data_dir={folder} is no folder: give one with train.txt, valid.txt, test.txt."
        )
    found = {}
    for part in PARTS:
        names = (f"{part}.txt", f"wiki.{part}.tokens")
        found[part] = next((folder / name for name in names if (folder / name).is_file()), None)
        if found[part] is None:
            raise FileNotFoundError(f"data_dir={folder} is not possible: there is no {' nor '.join(names)}.")
    return found


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(files: Mapping[str, Path], hashes: Mapping[str, str], folder: Path) -> Corpus:
    """A corpus from its texts, or from what is kept of them in a folder.

    What is kept is found by the texts' hashes and used only if its own hashes are right; else it is made
    again. Each file is written beside its place and renamed, and its content depends on the texts alone: any
    number of processes may do this at once, and none sees half a file.

    Args:
        files: The text of each part.
        hashes: Their SHA-256.
        folder: Where ids are kept.

    Raises:
        ValueError: A text is empty or is not UTF-8.
        OSError: The folder can't be written.
    """
    key = hashlib.sha256("\n".join(["ids 1", *(hashes[part] for part in PARTS)]).encode()).hexdigest()[:16]
    kept = folder / "corpora" / key
    corpus = _open(kept)
    if corpus is None:
        _make(files, kept)
        corpus = _open(kept)
    if corpus is None:
        raise OSError(f"{kept} can't be read back after it was written: delete it, or give task.cache_dir.")
    return corpus


def _open(kept: Path) -> Corpus | None:
    """What is kept, or None where it is missing or damaged."""
    try:
        manifest = json.loads((kept / "corpus.json").read_text(encoding="utf-8"))
        if any(sha256(kept / name) != manifest[name] for name in _names()):
            return None
        words = tuple((kept / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1])
        # copies what is written to, as torch wants it: nothing is
        parts = {part: torch.from_numpy(np.load(kept / f"{part}.npy", mmap_mode="c")) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Corpus(words, parts)


def _names() -> tuple[str, ...]:
    return ("vocabulary.txt", *(f"{part}.npy" for part in PARTS))


def _make(files: Mapping[str, Path], kept: Path) -> None:
    # torchtext takes a fifth of a second to import, which a corpus that is kept does not need
    from datamodules.text import numbered, read_words, vocabulary_of

    words = {part: read_words(files[part]) for part in PARTS}
    vocabulary = vocabulary_of(words["train"])
    contents = {"vocabulary.txt": "".join(f"{word}\n" for word in vocabulary).encode()}
    for part in PARTS:
        saved = io.BytesIO()
        np.save(saved, numbered(words[part], vocabulary))
        contents[f"{part}.npy"] = saved.getvalue()
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        write(kept / name, content)
    write(kept / "corpus.json", json.dumps(hashes, indent=1).encode())


def write(target: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that no one sees half of it.

    Raises:
        OSError: It can't be written.
    """
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise OSError(
            f"{target} can't be written ({error.strerror or error}): make room, or give task.cache_dir."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
