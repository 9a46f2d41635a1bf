"""Draws a run folder: curves, an animation and a report. Needs no model and no torch."""

from gankit.report.animation import animate
from gankit.report.figures import draw_losses
from gankit.report.run_page import write_report

__all__ = ["animate", "draw_losses", "write_report"]
