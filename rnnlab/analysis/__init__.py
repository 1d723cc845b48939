"""One question, one file: pure functions `(system, x0, *, options)` to a labelled `xarray.Dataset`."""

from collections.abc import Callable

import xarray as xr
from torch import Tensor

from rnnlab.analysis.orbit import orbit
from rnnlab.analysis.sweep import sweep
from rnnlab.systems import System

Analysis = Callable[[System, Tensor], xr.Dataset]

__all__ = ["Analysis", "orbit", "sweep"]
