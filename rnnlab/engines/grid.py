"""A grid of many jobs."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class Grid(BasicSweeper):
    """As Hydra's own, but that a thousand jobs need not be composed before the first begins."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None) -> None:
        # not by super(): Hydra loads the module of its own anew where it looks for plugins once more
        self.overrides, self.batch_index = None, 0
        self.max_batch_size, self.params = max_batch_size, params or {}
        self.hydra_context = self.config = self.launcher = None

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
