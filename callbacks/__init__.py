"""Lightning callbacks: each a few lines around `AnalysisCallback`."""

from callbacks.analysis import AnalysisCallback
from callbacks.attractors import Attractors
from callbacks.bifurcation import Bifurcation
from callbacks.checkpoints import Checkpoints
from callbacks.contraction import Contraction
from callbacks.cost import CostCallback
from callbacks.fixed_points import FixedPoints
from callbacks.gradient_flow import GradientFlow
from callbacks.lyapunov import Lyapunov
from callbacks.page import Page
from callbacks.phase_portrait import PhasePortrait
from callbacks.progress import Progress
from callbacks.smoothness import Smoothness
from callbacks.words import Words

__all__ = [
    "AnalysisCallback",
    "Attractors",
    "Bifurcation",
    "Checkpoints",
    "Contraction",
    "CostCallback",
    "FixedPoints",
    "GradientFlow",
    "Lyapunov",
    "Page",
    "PhasePortrait",
    "Progress",
    "Smoothness",
    "Words",
]
