"""Lightning callbacks: each a few lines around `AnalysisCallback`."""

from callbacks.analysis import AnalysisCallback
from callbacks.bifurcation import Bifurcation
from callbacks.checkpoints import Checkpoints
from callbacks.page import Page
from callbacks.progress import Progress

__all__ = ["AnalysisCallback", "Bifurcation", "Checkpoints", "Page", "Progress"]
