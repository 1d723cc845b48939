"""Jobs by submitit: on SLURM, or in processes here that are treated alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import (
    BaseSubmititLauncher,
    LocalLauncher,
    SlurmLauncher,
)
from omegaconf import OmegaConf

from rnnlab.engines import collect

if TYPE_CHECKING:
    from submitit import Job


class _Patient(BaseSubmititLauncher):
    """As the plugin's own launcher, which leaves all jobs to themselves when one is lost or on Ctrl-C."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs as one array and wait for all of them.

        Raises:
            LostJobsError: Some were cancelled, timed out, or killed; the others have ended by then.
        """
        from submitit.core.utils import UncompletedJobError

        jobs = self._submit([list(overrides) for overrides in job_overrides], initial_job_idx)
        try:
            return collect([_Wait(job) for job in jobs], initial_job_idx, (UncompletedJobError,))
        except (KeyboardInterrupt, SystemExit):
            for job in jobs:
                if not job.done():
                    job.cancel(check=False)
            raise

    def _submit(self, overrides: list[list[str]], first: int) -> list[Job[Any]]:
        import submitit

        # what all executors have keeps its name, the rest is of this one
        shared, own = OmegaConf.structured(BaseQueueConf).keys(), f"{self._EXECUTOR}_"
        params = {key if key in shared else own + key: value for key, value in self.params.items()}
        started = {key: params.pop(key) for key in [own + "max_num_timeout"] if key in params}
        executor = submitit.AutoExecutor(params.pop("submitit_folder"), cluster=self._EXECUTOR, **started)
        executor.update_parameters(**params)
        numbers = range(first, first + len(overrides))
        names = [f"job_id_for_{number}" for number in numbers]
        state = repeat(Singleton.get_state(), len(overrides))
        return executor.map_array(self, overrides, repeat("hydra.sweep.dir"), numbers, names, state)


class _Wait:
    """Waits for one job; says in a few words how it was lost."""

    def __init__(self, job: Job[Any]) -> None:
        self.job = job

    def __call__(self) -> JobReturn:
        from submitit.core.utils import UncompletedJobError

        try:
            return self.job.results()[0]
        except UncompletedJobError:
            raise UncompletedJobError(f"{self.job.state} (its output: {self.job.paths.stderr})") from None


class Slurm(_Patient, SlurmLauncher):
    """A SLURM job for each job of the sweep."""


class Local(_Patient, LocalLauncher):
    """A process here for each job of the sweep, all at once."""
