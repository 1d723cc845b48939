"""A W&B workspace for the runs of a project: `python -m rnnlab.wandb_workspace ENTITY/PROJECT`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rnnlab.wandb_access import first_line, has_key, is_there

_TIMEOUT = 20  # seconds


@dataclass(frozen=True)
class Section:
    """What is shown of one question.

    Attributes:
        name: Its title.
        lines: From the title of a diagram over epochs to the names of the numbers in it.
        images: Names of pictures, side by side with those of the other runs.
        log: Titles of the diagrams whose vertical axis is logarithmic.
    """

    name: str
    lines: dict[str, tuple[str, ...]]
    images: tuple[str, ...] = ()
    log: tuple[str, ...] = field(default=())


# names as the learner and the callbacks log them
SECTIONS = (
    Section(
        "Training",
        {
            "loss": ("train/loss", "val/loss"),
            "accuracy": ("train/accuracy", "val/accuracy"),
            "norm of the gradient": ("grad_norm",),
            "learning rate": ("lr",),
        },
        log=("loss", "norm of the gradient", "learning rate"),
    ),
    Section(
        "Bifurcation diagrams",
        {
            "share of orbits": ("bifurcation/settled", "bifurcation/at_rest", "bifurcation/oscillating"),
            "peak-to-peak output": ("bifurcation/peak_to_peak",),
        },
        images=("bifurcation/bifurcation", "bifurcation/bifurcation_3d"),
    ),
    Section(
        "Lyapunov exponents",
        {
            "leading exponent, nats per step": ("lyapunov/leading", "lyapunov/largest"),
            "share of chaos": ("lyapunov/chaotic",),
        },
        images=("lyapunov/lyapunov", "lyapunov/lyapunov_convergence"),
    ),
    Section(
        "Fixed points",
        {
            "fixed points of a probe": ("fixed_points/points", "fixed_points/stable"),
            "most unstable directions": ("fixed_points/unstable_directions",),
            "slow points of a probe": ("fixed_points/slow_points",),
            "share of starts not converged": ("fixed_points/not_converged",),
        },
        images=("fixed_points/fixed_points", "fixed_points/fixed_points_eigenvalues"),
    ),
    Section(
        "Attractors",
        {
            "attractors of a probe": ("attractors/count",),
            "share of starts": (
                "attractors/fixed_point",
                "attractors/periodic_orbit",
                "attractors/torus",
                "attractors/chaos",
                "attractors/undecided",
            ),
        },
        images=("attractors/attractors", "attractors/attractors_ranges"),
    ),
    Section(
        "Contraction",
        {
            "Lipschitz constant of the state map": ("contraction/upper", "contraction/sampled"),
            "long-run rate": ("contraction/rate",),
            "share of probes that contract": ("contraction/contracting",),
        },
        images=("contraction/contraction",),
    ),
)


def workspace(
    entity: str, project: str, *, name: str = "rnnlab", sections: Sequence[Section] = SECTIONS
) -> Any:
    """A `wandb_workspaces.workspaces.Workspace`, not saved yet: no network is needed.

    Runs are grouped by model (their W&B job type) and, within it, by seed. Diagrams have epochs as x axis.

    Args:
        entity: W&B user or team.
        project: W&B project.
        name: What it is called in W&B.
        sections: What is shown, from top to bottom.

    Raises:
        ModuleNotFoundError: The package `wandb-workspaces` is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
        from wandb_workspaces.expr import Config, Metric
    except ImportError:
        raise ModuleNotFoundError(
            "A W&B workspace needs a package that is not installed: pip install 'rnnlab[workspace]'."
        ) from None
    made = []
    for section in sections:
        lines = [
            panels.LinePlot(title=title, x="epoch", y=list(keys), log_y=title in section.log or None)
            for title, keys in section.lines.items()
        ]
        images = [
            panels.MediaBrowser(title=key.partition("/")[2], media_keys=[key]) for key in section.images
        ]
        made.append(workspaces.Section(name=section.name, panels=[*images, *lines], is_open=True))
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=made,
        settings=workspaces.WorkspaceSettings(x_axis="epoch"),
        runset_settings=workspaces.RunsetSettings(groupby=[Metric("JobType"), Config("seed")]),
        auto_generate_panels=False,
    )


def save(made: Any) -> str:
    """Put a workspace into its W&B project, beside those that are there, and return its address.

    Raises:
        ValueError: There is no key, the server gives no answer or refuses, or there is no such project.
    """
    import wandb

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    shared = wandb.setup(wandb.Settings(silent=True)).settings
    server = os.environ.get("WANDB_BASE_URL") or shared.base_url
    path = f"{made.entity}/{made.project}"
    if not has_key(shared, server):
        raise ValueError(f"There is no key for {server}: run `wandb login`, or give --print.")
    if not is_there(server, _TIMEOUT):
        raise ValueError(f"{server} can't be reached: try again later, or give --print.")
    try:
        project = wandb.Api(timeout=_TIMEOUT).project(made.project, made.entity)
        project.id  # noqa: B018  asks the server
        made.save()
    except Exception as error:  # wandb has a dozen kinds, and no common one
        raise ValueError(
            f"{path} got no workspace from {server} ({first_line(error)}): give a project that is there and "
            "that your key may change."
        ) from None
    return made.url


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rnnlab.wandb_workspace",
        description="Make a W&B workspace that shows loss and dynamics, grouped by model and seed.",
    )
    parser.add_argument("path", metavar="ENTITY/PROJECT", help="the W&B project that the runs are in")
    parser.add_argument("--name", default="rnnlab", help="what the workspace is called")
    parser.add_argument("--print", action="store_true", help="show what would be sent, and send nothing")
    given = parser.parse_args(arguments)
    try:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", given.path):
            raise ValueError(
                f"{given.path} is not possible: give ENTITY/PROJECT, for example my-team/rnnlab."
            )
        entity, project = given.path.split("/")
        made = workspace(entity, project, name=given.name)
        print(json.dumps(made._spec, indent=1) if given.print else save(made))
    except (ModuleNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
