"""What a job runs, and where: the only one, or one of a sweep that may be started again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rnnlab import distributed
from rnnlab.cli import one_line, remember_failure
from rnnlab.ledger import LOG, Ledger, logged, now, publish

# what a job is called within Hydra's own config: see `job_name`
RESOLVER = "job_name"
# what changes no result of a job
_ASIDE = ("hydra", "run_dir", "ckpt_path", "threads", "logger")
Run = Callable[[DictConfig, Path | None], float]


def perform(cfg: DictConfig, run: Run, script: str | Path) -> float | None:
    """Do a job of Hydra's: the only one, or one of a sweep.

    A job of a sweep has a directory by its config (`job_name`), so the same command again finds what was
    done: a finished job answers with its best value, any other goes on from its last checkpoint, or begins
    anew. Its output goes to `log.txt` there, how it stands to the sweep's `rnnlab.ledger.Ledger`.

    Args:
        cfg: Composed config, unresolved.
        run: Trains, from a resolved config and the checkpoint to go on from, and returns the best value.
        script: What each rank's process runs where there are to be several.

    Returns:
        The best value of `checkpoint.monitor`. None where a job has failed or has none: sweepers that search
        take it for a failure, and NaN for a value. `rnnlab.overview` tells of it at the end, of a single run
        `one_line_errors`.
    """
    with _own_environment():
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            best = _perform_one_of_many(cfg, run, script)
            return best if math.isfinite(best) else None
        with remember_failure():
            return _dispatch(*claim(cfg), run, script)
    return None


def _perform_one_of_many(cfg: DictConfig, run: Run, script: str | Path) -> float:
    context = HydraConfig.get()
    folder = Path(context.runtime.output_dir).resolve()
    number, overrides = context.job.num, list(context.overrides.task)
    ledger, began = Ledger(context.sweep.dir), now()
    facts = {"job": number, "overrides": overrides}
    leads = distributed.leads()  # of ranks made by others
    state, error = "stopped", None

    def note(state: str, ended: str | None) -> None:
        if leads:
            ledger.write(
                number,
                run=folder.name,
                overrides=overrides,
                state=state,
                error=error,
                started=began,
                ended=ended,
            )

    note("running", None)
    lock = locked(folder) if leads else nullcontext(())
    try:
        with lock as descriptors, logged(folder / LOG, f"job {number}: {' '.join(overrides)}"):
            try:
                known = finished(folder, cfg)
                if known is not None:
                    state = "skipped"
                    print("finished before: nothing to do")
                    if leads and not (folder / "report.html").is_file():  # killed while it was made
                        from rnnlab.report import write_report

                        write_report(folder)
                    return known
                resolved, checkpoint = claim(cfg)
                best = _dispatch(resolved, checkpoint, run, script, descriptors)
                state = "finished"
                return best
            except Exception as problem:
                traceback.print_exc()
                state, error = "failed", one_line(problem)
                return math.nan
            finally:
                if leads and state != "skipped":
                    _amend(
                        folder, cfg, facts | ({} if state == "finished" else {"state": state, "error": error})
                    )
    finally:
        note(state, now())


def _dispatch(
    cfg: DictConfig,
    ckpt_path: Path | None,
    run: Run,
    script: str | Path,
    descriptors: tuple[int, ...] = (),
) -> float:
    """Train in this process, or in one for each rank."""
    number = distributed.processes(cfg.trainer)
    if number == 0:
        return run(cfg, ckpt_path)
    try:
        distributed.launch(cfg, script, number, keep=descriptors)
    except distributed.RankError as problem:
        # rank zero was killed, or knows only that another one has gone
        if (Path(cfg.run_dir) / "status.json").is_file():
            facts = {"state": "failed", "error": one_line(problem), "ended": now()}
            _amend(Path(cfg.run_dir), cfg, facts)
        raise
    best = _status(Path(cfg.run_dir)).get("best")
    return math.nan if best is None else best


@contextmanager
def _own_environment() -> Iterator[None]:
    """What a job leaves in the environment is no part of the next one's."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def locked(folder: Path) -> Iterator[tuple[int, ...]]:
    """Within it no other process works at the same job; waits for one that does.

    Gives the descriptor that holds the lock, for processes that are to hold it as well: it is free when all
    of them have ended, however they do. Where the file system knows no locks there is none.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield ()
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield (file.fileno(),)


def finished(folder: Path, cfg: DictConfig) -> float | None:
    """The best value of a job that has been done to its end by an equal config; None of any other."""
    status = _status(folder)
    if status.get("state") != "finished" or "best" not in status:
        return None
    if not _same(folder, cfg):
        return None
    return math.nan if status["best"] is None else status["best"]


def _same(folder: Path, cfg: DictConfig) -> bool:
    """Whether the config that is saved there is of an equal job."""
    try:
        return config_hash(OmegaConf.load(folder / "config.yaml")) == config_hash(cfg)
    except Exception:  # there is none, or what was a config has been changed to something else
        return False


def _status(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _amend(folder: Path, cfg: DictConfig, facts: dict[str, Any]) -> None:
    """Add to the status of a job; one that failed before it trained leaves its config as well."""
    if not (folder / "config.yaml").exists():
        publish(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(_plain(cfg, str(folder)))))
    if _same(folder, cfg):  # else it is another run's, and was the reason
        publish(folder / "status.json", json.dumps(_status(folder) | facts, indent=1))


def config_hash(cfg: Any) -> str:
    """Eight hexadecimal digits that are equal for equal jobs: bookkeeping has no part in them.

    >>> a = OmegaConf.create({"seed": 1, "run_dir": "x", "out": "${run_dir}/y", "threads": 1})
    >>> b = OmegaConf.create({"threads": 4, "run_dir": "z", "seed": 1, "out": "z/y"})
    >>> config_hash(a) == config_hash(b), config_hash(a) == config_hash(OmegaConf.create({"seed": 2}))
    (True, False)
    """
    here = str(OmegaConf.to_container(cfg).get("run_dir", ""))  # type: ignore[union-attr]
    plain = {key: value for key, value in _plain(cfg, RUN_DIR).items() if key not in _ASIDE}
    if isinstance(trainer := plain.get("trainer"), dict):
        plain["trainer"] = {key: v for key, v in trainer.items() if not key.startswith("enable_")}
    text = json.dumps(plain, sort_keys=True, default=str)
    if here and "$" not in here:  # what lies in the directory, wherever that is
        start = json.dumps(here)[:-1]
        text = text.replace(f"{start}/", f'"{RUN_DIR}/').replace(f'{start}"', f'"{RUN_DIR}"')
    return hashlib.sha256(text.encode()).hexdigest()[:8]


RUN_DIR = "RUN_DIR"


def _plain(cfg: DictConfig, run_dir: str | None = None) -> dict[Any, Any]:
    """Without Hydra's own part, resolved as far as that is possible."""
    own: Any = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.set_struct(own, False)
    OmegaConf.set_readonly(own, False)
    if run_dir is not None:
        own.run_dir = run_dir
    try:
        found = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException:
        found = OmegaConf.to_container(own)
    assert isinstance(found, dict)
    return found


def job_name(cfg: DictConfig) -> str:
    """What the directory of a sweep's job is called: what was chosen, and eight digits of all the rest."""
    choices = OmegaConf.select(cfg, "hydra.runtime.choices") or {}
    words = [str(choices.get(group)).rpartition("/")[2] for group in ("model", "task")]
    digits, start = config_hash(cfg), cfg.get("ckpt_path")
    if start not in (None, "last"):  # where it starts from; a run that goes on has another in its place
        digits = hashlib.sha256(f"{digits} {start}".encode()).hexdigest()[:8]
    return "_".join([*words, f"seed{cfg.get('seed')}", digits])


OmegaConf.register_new_resolver(RESOLVER, lambda _root_: job_name(_root_), replace=True)


_CHOICES = ("model", "task", "optim", "seed", "ensemble")


def claim(cfg: DictConfig) -> tuple[DictConfig, Path | None]:
    """Decide what a job runs and where, before anything is written.

    Called within a Hydra job. `ckpt_path=last` goes on with the run in `run_dir`, by the config that is
    saved there when nothing else than `trainer.*`, `callbacks.*` and `logger.*` keys is given.

    Returns:
        The resolved config with its absolute `run_dir`, and the checkpoint to go on from, if any.

    Raises:
        ValueError: The directory holds another run, or a key is out of range.
        FileNotFoundError: There is no run or checkpoint to go on with.
    """
    context = HydraConfig.get()
    run_dir = Path(context.runtime.output_dir).resolve()
    overrides = list(context.overrides.task)
    sweeping = context.mode == RunMode.MULTIRUN
    if distributed.from_outside() and not sweeping and not any(o.startswith("run_dir=") for o in overrides):
        raise ValueError(
            "Several processes were started from outside: give all of them the same run_dir=DIR."
        )
    saved_path, last = run_dir / "config.yaml", run_dir / "checkpoints" / "last.ckpt"
    given = cfg.ckpt_path
    if given == "last":
        if not saved_path.is_file():
            raise FileNotFoundError(f"ckpt_path=last: there is no run in run_dir={run_dir} to go on with.")
        saved = OmegaConf.load(saved_path)
        saved.setdefault("ensemble", None)  # runs of before there were ensembles
        if saved.run_dir != str(run_dir):  # it was moved
            saved = OmegaConf.create(OmegaConf.to_yaml(saved).replace(saved.run_dir, str(run_dir)))
        assert isinstance(saved, DictConfig)
        cfg = _continued(cfg, saved, overrides, run_dir)
    elif sweeping and _same(run_dir, cfg):
        if last.is_file():  # else it begins anew
            with open_dict(cfg):
                cfg.ckpt_path = "last"
    elif saved_path.exists() and distributed.leads():  # other ranks may find what the first one wrote
        raise ValueError(
            f"run_dir={run_dir} holds another run: give another run_dir, "
            "or ckpt_path=last to go on with that one."
        )
    with open_dict(cfg):
        cfg.run_dir = str(run_dir)  # of this job: before others resolve to it
    OmegaConf.resolve(cfg)
    _check(cfg)
    if saved_path.is_file() and not last.is_file() and distributed.leads():
        # killed before its first checkpoint: what it saw until then is seen again
        shutil.rmtree(run_dir / "analysis.zarr", ignore_errors=True)
        (run_dir / "metrics.csv").unlink(missing_ok=True)
    return restore(cfg)


def restore(cfg: Any) -> tuple[DictConfig, Path | None]:
    """The config and the checkpoint its `ckpt_path` means; None also where a run has none to go on from."""
    if cfg.ckpt_path == "last":
        last = Path(cfg.run_dir) / "checkpoints" / "last.ckpt"
        return cfg, last if last.is_file() else None
    return cfg, None if cfg.ckpt_path is None else Path(cfg.ckpt_path)


def _continued(cfg: DictConfig, saved: DictConfig, overrides: list[str], run_dir: Path) -> DictConfig:
    """The saved config with what may change from one session to the next taken from the command line."""
    free = ("trainer.", "callbacks.", "logger", "threads", "run_dir", "ckpt_path", "checkpoint.")
    if not any(o for o in overrides if not o.lstrip("+~").startswith(free)):
        given = [o.lstrip("+") for o in overrides]
        dots = [o for o in given if o.startswith(("trainer.", "callbacks.", "threads", "checkpoint."))]
        merged = OmegaConf.merge(saved, OmegaConf.from_dotlist(dots))
        assert isinstance(merged, DictConfig)
        if any(o.startswith("logger") for o in overrides):
            merged.logger = cfg.logger
        merged.ckpt_path = "last"
        return merged
    composed = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(composed, DictConfig)
    for key in _CHOICES:
        if composed[key] != saved.get(key):
            raise ValueError(
                f"run_dir={run_dir} was started with another {key}: leave {key} out to go on with it, "
                "or give another run_dir."
            )
    return cfg


def _check(cfg: DictConfig) -> None:
    if not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise ValueError(f"seed={cfg.seed} is not possible: give a whole number from 0 to 2**32 - 1.")
    if cfg.ensemble is not None:
        if not isinstance(cfg.ensemble, int) or isinstance(cfg.ensemble, bool) or cfg.ensemble < 1:
            raise ValueError(
                f"ensemble={cfg.ensemble} is not possible: give a whole number of at least 1, or null."
            )
        if cfg.seed + cfg.ensemble > 2**32:
            raise ValueError(
                f"seed={cfg.seed} is not possible for {cfg.ensemble} members, whose seeds are that and the "
                f"next: give at most {2**32 - cfg.ensemble}."
            )
        if cfg.trainer.strategy != "auto":
            raise ValueError(
                f"ensemble={cfg.ensemble} is not possible with several processes: "
                "give trainer=auto, trainer=cpu or trainer=gpu."
            )
    if cfg.trainer.strategy == "auto" and cfg.trainer.devices not in (1, "1"):
        raise ValueError(
            f"trainer.devices={cfg.trainer.devices} is not possible with one process: "
            f"give trainer=ddp trainer.devices={cfg.trainer.devices}."
        )
    for key in ("trainer.max_epochs", "threads"):
        value = OmegaConf.select(cfg, key)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key}={value} is not possible: give a whole number of at least 1.")
