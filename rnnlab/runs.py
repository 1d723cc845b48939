"""A run on disk, opened again: everything it left, read when asked for."""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import xarray as xr
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rnnlab import members
from rnnlab.checkpoints import epochs_kept, kept, load_checkpoint
from rnnlab.ensemble import Ensemble
from rnnlab.store import Store

if TYPE_CHECKING:
    from rnnlab.model import RecurrentModel
    from rnnlab.task import Task


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
