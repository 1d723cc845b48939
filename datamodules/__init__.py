"""Tasks: one task, one file."""

from datamodules.sine import Sine

__all__ = ["Sine"]
