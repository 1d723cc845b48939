"""One question, one file: pure functions `(system, x0, *, options)` to a labelled `xarray.Dataset`."""

from collections.abc import Callable

import xarray as xr

from rnnlab.analysis.attractors import attractors
from rnnlab.analysis.bifurcation_curves import bifurcation_curve
from rnnlab.analysis.certified import certified_fixed_points
from rnnlab.analysis.continuation import continuation
from rnnlab.analysis.contraction import contraction
from rnnlab.analysis.cycle_continuation import cycle_continuation, cycle_from_hopf
from rnnlab.analysis.entropy import entropy
from rnnlab.analysis.fixed_points import fixed_points
from rnnlab.analysis.gradient_flow import gradient_flow
from rnnlab.analysis.itinerary import itinerary
from rnnlab.analysis.landscape import landscape
from rnnlab.analysis.lyapunov import lyapunov_spectrum
from rnnlab.analysis.orbit import orbit
from rnnlab.analysis.periodic_orbits import periodic_orbits
from rnnlab.analysis.phase_plane import phase_plane
from rnnlab.analysis.piecewise_continuation import piecewise_continuation
from rnnlab.analysis.rotation import rotation_number
from rnnlab.analysis.smoothness import smoothness
from rnnlab.analysis.sweep import sweep
from rnnlab.analysis.topology import topology

Analysis = Callable[..., xr.Dataset]

__all__ = [
    "Analysis",
    "attractors",
    "bifurcation_curve",
    "certified_fixed_points",
    "continuation",
    "contraction",
    "cycle_continuation",
    "cycle_from_hopf",
    "entropy",
    "fixed_points",
    "gradient_flow",
    "itinerary",
    "landscape",
    "lyapunov_spectrum",
    "orbit",
    "periodic_orbits",
    "phase_plane",
    "piecewise_continuation",
    "rotation_number",
    "smoothness",
    "sweep",
    "topology",
]
