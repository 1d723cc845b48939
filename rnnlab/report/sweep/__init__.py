"""The page of several runs: what they reached, which parameter matters, their histories and pictures."""

from __future__ import annotations

from rnnlab.report.sweep.page import write_sweep_report

__all__ = ["write_sweep_report"]
