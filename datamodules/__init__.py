"""Tasks: one task, one file."""

from datamodules.adding import Adding
from datamodules.copy_memory import CopyMemory
from datamodules.fitzhugh_nagumo import FitzHughNagumo
from datamodules.flip_flop import FlipFlop
from datamodules.generated import Generated
from datamodules.line_attractor import LineAttractor
from datamodules.planar import Planar
from datamodules.ring_attractor import RingAttractor
from datamodules.sine import Sine
from datamodules.symbols import Symbols
from datamodules.teacher_forced import TeacherForced
from datamodules.wikitext2 import WikiText2

__all__ = [
    "Adding",
    "CopyMemory",
    "FitzHughNagumo",
    "FlipFlop",
    "Generated",
    "LineAttractor",
    "Planar",
    "RingAttractor",
    "Sine",
    "Symbols",
    "TeacherForced",
    "WikiText2",
]
