"""What a run records about its origin, against what git itself says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rnnlab
from rnnlab.provenance import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    """A repository with one commit of one package."""
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds the package, and a working directory that is in none."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    top = repository(tmp_path / "checkout")
    monkeypatch.setattr(rnnlab, "__file__", str(top / "package" / "__init__.py"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return top


def test_commit_and_changes_of_the_checkout(package: Path) -> None:
    assert provenance()["git"] == {"commit": git(package, "rev-parse", "HEAD"), "dirty": False}
    assert provenance()["git_cwd"] is None
    (package / "package" / "__init__.py").write_text("changed = 1\n")
    assert provenance()["git"] == {"commit": git(package, "rev-parse", "HEAD"), "dirty": True}


def test_a_tag_does_not_stand_in_for_the_commit(package: Path) -> None:
    git(package, "tag", "-a", "v1", "-m", "v1")
    assert provenance()["git"]["commit"] == git(package, "rev-parse", "HEAD")


def test_a_repository_that_does_not_track_the_package_is_not_its_checkout(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = package / ".venv" / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    monkeypatch.setattr(rnnlab, "__file__", str(installed / "__init__.py"))
    assert provenance()["git"] is None


def test_the_users_own_repository_is_recorded_beside(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = repository(package.parent / "study")
    (own / "package" / "__init__.py").write_text("mine = 1\n")
    git(own, "commit", "-qam", "second")
    monkeypatch.chdir(own / "package")
    found = provenance()
    assert found["git_cwd"] == {"name": "study", "commit": git(own, "rev-parse", "HEAD"), "dirty": False}
    assert found["git"]["commit"] == git(package, "rev-parse", "HEAD") != found["git_cwd"]["commit"]


def test_the_checkout_is_not_recorded_twice(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package / "package")
    assert provenance()["git"] is not None
    assert provenance()["git_cwd"] is None


def test_a_git_hooks_variables_do_not_mislead(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(package, "rev-parse", "HEAD")
    other = repository(package.parent / "hooked")
    (other / "package" / "__init__.py").write_text("other = 1\n")
    git(other, "commit", "-qam", "second")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert provenance()["git"]["commit"] == commit


def test_no_git_no_error(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(package.parent / "elsewhere"))
    assert provenance()["git"] is None
    assert provenance()["git_cwd"] is None


def test_a_repository_without_a_commit(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = package.parent / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    monkeypatch.chdir(empty)
    assert provenance()["git_cwd"] == {"name": "empty", "commit": None, "dirty": True}


def test_versions_machine_and_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "model.name=a b"])
    found = provenance()
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["rnnlab"] == rnnlab.__version__
    assert {"numpy", "pytorch-lightning"} <= set(found["versions"])
    assert found["command"] == "train.py 'model.name=a b'"
    assert found["devices"][0].endswith(f"{os.cpu_count()} threads")
    assert len(found["devices"]) == 1 + torch.cuda.device_count()
    assert json.loads(json.dumps(found)) == found
