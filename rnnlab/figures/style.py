"""One look for all pictures."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:  # matplotlib takes long to import, and the report page needs none of it
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any kind of colour vision
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
INK, FAINT = "#333333", "#d9d9d9"
UNSETTLED = ORANGE

MATPLOTLIB: Any = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": "cycler('color', " + repr(list(COLORS)) + ")",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}

# colours that a page can set beforehand stay open: no background, grey lines fit light and dark
PLOTLY: dict[str, Any] = {
    "template": "none",
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#7a7a7a"},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "colorway": list(COLORS),
    "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
    "hovermode": "closest",
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#7a7a7a"},
}
PLOTLY_AXIS: dict[str, Any] = {
    "gridcolor": "rgba(128,128,128,0.25)",
    "zeroline": False,
    "linecolor": "rgba(128,128,128,0.6)",
    "ticks": "outside",
    "tickcolor": "rgba(128,128,128,0.6)",
    "automargin": True,
}

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function that draws with matplotlib draw in this style, and leave the caller's as it was."""

    @functools.wraps(draw)
    def drawing(*args: P.args, **kwargs: P.kwargs) -> T:
        import matplotlib

        with matplotlib.rc_context(MATPLOTLIB):
            return draw(*args, **kwargs)

    return drawing


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, known to no pyplot state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def note(figure: Figure, text: str) -> Figure:
    """The same figure with a line in small letters in its lower left corner."""
    figure.text(0.004, 0.006, text, fontsize=8, color=INK, va="bottom")
    return figure


def escape(text: str) -> str:
    """Text for plotly, which reads its labels as a kind of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(text: str) -> str:
    r"""Text for matplotlib, which takes what stands between two dollars for mathematics.

    Example:
        >>> print(plain("$ 5 to $ 6"))
        \$ 5 to \$ 6
    """
    return text.replace("$", r"\$")


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write a figure in one move: whoever looks finds the old picture or the new one, never half of one.

    Args:
        figure: The figure.
        path: Where to; folders are made.

    Returns:
        The path.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(partial, format="png", dpi=MATPLOTLIB["savefig.dpi"])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
