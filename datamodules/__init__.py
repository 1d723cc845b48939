"""Tasks: one task, one file."""

from datamodules.fitzhugh_nagumo import FitzHughNagumo
from datamodules.line_attractor import LineAttractor
from datamodules.planar import Planar
from datamodules.ring_attractor import RingAttractor
from datamodules.sine import Sine

__all__ = ["FitzHughNagumo", "LineAttractor", "Planar", "RingAttractor", "Sine"]
