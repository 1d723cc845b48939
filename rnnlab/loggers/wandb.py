"""Weights & Biases, which may lack a key, a network or an answer without costing the run."""

from __future__ import annotations

import netrc
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers import WandbLogger as _WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers.epochs import CountsEpochs

_MODES = ("auto", "online", "offline", "disabled")
_NO_ANSWER = ("timed out", "deadline exceeded")
_WAYS_OUT = "Run `wandb login`, or give logger.wandb.mode=offline or logger=none."


class WandbError(ValueError):
    """W&B refused the key or the run."""


class WandbLogger(CountsEpochs, _WandbLogger):
    """One W&B run for one run directory, with epochs as x axis.

    Nothing is imported, started or asked before the first use, and only the first process logs. One line
    says where the run is. Files go to `run_dir/wandb`; the run's id is kept there, so that a resumed run
    goes on with the same W&B run. Another open W&B run in this process is left alone, and no environment
    variable is changed. Call `close` at the end; a run that fails within Lightning is closed as failed.

    Args:
        run_dir: Directory of the run.
        project: W&B project.
        mode: `auto` does as WANDB_MODE or `wandb offline` say, else is online where a key is found, else
            offline. `online`, `offline` and `disabled` are W&B's own. Where the server gives no answer the
            run is offline in any case.
        entity: W&B user or team. Default: that of the key.
        name: Name of the run. Default: that of the run directory.
        group: W&B group, for instance a sweep.
        tags: W&B tags.
        init_timeout: Seconds to wait for the server at the start.
        finish_timeout: Seconds to wait at the end until all is sent.
        **options: Further arguments of `wandb.init`.

    Raises:
        ValueError: `mode` is unknown or a timeout is not positive.
        WandbError: At the first use, when the key is refused or malformed, or `mode` is online without one.
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
        if name is None:  # the jobs of a sweep have numbers for names
            name = "-".join(self.run_dir.parts[-2:]) if self.run_dir.name.isdigit() else self.run_dir.name
        super().__init__(
            name=name,
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

        # before the first run of a process this also silences what wandb says outside of any run
        shared = wandb.setup(wandb.Settings(show_info=False)).settings
        server = os.environ.get("WANDB_BASE_URL") or shared.base_url
        mode = self._choose_mode(shared, server)
        folder = self.run_dir / "wandb"
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        id_file = folder / "run-id.txt"
        if id_file.exists():
            self._wandb_init["id"] = id_file.read_text().strip()
        known_id = self._wandb_init["id"]
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
        reason = ""
        try:
            run = wandb.init(**arguments)
        except wandb.Error as error:
            if not any(sign in str(error).lower() for sign in _NO_ANSWER):
                if is_new:
                    shutil.rmtree(folder, ignore_errors=True)
                why = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
                raise WandbError(f"W&B at {server} refused the run: {why}. {_WAYS_OUT}") from None
            reason = f" because {server} gave no answer"
            # wandb holds the id of a failed attempt; what is kept under another joins the run when uploaded
            arguments.pop("id", None)
            run = wandb.init(**arguments | {"mode": "offline"})
        if run.disabled:
            return run
        id_file.write_text(f"{known_id or run.id}\n")
        options = [] if run.offline else ["--include-online"]
        options += ["--id", known_id] if known_id not in (None, run.id) else []
        self._how_to_sync = f"To upload it: {shlex.join(['wandb', 'sync', *options, str(folder)])}"
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        print(
            f"W&B: this run is offline{reason}. {self._how_to_sync}" if run.offline else f"W&B: {run.url}",
            flush=True,
        )
        return run

    def _choose_mode(self, shared: Any, server: str) -> str:
        wanted = os.environ.get("WANDB_MODE") if self.mode == "auto" else self.mode
        if wanted is None and shared.mode != "online":
            wanted = shared.mode
        if wanted in (None, "online") and not _has_key(shared, server):
            if wanted == "online":
                raise WandbError(f"mode=online, but there is no key for {server}. {_WAYS_OUT}")
            return "offline"
        return wanted or "online"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at their epoch."""
        self.experiment.log({**metrics, "epoch": self.finished_epochs(metrics, step)})

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
        if run is None:
            return
        with _own_environment():
            try:
                run.finish(exit_code=int(failed))
            except Exception as error:  # the end of the record elsewhere is not the end of the run here
                why = type(error).__name__
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


def _has_key(shared: Any, server: str) -> bool:
    """Whether wandb would find a key for a server without asking for one."""
    import wandb

    if shared.api_key or any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    hosts = [urlsplit(server).netloc]
    if server == wandb.Settings().base_url:
        hosts.append("api.wandb.ai")  # W&B's own servers have changed their name
    places = [os.environ.get("NETRC", ""), "~/.netrc", "~/_netrc"]
    path = next((p for p in map(os.path.expanduser, filter(None, places)) if os.path.exists(p)), None)
    if path is None:
        return False
    try:
        entries = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(host) for host in hosts)
