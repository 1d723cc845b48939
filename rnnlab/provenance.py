"""Where a result comes from: code, libraries, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import rnnlab

_LIBRARIES = ("torch", "pytorch-lightning", "numpy")


def provenance() -> dict[str, Any]:
    """What one would want to know of a result a year later.

    Returns:
        `git`: `{"commit", "dirty"}` of the checkout that this package is in, None where it is installed.
        `git_cwd`: The same, with the repository's `name`, for the working directory where that is in
        another repository, such as that of the user's own scripts; else None.
        `versions` of Python, rnnlab and the libraries that make the numbers; `platform`, `devices` and
        `command`.

    Example:
        >>> sorted(provenance())
        ['command', 'devices', 'git', 'git_cwd', 'platform', 'versions']
    """
    package = Path(rnnlab.__file__).parent
    # an environment may lie within a repository that knows nothing of it
    own = _repository(package) if _git(package, "ls-files", "--error-unmatch", "__init__.py") else None
    here = _repository(Path.cwd())
    return {
        "git": own and _state(own),
        "git_cwd": {"name": Path(here).name, **_state(here)} if here and here != own else None,
        "versions": {
            "python": platform.python_version(),
            "rnnlab": rnnlab.__version__,
            **{name: metadata.version(name) for name in _LIBRARIES},
        },
        "platform": platform.platform(),
        "devices": _devices(),
        "command": shlex.join(sys.argv),
    }


def _repository(folder: Path) -> str | None:
    return _git(folder, "rev-parse", "--show-toplevel") or None


def _state(repository: str) -> dict[str, Any]:
    commit = _git(Path(repository), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    if commit is None:  # no commit yet
        return {"commit": None, "dirty": True}
    return {"commit": commit.removesuffix("-dirty"), "dirty": commit.endswith("-dirty")}


def _devices() -> list[str]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [f"{_cpu()}, {os.cpu_count()} threads", *gpus]


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says in a folder, or None where there is no git, no repository or no answer."""
    # set by git for its hooks, these would point at another repository
    ambient = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    env = {name: value for name, value in os.environ.items() if name not in ambient} | {
        "GIT_OPTIONAL_LOCKS": "0"
    }
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
