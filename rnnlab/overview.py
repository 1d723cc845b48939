"""A sweep as a whole, seen from the command that started it: how far it is, what failed, its page."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from tqdm import tqdm

from rnnlab.cli import SweepError
from rnnlab.ledger import LOG, Ledger

ENDED = ("finished", "skipped", "failed", "stopped")
_SWEEPS: list[Overview] = []  # the one that is going on


class SweepCallback(Callback):
    """What Hydra calls when a sweep begins, wherever its jobs are to run."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin to watch the sweep.

        Raises:
            ValueError: There is no job in it.
        """
        jobs = count(config)
        if jobs == 0:
            empty = [o for o in config.hydra.overrides.task if "(" in o or o.endswith("=")]
            raise ValueError(
                f"{' '.join(empty) or 'the sweep'} leaves no job: give each key at least one value, "
                "such as seed=1,2,3."
            )
        for name in ("hydra", "hydra_plugins", "optuna"):  # a line for each job, which the overview has
            logging.getLogger(name).setLevel(logging.WARNING)
        _SWEEPS.append(Overview(Path(config.hydra.sweep.dir), jobs))


def count(config: DictConfig) -> int | None:
    """How many jobs a sweep will have; None where only its sweeper knows.

    Args:
        config: Composed config of the sweep, with Hydra's own part.
    """
    sweeper = config.hydra.sweeper
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    if not str(sweeper._target_).endswith("BasicSweeper"):
        return None
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    lengths = {
        o.get_key_element(): sum(1 for _ in o.sweep_string_iterator()) if o.is_sweep_override() else 1
        for o in parsed
    }
    return math.prod(lengths.values())


class Overview:
    """Follows the jobs of a sweep by its ledger, and says how far it is, on a terminal by a bar.

    Args:
        sweep_dir: Directory of the sweep.
        jobs: How many there will be, if that is known.
        interval: Seconds between lines where the output is not a terminal.
    """

    def __init__(self, sweep_dir: Path, jobs: int | None, *, interval: float = 15.0) -> None:
        self.sweep_dir, self.jobs, self.interval = sweep_dir, jobs, interval
        self.ledger = Ledger(sweep_dir)
        self.ledger.clear()
        _set_study_aside(sweep_dir)
        # jobs of this process turn its output away
        self._out = os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
        self._counts: dict[str, int] = {}
        self._ended: dict[int, dict[str, Any]] = {}
        self._running: list[dict[str, Any]] = []
        self._started = self._said_at = time.monotonic()
        self._over = threading.Event()
        self._page: subprocess.Popen[bytes] | None = None
        self._page_at = self._page_began = self._started
        how_many = "jobs" if jobs is None else f"{jobs} job{'s' * (jobs != 1)}"
        print(f"sweep of {how_many} in {sweep_dir}; each has its output in {LOG} there", file=self._out)
        terminal = self._out.isatty()
        self._bar = tqdm(total=jobs, desc="sweep", unit="job", file=self._out, disable=not terminal)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def failures(self) -> list[str]:
        """Of each failed job, which it was and why."""
        return [self._told(entry) for _, entry in sorted(self._ended.items()) if entry["state"] == "failed"]

    def _told(self, entry: dict[str, Any]) -> str:
        given = [set(other["overrides"]) for other in (*self._ended.values(), *self._running)]
        common = set.intersection(*given) if len(given) > 1 else set()
        own = " ".join(override for override in entry["overrides"] if override not in common)
        return f"job {entry['job']}{f' ({own})' if own else ''}: {entry['error']}"

    def close(self) -> None:
        """Say how it ended, and write the sweep's page."""
        self._over.set()
        self._thread.join()
        if self._page is not None and self._page.poll() is None:
            self._page.kill()
            self._page.wait()
        self._look()
        self._bar.close()
        self._say()
        from rnnlab.report import write_sweep_report

        try:
            print(f"report: {write_sweep_report(self.sweep_dir)}", file=self._out)
        except Exception as error:  # what the sweep is for is there
            if self._counts.get("finished") or self._counts.get("skipped"):
                print(f"report.html could not be written: {error}", file=self._out)
        self._out.close()

    def _follow(self) -> None:
        while not self._over.wait(0.5):
            with suppress(OSError, ValueError):  # what is told is not worth the sweep
                self._look()
                if self._bar.disable and time.monotonic() - self._said_at > self.interval:
                    self._say()
                self._renew_page()

    def _look(self) -> None:
        """Read what has changed, and tell of new failures."""
        self._running = []
        for entry in self.ledger.read(but=self._ended):
            if entry["state"] not in ENDED:
                self._running.append(entry)
                continue
            self._ended[entry["job"]] = entry
            self._bar.update()
            self._counts[entry["state"]] = self._counts.get(entry["state"], 0) + 1
            if entry["state"] == "failed":
                log = self.sweep_dir / entry["run"] / LOG
                tqdm.write(f"failed: {self._told(entry)} All it said: {log}", file=self._out)
        if not self._bar.disable:
            self._bar.set_postfix_str(self._shares())

    def _shares(self) -> str:
        named = {"skipped": "done before", "failed": "failed", "stopped": "stopped"}
        parts = [f"{self._counts[state]} {name}" for state, name in named.items() if state in self._counts]
        running = len(self._running)
        if running == 1 and (entry := self._running[0])["run"]:
            parts.append(f"at {entry['run']}")
        elif running:
            parts.append(f"{running} running")
        return ", ".join(parts)

    def _say(self) -> None:
        self._said_at = time.monotonic()
        of = "" if self.jobs is None else f" of {self.jobs}"
        parts = [f"{len(self._ended)}{of} jobs done", *filter(None, [self._shares()])]
        done = len(self._ended) - self._counts.get("skipped", 0)
        if self.jobs is not None and done and len(self._ended) < self.jobs and not self._over.is_set():
            left = (self._said_at - self._started) / done * (self.jobs - len(self._ended))
            parts.append(f"about {_span(left)} left")
        print(f"sweep: {', '.join(parts)}", file=self._out)

    def _renew_page(self) -> None:
        """The page, made anew in a process of its own, at most a twentieth of the time."""
        now = time.monotonic()
        if self._page is not None and self._page.poll() is None:
            return
        if self._page is not None:
            self._page_at, self._page = max(now + 20 * (now - self._page_began), now + 30), None
        if now - self._started > 30 and now > self._page_at and self._ended:
            self._page_began = now
            command = [sys.executable, "-m", "rnnlab.report", str(self.sweep_dir)]
            quiet = subprocess.DEVNULL
            self._page = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)


def _set_study_aside(sweep_dir: Path) -> None:
    """A search that is started again asks for the same jobs again, and finished ones answer at once.

    So its study is made anew, to be the one of an unbroken search; what there was is kept beside it.
    """
    study = sweep_dir / "study.db"
    if study.is_file():
        study.replace(study.with_name("study.before.db"))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def overview() -> Iterator[None]:
    """Around a command: if it is a sweep, it is watched, and its failures are told at the end as one error.

    Raises:
        SweepError: Jobs failed.
    """
    try:
        yield
    except BaseException:
        if _SWEEPS:
            _SWEEPS.pop().close()
            print("the sweep has not ended; the same command goes on with it", file=sys.stderr)
        raise
    if not _SWEEPS:
        return
    sweep = _SWEEPS.pop()
    sweep.close()
    if failures := sweep.failures:
        lines = "".join(f"\n  {failure}" for failure in failures)
        many = f"{len(failures)} jobs failed; the others are complete.{lines}"
        raise SweepError(failures[0] if len(failures) == 1 else many)
