"""Jobs as tasks of Ray."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_ray_launcher.ray_launcher import RayLauncher
from omegaconf import DictConfig, OmegaConf, open_dict

from rnnlab.engines import collect


class Ray(RayLauncher):
    """As the plugin's own launcher, but that configs are composed by the workers, each when it begins.

    Workers work in the directory of the command, where they have one of that name.
    """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Hand all jobs to Ray and wait for all of them.

        Raises:
            LostJobsError: Some were killed, more often than they may be begun again.
            ValueError: There is no cluster at the address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would ask for a server in the internet
        import ray
        from ray.exceptions import RayError

        if not ray.is_initialized():
            logging.getLogger("ray").setLevel(logging.ERROR)
            options = _plain(self.ray_cfg.init)
            check_address(str(options.get("address")))
            ray.init(**options)
        run = ray.remote(**_plain(self.ray_cfg.remote))(_run)
        shared: Any = ray.put((self.hydra_context, self.config, self.task_function, Singleton.get_state()))
        tasks = [
            run.remote(shared, list(overrides), number, os.getcwd())
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        return collect([partial(ray.get, task) for task in tasks], initial_job_idx, (RayError,))


def check_address(address: str) -> None:
    """Ask for a cluster by HOST:PORT whether it is there, which Ray itself would for minutes.

    Raises:
        ValueError: Nobody answers.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"hydra.launcher.ray.init.address={address} is not possible ({error}): give the address that "
            "`ray start --head` has said, or local to start one here."
        ) from None


def _plain(options: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(options, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if value is not None}


def _run(
    shared: tuple[HydraContext, DictConfig, TaskFunction, dict[Any, Any]],
    overrides: list[str],
    number: int,
    folder: str,
) -> JobReturn:
    """One job, in a worker's process."""
    context, config, task, state = shared
    with suppress(FileNotFoundError):
        os.chdir(folder)
    setup_globals()
    Singleton.set_state(state)
    job = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id = f"job_id_for_{number}"
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
