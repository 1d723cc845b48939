"""What a run leaves beside its numbers: its config, how it went, its page."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from rnnlab.ledger import now, publish
from rnnlab.provenance import provenance

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from rnnlab.task import Task


class RunRecord:
    """Around training: what was run and how it went, in the run directory, also when it fails.

    Writes `config.yaml`, `status.json` and, of a language, `vocabulary.txt`; gives config and provenance to
    the loggers and makes `report.html` at the end. Only the first process writes.

    Args:
        cfg: Resolved config.
        trainer: The trainer, whose loggers and callbacks are asked for what they know.
        task: Its baselines and shape go into the status: what was trained can be opened without the data.

    Attributes:
        best: The best value of `checkpoint.monitor`, to be set when training has ended.
    """

    def __init__(self, cfg: DictConfig, trainer: pl.Trainer, task: Task) -> None:
        self.cfg, self.trainer, self.task = cfg, trainer, task
        self.run_dir = Path(cfg.run_dir)
        self.writes = trainer.is_global_zero
        self.best = math.nan

    def __enter__(self) -> RunRecord:
        self._started = time.perf_counter()
        origin = provenance()
        self._status: dict[str, Any] = {
            "state": "running",
            "started": now(),
            "ended": None,
            "error": None,
            "command": shlex.join(sys.argv),
            "baselines": getattr(self.task, "baselines", {}),
            # strict readers of JSON know no Infinity
            "shape": {k: str(v) if v == math.inf else v for k, v in self.task.shape.items()},
            **origin,
        }
        if self.writes:
            config: Any = OmegaConf.to_container(self.cfg, resolve=True)
            self.run_dir.mkdir(parents=True, exist_ok=True)
            for logger in self.trainer.loggers:
                logger.log_hyperparams({**config, "provenance": origin})
            publish(self.run_dir / "config.yaml", OmegaConf.to_yaml(self.cfg))
            if self.task.vocabulary:
                publish(
                    self.run_dir / "vocabulary.txt", "".join(f"{word}\n" for word in self.task.vocabulary)
                )
            self._write_status()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not self.writes:
            return
        for logger in self.trainer.loggers:
            if close := getattr(logger, "close", None):
                close(failed=kind is not None)
        spent: dict[str, float] = {}
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            for name, seconds in getattr(callback, "seconds", {}).items():
                spent[name] = spent.get(name, 0.0) + seconds
        total = time.perf_counter() - self._started
        # Ctrl-C and SIGTERM reach us as exits of the process; they are no failure
        stopped = kind is not None and issubclass(kind, SystemExit | KeyboardInterrupt)
        self._status |= {
            "state": "stopped" if stopped else "failed" if kind else "finished",
            "ended": now(),
            "error": f"{kind.__name__}: {error}" if kind and not stopped else None,
            "best": self.best if math.isfinite(self.best) else None,
            "timings": {"training": total - sum(spent.values()), **spent},
        }
        try:
            self._write_status()
            from rnnlab.report import write_report

            self.report = write_report(self.run_dir)
        except OSError as problem:
            if kind is None:
                raise
            print(f"report.html could not be written: {problem}", file=sys.stderr)
        if stopped:
            print(
                f"stopped; to go on: python train.py run_dir={shlex.quote(str(self.run_dir))} ckpt_path=last",
                flush=True,
            )

    def say(self) -> None:
        """Tell the person where the results are."""
        if self.writes:
            timings = ", ".join(
                f"{name} {seconds:.0f} s" for name, seconds in self._status["timings"].items()
            )
            print(f"done ({timings})\nreport: {self.report}", flush=True)

    def _write_status(self) -> None:
        publish(self.run_dir / "status.json", json.dumps(self._status, indent=1))
