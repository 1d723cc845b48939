"""Weights & Biases, which may lack a key, a network or an answer without costing the run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger as _WandbLogger
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.ledger import FOLDER as LEDGER
from rnnlab.loggers.epochs import CountsEpochs
from rnnlab.wandb_access import first_line, has_key, is_there

_MODES = ("auto", "online", "offline", "disabled")
_NO_ANSWER = ("timed out", "deadline exceeded")
# what wandb's own process writes to its log when it has given something up
_GIVEN_UP = ('"level":"ERROR+', "failed to upload", "returned error")
_WAYS_OUT = "Run `wandb login`, or give logger.wandb.mode=offline or logger=none."


class WandbError(ValueError):
    """What was asked of W&B is not possible."""


class WandbLogger(CountsEpochs, _WandbLogger):
    """One W&B run for one run directory, with epochs as x axis.

    Nothing is imported, started or asked before the first use, and only the first process logs. One line
    says where the run is. Files go to `run_dir/wandb`; the run's id is kept there, so that a resumed run
    goes on with the same W&B run. A process that `wandb agent` started joins the agent's run, which has a
    project of its own. Another open W&B run in this process is left alone, and no environment variable is
    changed. Call `close` at the end; a run that fails within Lightning is closed as failed.

    W&B never costs the run: where the server can't be reached, is too slow or refuses, the W&B run is
    offline; where it is lost later, or wandb's own process dies, training goes on. One line says so, and how
    to upload what there is.

    Args:
        run_dir: Directory of the run.
        project: W&B project.
        mode: `auto` does as WANDB_MODE or `wandb offline` say, else is online where a key is found, else
            offline. `online`, `offline` and `disabled` are W&B's own.
        entity: W&B user or team. Default: that of the key.
        name: Name of the run. Default: that of the run directory; of an agent's run, what W&B calls it.
        group: W&B group. Default: in a sweep, the name of its directory, else none.
        tags: W&B tags.
        init_timeout: Seconds to wait for the server at the start.
        finish_timeout: Seconds to wait at the end until all is sent.
        **options: Further arguments of `wandb.init`.

    Raises:
        ValueError: `mode` is unknown or a timeout is not positive.
        WandbError: At the first use, when `mode` is online and there is no key, or when W&B takes no such
            project, entity, name or tags.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        project: str = "rnnlab",
        mode: str = "auto",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Iterable[str] = (),
        init_timeout: float = 20.0,
        finish_timeout: float = 30.0,
        **options: Any,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"mode={mode!r} is not possible: choose one of {', '.join(_MODES)}.")
        for key, value in (("init_timeout", init_timeout), ("finish_timeout", finish_timeout)):
            if not value > 0:
                raise ValueError(f"{key}={value} is not possible: give a positive number of seconds.")
        self.run_dir = Path(run_dir).absolute()
        self.mode = mode
        self.init_timeout, self.finish_timeout = float(init_timeout), float(finish_timeout)
        self._how_to_sync = ""
        sweep = self.run_dir.parent
        if group is None and any((sweep / LEDGER).glob("*.json")):
            group = sweep.name
        super().__init__(
            name=name or self.run_dir.name,
            save_dir=str(self.run_dir),
            project=project,
            entity=entity,
            group=group,
            tags=tuple(tags) or None,
            **options,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, opened at the first use; on other ranks something that takes every call."""
        if self._experiment is None:
            with _own_environment():
                self._experiment = self._open()
        return self._experiment

    def _open(self) -> Any:
        import wandb
        from wandb.errors import UsageError

        # before the first run of a process this also silences what wandb says outside of any run
        shared = wandb.setup(_quiet()).settings
        server = os.environ.get("WANDB_BASE_URL") or shared.base_url
        mode, reason = self._choose_mode(shared, server)
        folder = self.run_dir / "wandb"
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        id_file = folder / "run-id.txt"
        if id_file.exists():
            self._wandb_init["id"] = id_file.read_text().strip()
        known_id = shared.run_id if shared.sweep_id else self._wandb_init["id"] or shared.run_id
        try:
            run, reason = self._start(mode, server, reason)
            run.define_metric("epoch")
            run.define_metric("*", step_metric="epoch")
        except UsageError as error:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise WandbError(f"W&B takes no such run: {first_line(error)}. {_WAYS_OUT}") from None
        except (wandb.Error, *_lost()) as error:
            print(f"W&B: it can't be started ({first_line(error)}); metrics.csv is kept.", flush=True)
            return DummyExperiment()
        if run.disabled:
            return run
        id_file.write_text(f"{known_id or run.id}\n")
        options = [] if run.offline else ["--include-online"]
        options += ["--id", known_id] if known_id not in (None, run.id) else []
        self._how_to_sync = f"To upload it: {shlex.join(['wandb', 'sync', *options, str(folder)])}"
        print(
            f"W&B: this run is offline{reason}. {self._how_to_sync}" if run.offline else f"W&B: {run.url}",
            flush=True,
        )
        return run

    def _start(self, mode: str, server: str, reason: str) -> tuple[Any, str]:
        """A run in this mode, or offline if the server does not take it; and the reason why it is offline."""
        import wandb

        settings = {
            "base_url": server,
            "silent": True,
            "init_timeout": self.init_timeout,
            "finish_timeout": self.finish_timeout,
            "finish_timeout_raises": True,
        }
        # an open run, which may be the user's own, is neither taken over nor finished
        own = {"mode": mode, "reinit": "create_new", "settings": settings}
        given = (self._wandb_init | own).items()
        arguments: Any = {name: value for name, value in given if value is not None}
        shared = wandb.setup().settings
        if shared.sweep_id and arguments["name"] == self.run_dir.name:
            del arguments["name"]  # W&B numbers the runs of its sweeps
        try:
            return wandb.init(**arguments), reason
        except (wandb.Error, *_lost()) as error:
            if mode != "online":
                raise
            reason = _in_words(error, server)
            if isinstance(error, _lost()):
                _forget_service()
                shared = wandb.setup(_quiet()).settings
        # wandb holds the id of a failed attempt; uploaded, what is kept under another joins the run
        arguments.pop("id", None)
        shared.run_id = None
        return wandb.init(**arguments | {"mode": "offline"}), reason

    def _choose_mode(self, shared: Any, server: str) -> tuple[str, str]:
        """The mode, and the reason where it is another than wanted."""
        wanted = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        if wanted is None and shared.mode != "online":
            wanted = shared.mode
        if wanted not in (None, "online"):
            return wanted, ""
        if not has_key(shared, server):
            if wanted == "online":
                raise WandbError(f"mode=online, but there is no key for {server}. {_WAYS_OUT}")
            return "offline", ""
        if not is_there(server, self.init_timeout):
            return "offline", f" because {server} can't be reached"
        return "online", ""

    def _tell(self, say: Callable[[Any], None]) -> None:
        """Say something to the W&B run. If wandb has died, that costs neither this run nor the next."""
        run = self.experiment
        if isinstance(run, DummyExperiment):
            return
        try:
            say(run)
        except _lost() as error:
            self._experiment = DummyExperiment()
            _forget_service()
            why = f"its process is gone: {type(error).__name__}"
            print(f"W&B: the rest of this run is not recorded there ({why}). {self._how_to_sync}", flush=True)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Keep the config with the run."""
        self._tell(lambda run: super(WandbLogger, self).log_hyperparams(params))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at their epoch."""
        self._tell(lambda run: run.log({**metrics, "epoch": self.finished_epochs(metrics, step)}))

    @rank_zero_only
    def log_html(self, key: str, path: str | Path, step: int | None = None) -> None:
        """Log a page, for instance an interactive figure.

        Args:
            key: Name of the page.
            path: An HTML file that needs no other files.
            step: Finished epochs.
        """
        import wandb

        self.log_metrics({key: wandb.Html(Path(path), inject=False)}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Called by Lightning after a fit or test; a failed one ends the run, else more may follow."""
        super().finalize(status)
        if status == "failed":
            self.close(failed=True)

    @rank_zero_only
    def close(self, failed: bool = False) -> None:
        """Finish the W&B run, if one is open; that what can't be sent stays on disk is said."""
        run, self._experiment = self._experiment, None
        if run is None or isinstance(run, DummyExperiment):
            return
        with _own_environment():
            try:
                run.finish(exit_code=int(failed))
                why = _given_up(run)
            except TimeoutError:
                why = f"not within {self.finish_timeout:g} s"
            except Exception as error:  # the end of the record elsewhere is not the end of the run here
                why = type(error).__name__
                if isinstance(error, _lost()):
                    _forget_service()
        if why:
            print(f"W&B: not all of this run could be sent ({why}). {self._how_to_sync}", flush=True)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Within it W&B reports no errors of its own, whose look-ups reach for the network even when offline.

    What W&B leaves in the environment is taken out again: child processes have no part in the run.
    """
    before = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update(before)


def _quiet() -> Any:
    import wandb

    return wandb.Settings(show_info=False, show_warnings=False, show_errors=False)


def _lost() -> tuple[type[Exception], ...]:
    """What is raised where wandb's own process, which all runs of this one share, has died."""
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return ConnectionError, HandleAbandonedError, MailboxClosedError


def _forget_service() -> None:
    """Let the next run start a new process of wandb's; the old one is dead, and would say so at the end."""
    import wandb

    with suppress(Exception, SystemExit):
        wandb.teardown()


def _in_words(error: Exception, server: str) -> str:
    """Why a run is offline that was to be online."""
    if isinstance(error, _lost()):
        return " because wandb's own process has died"
    if any(sign in str(error).lower() for sign in _NO_ANSWER):
        return f" because {server} gave no answer"
    why = first_line(error).partition(": {")[0]  # of which the rest is the answer as JSON
    return f" because {server} refused it ({why}; `wandb login` sets another key)"


def _given_up(run: Any) -> str:
    """What wandb did not send of a finished run, which it tells to no one but its log; else nothing."""
    if run.offline or run.disabled:
        return ""
    try:
        text = Path(run.settings.log_internal).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "refused" if any(sign in text for sign in _GIVEN_UP) else ""
