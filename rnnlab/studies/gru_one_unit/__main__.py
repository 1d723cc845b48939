"""Draw Fig. 1 of Jordan et al. (2019): the three flows of one unit, and where each of them is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit

from rnnlab.figures import style
from rnnlab.studies import program
from rnnlab.studies.gru_one_unit.fixed_points import cusps, fixed_points, saddle_nodes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEMMA_3 = {"Uh": -60.0, "Ur": 80.0, "br": 40.0}  # the paper's example


def table() -> pd.DataFrame:
    """The paper's example through its saddle-nodes: one row for each fixed point."""
    nodes = saddle_nodes(**LEMMA_3).bh
    values = np.array([0.0, -0.5, nodes[1], -1.0, nodes[0], -30.0])
    found = fixed_points(bh=values, **LEMMA_3)
    rows = [
        {"bh": values[i], "fixed_points": found.count[i], "h": found.h[i, j], "kind": found.kind[i, j]}
        | {"slope": found.slope[i, j], "residual": found.residual[i, j]}
        for i in range(len(values))
        for j in range(found.count[i])
    ]
    return pd.DataFrame(rows)


@style.styled
def figure() -> Figure:
    """Fig. 1: the three flows of one unit; below, why there are no others, and where each is."""
    made = style.new_figure(9.0, 6.2)
    axes = made.subplot_mosaic([["A", "B", "C"], ["turns", "regions", "regions"]], height_ratios=[2, 3])
    node = saddle_nodes(**LEMMA_3).bh[1]
    levels = {"A": -0.5, "B": node, "C": -1.0}
    for name, bh in levels.items():
        _draw_flow(axes[name], bh)
        axes[name].set_title(f"{name}: bh = {bh:.4g}")
    axes["A"].set_ylabel("$\\dot h$ at $z = 1/2$")

    Uh, Ur, br = LEMMA_3.values()
    h = np.linspace(-0.999, 0.06, 4000)
    left, right = axes["turns"], axes["regions"]
    left.plot(h, np.arctanh(h) - Uh * h * expit(Ur * h + br), color=style.BLUE)
    for name, bh in levels.items():
        left.axhline(bh, color=style.ORANGE, linewidth=0.8)
        left.annotate(name, (-0.25, bh), va="bottom", color=style.ORANGE)
    left.set(xlim=(-1, 0.06), ylim=(-1.6, 0.2), xlabel="h", ylabel="bh for which h is a fixed point")
    left.set_title("Levels of bh meet the curve")

    tips = cusps(Ur, br)
    for tip, end in zip(tips.Uh, (-80.0, 10.0), strict=True):
        Uh = tip + (end - tip) * np.linspace(0, 1, 400) ** 3  # dense at the cusp
        bh = saddle_nodes(Uh, Ur, br).bh
        right.fill_betweenx(Uh, *bh.T, color=style.SKY, alpha=0.3, linewidth=0)
        right.plot(bh, Uh, color=style.BLUE)
    right.plot(tips.bh, tips.Uh, "o", color=style.INK, markersize=4, label="cusp")
    right.axhline(LEMMA_3["Uh"], color=style.ORANGE, linewidth=0.8)
    right.annotate(
        "A, B, C", (levels["A"], LEMMA_3["Uh"]), color=style.ORANGE, xytext=(4, 4), textcoords="offset points"
    )
    right.annotate("three fixed points", (-9, -42), ha="center")
    right.annotate("one", (-25, -18), ha="center")
    right.set(xlabel="bh", ylabel="Uh", title=f"Saddle-nodes at Ur = {Ur:g}, br = {br:g}")
    right.legend(loc="upper left")
    made.tight_layout()
    return made


def _draw_flow(axes: Any, bh: float) -> None:
    h = np.linspace(-1, 0.2, 2401)
    speed = (np.tanh(LEMMA_3["Uh"] * expit(LEMMA_3["Ur"] * h + LEMMA_3["br"]) * h + bh) - h) / 2
    axes.axhline(0, color=style.INK, linewidth=0.7)
    axes.plot(h, speed, color=style.BLUE)
    found = fixed_points(bh=bh, **LEMMA_3)
    ends = np.concatenate([[-1.0], found.h[~np.isnan(found.h)], [0.2]])
    for middle in (ends[1:] + ends[:-1]) / 2:
        way = ">" if np.interp(middle, h, speed) > 0 else "<"
        axes.plot(middle, 0, way, color=style.INK, markersize=6)
    fills = {"stable": "full", "unstable": "none", "half-stable": "left"}
    for x, kind in zip(found.h, found.kind, strict=True):
        if kind:
            axes.plot(x, 0, "o", color=style.ORANGE, fillstyle=fills[kind], markersize=7, label=kind)
    handles, kinds = axes.get_legend_handles_labels()
    each = dict(zip(kinds, handles, strict=True))
    axes.legend(each.values(), each.keys(), loc="lower left", fontsize=8)
    axes.set(xlim=(-1.04, 0.24), ylim=(-0.6, 0.6), xlabel="h")


def main(argv: list[str] | None = None) -> Path:
    """Draw Fig. 1 and write the fixed points of its example."""
    options = program.parser("gru_one_unit", "One gated recurrent unit: its fixed points.").parse_args(argv)
    rows = table()
    program.save_table(rows, options.out / "fixed_points.csv")
    style.save_png(figure(), options.out / "figure_1.png")
    print(program.markdown(rows))
    return options.out


if __name__ == "__main__":
    program.run(main)
