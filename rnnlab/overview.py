"""A sweep as a whole, seen from the command that started it: how far it is, what failed, its page."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from tqdm import tqdm

from rnnlab.cli import SweepError
from rnnlab.engines import adopt
from rnnlab.ledger import FOLDER, LOG, Ledger

PATIENCE = 20.0  # seconds that jobs get to end by themselves when the sweep is stopped
ENDED = ("finished", "skipped", "failed", "stopped")
_SWEEPS: list[Overview] = []  # the one that is going on


class _Refused(BaseException):
    """Carries what is wrong past Hydra, which makes a warning of a callback's Exception."""


class SweepCallback(Callback):
    """What Hydra calls when a sweep begins, wherever its jobs are to run."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin to watch the sweep, or refuse it; `overview` tells why."""
        try:
            jobs = count(config)
            _hush(config)
            adopt(config.hydra.launcher._target_, config.hydra.sweeper._target_)
            _SWEEPS.append(Overview(Path(config.hydra.sweep.dir), jobs))
        except Exception as error:
            raise _Refused from error


def _hush(config: DictConfig) -> None:
    """Launchers and sweepers have a line for each job, which the overview has too."""
    if "optuna" in config.hydra.sweeper._target_:
        import optuna  # noqa: F401 - which sets its own level when it is first imported
    for name in ("hydra", "hydra_plugins", "optuna", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def count(config: DictConfig) -> int | None:
    """How many jobs a sweep will have; None where only its sweeper knows.

    Args:
        config: Composed config of the sweep, with Hydra's own part.

    Raises:
        ValueError: There are none, or its keys cannot be swept in this way.
    """
    given = list(config.hydra.overrides.task)
    if any(override.startswith("run_dir=") for override in given):
        raise ValueError(
            "run_dir is one directory, a sweep needs one a job: give hydra.sweep.dir=DIR instead."
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ValueError("A sweep is not possible within torchrun: leave out -m, or torchrun.")
    sweeper = config.hydra.sweeper
    fixed = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    loader = GlobalHydra.instance().config_loader()
    # of a key that is given twice the last counts
    last = {o.get_key_element(): o for o in OverridesParser.create(loader).parse_overrides([*fixed, *given])}
    swept = [override for override in last.values() if override.is_sweep_override()]
    if "n_trials" in sweeper:
        if type(sweeper.n_trials) is not int or sweeper.n_trials < 1:
            raise ValueError(
                f"hydra.sweeper.n_trials={sweeper.n_trials} is not possible: "
                "give a whole number of at least 1."
            )
        if not swept and not sweeper.get("search_space") and not sweeper.get("custom_search_space"):
            raise ValueError(
                "There is nothing to search for: give a key an interval, such as optim.optimizer.lr="
                "'tag(log,interval(1e-4,1e-1))', or several values, such as model=lstm,gru."
            )
        return sweeper.n_trials
    if not str(sweeper._target_).endswith("BasicSweeper"):
        return None
    return math.prod(_values(override) for override in swept)


def _values(override: Override) -> int:
    if not override.is_discrete_sweep():
        raise ValueError(
            f"{override.input_line} is not possible in a grid: give values, such as "
            f"{override.get_key_element()}=1e-3,1e-2, or sweep=optuna to search the interval."
        )
    values = sum(1 for _ in override.sweep_string_iterator())
    if values == 0:
        raise ValueError(f"{override.input_line} leaves no job: give at least one value, such as seed=1,2,3.")
    return values


class Overview:
    """Follows the jobs of a sweep by its ledger, and says how far it is, on a terminal by a bar.

    Args:
        sweep_dir: Directory of the sweep, which is made.
        jobs: How many there will be, if that is known.
        interval: Seconds between lines where the output is not a terminal.

    Raises:
        ValueError: Another command is at this sweep.
        OSError: The directory cannot be written to.
    """

    def __init__(self, sweep_dir: Path, jobs: int | None, *, interval: float = 15.0) -> None:
        self.sweep_dir, self.jobs, self.interval = sweep_dir, jobs, interval
        self._is_new = not sweep_dir.exists()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _claim(sweep_dir)
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
        self._bar: tqdm | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._stop)

    @property
    def failures(self) -> list[str]:
        """Of each failed job, which it was and why."""
        return [self._told(entry) for _, entry in sorted(self._ended.items()) if entry["state"] == "failed"]

    @property
    def complete(self) -> bool:
        """Whether as many jobs have ended as there are to be."""
        return len(self._ended) == self.jobs and not self._counts.get("stopped")

    @property
    def has_begun(self) -> bool:
        """Whether there has been any job."""
        return bool(self._ended or self._running)

    def _told(self, entry: dict[str, Any]) -> str:
        given = [set(other["overrides"]) for other in (*self._ended.values(), *self._running)]
        common = set.intersection(*given) if len(given) > 1 else set()
        own = " ".join(override for override in entry["overrides"] if override not in common)
        return f"job {entry['job']}{f' ({own})' if own else ''}: {entry['error']}"

    def _stop(self, number: int, frame: object) -> NoReturn:
        """Ctrl-C or SIGTERM: jobs in processes of ours end in good order first; a second time at once."""
        for each, handler in self._handlers.items():
            signal.signal(each, handler)
        asked = [entry["job"] for entry in self.ledger.read() if _hand_on(entry, number)]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(
            entry["job"] in asked and _hand_on(entry, 0) for entry in self.ledger.read()
        ):
            time.sleep(0.1)
        raise SystemExit(128 + number)

    def close(self) -> None:
        """Say how it ended, and write the sweep's page; of one that never began nothing is left."""
        self._over.set()
        self._thread.join()
        if self._page is not None and self._page.poll() is None:
            self._page.kill()
            self._page.wait()
        with suppress(OSError, ValueError):
            self._look()
        if self._bar is not None:
            self._bar.close()
        if self.has_begun:
            self._say()
            self._write_page()
        elif self._is_new:
            _remove(self.sweep_dir)
        self._lock.close()
        self._out.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _write_page(self) -> None:
        from rnnlab.report import write_sweep_report

        try:
            print(f"report: {write_sweep_report(self.sweep_dir)}", file=self._out)
        except Exception as error:  # what the sweep is for is there
            if self._counts.get("finished") or self._counts.get("skipped"):
                print(f"report.html could not be written: {error}", file=self._out)

    def _follow(self) -> None:
        while not self._over.wait(0.5):
            with suppress(OSError, ValueError):  # what is told is not worth the sweep
                self._look()
                silent = time.monotonic() - self._said_at
                if self._bar is not None and self._bar.disable and silent > self.interval:
                    self._say()
                self._renew_page()

    def _greet(self) -> None:
        how_many = "jobs" if self.jobs is None else f"{self.jobs} job{'s' * (self.jobs != 1)}"
        print(f"sweep of {how_many} in {self.sweep_dir}; each has its output in {LOG} there", file=self._out)
        self._bar = tqdm(
            total=self.jobs,
            desc="sweep",
            unit="job",
            file=self._out,
            dynamic_ncols=True,
            disable=not self._out.isatty(),
        )

    def _look(self) -> None:
        """Read what has changed, and tell of new failures."""
        running = []
        for entry in self.ledger.read(but=self._ended):
            if self._bar is None:
                self._greet()
            if entry["state"] not in ENDED:
                running.append(entry)
                continue
            self._ended[entry["job"]] = entry
            self._counts[entry["state"]] = self._counts.get(entry["state"], 0) + 1
            if entry["state"] == "failed":
                log = self.sweep_dir / entry["run"] / LOG
                tqdm.write(f"failed: {self._told(entry)} (all it said: {log})", file=self._out)
        self._running = running
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(self._shares(), refresh=False)
            self._bar.update(len(self._ended) - self._bar.n)
            self._bar.refresh()

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
        ended = len(self._ended) - self._counts.get("stopped", 0)
        parts = [f"{ended}{of} jobs done", *filter(None, [self._shares()])]
        done = ended - self._counts.get("skipped", 0)
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


def _hand_on(entry: dict[str, Any], number: int) -> bool:
    """Send a signal to the process of a job that is running beside this one; whether there is such a one."""
    process = entry["pid"]
    if entry["state"] in ENDED or entry["host"] != socket.gethostname() or process == os.getpid():
        return False
    with suppress(OSError):
        if os.getsid(process) == os.getsid(0):  # neither one of a cluster's nor of before
            os.kill(process, number)
            return True
    return False


def _claim(sweep_dir: Path) -> TextIO:
    """Hold the sweep against other commands until the file is closed, or this process has ended.

    Raises:
        ValueError: There is another one.
    """
    file = (sweep_dir / ".lock").open("a+", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read().strip()
        file.close()
        raise ValueError(
            f"{sweep_dir} is being worked at by another command ({who}): wait for its end, or give another "
            "hydra.sweep.dir."
        ) from None
    except (ImportError, OSError):  # Windows, or a file system that knows no locks
        pass
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _remove(sweep_dir: Path) -> None:
    """Take away the directory of a sweep that had no job, unless there is something of others in it."""
    for name in (".lock", "multirun.yaml", "study.db"):
        (sweep_dir / name).unlink(missing_ok=True)
    for folder in (sweep_dir / FOLDER, sweep_dir):
        with suppress(OSError):
            folder.rmdir()


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
    except _Refused as refused:
        raise refused.__cause__ or refused from None
    except BaseException as error:
        sweep = _SWEEPS.pop() if _SWEEPS else None
        if sweep is None:
            raise
        sweep.close()
        if not (isinstance(error, Exception) and sweep.complete and sweep.failures):
            if sweep.has_begun:
                print("the sweep has not ended; the same command goes on with it", file=sys.stderr)
            raise
        _tell(sweep.failures)  # Optuna finds no best one where all have failed
    if _SWEEPS:
        sweep = _SWEEPS.pop()
        sweep.close()
        if sweep.failures:
            _tell(sweep.failures)


def _tell(failures: list[str]) -> NoReturn:
    lines = "".join(f"\n  {failure}" for failure in failures)
    many = f"{len(failures)} jobs failed; the others are complete.{lines}"
    raise SweepError(failures[0] if len(failures) == 1 else many) from None
