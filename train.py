"""Train one network on one task and watch which dynamical system it becomes.

    python train.py model=lstm task=sine

The whole story of a run stands in `run`; `python train.py --help` lists what can be chosen.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from rnnlab import jobs

if TYPE_CHECKING:
    from omegaconf import DictConfig

# heavy imports wait inside the functions: --help and a mistyped key answer at once


def run(cfg: DictConfig, ckpt_path: Path | None = None) -> float:
    """One run from beginning to end.

    Args:
        cfg: The composed config, resolved, with `run_dir` absolute.
        ckpt_path: A checkpoint to go on from.

    Returns:
        The best value of `checkpoint.monitor`, for sweepers that optimise.
    """
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate

    from callbacks import Checkpoints, Progress
    from rnnlab.checkpoints import AtomicCheckpointIO, check_fits
    from rnnlab.cli import quiet
    from rnnlab.distributed import environment, leave
    from rnnlab.ensemble import Ensemble
    from rnnlab.loggers import MetricsCSV
    from rnnlab.memory import keep_freed_memory
    from rnnlab.record import RunRecord
    from rnnlab.store import Store

    quiet()
    run_dir = Path(cfg.run_dir)
    torch.set_num_threads(cfg.threads)
    keep_freed_memory()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    task = instantiate(cfg.task)
    make = partial(instantiate(cfg.model), **task.shape)
    learn = {"objective": task.objective, "carry_state": task.contiguous}
    if cfg.ensemble is None:
        learner = instantiate(cfg.optim)(model=make(), **learn)
    else:
        members = Ensemble.from_seeds(make, range(cfg.seed, cfg.seed + cfg.ensemble))
        learner = instantiate(cfg.optim, _target_="rnnlab.ensemble.EnsembleLearner")(
            model=members, record=Store(run_dir / "analysis.zarr"), **learn
        )
    if ckpt_path is not None:
        check_fits(learner, ckpt_path)

    checkpoints = Checkpoints(run_dir / "checkpoints", **cfg.checkpoint)
    # an experiment may set options of a callback that was not chosen
    looks = [instantiate(look) for look in cfg.callbacks.values() if "_target_" in look]
    progress = [Progress()] if cfg.trainer.get("enable_progress_bar", True) else []
    loggers = [MetricsCSV(run_dir), *instantiate(cfg.logger).values()]
    trainer = instantiate(
        cfg.trainer,
        callbacks=[*looks, *progress, checkpoints],
        logger=loggers,
        default_root_dir=str(run_dir),
        plugins=[AtomicCheckpointIO(), *environment()],
    )

    with RunRecord(cfg, trainer, task) as record:
        trainer.fit(learner, datamodule=task, ckpt_path=ckpt_path and str(ckpt_path))
        if task.has_test_data:
            trainer.test(learner, datamodule=task, ckpt_path=str(run_dir / "checkpoints" / "best.ckpt"))
        record.best = checkpoints.best
    record.say()
    leave()
    return checkpoints.best


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def job(cfg: DictConfig) -> float | None:
    """One job: the only one, or one of a sweep."""
    return jobs.perform(cfg, run, __file__)


def main() -> None:
    """The command line: `python train.py ...` or `rnnlab-train ...`."""
    from rnnlab.cli import name_sweep, one_line_errors
    from rnnlab.ledger import LAUNCH
    from rnnlab.overview import overview

    with one_line_errors():
        if LAUNCH in os.environ:
            from rnnlab.distributed import rank_config

            run(*jobs.restore(rank_config()))
        else:
            sys.argv[1:] = name_sweep(sys.argv[1:])
            with overview():
                job()


if __name__ == "__main__":
    main()
