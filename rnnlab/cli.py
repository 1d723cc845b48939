"""What a person sees when something given on the command line is not possible."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

_ERRORS: list[Exception] = []  # of a single run
_WISHES: list[str | None] = []  # HYDRA_FULL_ERROR as the person set it


class SweepError(RuntimeError):
    """Jobs of a sweep failed; says which, and why, on one line each."""


@contextmanager
def remember_failure() -> Iterator[None]:
    """Around a single run: keeps what went wrong for the end, as Hydra would add lines of its own.

    No empty run directory is left.
    """
    # what the person set is what child processes see
    wish = _show_tracebacks(_WISHES[-1] if _WISHES else None)
    try:
        yield
    except Exception as error:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        _ERRORS.append(error)
    finally:
        _show_tracebacks(wish)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns an exception into one line and exit code 1; HYDRA_FULL_ERROR=1 shows the traceback.

    A rank's process hands the line to the one that started it.
    """
    wish = _show_tracebacks("1")  # Hydra is to raise what went wrong, not to print it its own way
    _WISHES.append(wish)
    _ERRORS.clear()
    wants_traceback = wish not in (None, "", "0")
    try:
        yield
        if _ERRORS:
            raise _ERRORS.pop()
    except SystemExit as stop:
        if type(stop).__name__ == "SIGTERMException":  # Lightning's, which would exit with 0
            sys.exit(128 + signal.SIGTERM)
        raise
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = None
        sys.exit(1)
    except Exception as error:
        line = one_line(error)
        handed_over = "RNNLAB_LAUNCH" in os.environ and _hand_over(line)
        if wants_traceback:
            raise
        if not handed_over:
            rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
            print(f"error{f' on rank {rank}' if rank != '0' else ''}: {line}", file=sys.stderr)
        sys.exit(1)
    finally:
        _show_tracebacks(_WISHES.pop())


def _hand_over(line: str) -> bool:
    from rnnlab.distributed import tell_launcher

    return tell_launcher(line)


def _show_tracebacks(value: str | None) -> str | None:
    """Set or unset HYDRA_FULL_ERROR, and return what it was."""
    before = os.environ.pop("HYDRA_FULL_ERROR", None)
    if value is not None:
        os.environ["HYDRA_FULL_ERROR"] = value
    return before


def one_line(error: BaseException) -> str:
    """What went wrong and what to do, on one line."""
    text = str(error)
    if isinstance(error, SweepError):
        return text
    if option := re.search(r"Could not (?:find|load) '([\w/]+)/([\w.-]*)'", text):
        if (plugin := option.group(1)) in ("hydra/launcher", "hydra/sweeper"):
            return _missing_plugin(plugin.removeprefix("hydra/"), option.group(2))
        group, _, given = f"{option.group(1)}/{option.group(2)}".partition("/")
        return _unknown(f"{group}={given}", given, _options(group), "option", f"{group}=")
    if syntax := re.search(r"Error parsing override '([^']*)'\s*(.*)", text):
        return f"{syntax.group(1)} can't be read ({syntax.group(2)}): give key=value, for example model=lstm."
    if key := re.search(r"Could not override '([\w.@]+)'", text):
        return _unknown_key(key.group(1))
    if "can not run on your system" in text:
        return (
            f"trainer.accelerator={text.split('Accelerator')[0].split('`')[-1].lower()} is not possible: "
            "no such device is visible here; use trainer=cpu, or trainer=auto to take what there is."
        )
    if isinstance(error, HydraException) and "Error in call to target" in text:
        where = re.search(r"full_key: ([\w.]+)", text)
        cause = error.__cause__
        return (f"{where.group(1)}: " if where else "") + _flat(str(cause) if cause else text)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _flat(text.split("\nSee https")[0])
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "A file"
        return f"{place} can't be used ({error.strerror}): give a run_dir with room that can be written to."
    if (
        isinstance(error, ValueError | OSError | RuntimeError)
        or type(error).__name__ == "MisconfigurationException"
    ):
        return _flat(text)
    return f"{type(error).__name__}: {_flat(text)} (HYDRA_FULL_ERROR=1 shows where)"


def _missing_plugin(kind: str, name: str) -> str:
    """Launchers and sweepers come in packages of their own."""
    extra = {
        "joblib": "sweep",
        "submitit_local": "sweep",
        "submitit_slurm": "sweep",
        "optuna": "sweep",
        "ray": "ray",
    }
    if name not in extra:
        return f"The {kind} {name} is not known to Hydra: install its plugin, or choose another one."
    return f"The {kind} {name} needs a package that is not installed: pip install 'rnnlab[{extra[name]}]'."


def _options(group: str) -> list[str]:
    folder = Path(str(resources.files("conf"))) / group
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _unknown(what: str, given: str, known: Iterable[str], kind: str, prefix: str = "") -> str:
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    guess = f" Did you mean {prefix}{near[0]}?" if near else ""
    return (
        f"{what} is not known.{guess} Possible: {', '.join(known)}."
        if known
        else f"{what} is not a known {kind}.{guess}"
    )


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
    children = (
        [str(name) for name in node if not str(name).startswith("_")] if OmegaConf.is_dict(node) else []
    )
    return _unknown(f"The key {key}", last, children, "key", "".join(f"{p}." for p in path))


def quiet() -> None:
    """Silence what Lightning says about itself; its warnings stay, but for some that are by design."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*`validation_step` but have no `val_dataloader`.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")


# what makes no other sweep of it: who works at it, how far a search goes, what is only told
_ASIDE = re.compile(
    r"-|[+~]*(launcher=|hydra/launcher=|hydra\.launcher\.|hydra\.sweeper\.n_trials=|hydra\.verbose="
    r"|logger[.=]|threads=|trainer\.enable_)"
)


def name_sweep(arguments: list[str]) -> list[str]:
    """The command line of a sweep with a directory that is the same for the same command.

    Args:
        arguments: The command line, without the program.

    Returns:
        The same, with `hydra.sweep.dir` added where none is given: words that say what is swept, and six
        digits of everything that tells it from another sweep. Which launcher is to work at it does not.

    Example:
        >>> name_sweep(["-m", "model=lstm,ornn", "seed=1,2", "launcher=joblib"])[1]
        'hydra.sweep.dir=sweeps/model.lstm.ornn_seed.1.2-378903'
    """
    sweeping = {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments)
    if not sweeping or any(a.lstrip("+").startswith("hydra.sweep.dir=") for a in arguments):
        return arguments
    telling = sorted(a for a in arguments if "=" in a and not _ASIDE.match(a) and a not in sweeping)
    digits = hashlib.sha256("\n".join(telling).encode()).hexdigest()[:6]
    chosen = [a for a in telling if a.startswith("sweep=")] or [a for a in telling if "," in a or "(" in a]
    words = [re.sub(r"[^\w-]+", ".", word.removeprefix("sweep=")).strip(".") for word in chosen]
    given = f"hydra.sweep.dir=sweeps/{'_'.join(words)[:80] or 'sweep'}-{digits}"
    # beside its like: Hydra takes no two groups of them
    place = next((i for i, a in enumerate(arguments) if "=" in a and a[0] != "-"), len(arguments))
    return [*arguments[:place], given, *arguments[place:]]
