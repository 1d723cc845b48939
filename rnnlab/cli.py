"""What a person sees when something given on the command line is not possible."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

_FAILURES: list[str] = []


@contextmanager
def remember_failure() -> Iterator[None]:
    """Around one job: keeps what went wrong for the end of a sweep, and leaves no empty run directory."""
    try:
        yield
    except Exception as error:
        hydra_config = HydraConfig.get()
        if hydra_config.mode == RunMode.MULTIRUN:
            overrides = " ".join(hydra_config.overrides.task)
            _FAILURES.append(f"job {hydra_config.job.num} ({overrides}): {one_line(error)}")
            print(f"failed: {_FAILURES[-1]}", file=sys.stderr, flush=True)
        folder = Path(hydra_config.runtime.output_dir)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns an exception into one line and exit code 1; HYDRA_FULL_ERROR=1 shows the traceback."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra is to raise what went wrong, not to print it its own way
    try:
        yield
    except Exception as error:
        if wants_traceback:
            raise
        if len(_FAILURES) > 1:
            lines = "\n".join(f"  {failure}" for failure in _FAILURES)
            print(f"error: {len(_FAILURES)} jobs failed; the others are complete.\n{lines}", file=sys.stderr)
        else:
            print(f"error: {_FAILURES[0] if _FAILURES else one_line(error)}", file=sys.stderr)
        sys.exit(1)
    finally:
        if not wants_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def one_line(error: BaseException) -> str:
    """What went wrong and what to do, on one line."""
    text = str(error)
    if option := re.search(r"Could not (?:find|load) '([\w/]+)/([\w.-]+)'", text):
        group, given = option.groups()
        listed = text.split(f"Available options in '{group}':")[-1] if "Available options" in text else ""
        return _unknown(f"{group}={given}", given, listed.split(), "option", f"{group}=")
    if key := re.search(r"Could not override '([\w.@]+)'", text):
        return _unknown_key(key.group(1))
    if isinstance(error, HydraException) and "Error in call to target" in text:
        where = re.search(r"full_key: ([\w.]+)", text)
        cause = error.__cause__
        return (f"{where.group(1)}: " if where else "") + _flat(str(cause) if cause else text)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _flat(text.split("\nSee https")[0])
    if "can not run on your system" in text:
        return (
            f"trainer.accelerator={text.split('Accelerator')[0].strip('`').lower()} is not possible: "
            "no such device is visible here; use trainer=cpu, or trainer=auto to take what there is."
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'} can't be used ({error.strerror}): give a run_dir with room that can be written to."
    if isinstance(error, ValueError | OSError | RuntimeError) or type(error).__name__ == "MisconfigurationException":
        return _flat(text)
    return f"{type(error).__name__}: {_flat(text)} (HYDRA_FULL_ERROR=1 shows where)"


def _flat(text: str) -> str:
    return " ".join(text.split())


def _unknown(what: str, given: str, known: Iterable[str], kind: str, prefix: str = "") -> str:
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    guess = f" Did you mean {prefix}{near[0]}?" if near else ""
    return f"{what} is not known.{guess} Possible: {', '.join(known)}." if known else f"{what} is not a known {kind}.{guess}"


def _unknown_key(key: str) -> str:
    """Names the near miss among the keys that stand where `key` was looked for."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    given = [a for a in sys.argv[1:] if re.match(r"[\w/]+=[\w,]+$", a) and "." not in a.split("=")[0]]
    with initialize_config_module("conf", version_base="1.3"):
        try:
            cfg = compose("train", overrides=[a for a in given if "," not in a and a.split("=")[0] != key])
        except Exception:
            cfg = compose("train")
    *path, last = key.split("@")[0].split(".")
    node = cfg
    for i, name in enumerate(path):
        children = list(node) if OmegaConf.is_dict(node) else []
        if name not in children:
            return _unknown(f"The key {key}", name, children, "key", "".join(f"{p}." for p in path[:i]))
        node = node[name]
    children = [name for name in node if not str(name).startswith("_")] if OmegaConf.is_dict(node) else []
    return _unknown(f"The key {key}", last, children, "key", "".join(f"{p}." for p in path))


def quiet() -> None:
    """Silence what Lightning says about itself; its warnings about the run stay, but for two that are by design."""
    for name in ("pytorch_lightning", "lightning", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*`validation_step` but have no `val_dataloader`.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
