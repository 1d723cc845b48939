"""All fixed points of a GRU of two units, proved, and how they came about as its recurrent weights grew.

    python examples/seven_fixed_points.py [PICTURE.png]

A few seconds. Prints the seven points that Newton's method finds beside the number of those that interval
arithmetic proves to be all there are, and draws them along the gain of the recurrent weights, with every
bifurcation on the way. At gain 2 both eigenvalues of the origin cross at once: that has no name in a list of
bifurcations of one parameter, and is said to be unclassified.
"""

import sys
from pathlib import Path

import torch

from rnnlab.analysis import certified_fixed_points, continuation, fixed_points
from rnnlab.figures.continuation import branch_diagram
from rnnlab.figures.style import save_png


class TwoUnits:
    """x' = (x + tanh(gain (r * x))) / 2 with r = sigmoid(Ur x): update gates that stand at one half."""

    Ur = torch.tensor([[5.0, 8.0], [8.0, 5.0]], dtype=torch.float64)

    def __init__(self, gain: float | torch.Tensor) -> None:
        self.gain = gain

    def step(self, x: torch.Tensor) -> torch.Tensor:
        r = torch.sigmoid(x @ self.Ur.mT)
        return (x + torch.tanh(self.gain * (r * x))) / 2

    def observe(self, x: torch.Tensor) -> torch.Tensor:
        return x


def main() -> None:
    """Find, prove, follow."""
    torch.manual_seed(0)
    found = fixed_points(TwoUnits(3.0), 2 * torch.rand(200, 2, dtype=torch.float64) - 1)
    proved = certified_fixed_points(TwoUnits(3.0))
    for i in range(found.sizes["index"]):
        x, y = found.point.values[i]
        print(f"({x: .6f}, {y: .6f})  {found.kind.values[i]:14} residual {found.residual.values[i]:.0e}")
    print(f"index sum {found.attrs['index_sum']}; proved: {proved.certified}, undecided: {proved.undecided}")

    # from the points at the largest gain back to where only the origin is left
    points = torch.as_tensor(found.point.values)
    branches = continuation(TwoUnits, points, (3.0, 0.9), name="gain")
    for kind, gain in zip(
        branches.bifurcation_type.values, branches.bifurcation_parameter.values, strict=True
    ):
        print(f"{kind} at gain {gain:.6f}")
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "seven_fixed_points.png")
    print(f"drawn: {save_png(branch_diagram(branches), path)}")


if __name__ == "__main__":
    main()
