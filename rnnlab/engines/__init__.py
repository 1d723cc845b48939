"""What runs the jobs of a sweep: Hydra's launchers and its grid, made fit for many jobs that may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.utils import get_class

# by Hydra's or a plugin's own
_OURS = {
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": "rnnlab.engines.grid.Grid",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "rnnlab.engines.slurm.Slurm",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "rnnlab.engines.slurm.Local",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher": "rnnlab.engines.ray.Ray",
}


def adopt(*targets: str) -> None:
    """Have Hydra take ours in place of its own, where there is one: a config may name no others.

    Args:
        targets: What the config of the sweep names, as `hydra.launcher._target_`.
    """
    for target in set(targets) & _OURS.keys():
        Plugins.instance().class_name_to_class[target] = get_class(_OURS[target])


class LostJobsError(RuntimeError):
    """Processes of jobs were ended from outside, so there is no answer; says which, and how."""


def collect(
    waits: Sequence[Callable[[], JobReturn]], first: int, lost: tuple[type[Exception], ...]
) -> list[JobReturn]:
    """Wait for all jobs, also when some are lost.

    Args:
        waits: For each job, waits for its end.
        first: Hydra's number of the first of them.
        lost: What they raise when the process of the job was ended from outside.

    Raises:
        LostJobsError: Some were. The others have ended by then.

    Example:
        >>> def killed():
        ...     raise OSError("killed by signal 9\\nand a long story")
        >>> collect([JobReturn, killed, killed], 5, (OSError,))
        Traceback (most recent call last):
        ...
        rnnlab.engines.LostJobsError: jobs 6, 7 were ended from outside: killed by signal 9
    """
    answers: list[JobReturn] = []
    gone: list[tuple[int, str]] = []
    for number, wait in enumerate(waits, first):
        try:
            answers.append(wait())
        except lost as error:
            gone.append((number, str(error).strip().split("\n")[0]))
    if gone:
        raise LostJobsError(_told(gone))
    return answers


def _told(gone: Iterable[tuple[int, str]]) -> str:
    numbers, reasons = zip(*gone, strict=True)
    which = f"job {numbers[0]} was" if len(numbers) == 1 else f"jobs {', '.join(map(str, numbers))} were"
    return f"{which} ended from outside: {'; '.join(dict.fromkeys(reasons))}"
