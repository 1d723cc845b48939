"""What is kept of a text: the same as the text, safe against damage, kills and company."""

import errno
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import corpus
from datamodules.corpus import PARTS, cache_folder, load, sha256, text_files
from datamodules.text import read_words, vocabulary_of
from tests.corpora import write_corpus


def opened(folder, cache):
    files = text_files(folder)
    return load(files, {part: sha256(path) for part, path in files.items()}, cache)


def as_words(found):
    return {part: [found.vocabulary[n] for n in numbers] for part, numbers in found.parts.items()}


@pytest.fixture
def folder(tmp_path):
    return write_corpus(tmp_path / "text")


@pytest.fixture
def words(folder):
    return {part: read_words(folder / f"{part}.txt") for part in PARTS}


def kept_files(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("names", ["{}.txt", "wiki.{}.tokens"])
def test_numbers_stand_for_the_words_of_the_text_and_are_mapped(tmp_path, names):
    folder = write_corpus(tmp_path / "text", names=names)
    found = opened(folder, tmp_path / "cache")
    assert as_words(found) == {part: read_words(folder / names.format(part)) for part in PARTS}
    assert found.vocabulary == vocabulary_of(read_words(folder / names.format("train")))
    assert all(numbers.dtype == torch.int32 for numbers in found.parts.values())
    (file,) = (tmp_path / "cache").rglob("train.npy")
    if (maps := Path("/proc/self/maps")).exists():
        assert str(file) in maps.read_text(encoding="utf-8")


@pytest.fixture
def never_again(monkeypatch):
    """From here on nothing may be written."""

    def refuse(*_):
        raise AssertionError("made again")

    return lambda: monkeypatch.setattr(corpus, "write", refuse)


def test_the_second_time_reads_what_is_kept_also_for_the_text_elsewhere(folder, tmp_path, words, never_again):
    opened(folder, tmp_path / "cache")
    never_again()
    assert as_words(opened(folder, tmp_path / "cache")) == words
    folder.rename(tmp_path / "moved")
    assert as_words(opened(tmp_path / "moved", tmp_path / "cache")) == words


def test_another_text_is_another_corpus(folder, tmp_path):
    first = as_words(opened(folder, tmp_path / "cache"))
    (folder / "valid.txt").write_text("the crab\n", encoding="utf-8")
    second = as_words(opened(folder, tmp_path / "cache"))
    assert second["valid"] == ["the", "crab", "<eos>"]
    assert second["train"] == first["train"]


def test_what_is_kept_does_not_depend_on_where_or_when(folder, tmp_path):
    contents = []
    for cache in (tmp_path / "a", tmp_path / "b"):
        opened(folder, cache)
        contents.append({p.relative_to(cache): p.read_bytes() for p in kept_files(cache)})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 5


def shorten(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def spoil_header(path):
    path.write_bytes(b"nonsense" + path.read_bytes()[8:])


def turn_into_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [shorten, flip, spoil_header, Path.unlink])
@pytest.mark.parametrize("name", ["vocabulary.txt", "train.npy", "valid.npy", "test.npy", "corpus.json"])
def test_damage_is_noticed_and_mended(folder, tmp_path, words, name, damage):
    cache = tmp_path / "cache"
    opened(folder, cache)
    before = {path: path.read_bytes() for path in kept_files(cache)}
    (hurt,) = cache.rglob(name)
    damage(hurt)
    assert as_words(opened(folder, cache)) == words
    assert {path: path.read_bytes() for path in kept_files(cache)} == before


def test_what_can_not_be_mended_is_one_line(folder, tmp_path):
    opened(folder, tmp_path / "cache")
    (hurt,) = (tmp_path / "cache").rglob("train.npy")
    turn_into_a_folder(hurt)
    with pytest.raises(OSError, match=r"train.npy can't be written \(Is a directory\)"):
        opened(folder, tmp_path / "cache")


@pytest.mark.parametrize("survivors", range(5))
@pytest.mark.parametrize(
    "blow", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"]
)
def test_stopped_at_any_file_nothing_half_written_is_left(
    folder, tmp_path, words, monkeypatch, survivors, blow
):
    cache, done = tmp_path / "cache", []
    replace = Path.replace

    def strike(self, target):
        if len(done) == survivors:
            raise blow
        done.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", strike)
    with pytest.raises(type(blow)) as caught:
        opened(folder, cache)
    if isinstance(blow, OSError):
        assert "can't be written (No space left on device): make room, or give task.cache_dir." in str(
            caught.value
        )
    assert kept_files(cache) == sorted(done)
    monkeypatch.undo()
    assert as_words(opened(folder, cache)) == words


def test_a_folder_that_can_not_be_made(folder, tmp_path):
    (tmp_path / "cache").write_text("a file stands here", encoding="utf-8")
    with pytest.raises(OSError, match=r"can't be written \(.*\): make room, or give task.cache_dir"):
        opened(folder, tmp_path / "cache")


def test_several_processes_at_once(folder, tmp_path, words):
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(4), context.SimpleQueue()

    def work():
        for i in range(5):
            gate.wait(60)
            answers.put(as_words(opened(folder, tmp_path / f"cache {i}")))

    company = [context.Process(target=work) for _ in range(4)]
    for process in company:
        process.start()
    assert all(answers.get() == words for _ in range(20))
    for process in company:
        process.join(60)
        assert process.exitcode == 0


def test_missing_folders_and_parts(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_dir=.*nowhere is no folder: give one with train.txt"):
        text_files(tmp_path / "nowhere")
    (folder / "valid.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no valid.txt nor wiki.valid.tokens"):
        text_files(folder)


def test_where_things_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "rnnlab"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == tmp_path / ".cache" / "rnnlab"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "rnnlab"
    assert cache_folder("~/mine") == tmp_path / "mine"


def test_writing_to_the_numbers_leaves_the_file_as_it_is(folder, tmp_path):
    found = opened(folder, tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob("train.npy")
    before = np.load(file)
    found.parts["train"][:] = 0
    assert np.array_equal(np.load(file), before)
