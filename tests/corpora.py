"""Texts in the format of WikiText-2, made here; and where the real one may lie."""

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
WORDS = ("the", "of", ",", ".", "is", "<unk>", "crab", "café", "@-@", "Ōsaka", "1990", "song", '"', "naïve")


def made_text(lines, seed=0, words=WORDS):
    """Articles: a heading, a blank line, then lines of words of which the first are the most frequent."""
    draw = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(words) + 1)
    text = [" \n", f" = {words[-1]} = \n", " \n"]
    for _ in range(lines - 3):
        line = draw.choice(words, size=draw.integers(0, 12), p=shares / shares.sum())
        text.append(f" {' '.join(line)} \n" if len(line) else " \n")
    return "".join(text)


def write_corpus(folder, *, names="{}.txt", lines=(60, 12, 15)):
    """A folder with the three texts; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, count) in enumerate(zip(("train", "valid", "test"), lines, strict=True)):
        (folder / names.format(part)).write_text(made_text(count, seed), encoding="utf-8", newline="")
    return folder


def real_data(name):
    """A folder of real data, in RNNLAB_DATA or beside the checkout; skips the test where it is not."""
    folder = Path(os.environ.get("RNNLAB_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"there is no {name} in RNNLAB_DATA: see docs/corpus.md")
    return folder
