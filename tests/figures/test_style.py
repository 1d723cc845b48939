"""Pictures reach the disk whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rnnlab.figures.style import new_figure, save_png


def test_a_picture_replaces_the_one_before_in_folders_made_on_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "figure.png"
    for width in (2.0, 3.0):
        assert save_png(new_figure(width, 1.0), path) == path
        assert path.read_bytes().startswith(b"\x89PNG")
    assert int.from_bytes(path.read_bytes()[16:20], "big") == 450
    assert [entry.name for entry in path.parent.iterdir()] == ["figure.png"]


def test_a_picture_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_png(new_figure(1.0, 1.0), tmp_path / "figure.png")
    before = path.read_bytes()

    def full(self: Figure, partial: Path, **kwargs: object) -> None:
        partial.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        save_png(new_figure(1.0, 1.0), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        save_png(new_figure(1.0, 1.0), tmp_path / "file" / "figure.png")
