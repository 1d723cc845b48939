"""Which sets of simple fixed points can two gated units have? A search for kinds that no table lists.

    python -m rnnlab.studies.gru_structures --sets 2000000

The paper observed thirty-six structures and conjectures that eleven points are the most. Here a kind is the
number of sinks, sources and saddles. Parameters are drawn at random, then changed a little again and again,
from a few examples of each kind found so far, so that rare ones lead to rarer ones. Points are
counted by the winding of the field around the cells of a grid, which is fast and may err; so each new kind is
certified, by interval arithmetic, before it counts.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from rnnlab.analysis import certified_fixed_points
from rnnlab.analysis.phase_plane import phase_plane
from rnnlab.figures import style
from rnnlab.figures.phase_portrait import portrait
from rnnlab.studies import program
from rnnlab.studies.gru_atlas.cases import NAMES, cases, flow

Kind = tuple[int, int, int]  # sinks, sources, saddles

CELLS = 40  # of the grid, in each direction
BATCH = 1024  # sets of parameters at a time
MEMBERS = 64  # examples kept of each kind
FINE = 160  # cells that a new kind must survive before it is certified
TRIES = 8  # certificates that may fail before a kind is given up


def known_structures() -> pd.DataFrame:
    """The kinds that a long search found, each with parameters at which it is certified."""
    with resources.files("rnnlab.studies").joinpath("gru_structures.csv").open(encoding="utf-8") as text:
        return pd.read_csv(text)


def count(parameters: Tensor, cells: int = CELLS) -> Tensor:
    """Sinks, sources and saddles of many flows at once, as far as a grid shows them.

    Args:
        parameters: `(set, 12)`, in the order of `NAMES`.
        cells: Of the grid over [-1, 1]^2, in each direction; it is denser towards the edges.

    Returns:
        `(set, 3)`. Points that share a cell are lost in pairs.

    Example:
        >>> four = torch.tensor([[3.0, 0, 0, 3] + 8 * [0.0]])  # the paper's Fig. 2
        >>> count(four).tolist()
        [[4, 1, 4]]
    """
    angle = torch.linspace(-1, 1, cells + 1).to(parameters) * torch.pi / 2
    # a little outside, where the field points in; and shifted, so that no edge meets the origin
    nodes = 1.001 * torch.sin(angle) + 0.0073 * torch.cos(angle)
    y, x = nodes[:, None], nodes[None, :]
    Uh11, Uh12, Uh21, Uh22, Ur11, Ur12, Ur21, Ur22, bh1, bh2, br1, br2 = parameters.mT[..., None, None]
    p = x * torch.sigmoid(Ur11 * x + Ur12 * y + br1)
    q = y * torch.sigmoid(Ur21 * x + Ur22 * y + br2)
    u = torch.tanh(Uh11 * p + Uh12 * q + bh1) - x
    v = torch.tanh(Uh21 * p + Uh22 * q + bh2) - y
    up = v > 0

    def crossings(a: Any, b: Any) -> Tensor:
        """Along edges: does (u, v) pass the positive u axis, counter-clockwise (1) or clockwise (-1)?"""
        right = (u[a] * v[b] - u[b] * v[a]) * (v[b] - v[a]) > 0
        return (up[b].to(torch.int8) - up[a].to(torch.int8)) * right

    every, first, last = slice(None), slice(None, -1), slice(1, None)
    row = crossings((every, every, first), (every, every, last))
    column = crossings((every, first, every), (every, last, every))
    winding = row[:, :-1] + column[:, :, 1:] - row[:, 1:] - column[:, :, :-1]
    width = nodes.diff()
    du = (u[:, :, 1:] - u[:, :, :-1]) / width
    dv = (v[:, 1:] - v[:, :-1]) / width[:, None]
    divergence = du[:, 1:] + du[:, :-1] + dv[:, :, 1:] + dv[:, :, :-1]
    node, saddle = winding > 0, winding < 0
    return torch.stack(
        [part.sum((1, 2)) for part in (node & (divergence < 0), node & (divergence >= 0), saddle)], -1
    )


def certified(parameters: Tensor) -> Kind | None:
    """The kind with proof that there are no other points; None where points are degenerate or undecided."""
    corner = torch.full((2,), 1.01, dtype=torch.float64)  # the flow's own box may be a line
    found = certified_fixed_points(flow(parameters.double()), (-corner, corner), max_boxes=5_000)
    if not found.complete or bool((found.kind == "non-hyperbolic").any()):
        return None
    stable, unstable, saddles = (int((found.unstable == k).sum()) for k in (0, 2, 1))
    return stable, unstable, saddles


def draw(sets: int, generator: np.random.Generator) -> Tensor:
    """Random parameters `(set, 12)`: normal, each matrix and vector with a scale of its own."""
    scales = [(1, 20), (0.5, 50), (0.01, 2), (0.1, 10)]
    parts = []
    for (low, high), size in zip(scales, (4, 4, 2, 2), strict=True):
        scale = np.exp(generator.uniform(np.log(low), np.log(high), (sets, 1)))
        part = scale * generator.standard_normal((sets, size))
        parts.append(np.where(generator.random((sets, size)) < 0.15, 0, part))
    # a unit that excites itself and leaves the other alone is what most of the paper's tables have
    alone = generator.random(sets) < 0.5
    parts[0][alone, 1:3] = 0
    parts[0][:, [0, 3]] = np.where(alone[:, None], abs(parts[0][:, [0, 3]]), parts[0][:, [0, 3]])
    return torch.from_numpy(np.concatenate(parts, 1)).float()


def vary(parents: Tensor, generator: np.random.Generator) -> Tensor:
    """Parents `(set, 12)` with a few numbers changed by a few per cent up to about themselves."""
    size = np.exp(generator.uniform(np.log(0.01), np.log(1.0), (len(parents), 1)))
    chosen = generator.random(parents.shape) < generator.choice([0.1, 0.3, 1.0], (len(parents), 1))
    step = size * generator.standard_normal(parents.shape) * (np.abs(parents.numpy()) + 0.2)
    return (parents + torch.from_numpy(np.where(chosen, step, 0))).clamp(-100, 100).float()


def search(sets: int, seed: int = 0, *, progress: bool = False) -> tuple[pd.DataFrame, dict[str, int]]:
    """Look for kinds, half at random and half by variation.

    Args:
        sets: How many sets of parameters are looked at.
        seed: Of the random numbers.
        progress: Show a bar.

    Returns:
        One row for each certified kind: `sinks`, `sources`, `saddles`, how many sets the grid counted as that
        among the random ones, `frequency`, and an example, `NAMES`. And the numbers of sets looked at.
    """
    generator = np.random.default_rng(seed)
    pool: dict[Kind, list[Tensor]] = {}
    proved: dict[Kind, Tensor] = {}
    tries: dict[Kind, int] = {}
    frequency: dict[Kind, int] = {}
    batches = -(-sets // BATCH)
    for batch in tqdm(range(batches), disable=not progress):
        random = batch < batches // 2
        if random:
            parameters = draw(BATCH, generator)
        else:
            kinds = list(pool)
            picked = generator.integers(len(kinds), size=BATCH)
            parents = [pool[kinds[k]][generator.integers(len(pool[kinds[k]]))] for k in picked]
            parameters = vary(torch.stack(parents), generator)
        counts = count(parameters)
        valid = counts[:, 0] + counts[:, 1] - counts[:, 2] == 1  # else the grid has lost a point
        for kind_, number in zip(*np.unique(counts[valid], axis=0, return_counts=True), strict=True):
            kind: Any = tuple(int(part) for part in kind_)
            rows = parameters[valid & (counts == torch.tensor(kind)).all(-1)]
            if random:
                frequency[kind] = frequency.get(kind, 0) + int(number)
            if kind not in proved and tries.get(kind, 0) < TRIES:
                fine = rows[:8][(count(rows[:8].double(), FINE) == torch.tensor(kind)).all(-1)]
                tries[kind] = tries.get(kind, 0) + len(fine[:1])
                if len(fine) and certified(fine[0]) == kind:
                    proved[kind] = fine[0]
            if kind in proved:
                members = pool.setdefault(kind, [])
                for row in rows[: MEMBERS // 8]:
                    if len(members) < MEMBERS:
                        members.append(row)
                    else:
                        members[generator.integers(MEMBERS)] = row
    table = [
        {"sinks": kind[0], "sources": kind[1], "saddles": kind[2], "frequency": frequency.get(kind, 0)}
        | dict(zip(NAMES, _rounded(row, kind).tolist(), strict=True))
        for kind, row in sorted(proved.items(), key=lambda item: (sum(item[0]), item[0]))
    ]
    looked = {"random": batches // 2 * BATCH, "varied": (batches - batches // 2) * BATCH}
    return pd.DataFrame(table), looked


def _rounded(parameters: Tensor, kind: Kind) -> np.ndarray:
    """The parameters with the fewest digits with which the kind is still certified."""
    for digits in (1, 2, 3, 4):
        short = np.array([float(f"{number:.{digits}g}") for number in parameters.tolist()])
        if certified(torch.from_numpy(short)) == kind:
            return short
    return parameters.double().numpy()


def main(argv: list[str] | None = None) -> Path:
    """Search, write the kinds that were found, and draw one of those with the most points."""
    parser = program.parser("gru_structures", "Structures of simple fixed points of two gated units.")
    parser.add_argument("--sets", type=int, default=200_000, help="sets of parameters to look at")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    options = parser.parse_args(argv)
    if options.sets < 4 * BATCH:
        raise ValueError(f"sets={options.sets} is not possible: give at least {4 * BATCH}.")
    table, looked = search(options.sets, options.seed, progress=True)
    known = set()
    for case in cases().values():
        sinks, sources, saddles, *collisions = case.counts.values()
        points = sinks + sources + saddles
        if not any(collisions):  # case xxiv has its saddles in the column of sources
            known.add((sinks, (points + 1) // 2 - sinks, (points - 1) // 2))
    kinds = list(zip(table.sinks, table.sources, table.saddles, strict=True))
    table.insert(3, "fixed_points", [sum(kind) for kind in kinds])
    table.insert(4, "in_the_paper", ["yes" if kind in known else "no" for kind in kinds])
    program.save_table(table, options.out / "structures.csv")
    last = table.iloc[-1]
    title = f"sinks {last.sinks}, sources {last.sources}, saddles {last.saddles}"
    field = flow(torch.tensor(last[list(NAMES)].to_list(), dtype=torch.float64))
    style.save_png(portrait(phase_plane(field), title=title), options.out / "largest.png")
    print(program.markdown(table.iloc[:, :6]))
    print(f"\n{looked['random']} sets at random, {looked['varied']} by variation, seed {options.seed}")
    return options.out


if __name__ == "__main__":
    program.run(main)
