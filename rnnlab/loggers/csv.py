"""`metrics.csv`: the durable record of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from rnnlab.loggers.epochs import CountsEpochs


class MetricsCSV(CountsEpochs, Logger):
    """Keeps `run_dir/metrics.csv`, one row an epoch, safe against `kill -9` at any moment.

    Column `epoch` is the number of finished epochs. All calls of one epoch go to one row, which is on disk
    when the call returns; a number that comes later (a new column, a test after training) is put in by
    replacing the file in one piece. Numbers are written in full, so equal text means equal bits. A new
    logger goes on with the rows it finds; a fit that starts at epoch n first drops the rows after n, which
    are of a run that was stopped between two checkpoints.

    Args:
        run_dir: Directory of the run; made when the first row is written.

    Raises:
        ValueError: While logging, when a value is no number, or `metrics.csv` is not a file of this kind.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> record = MetricsCSV(folder.name)
        >>> record.log_metrics({"train/loss": 0.5}, step=1)
        >>> record.log_metrics({"train/loss": 0.25}, step=2)
        >>> record.log_metrics({"test/loss": 0.3}, step=2)
        >>> print(record.path.read_text())
        epoch,train/loss,test/loss
        1,0.5,
        2,0.25,0.3
        <BLANKLINE>
        >>> folder.cleanup()
    """

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__()
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / "metrics.csv"
        self._columns: list[str] = []
        self._rows: dict[int, dict[str, str]] | None = None  # by epoch; None: not read yet
        self._lines: dict[int, bytes] = {}  # the same as they stand in the file
        self._fit_begins = False

    @property
    def name(self) -> str:
        """Nothing: the run directory says it all."""
        return ""

    @property
    def version(self) -> str:
        """Nothing: the run directory says it all."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self.run_dir)

    log_dir = save_dir

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Remember the trainer, and that a fit begins."""
        super().log_graph(model, input_array)
        self._fit_begins = self.fitting

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Put numbers in the row of their epoch; see `CountsEpochs.finished_epochs` for which that is."""
        if self._fit_begins and self.trainer is not None:
            self._fit_begins = False
            self.truncate(self.trainer.current_epoch)
        rows = self._read()
        epoch = self.finished_epochs(metrics, step)
        new = {name: _text(name, value) for name, value in metrics.items() if name != "epoch"}
        row = rows.get(epoch, {}) | new
        if row == rows.get(epoch):
            return
        is_next = all(epoch > other for other in rows)
        rows[epoch] = row
        if added := [name for name in new if name not in self._columns]:
            self._columns += added
            self._lines = {other: self._line(other) for other in rows}
        else:
            self._lines[epoch] = self._line(epoch)
        if is_next and not added and self.path.exists():
            with self.path.open("ab") as file:
                file.write(self._lines[epoch])
        else:
            self._replace()

    @rank_zero_only
    def truncate(self, epoch: int) -> None:
        """Drop the rows after an epoch."""
        rows = self._read()
        if dropped := [other for other in rows if other > epoch]:
            for other in dropped:
                del rows[other], self._lines[other]
            self._replace()

    def _read(self) -> dict[int, dict[str, str]]:
        if self._rows is not None:
            return self._rows
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # the last line of a killed run may be a part of one
        try:
            header, *table = list(csv.reader(io.StringIO(whole.decode()))) or [["epoch"]]
            if header[0] != "epoch":
                raise ValueError
            rows = {
                int(cells[0]): {name: c for name, c in zip(header[1:], cells[1:], strict=True) if c}
                for cells in table
            }
        except (ValueError, IndexError):
            raise ValueError(
                f"{self.path} is not a record of epochs to go on with: move it, or give another run_dir."
            ) from None
        self._columns, self._rows = header[1:], rows
        self._lines = {epoch: self._line(epoch) for epoch in rows}
        if whole != content:
            self._replace()
        return rows

    def _line(self, epoch: int) -> bytes:
        row = (self._rows or {})[epoch]
        return _encode([epoch, *(row.get(name, "") for name in self._columns)])

    def _replace(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(".metrics.csv.partial")
        lines = [_encode(["epoch", *self._columns]), *(self._lines[epoch] for epoch in sorted(self._lines))]
        try:
            partial.write_bytes(b"".join(lines))
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)


def _encode(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _text(name: str, value: Any) -> str:
    """A number in full."""
    try:
        return repr(float(value))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}={value!r} can't be logged: metrics are single numbers.") from None
