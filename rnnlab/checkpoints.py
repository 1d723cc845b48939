"""Checkpoint files: written whole or not at all, read without executing anything in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a kill leaves the old file; reads weights only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; what was at `path` stays until the new one is complete.

        Raises:
            OSError: It can't be written.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, partial)
            partial.replace(target)
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
            raise OSError(
                f"{target} can't be written ({error}); the checkpoint before it is kept."
            ) from error
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint; see `load_checkpoint`."""
        return load_checkpoint(path)


def kept(folder: str | Path, epoch: int) -> Path:
    """Where a checkpoint is kept that stays, of the network after so many epochs."""
    return Path(folder) / f"epoch_{epoch:06d}.ckpt"


def epochs_kept(folder: str | Path) -> list[int]:
    """The epochs of which a checkpoint was kept for good, in order."""
    names = [path.stem.removeprefix("epoch_") for path in Path(folder).glob("epoch_*.ckpt")]
    return sorted(int(name) for name in names if name.isdecimal())


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without executing anything in it.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not a checkpoint of a training run, or is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"ckpt_path={path} does not exist: give a .ckpt file of a run, or last.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no checkpoint fails in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"ckpt_path={path} is not a checkpoint that can be read ({reason}).") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "loops" not in checkpoint:
        raise ValueError(
            f"ckpt_path={path} is not a checkpoint of a training run: give its last.ckpt or best.ckpt."
        )
    return checkpoint


def check_fits(module: nn.Module, path: str | Path) -> None:
    """Refuse a checkpoint of another network before anything is started.

    Raises:
        FileNotFoundError, ValueError: See `load_checkpoint`; or names or shapes of the weights differ.
    """
    theirs = {name: tuple(value.shape) for name, value in load_checkpoint(path)["state_dict"].items()}
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if theirs != ours:
        name = sorted(set(theirs.items()) ^ set(ours.items()))[0][0]
        raise ValueError(
            f"ckpt_path={path} is of another network: its {name} is {theirs.get(name, 'missing')}, "
            f"here it is {ours.get(name, 'missing')}; choose the model and sizes it was trained with."
        )
