"""Many members of one small model, trained as one: a leading axis on parameters and states."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, cast

import torch
import xarray as xr
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rnnlab import members
from rnnlab.cells import GRU, Cell, Stack
from rnnlab.cells.columns import LAWS, GRUScan, affine, scan
from rnnlab.learner import SequenceLearner
from rnnlab.model import RecurrentModel
from rnnlab.objectives import Objective
from rnnlab.store import Store


class Ensemble(nn.Module):
    """Members of the same make but with parameters of their own, side by side.

    A small network costs what it takes to start its operations, not what they do. So members share them:
    each parameter is one tensor `(member, ...)`, kept under its name in `stacked`, and members never meet.
    Element-wise optimisers (SGD, Adam and their kin) then treat each member as they would treat it alone;
    what couples the parameters of a network, norms and constraints, is done member by member by `update`.
    All this equals separate runs to rounding.

        outputs, _ = ensemble(inputs)
        losses = ensemble.evaluate(objective, outputs, targets)["loss"]
        optimizer.zero_grad()
        losses.sum().backward()
        ensemble.update(optimizer, losses, clip_norm=0.25)

    A member whose loss or gradient is no longer finite stops: it keeps the parameters it had, and the others
    go on.

    An ensemble is also a network to be analysed, with states `(*batch, member, sample, state)`. As
    `HeldInput(freeze(ensemble), u)` each analysis sees it as a system whose probes are the members.

    Any `RecurrentModel` will do if torch can batch the operations of its encoder, readout and cell's step.
    The cells of the house, by themselves or stacked, are faster, most of all the gated recurrent unit with
    its reset gate before the product.

    Args:
        models: The members as they start, at least one; they are copied.

    Attributes:
        stacked: The parameters (and buffers, if there are any), each with its members on the first axis.
        alive: Which members have not stopped, `(member,)`.

    Raises:
        ValueError: There is no model, they are not of the same make, or they have dropout.

    Example:
        >>> from functools import partial
        >>> make = partial(RecurrentModel, 1, 2, partial(GRU, hidden_size=3))
        >>> ensemble = Ensemble.from_seeds(make, range(8))
        >>> outputs, state = ensemble(torch.zeros(5, 4, 1))
        >>> outputs.shape, state.shape
        (torch.Size([5, 8, 4, 2]), torch.Size([8, 4, 3]))
        >>> ensemble.stacked.cell.U.shape
        torch.Size([8, 9, 3])
    """

    alive: Tensor

    def __init__(self, models: Iterable[RecurrentModel]) -> None:
        super().__init__()
        models = list(models)
        _check_make(models)
        # ordinary models that lend the stacked tensors their methods; in a list, so not registered
        self._shells = copy.deepcopy(models)
        self.stacked = nn.Module()
        for name, like in (*models[0].named_parameters(), *models[0].named_buffers()):
            values = torch.stack([_leaf(model, name).detach() for model in models])
            if isinstance(like, nn.Parameter):
                values = nn.Parameter(values, requires_grad=like.requires_grad)
            _plant(self.stacked, name, values)
        self.register_buffer("alive", torch.ones(len(models), dtype=torch.bool))

    @classmethod
    def from_seeds(cls, make: Callable[[], RecurrentModel], seeds: Iterable[int]) -> Ensemble:
        """Members that start as separate runs with these seeds do.

        Args:
            make: Makes one model, with initial values from torch's generator, whose state stays as it is.
            seeds: One for each member.
        """
        models = []
        with torch.random.fork_rng(devices=[]):
            for seed in seeds:
                torch.manual_seed(seed)
                models.append(make())
        return cls(models)

    def __len__(self) -> int:
        return len(self._shells)

    @property
    def state_size(self) -> int:
        """Length of the flat state vector of one member."""
        return self._shells[0].state_size

    # training

    def forward(self, inputs: Tensor, x0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run all members over the same sequences.

        Args:
            inputs: `(time, batch, *input)`.
            x0: Initial states, `(member, batch, state)`, or `(batch, state)` for all. Default: zero.

        Returns:
            Outputs `(time, member, batch, output)` and the last states `(member, batch, state)`.
        """
        if x0 is None:
            x0 = next(self.parameters()).new_zeros(inputs.shape[1], self.state_size)
        x0 = x0.expand(len(self), -1, -1)
        shell = self._shells[0]
        if type(shell.readout) is not nn.Linear or not all(type(cell) in LAWS for cell in self._layers()):
            return self._each(_run, (inputs, x0), (None, 0), (1, 0))
        if type(shell.encoder) is not nn.Identity:
            inputs = self._each(lambda model, inputs: model.encoder(inputs), (inputs,), (None,), 1)
        outputs, x = self._scan(inputs.mT, x0.mT)
        return outputs.mT, x.mT

    def _layers(self) -> list[Cell]:
        """The cells of one member, the lowest first."""
        cell = self._shells[0].cell
        return cast("list[Cell]", list(cell.layers) if type(cell) is Stack else [cell])

    def _scan(self, us: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Cells and readout in columns, inputs `(time, [member,] input, batch)`."""
        cells, stacked = self._layers(), cast(Any, self.stacked)
        w_out = stacked.readout.weight
        b_out = getattr(stacked.readout, "bias", w_out.new_zeros(())).expand(w_out.shape[:2])
        plain = len(cells) == 1 and type(cells[0]) is GRU and cells[0].reset == "before"
        if plain and us.ndim == 3 and not us.requires_grad:
            p = stacked.cell
            return GRUScan.apply(us, x0, p.W, p.U, p.b, w_out, b_out)  # pyright: ignore
        weights = stacked.cell.layers.children() if type(self._shells[0].cell) is Stack else [stacked.cell]
        # a step without input, as in a forecast from one observation, spares its products
        given = [us.requires_grad or some for some in us.flatten(1).any(1).tolist()]
        shown: Sequence[Tensor | None] = [u if some else None for u, some in zip(us, given, strict=True)]
        states = []
        for cell, p, x in zip(cells, weights, x0.split([c.state_size for c in cells], 1), strict=True):
            shown, x = scan(cell, p, shown, x)
            states.append(x)
        return torch.stack([affine(w_out, cast(Tensor, y), b_out) for y in shown]), torch.cat(states, 1)

    def evaluate(self, objective: Objective, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Scalars of each member by name, each `(member,)`, for outputs `(time, member, batch, output)`."""
        # with members apart as `forward` has them, units next to time
        targets = targets.mT.contiguous().mT if targets.ndim > 2 else targets
        return cast("dict[str, Tensor]", vmap(objective, (1, None))(outputs, targets))

    @torch.no_grad()
    def update(self, optimizer: Optimizer, losses: Tensor, clip_norm: float | None = None) -> Tensor:
        """One update from the gradients of the sum of losses, after which constraints hold again.

        Args:
            optimizer: Of the parameters of the ensemble; it acts element by element.
            losses: Those of the members, `(member,)`. A member whose loss or gradient is not finite stops.
            clip_norm: Largest norm of a member's gradient. Default: no clipping.

        Returns:
            The norms of the members' gradients before clipping, `(member,)`.
        """
        parameters = [p for p in self.parameters() if p.grad is not None]
        gradients = [cast(Tensor, p.grad) for p in parameters]
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)
        self.alive &= losses.isfinite() & norms.isfinite()
        if clip_norm is not None:
            shares = (clip_norm / (norms + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_ has it
            for g in gradients:
                g.mul_(shares.view(-1, *[1] * (g.ndim - 1)))
        stopped = (~self.alive).nonzero().flatten()
        kept = [p[stopped] for p in parameters]
        optimizer.step()
        self.constrain()
        if len(stopped):
            for p, values in zip(parameters, kept, strict=True):
                p[stopped] = values
        return norms

    @torch.no_grad()
    def constrain(self) -> None:
        """Put the constrained parameters of each member back in their set."""
        if any(
            isinstance(module, Cell) and type(module).constrain is not Cell.constrain
            for module in self._shells[0].modules()
        ):
            for member in self._members():
                member.constrain()

    # members

    def _members(self) -> list[RecurrentModel]:
        """Ordinary models on the memory of the stacked tensors."""
        for name, values in self._tensors():
            leaf = _leaf(self._shells[0], name)
            # what moved or was copied has other memory than what the models see
            if leaf.data_ptr() != values.data_ptr() or leaf.dtype != values.dtype:
                for shell, value in zip(self._shells, values.detach().unbind(), strict=True):
                    if isinstance(values, nn.Parameter):
                        value = nn.Parameter(value, requires_grad=values.requires_grad)
                    _plant(shell, name, value)
        return [shell.train(self.training) for shell in self._shells]

    def member(self, number: int) -> RecurrentModel:
        """A member by itself: an ordinary model, a copy.

        Raises:
            IndexError: There is no such member.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"member {number} is not there: there are {len(self)}, counted from 0.")
        return copy.deepcopy(self._members()[number])

    def unstack(self) -> list[RecurrentModel]:
        """All members as ordinary models, copies."""
        return copy.deepcopy(self._members())

    def certificates(self) -> dict[str, Tensor]:
        """Those of the members' cells by name, each `(member,)`."""
        found = [member.cell.certificates() for member in self._members()]
        return {name: torch.tensor([each[name] for each in found], dtype=torch.float64) for name in found[0]}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.stacked.named_parameters()
        yield from self.stacked.named_buffers()

    def _each(self, function: Callable[..., Any], arguments: tuple[Tensor, ...], dims: Any, out: Any) -> Any:
        """`function(model, *arguments)` of all members at once, whose axes in and out are given."""
        called = _Called(self._shells[0], function)
        weights = {f"model.{name}": values for name, values in self._tensors()}

        def one(weights: dict[str, Tensor], *arguments: Tensor) -> Any:
            return functional_call(called, weights, arguments)

        return vmap(one, (0, *dims), out, randomness="different")(weights, *arguments)

    # a network to be analysed

    def step(self, x: Tensor, u: Tensor) -> Tensor:
        """Next states `(*batch, member, sample, state)`.

        Args:
            x: States, `(*batch, member, sample, state)`; what lacks leading axes is the same for all members.
            u: Raw inputs, `(*batch, member, sample, *input)`, likewise; an axis of length one is the same
                for all. Inputs of real numbers are vectors, whole numbers are symbols.
        """
        return self._all(lambda model, x, u: model.step(x, u), (x, 1), (u, _rank(u)), out=-3)

    def read(self, x: Tensor) -> Tensor:
        """Outputs `(*batch, member, sample, output)` at states `(*batch, member, sample, state)`."""
        return self._all(lambda model, x: model.read(x), (x, 1), out=-3)

    def push(self, x: Tensor, u: Tensor, dx: Tensor, du: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of states and of tangent vectors `(*batch, member, sample, state, k)`; see `Cell.push`."""
        given = ((x, 1), (u, _rank(u)), (dx, 2)) + (() if du is None else ((du, 2),))
        return self._all(lambda model, *args: model.push(*args), *given, out=(-3, -4))

    def jacobian(self, x: Tensor, u: Tensor) -> Tensor:
        """The matrices of d step/dx, `(*batch, member, sample, state, state)`."""
        return self._all(lambda model, x, u: model.jacobian(x, u), (x, 1), (u, _rank(u)), out=-4)

    def reduced(self, u: Tensor) -> ReducedEnsemble | None:
        """The smaller systems with the fixed points of the members under inputs `u`, if there are any."""
        return None if self._shells[0].cell.reduction() is None else ReducedEnsemble(self, u)

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor] | None:
        """Boxes of states where orbits end, `(*batch, member, sample, state)`; see `Cell.bounds`."""
        found = [
            member.bounds(*box) for member, *box in zip(self._members(), *self._apart(low, high), strict=True)
        ]
        if any(box is None for box in found):
            return None
        lows, highs = zip(*cast("list[tuple[Tensor, Tensor]]", found), strict=True)
        return torch.stack(lows, -3), torch.stack(highs, -3)

    def lipschitz(self, low: Tensor, high: Tensor) -> Tensor | None:
        """Certified Lipschitz constants of `step`, `(*batch, member, sample)`; see `Cell.lipschitz`."""
        found = [
            member.lipschitz(*box)
            for member, *box in zip(self._members(), *self._apart(low, high), strict=True)
        ]
        if any(bound is None for bound in found):
            return None
        return torch.stack(cast("list[Tensor]", found), -2)

    def _apart(self, *inputs: Tensor) -> list[tuple[Tensor, ...]]:
        return [self._spread(u, _rank(u)).unbind(-2 - _rank(u)) for u in inputs]

    def _spread(self, tensor: Tensor, rank: int) -> Tensor:
        """With an axis for members and one for samples before the last `rank`."""
        tensor = tensor[(None,) * (rank + 2 - tensor.ndim)]
        shape = list(tensor.shape)
        if shape[-2 - rank] not in (1, len(self)):
            raise ValueError(
                f"shape {tuple(shape)} is not possible for {len(self)} members: "
                f"they stand on axis {-2 - rank}, or there is one for all."
            )
        shape[-2 - rank] = len(self)
        return tensor.expand(shape)

    def _all(self, function: Callable[..., Any], *given: tuple[Tensor, int], out: Any) -> Any:
        """`_each` of states and the like: tensors with the number of axes behind member and sample."""
        spread = tuple(self._spread(tensor, rank) for tensor, rank in given)
        dims = tuple(-2 - rank for _, rank in given)
        if all(isinstance(tensor, Tensor) for tensor in spread):
            return self._each(function, spread, dims, out)
        # intervals, say, of which torch makes no batches
        apart = zip(
            self._members(), *(t.unbind(dim) for t, dim in zip(spread, dims, strict=True)), strict=True
        )
        return torch.stack([function(member, *tensors) for member, *tensors in apart], out)


class ReducedEnsemble:
    """The members' reductions under a held input, as a system on states `(*batch, member, sample, small)`.

    Args:
        ensemble: The members.
        u: Raw inputs, `(*batch, member, sample, *input)`, as `Ensemble.step` takes them.
    """

    def __init__(self, ensemble: Ensemble, u: Tensor) -> None:
        self.ensemble, self.u = ensemble, u

    def _call(self, name: str, *given: tuple[Tensor, int], out: Any) -> Any:
        def function(model: RecurrentModel, u: Tensor, *args: Tensor) -> Any:
            return getattr(model.reduced(u), name)(*args)

        return self.ensemble._all(function, (self.u, _rank(self.u)), *given, out=out)

    def step(self, x: Tensor) -> Tensor:
        return self._call("step", (x, 1), out=-3)

    def push(self, x: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        return self._call("push", (x, 1), (frame, 2), out=(-3, -4))

    def jacobian(self, x: Tensor) -> Tensor:
        return self._call("jacobian", (x, 1), out=-4)

    def restrict(self, x: Tensor) -> Tensor:
        return self._call("restrict", (x, 1), out=-3)

    def lift(self, z: Tensor) -> Tensor:
        return self._call("lift", (z, 1), out=-3)


class EnsembleLearner(SequenceLearner):
    """Trains an ensemble as `SequenceLearner` trains each of its members.

    A row of the log holds medians over the members that are alive, `train/loss_min` (of the best of them),
    and how many they are, `alive`. So what is monitored, by checkpoints say, is a median: the best checkpoint
    is that of the epoch where the ensemble as a whole stood best. Training ends with an error only when no
    member is left.

    Args:
        model: The members.
        objective: Loss and metrics, of one member.
        record: Where the numbers of each member go, as `members` (see `rnnlab.members`). Default: nowhere.
        record_every: After every so many epochs, and after the last.
        options: Those of `SequenceLearner`.

    Attributes:
        members: What the last row was made of: numbers by name, each `(member,)`, in float64. Lightning asks
            callbacks first, whose `on_train_epoch_end` still sees those of the epoch before.

    Raises:
        ValueError: For a `ReduceLROnPlateau` schedule or a state that is carried from batch to batch; while
            training, for several processes.
        DivergedError: While training, when no member's loss is finite.
    """

    def __init__(
        self,
        model: Ensemble,
        objective: Objective,
        *,
        record: Store | None = None,
        record_every: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(cast(Any, model), objective, **options)
        if not isinstance(record_every, int) or record_every < 1:
            raise ValueError(
                f"record_every={record_every!r} is not possible: give a whole number of at least 1."
            )
        if self.carry_state:
            raise ValueError(
                "an ensemble is not possible on a task whose batches follow one another, such as a language: "
                "leave ensemble out, and train networks with other seeds one by one."
            )
        # made once to see of what kind it is: later a run would have begun
        if self._make_scheduler and isinstance(
            self._make_scheduler(self._make_optimizer(model.parameters())), ReduceLROnPlateau
        ):
            raise ValueError(
                "scheduler=ReduceLROnPlateau is not possible for an ensemble, whose members share one rate: "
                "choose a schedule that depends on the epoch alone, or train members one by one."
            )
        self.automatic_optimization = False
        self.record, self.record_every = record, record_every
        self._recorded: list[str] = []
        self.members: dict[str, Tensor] = {}

    @property
    def _ensemble(self) -> Ensemble:
        return cast(Ensemble, self.model)

    def configure_optimizers(self) -> Optimizer:
        if self.trainer.world_size > 1:
            raise ValueError(f"devices={self.trainer.world_size} is not possible: an ensemble trains in one.")
        return super().configure_optimizers()

    def on_train_start(self) -> None:
        """Go on where the checkpoint left off; rows after it will be made again."""
        super().on_train_start()
        if self.record is not None:
            self.record.truncate(self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # pyright: ignore
        """One update of all members."""
        scalars = self._evaluate(batch)
        optimizer = cast(Optimizer, self.optimizers())
        optimizer.zero_grad()
        self.manual_backward(scalars["loss"].sum())
        norms = self._ensemble.update(optimizer, scalars["loss"].detach(), self.clip_norm)
        self._add("train", scalars, batch[0].shape[1])
        clipped = torch.zeros_like(norms) if self.clip_norm is None else (norms > self.clip_norm).to(norms)
        self._add("updates", {"grad_norm": norms, "clipped": clipped}, 1)
        if not self._ensemble.alive.any():
            self._diverged(math.nan, f"batch {batch_idx + 1}, the last of {len(self._ensemble)} members")

    def _evaluate(self, batch: tuple[Tensor, Tensor], batch_idx: int = 0) -> dict[str, Tensor]:
        inputs, targets = batch
        return self._ensemble.evaluate(self.objective, self._ensemble(inputs)[0], targets)

    def _means(self, *stages: str) -> dict[str, float]:
        """Medians over the living members of their averages over the epoch, which are kept in `members`."""
        sums = {
            name: self._sums.pop(name).to(self._exact)
            for name in list(self._sums)
            if name.split("/")[0] in stages
        }
        self.members = {
            name: total / sums[f"{name.split('/')[0]}/weight"]
            for name, total in sums.items()
            if not name.endswith("/weight")
        }
        living = {name: values[self._ensemble.alive] for name, values in self.members.items()}
        medians = {name: values.median().item() for name, values in living.items()}
        return medians | {
            f"{name}_min": values.min().item() for name, values in living.items() if name.endswith("/loss")
        }

    def on_train_epoch_end(self) -> None:
        """Write the epoch's row and step the schedule."""
        means = self._means("train", "val", "updates")
        self.members |= {f"certificate/{k}": v for k, v in self._ensemble.certificates().items()}
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        row = {name.removeprefix("updates/"): value for name, value in means.items()}
        row |= {"lr": optimizer.param_groups[0]["lr"], "alive": float(self._ensemble.alive.sum())}
        self.log_dict({k: torch.tensor(v, dtype=self._exact) for k, v in row.items()}, logger=False)
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch + 1, **row}, step=self.current_epoch + 1)
        epoch = self.current_epoch + 1
        if self.record is not None and (epoch % self.record_every == 0 or epoch == self.trainer.max_epochs):
            self.record.append(members.NAME, self._members_row(self.record), epoch=epoch)
        if self._scheduler is not None:
            self._scheduler.step()

    def _members_row(self, record: Store) -> xr.Dataset:
        """The numbers of the members with a place for what is validated in some epochs only."""
        found = {name.removeprefix("updates/"): values.cpu().numpy() for name, values in self.members.items()}
        found["alive"] = self._ensemble.alive.double().cpu().numpy()
        if not self._recorded:
            metrics = [name.removeprefix("train/") for name in found if name.startswith("train/")]
            validated = [f"val/{name}" for name in metrics] if self.trainer.enable_validation else []
            self._recorded = [*(name for name in found if name[:4] != "val/"), *validated]
            if members.NAME in record:  # what a run keeps, it keeps to its end
                self._recorded = list(map(str, record.read(members.NAME)["quantity"].values))
        return members.row(found, self._recorded)


class _Called(nn.Module):
    """A function of a model as a module, for `functional_call`."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *arguments: Any) -> Any:
        return self.function(self.model, *arguments)


def _run(model: RecurrentModel, inputs: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
    """The whole network in plain steps, for cells' own scans are no operations that torch can batch."""
    outputs, x = Cell.scan(model.cell, model.encoder(inputs), x0)
    return model.readout(outputs), x


def _rank(u: Tensor) -> int:
    """Axes of one input: a vector, or a symbol."""
    return 1 if u.is_floating_point() else 0


def _leaf(root: nn.Module, name: str) -> Tensor:
    path, _, last = name.rpartition(".")
    return getattr(root.get_submodule(path), last)


def _plant(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Register a parameter or buffer under a dotted name, with the modules that it takes."""
    *path, last = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(tensor, nn.Parameter):
        root.register_parameter(last, tensor)
    else:
        root.register_buffer(last, tensor)


def _check_make(models: list[RecurrentModel]) -> None:
    if not models:
        raise ValueError("models=[] is not possible: an ensemble has at least one member.")
    first = models[0]
    if type(first).forward is not RecurrentModel.forward:
        raise ValueError(
            f"a {type(first).__name__} with a forward of its own is not possible as a member: "
            "give it as the cell, encoder or readout of a RecurrentModel."
        )
    if len(list(first.parameters())) < len(list(first.named_parameters(remove_duplicate=False))):
        raise ValueError("a model that uses a parameter in two places is not possible as a member.")
    if first.dropout.p:
        raise ValueError(f"dropout={first.dropout.p} is not possible for the members of an ensemble: give 0.")
    for number, model in enumerate(models):
        for one, other in ((first, model), (first.state_dict(), model.state_dict())):
            make, other_make = _make(one), _make(other)
            if make != other_make:
                odd = next(a or b for a, b in zip_longest(make, other_make) if a != b)
                raise ValueError(
                    f"member {number} is of another make than member 0 (see {odd}): give models that differ "
                    "in nothing but the values of their parameters."
                )


def _make(thing: nn.Module | dict[str, Tensor]) -> list[tuple[Any, ...]]:
    """What members must have in common."""
    if isinstance(thing, nn.Module):
        return [(name, type(module).__name__, module.extra_repr()) for name, module in thing.named_modules()]
    return [(name, *value.shape, value.dtype, value.device) for name, value in thing.items()]
