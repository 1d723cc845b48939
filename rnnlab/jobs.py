"""What a job runs, and where: decided before anything is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

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
    if sweeping and any(o.startswith("run_dir=") for o in overrides):
        raise ValueError(
            "run_dir is one directory, a sweep needs one a job: give hydra.sweep.dir=DIR instead."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not any(o.startswith("run_dir=") for o in overrides):
        raise ValueError(
            "Several processes were started from outside: give all of them the same run_dir=DIR."
        )
    saved_path = run_dir / "config.yaml"
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
    elif saved_path.exists() and "LOCAL_RANK" not in os.environ:
        raise ValueError(
            f"run_dir={run_dir} holds another run: give another run_dir, "
            "or ckpt_path=last to go on with that one."
        )
    with open_dict(cfg):
        cfg.run_dir = str(run_dir)  # of this job: before others resolve to it
    OmegaConf.resolve(cfg)
    _check(cfg)
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
