"""Runs and sweeps on disk, opened again: everything they left, read when asked for.

python -m rnnlab.runs ls|best|show DIR
"""

from __future__ import annotations

import json
import sys
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import xarray as xr
    from omegaconf import DictConfig

    from rnnlab.ensemble import Ensemble
    from rnnlab.model import RecurrentModel
    from rnnlab.opened import OpenedSweep
    from rnnlab.store import Store
    from rnnlab.task import Task

# heavy imports wait inside the functions: a table of runs needs neither torch nor Hydra


class Run:
    """A run that was opened again: everything it left, read when asked for.

    Attributes:
        path: The run directory.
    """

    def __init__(self, path: Path, allow: tuple[str, ...]) -> None:
        self.path, self._allow = path, allow

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def config(self) -> DictConfig:
        """Its resolved config."""
        from omegaconf import DictConfig, OmegaConf

        config = OmegaConf.load(self.path / "config.yaml")
        assert isinstance(config, DictConfig)
        return config

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
        from rnnlab import members

        return self.analysis(members.NAME)["value"].load()

    @property
    def best_member(self) -> int:
        """The member of an ensemble whose last training loss is lowest, of those that have not stopped."""
        from rnnlab import members

        return members.ranking(self.members.to_dataset())[0]

    @property
    def epochs_kept(self) -> list[int]:
        """The epochs that `load` can give, of a run that was told to keep them (`checkpoint.keep=10`)."""
        from rnnlab.checkpoints import epochs_kept

        return epochs_kept(self.path / "checkpoints")

    def load(self, checkpoint: str | int = "best") -> RecurrentModel | Ensemble:
        """The network with the weights of one checkpoint, in eval mode.

        Args:
            checkpoint: `best`, `last`, or one of `epochs_kept`.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            ValueError: It can't be read, or is of another network.
        """
        import torch

        from rnnlab.checkpoints import kept, load_checkpoint
        from rnnlab.ensemble import Ensemble

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
        from rnnlab.store import Store

        return Store(self.path / "analysis.zarr")

    def analysis(self, name: str) -> xr.Dataset:
        """All looks of one analysis, labelled."""
        return self.store.read(name)

    def _make(self, key: str) -> Any:
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

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
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"{path} holds no run: there is no config.yaml in it.")
    return Run(path, ("rnnlab", "datamodules", *allow))


def open_sweep(
    *folders: str | Path, monitor: str | None = None, mode: str | None = None, grid: bool | None = None
) -> OpenedSweep:
    """Open the runs of a sweep side by side: parameters, metrics and analyses, labelled.

    No network is built and no checkpoint read; metrics and analyses are read when they are asked for. Each
    run is an entry, and of an ensemble each member, with a seed of its own. A run that failed, is still
    running or was killed is there as far as it came, with its `state`.

    Where parameters and seeds make a grid, the arrays have an axis for each parameter that differs and one
    for `seed`: no two entries in one cell, and at least half of the cells taken, as they are at any moment
    of a sweep that goes through its grid in order. Else, as in a random search, or where runs were repeated,
    they have one axis `run`, the row of `sweep.table`, with parameters and seeds as coordinates of it.
    `sweep.axes` says which it is, `grid` which it is to be. In both, `run`, `job`, `member` and `state` are
    coordinates; a variable or axis of an analysis that has the name of a parameter gets an underscore
    (`lr_`).

    Args:
        folders: Directories of sweeps or runs.
        monitor: The number that is the best's, in place of each run's `checkpoint.monitor`.
        mode: `min` or `max`: which of its values is best; to be given with `monitor`.
        grid: True: a grid, however empty, or an error; False: one axis `run`; None: as the runs are.

    Raises:
        FileNotFoundError: A directory is not there, or no run is in it.
        ValueError: No config can be read, no run has `monitor`, or there is no grid though `grid` is True.

    Example:
        >>> sweep = open_sweep("sweeps/symbols_table1")  # doctest: +SKIP
        >>> sweep.metrics["val/accuracy"].sel(model="LSTM", length=50).mean("seed")  # doctest: +SKIP
        >>> sweep.analysis("lyapunov")["exponent"].isel(mode=0)  # doctest: +SKIP
    """
    from rnnlab.opened import OpenedSweep
    from rnnlab.sweeps import collect

    return OpenedSweep(collect(*folders, monitor=monitor, mode=mode), grid)


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


if __name__ == "__main__":
    from rnnlab.terminal import main

    sys.exit(main())
