"""The phase portrait of two gated recurrent units in continuous time, with eleven fixed points.

    python examples/phase_portrait.py [PICTURE.png]

A few seconds. The parameters are those of Jordan et al. (2019), Fig. 3A. Prints every fixed point, and for
the sinks which part of the square [-1.5, 1.5]^2 ends there; draws field, nullclines, the manifolds of the
saddles, of which the stable ones separate the basins, and trajectories from a grid of 8 x 8 places.
"""

import sys
from pathlib import Path

from rnnlab.analysis import phase_plane
from rnnlab.figures.phase_portrait import portrait
from rnnlab.figures.style import save_png
from rnnlab.gru_flow import gru_flow


def main() -> None:
    """Look, print, draw."""
    field = gru_flow(Uh=[[2.0, 0.0], [0.0, 2.0]], Ur=[[5.0, 8.0], [8.0, 5.0]], br=[5.0, 5.0])
    seen = phase_plane(field, ([-1.5, -1.5], [1.5, 1.5]), basins=True)
    for i, ((x, y), kind) in enumerate(zip(seen.point.values, seen.type.values, strict=True)):
        share = ""
        if i in seen.attractor_point:
            attractor = seen.attractor_point.values.tolist().index(i)
            share = f"attracts {(seen.basin == attractor).mean().item():.1%}".replace("%", " %")
        print(f"({x: .6f}, {y: .6f})  {kind} {share}")
    print(f"largest velocity component on its nullcline: {seen.nullcline_residual.max().item():.0e}")
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "phase_portrait.png")
    picture = portrait(seen.drop_vars("basin"), title="two gated recurrent units")
    print(f"drawn: {save_png(picture, path)}")


if __name__ == "__main__":
    main()
