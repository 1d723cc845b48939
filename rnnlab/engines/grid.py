"""A grid of many jobs."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Grid(BasicSweeper):
    """As Hydra's own, but that a thousand jobs need not be composed before the first begins."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose one job of each combination of choices: whether there is a key is the same for all values.

        Raises:
            HydraException: One cannot be composed.
        """
        assert self.hydra_context is not None
        groups = set(self.hydra_context.config_loader.list_groups(""))
        kinds = {
            tuple(override for override in job if override.lstrip("+").split("=")[0] in groups): job
            for job in batch
        }
        super().validate_batch_is_legal(list(kinds.values()))
