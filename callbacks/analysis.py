"""The one adapter between training and dynamics."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from tqdm.auto import tqdm

from rnnlab import members
from rnnlab.autonomous import ClosedLoop, Driven, Greedy, HeldInput, Network, freeze
from rnnlab.ensemble import Ensemble
from rnnlab.labelled import concatenate
from rnnlab.shares import everyone, join_rows, shared, sharers, sharing
from rnnlab.store import Store
from rnnlab.systems import Observed, Sequence, System
from rnnlab.task import Probes, Watched

Analysis = Callable[..., xr.Dataset]  # of a system and initial states
Draw = Callable[[xr.Dataset], Mapping[str, Any]]
Feedback = Callable[[Tensor, Tensor], Tensor]  # (*batch, output), (*batch, *input) -> (*batch, *input)


class Kept(Protocol):
    """A run that kept checkpoints, as `rnnlab.runs.open_run` opens it."""

    path: Path

    @property
    def task(self) -> Any: ...

    @property
    def epochs_kept(self) -> list[int]: ...

    def load(self, checkpoint: int) -> Any: ...


def _unfolded(rows: xr.Dataset, samples: int) -> xr.Dataset:
    """Rows `(probe x sample, 1, ...)` as `(probe, sample, ...)`."""
    variables = {
        name: v if "probe" not in v.dims else (v.dims, v.values.reshape(-1, samples, *v.shape[2:]), v.attrs)
        for name, v in rows.data_vars.items()
    }
    return xr.Dataset(variables, rows.coords, rows.attrs)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever happens within it, all random streams go on afterwards as if it had not."""
    state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


def best_member(store: Store) -> int:
    """The member of an ensemble whose last training loss is lowest; the first where none is on record."""
    return members.ranking(store.read(members.NAME))[0] if members.NAME in store else 0


class AnalysisCallback(pl.Callback):
    """Looks at the network every few epochs: says when to look and where to put what was seen.

    A look freezes a float64 copy of the network, holds each probe input, runs the analysis from the same
    random initial states every time (unless `fresh`), and appends the result to the store before training
    goes on. Training is not touched: weights, gradients, random streams and modes are the same with and
    without it. Several processes share out each look, as `share` says, and see what one would see.

    The members of an `Ensemble` are looked at side by side: what was seen then has a `member` axis beside
    that of the probes. Drawn are the distribution over the members (`figures/<name>_members.png`) and, as for
    a single network, the member whose training loss is lowest.

    Args:
        name: Name of the analysis in the store, the figures and the log.
        analysis: From a system and initial states `(probe, sample, state)` to a labelled dataset.
        every: Look after every so many epochs, beside one look before the first and one at the last, also
            where training was stopped early.
        samples: Number of random initial states, the same for every probe.
        std: Their standard deviation (normal distribution, mean zero), for every component of the state.
        seed: Seed of the initial states.
        fresh: Draw new initial states at every look, from the seed and the epoch. Default: the same ones.
        alone: The analysis takes one system at a time, without a probe axis, and states `(sample, state)`.
        generation: Look at the network that is fed its own output (`ClosedLoop`) instead of being told, for
            tasks with teacher forcing. The task's `feedback(y, u)` makes the next input from an output y and
            a probe u; a function given here is taken instead. Where inputs are symbols, it is fed the
            likeliest (`Greedy`), and a probe is the first of them. Names of what is stored, drawn and logged
            then end in `_generation`.
        driven: Look at the network driven by stretches of the task's data (`Driven`), for analyses of
            sequences such as `lyapunov_spectrum`; probes are then the task's `excerpts()`. Names then end in
            `_driven`.
        draw: From all looks so far to figures by name, each saved as `figures/<name>.png`. Drawing waits
            until it takes less than a twentieth of the time; the last look is always drawn.
        draws_members: Of an ensemble `draw` takes all members, with their axis. Default: one of them.
        summary: From one look to scalars for the log.
        warm: From the look before to further arguments of the analysis, such as points known already; they
            are given from the second look on, also where training was resumed.
        share: What several processes share out. "probe": whole probes. "row": pairs of a probe and an initial
            state, for an analysis that finds of each the same whatever others stand beside it, and in whose
            result all that has an axis `probe` has `sample` next to it. "inside": whole probes too, but where
            they are fewer than the processes, the analysis itself shares out what it does, by
            `rnnlab.shares`.
        merge: From the result of an analysis of rows to what is stored, such as means over the samples.
        model: Finds the network in the LightningModule; it has `step(x, u)`, `read(x)`, `state_size`.
            Default: its attribute `model`.
        probes: Constant inputs to hold. Default: those of the trainer's datamodule.
        store: Where results go. Default: `analysis.zarr` in the trainer's `default_root_dir`.

    Raises:
        ValueError: `every` or `samples` is below 1, `std` is negative, or `driven` is asked of a callback
            that looks at maps only; `share` is none of the three, or does not go with the rest; while
            looking, the result is not one of rows.
    """

    maps_only = False  # the analysis knows no sequences

    def __init__(
        self,
        name: str,
        analysis: Analysis,
        *,
        every: int = 10,
        samples: int = 4,
        std: float = 1.0,
        seed: int = 0,
        fresh: bool = False,
        alone: bool = False,
        generation: bool | Feedback = False,
        driven: bool = False,
        draw: Draw | None = None,
        draws_members: bool = False,
        summary: Callable[[xr.Dataset], dict[str, float]] | None = None,
        warm: Callable[[xr.Dataset], dict[str, Any]] | None = None,
        share: str = "probe",
        merge: Callable[[xr.Dataset], xr.Dataset] | None = None,
        model: Callable[[pl.LightningModule], Network] | None = None,
        probes: Probes | None = None,
        store: Store | str | Path | None = None,
    ) -> None:
        for key, value in (("every", every), ("samples", samples)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{key}={value!r} is not possible: give a whole number of at least 1.")
        if std < 0:
            raise ValueError(f"std={std} is not possible: a standard deviation is not negative.")
        if share not in ("probe", "row", "inside"):
            raise ValueError(f"share={share!r} is not possible: give probe, row or inside.")
        if share == "row" and (warm is not None or alone):
            raise ValueError("share='row' is not possible with warm or alone, which are of whole probes.")
        if generation and driven:
            raise ValueError("generation and driven are not possible at once: take two callbacks.")
        if driven and self.maps_only:
            raise ValueError(
                f"driven=true is not possible with {type(self).__name__}, which looks at maps that stay the "
                "same: take Lyapunov."
            )
        self._base, self.generates, self.driven = name, bool(generation), driven
        self.name = f"{name}_generation" if generation else f"{name}_driven" if driven else name
        self.feedback: Feedback | None = generation if callable(generation) else None
        self.analysis, self.every = analysis, every
        self.samples, self.std, self.seed, self.fresh = samples, std, seed, fresh
        self.alone, self.draw, self.draws_members = alone, draw, draws_members
        self.summary, self.warm = summary, warm
        self.share, self.merge = share, merge
        self.find_model = model or (lambda module: module.model)
        self.probes = probes
        self.store = Store(store) if isinstance(store, str | Path) else store
        self.seconds = {self.name: 0.0, "drawing": 0.0}
        self.looks = 0
        self._drawn_at = self._draw_cost = 0.0
        self._looked_at = -1
        self._outputs: tuple[str, ...] = ()  # names of the task's, if it has some
        self._watch: Callable[[Network], Watched | None] = lambda model: None
        self._last: xr.Dataset | None = None  # the last look, if it is asked for

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Ask the task what there is to look at, before any callback looks or anything is written."""
        if stage == "fit":
            self.meet(getattr(trainer, "datamodule", None), Path(trainer.default_root_dir))

    def meet(self, task: Any, run_dir: Path) -> None:
        """Learn from the task what there is to look at, if not told, and where results go."""
        self._outputs = tuple(getattr(task, "output_names", ()))
        self._watch = getattr(task, "watch", self._watch)
        if self.store is None:
            self.store = Store(run_dir / "analysis.zarr")
        if self.probes is None:
            self.probes = self._task_probes(task)
        if self.generates and self.feedback is None and not getattr(task, "symbols", False):
            self.feedback = self._task_feedback(task)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget looks past the point that training goes on from, and look before the first epoch."""
        epoch = trainer.current_epoch
        assert self.store is not None
        if trainer.is_global_zero:
            self.store.truncate(epoch)
        if epoch == 0:
            self.look(trainer, pl_module, epoch)
        else:
            with sharing():  # what the first process reads: it has just forgotten later looks
                found = (self._seen_last(), self._look_before(epoch)) if trainer.is_global_zero else None
                self._looked_at, self._last = everyone(found)[0]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look when it is time."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every == 0 or epoch == trainer.max_epochs:
            self.look(trainer, pl_module, epoch)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look once more where training was stopped early."""
        if self._looked_at != trainer.current_epoch:
            self.look(trainer, pl_module, trainer.current_epoch)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw all there is, also where nothing was left to train: the run may have been killed drawing."""
        if trainer.is_global_zero and self.store is not None and self.name in self.store:
            self._draw(trainer, self._seen_last())

    def initial_states(self, state_size: int, epoch: int = 0) -> Tensor:
        """`(sample, state)` in float64, the same at every look unless they are to be fresh."""
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * epoch * self.fresh)
        return self.std * torch.randn(self.samples, state_size, generator=generator, dtype=torch.float64)

    def look(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        """Analyse the network as it is now and store the result. Every process must call it."""
        started = time.perf_counter()
        assert self.probes is not None
        assert self.store is not None
        with undisturbed(), torch.no_grad(), sharing():
            seen = self._analyse(self.find_model(pl_module), pl_module.device, epoch)
        self.seconds[self.name] += time.perf_counter() - started
        self._looked_at = epoch
        self.looks += 1
        if not trainer.is_global_zero:
            return
        self.store.append(self.name, seen, epoch=epoch)
        if self.summary is not None:
            scalars = {f"{self.name}/{key}": value for key, value in self.summary(seen).items()}
            for logger in trainer.loggers:
                logger.log_metrics({"epoch": epoch, **scalars}, step=epoch)
        if time.perf_counter() - self._drawn_at > 20 * self._draw_cost and epoch != trainer.max_epochs:
            self._draw(trainer, epoch)

    def revisit(self, run: Kept, *, progress: bool = True) -> xr.Dataset:
        """Look at a run afterwards, at each of the checkpoints that it kept (`checkpoint.keep=1`).

        What is seen goes where it would have gone while training: into the run's store and figures, and from
        there onto its page (`python -m rnnlab.report RUN_DIR`).

        Args:
            run: A run as `open_run` opens it: it has `path`, `task`, `epochs_kept` and `load(epoch)`.
            progress: Show a bar.

        Returns:
            All looks, with their `epoch`.

        Raises:
            ValueError: The run kept no checkpoints, or has looks of this name.
        """
        self.meet(run.task, run.path)
        assert self.store is not None
        assert self.probes is not None
        if not run.epochs_kept:
            raise ValueError(f"{run.path} kept no checkpoints to look at: train with checkpoint.keep=10.")
        if self.name in self.store:
            raise ValueError(
                f"{run.path} has looks of the name {self.name!r}: read them by run.analysis({self.name!r}), "
                "or give another store= for new ones."
            )
        for epoch in tqdm(run.epochs_kept, desc=self.name, disable=not progress):
            model = run.load(epoch)
            device = next(model.parameters()).device
            with undisturbed(), torch.no_grad():
                seen = self._analyse(model, device, epoch)
            self.store.append(self.name, seen, epoch=epoch)
        self._save_figures(run.path)
        return self.store.read(self.name)

    def _analyse(self, model: Network, device: torch.device, epoch: int) -> xr.Dataset:
        """One look, the same on all processes."""
        assert self.probes is not None
        if device.type == "mps":  # which knows no float64
            device = torch.device("cpu")
        inputs = self.probes.inputs.to(device)
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        states = self.initial_states(model.state_size, epoch).to(device)
        frozen = freeze(model)
        inside = self.share == "inside"

        def look(rows: slice) -> xr.Dataset:
            return self._of_probes(frozen, inputs, states, rows)

        if inside and len(inputs) < sharers():
            seen = look(slice(None))
        elif self.share == "row" and not isinstance(frozen, Ensemble):
            seen = self._of_rows(frozen, inputs, states)
        else:
            parts = shared(look, len(inputs), in_step=inside and not self.alone)
            seen = join_rows(parts, "probe")
        if self.merge is not None and not isinstance(frozen, Ensemble):
            seen = self.merge(seen)
        if self.warm is not None:
            self._last = seen
        watched = self._watch(frozen)
        outputs = self._outputs if watched is None else watched.names
        if seen.sizes.get("observable") == len(outputs) and "observable" not in seen.coords:
            seen = seen.assign_coords(observable=list(outputs))
        return seen.assign_coords(probe=list(self.probes.names)) if "probe" in seen.dims else seen

    def _of_rows(self, model: Network, inputs: Tensor, states: Tensor) -> xr.Dataset:
        """What is seen of all pairs of a probe and a state; of some of them, each stands for a probe."""
        samples, count = len(states), len(states) * len(inputs)

        def look(rows: slice) -> xr.Dataset:
            row = torch.arange(count)[rows]
            probe, sample = row // samples, row % samples
            if len(row) == count:
                return self._of_probes(model, inputs, states, slice(None))
            return self.analysis(*self._system(model, self._held(inputs[probe]), states[sample, None]))

        seen = join_rows(shared(look, count, in_step=True), "probe")
        for name, variable in seen.data_vars.items():
            if "probe" in variable.dims and variable.dims[:2] != ("probe", "sample"):
                raise ValueError(
                    f"share='row' is not possible for {name} with the axes {variable.dims}: give (probe, "
                    "sample, ...) and what is of all samples to merge, or share='probe'."
                )
        return seen if seen.sizes["sample"] == samples else _unfolded(seen, samples)

    def _of_probes(self, model: Network, inputs: Tensor, states: Tensor, rows: slice) -> xr.Dataset:
        """What is seen under some of the inputs, from all states."""
        if self.alone or isinstance(model, Ensemble):
            some = range(len(inputs))[rows]
            parts = [self._at(model, inputs[i], states, probe=i) for i in some]
            return concatenate([part.expand_dims("probe") for part in parts], "probe")
        held = self._held(inputs[rows])
        every = states.expand(len(inputs[rows]), *states.shape)
        return self.analysis(*self._system(model, held, every), **self._known(probe=rows))

    def _held(self, inputs: Tensor) -> Tensor:
        """Inputs `(probe, ...)` as a system takes them for states `(probe, sample, state)`."""
        return inputs.movedim(1, 0)[:, :, None] if self.driven else inputs[:, None]

    def _at(self, model: Network, u: Tensor, states: Tensor, **where: int) -> xr.Dataset:
        """What is seen under one input; `where` is its place in the look before."""
        if not isinstance(model, Ensemble):
            return self.analysis(*self._system(model, u, states), **self._known(**where))
        if self.alone:
            parts = [self._at(m, u, states, **where, member=i) for i, m in enumerate(model.unstack())]
            return concatenate([part.expand_dims("member") for part in parts], "member")
        every = states.expand(len(model), *states.shape)
        seen = self.analysis(*self._system(model, u, every), **self._known(**where))
        return (seen if self.merge is None else self.merge(seen)).rename(probe="member")

    def _system(self, model: Network, u: Tensor, states: Tensor) -> tuple[System | Sequence, Tensor]:
        """The network under held inputs and its states, or closed or driven, seen as the task wishes."""
        if self.driven:
            return Driven(model, u), states
        if not self.generates:
            return self._seen(HeldInput(model, u), model), states
        if self.feedback is None:
            greedy = Greedy(model)
            return self._seen(greedy, model), greedy.start(states, u)
        loop = ClosedLoop(model, partial(self.feedback, u=u))
        return loop, loop.start(states)

    def _seen(self, system: System, model: Network) -> System:
        """Through what the task says is worth looking at."""
        watched = self._watch(model)
        return system if watched is None else Observed(system, watched.function)

    def _known(self, **where: int | slice) -> dict[str, Any]:
        if self.warm is None or self._last is None:
            return {}
        return self.warm(self._last.isel(where))

    def _seen_last(self) -> int:
        """The epoch of the last look in the store; -1 of none."""
        assert self.store is not None
        return int(self.store.read(self.name).epoch[-1]) if self.name in self.store else -1

    def _look_before(self, epoch: int) -> xr.Dataset | None:
        """The last look up to an epoch, from the store: a resumed run starts as warm as the unbroken one."""
        assert self.store is not None
        if self.warm is None or self.name not in self.store:
            return None
        looks = self.store.read(self.name).sel(epoch=slice(None, epoch))
        if not looks.sizes["epoch"]:
            return None
        return looks.isel(epoch=-1).load()

    def _task_probes(self, task: Any) -> Probes:
        probes = getattr(task, "excerpts" if self.driven else "probes", None)
        if probes is None:
            raise ValueError(
                f"{type(self).__name__} knows no inputs to hold: pass probes=Probes(inputs, names), "
                "or train with a datamodule that has probes()."
            )
        return probes()

    def _task_feedback(self, task: Any) -> Feedback:
        feedback = getattr(task, "feedback", None)
        if feedback is None:
            raise ValueError(
                f"generation=true is not possible with {type(task).__name__}, which does not tell what "
                "follows an output: train with task=teacher_forced, or give generation=feedback, a function."
            )
        return feedback

    def _draw(self, trainer: pl.Trainer, epoch: int) -> None:
        """Draw all looks so far. A picture that fails is said; it costs neither the run nor other ranks."""
        started = time.perf_counter()
        try:
            for name, path in self._save_figures(Path(trainer.default_root_dir)).items():
                for logger in trainer.loggers:
                    if hasattr(logger, "log_image"):
                        logger.log_image(f"{self.name}/{name}", [str(path)], step=epoch)
        except Exception as error:
            rank_zero_warn(f"The {self.name} figure could not be drawn ({type(error).__name__}: {error}).")
        self._drawn_at = time.perf_counter()
        self._draw_cost = self._drawn_at - started
        self.seconds["drawing"] += self._draw_cost

    def _save_figures(self, run_dir: Path) -> dict[str, Path]:
        """Draw all looks so far into the run's folder of figures."""
        from rnnlab.figures.style import save_png

        if self.draw is None or self.store is None:
            return {}
        figures = self._figures(self.draw, self.store)
        return {n: save_png(figure, run_dir / "figures" / f"{n}.png") for n, figure in figures.items()}

    def _figures(self, draw: Draw, store: Store) -> Mapping[str, Any]:
        """Those of a network; of an ensemble the distribution over its members and those of the best."""
        looks = store.read(self.name)
        if "member" not in looks.dims:
            figures = dict(draw(looks))
        else:
            from rnnlab.figures.members import over_epochs
            from rnnlab.figures.style import note

            if self.draws_members:
                figures = dict(draw(looks))
            else:
                best = best_member(store)
                figures = {k: note(v, f"member {best}") for k, v in draw(looks.isel(member=best)).items()}
            figures |= {f"{self._base}_members": over_epochs(looks)}
        return {name.replace(self._base, self.name, 1): figure for name, figure in figures.items()}
