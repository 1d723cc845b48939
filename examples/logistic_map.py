"""The bifurcation diagram of the logistic map, x' = r x (1 - x): all values of r as one batch.

The analysis and the figure are those that watch a network while it trains; only the system is another.

    python examples/logistic_map.py [logistic_map.png]
"""

import sys
from functools import partial

import torch

from rnnlab.analysis import orbit, sweep
from rnnlab.figures.bifurcation import diagram_1d
from rnnlab.maps import Logistic


def main(path: str = "logistic_map.png") -> None:
    r = torch.linspace(2.6, 4.0, 701, dtype=torch.float64)
    x0 = torch.tensor([[0.1], [0.6]], dtype=torch.float64)  # (sample, state)

    # parameters may have leading axes: here every probe is one value of r
    found = orbit(Logistic(r[:, None]), x0.expand(len(r), 2, 1), steps=200, max_burn_in=4000)
    diagram = found.rename(probe="r").assign_coords(r=r.numpy())
    diagram_1d(diagram).savefig(path)
    print(
        f"{path}: {diagram.settled.mean().item():.0%} of the orbits settled, the others are chaotic or slow"
    )

    # the same one value after another, as for systems that can't be stacked
    values = [2.8, 3.2, 3.5, 3.55, 3.83, 4.0]
    table = sweep(Logistic, values, x0, partial(orbit, steps=64), name="r").isel(sample=0)
    for value, period, settled in zip(values, table.period.values, table.settled.values, strict=True):
        print(f"r = {value}: {f'period {period}' if settled else 'does not settle'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
