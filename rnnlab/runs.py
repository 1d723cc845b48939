"""A run on disk: claiming its directory, and opening it again."""

from __future__ import annotations

import json
import os
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import xarray as xr
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from rnnlab import members
from rnnlab.checkpoints import epochs_kept, kept, load_checkpoint
from rnnlab.ensemble import Ensemble
from rnnlab.store import Store

if TYPE_CHECKING:
    from rnnlab.model import RecurrentModel
    from rnnlab.task import Task

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


class Run:
    """A run that was opened again: everything it left, read when asked for.

    Attributes:
        path: The run directory.
        config: Its resolved config.
    """

    def __init__(self, path: Path, config: DictConfig, allow: tuple[str, ...]) -> None:
        self.path, self.config, self._allow = path, config, allow

    @cached_property
    def task(self) -> Task:
        """The task, as configured."""
        return self._make("task")

    @cached_property
    def model(self) -> RecurrentModel | Ensemble:
        """The network, or the ensemble, with the weights of its best checkpoint, in eval mode.

        The best checkpoint of an ensemble is that of the epoch at which `checkpoint.monitor`, a median over
        the members, was best. Single networks are `run.model.member(i)`.
        """
        return self.load("best")

    @cached_property
    def members(self) -> xr.DataArray:
        """Of an ensemble, losses and the like of each member: `(epoch, quantity, member)`.

        Raises:
            ValueError: It is the run of a single network, or too young.
        """
        return self.analysis(members.NAME)["value"].load()

    @property
    def best_member(self) -> int:
        """The member of an ensemble whose last training loss is lowest, of those that have not stopped."""
        return members.ranking(self.members.to_dataset())[0]

    @property
    def epochs_kept(self) -> list[int]:
        """The epochs that `load` can give, of a run that was told to keep them (`checkpoint.keep=10`)."""
        return epochs_kept(self.path / "checkpoints")

    def load(self, checkpoint: str | int = "best") -> RecurrentModel | Ensemble:
        """The network with the weights of one checkpoint, in eval mode.

        Args:
            checkpoint: `best`, `last`, or one of `epochs_kept`.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            ValueError: It can't be read, or is of another network.
        """
        folder = self.path / "checkpoints"
        if isinstance(checkpoint, int):
            path = kept(folder, checkpoint)
            if not path.is_file():
                epochs = ", ".join(map(str, self.epochs_kept)) or "none; checkpoint.keep=10 keeps every tenth"
                raise FileNotFoundError(f"epoch {checkpoint} of {self.path} was not kept: there is {epochs}.")
        else:
            path = folder / f"{checkpoint}.ckpt"
        weights = load_checkpoint(path)["state_dict"]
        with torch.random.fork_rng(devices=[]):
            make = partial(self._make("model"), **self._shape)
            size = self.config.get("ensemble")
            model = make() if size is None else Ensemble([make() for _ in range(size)])
        model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
        return model.eval()

    @property
    def _shape(self) -> dict[str, Any]:
        """What the model must know of its task, which need not be made for it: its data may be elsewhere."""
        status = self.path / "status.json"
        shape = json.loads(status.read_text(encoding="utf-8")).get("shape") if status.is_file() else None
        if shape is None:  # a run of before this was on record
            return self.task.shape
        return {key: float(value) if isinstance(value, str) else value for key, value in shape.items()}

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The words whose numbers a language model takes and gives.

        Raises:
            FileNotFoundError: It is not the run of a language model.
            ValueError: The file is not UTF-8.
        """
        path = self.path / "vocabulary.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} is no run of a language model: it has no vocabulary.txt.")
        try:
            return tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8: give the run the file it was trained with.") from None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.read_csv(self.path / "metrics.csv", index_col="epoch")

    @cached_property
    def store(self) -> Store:
        """The analyses."""
        return Store(self.path / "analysis.zarr")

    def analysis(self, name: str) -> xr.Dataset:
        """All looks of one analysis, labelled."""
        return self.store.read(name)

    def _make(self, key: str) -> Any:
        section = self.config[key]
        _refuse_foreign_targets(OmegaConf.to_container(section, resolve=True), self._allow)
        return instantiate(section)


def open_run(run_dir: str | Path, *, allow: tuple[str, ...] = ()) -> Run:
    """Open a finished, failed or running run.

    A config names the Python objects to build, so a downloaded one could run anything. Only objects of
    rnnlab and its datamodules are built, and those of the packages named in `allow`.

    Args:
        run_dir: A directory that `train.py` made.
        allow: Further packages whose objects may be built, for networks and tasks of your own.

    Raises:
        FileNotFoundError: It holds no run.
        ValueError: Later, when a model or task is asked for whose objects are not allowed.
    """
    path = Path(run_dir)
    config_path = path / "config.yaml"
    if not config_path.is_file():
        raise FileNotFoundError(f"{path} holds no run: there is no config.yaml in it.")
    config = OmegaConf.load(config_path)
    assert isinstance(config, DictConfig)
    return Run(path, config, ("rnnlab", "datamodules", *allow))


def _refuse_foreign_targets(node: Any, allow: tuple[str, ...]) -> None:
    if isinstance(node, dict):
        target = node.get("_target_")
        if target is not None and str(target).split(".")[0] not in allow:
            raise ValueError(
                f"_target_={target} is not of rnnlab: "
                f"if you trust it, open_run(..., allow=('{str(target).split('.')[0]}',))."
            )
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _refuse_foreign_targets(child, allow)
