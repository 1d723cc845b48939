"""Words and their numbers, held against reading the text by hand."""

import re
from collections import Counter

import pytest

from datamodules.text import numbered, read_words, vocabulary_of
from tests.corpora import ROOT, made_text


def written(tmp_path, text):
    path = tmp_path / "train.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_words_are_what_white_space_separates_and_each_line_ends(tmp_path):
    text = made_text(200)
    by_hand = []
    for line in text.removesuffix("\n").split("\n"):
        by_hand += [*line.split(), "<eos>"]
    assert read_words(written(tmp_path, text)) == by_hand
    assert by_hand.count("<eos>") == 200
    assert "Ōsaka" in by_hand


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b", ["a", "b", "<eos>"]),  # no newline at the end
        ("a b\n", ["a", "b", "<eos>"]),
        ("a\r\n\r\nb\r\n", ["a", "<eos>", "<eos>", "b", "<eos>"]),
        ("\n", ["<eos>"]),
        ("A a\u3000b\n", ["A", "a", "b", "<eos>"]),
    ],
)
def test_ends_of_lines(tmp_path, text, words):
    assert read_words(written(tmp_path, text)) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"", "train.txt is empty: give a text."), (b"caf\xe9 \n", r"train.txt is not UTF-8 \(byte 0xe9\)")],
)
def test_a_text_that_is_none(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_words(written(tmp_path, text))


def test_the_vocabulary_is_by_frequency_then_by_code_point(tmp_path):
    words = read_words(written(tmp_path, made_text(100)))
    counts = Counter(word for word in words if word not in ("<unk>", "<eos>"))
    by_hand = ("<unk>", "<eos>", *sorted(counts, key=lambda word: (-counts[word], word)))
    assert vocabulary_of(words) == vocabulary_of(reversed(words)) == by_hand


def test_the_two_special_words_are_always_there_and_there_once():
    assert vocabulary_of(["b"]) == ("<unk>", "<eos>", "b")
    assert vocabulary_of(["<eos>", "<unk>", "b", "<eos>"]) == ("<unk>", "<eos>", "b")


def test_numbers_are_places_in_the_vocabulary():
    words = made_text(50).split()
    vocabulary = vocabulary_of(words)
    numbers = numbered(words, vocabulary)
    assert numbers.dtype == "int32"
    assert [vocabulary[n] for n in numbers] == words
    assert numbered(["never", "seen"], vocabulary).tolist() == [0, 0]


def test_no_other_module_imports_torchtext():
    imports = re.compile(r"^\s*(?:import|from)\s+torchtext\b", re.MULTILINE)
    files = (path for top in ("rnnlab", "datamodules", "callbacks") for path in (ROOT / top).rglob("*.py"))
    importing = [path for path in files if imports.search(path.read_text(encoding="utf-8"))]
    assert importing == [ROOT / "datamodules" / "text.py"]
