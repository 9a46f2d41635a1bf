"""losses.png: the curves of a run in one picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.errors import UserError
from gankit.files import replacing
from gankit.report.curves import Line, Panel, Series, rate_drops, replaced
from gankit.report.story import Story, read
from gankit.runs.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
ALARM = {"critical": "#B00020", "warning": "#B8860B"}
INK, MUTED, GRID = "#1d2126", "#6a7178", "#e6e6e2"
KINDS = ("losses", "energies", "control", "rates")
MARKS = 40  # vertical lines; more would hide the curves


def draw_losses(run: RunFolder, story: Story | None = None) -> Path:
    """Draw losses, energies, the model's own values and learning rates into RUN/losses.png.

    Alarms are vertical lines; steps with a lowered learning rate are dotted lines. `story`: the run's content, if
    already read. Returns the path.
    Raises UserError if the run has no metrics yet or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    story = story or read(run)
    shown = [panel for panel in story.panels if panel.kind in KINDS]
    if not shown:
        raise UserError(f"{run.folder} has no losses yet: draw them once a step has been logged")
    figure = Figure(figsize=(10, 0.9 + 1.9 * len(shown)), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for panel, axis in zip(shown, axes, strict=True):
        _draw(panel, axis)
    marks = _mark(list(axes), story, rate_drops(shown))
    if marks:
        figure.legend(handles=marks, loc="outside lower left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    axes[-1].set_xlabel("step", color=MUTED)
    axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.align_ylabels(list(axes))
    with replacing(run.losses_path) as beside:
        figure.savefig(beside, format="png")
    return Path(run.losses_path)


def mathtext(letter: str) -> str:
    """A letter of the papers ("k_t", "M_global") in matplotlib's notation, or as plain text if that fails."""
    from matplotlib.mathtext import MathTextParser

    text = re.sub(r"_(\w+)", r"_{\\mathrm{\1}}", letter).replace("γ", r"\gamma ").replace("−", "-")
    try:
        MathTextParser("path").parse(f"${text}$")
    except (ValueError, RecursionError):
        return _plain(letter)
    return f"${text}$"


def _draw(panel: Panel, axis: Axes) -> None:
    for n, series in enumerate(panel.series):
        _draw_series(series, axis, COLOURS[n % len(COLOURS)], "--" if n >= len(COLOURS) else "-", panel)
    only = panel.series[0]
    single = panel.kind == "control" and only.about.letter
    axis.set_title(mathtext(only.about.letter) if single else _plain(panel.title), loc="left", color=INK, fontsize=11)
    if single:
        axis.set_title(_plain(panel.title), loc="right", color=MUTED, fontsize=9)
    if len(panel.series) > 1 or panel.kind != "control":
        # Beside the title, where it hides no curve.
        place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.1}
        axis.legend(**place, frameon=False, fontsize=9, ncols=min(len(panel.series), 4), labelcolor=INK)
    _scale(panel, axis)
    axis.grid(True, color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _draw_series(series: Series, axis: Axes, colour: str, dashes: str, panel: Panel) -> None:
    style: dict[str, Any] = {"drawstyle": "steps-post"} if panel.kind == "rates" else {}
    # Without markers a few points are hardly visible.
    few: dict[str, Any] = {"marker": "o", "markersize": 3} if len(series.line.steps) <= 40 else {}
    name = _plain(series.name) + (f"  {mathtext(series.about.letter)}" if series.about.letter else "")
    for line in series.abandoned:
        axis.plot(line.steps, _floats(line), color=colour, alpha=0.35, linewidth=1, linestyle=":")
    faint = series.smooth is not None
    line = series.line
    axis.plot(
        line.steps,
        _floats(line),
        color=colour,
        linestyle=dashes,
        alpha=0.25 if faint else 1,
        linewidth=0.8 if faint else 1.5,
        label=None if faint else name,
        **style,
        **few,
    )
    if series.smooth:
        smooth = series.smooth
        axis.plot(smooth.steps, _floats(smooth), color=colour, linestyle=dashes, linewidth=1.8, label=name)


def _scale(panel: Panel, axis: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    values = [v for s in panel.series for line in (s.line, *s.abandoned) for v in line.values if v is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if panel.log and values:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.5, high * 1.5)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    elif panel.bounds[0] is not None:
        # From the lower bound up to the highest value.
        bottom = min(panel.bounds[0], low)
        axis.set_ylim(bottom, bottom + max(1.08 * (high - bottom), 1e-6))
    elif low < 0 < high and panel.kind == "control":
        axis.axhline(0, color=MUTED, linewidth=0.8)


def _mark(axes: list[Axes], story: Story, drops: list[int]) -> list[Artist]:
    """Draw the vertical lines; returns a labelled one of each kind for the legend."""
    kinds: dict[str, Artist] = {}
    for step in drops[:MARKS]:
        for axis in axes:
            line = axis.axvline(step, color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
        line.set_label("learning rate lowered")
        kinds.setdefault("", line)
    for alarm in story.alarms[:MARKS]:
        severity = "critical" if alarm.get("severity") == "critical" else "warning"
        style = "--" if replaced(alarm, story.ends) else "-"
        for axis in axes:
            line = axis.axvline(alarm["step"], color=ALARM[severity], linewidth=1.2, linestyle=style, snap=True)
        kind = str(alarm.get("kind") or alarm.get("diagnostic") or "alarm")
        line.set_label(_plain(f"{severity} alarm: {kind}"))
        kinds.setdefault(f"{severity} {kind}", line)
    return list(kinds.values())[:6]


def _plain(text: str) -> str:
    """A name from a file; its dollar signs start no mathematics."""
    return text.replace("$", r"\$")


def _floats(line: Line) -> list[float]:
    return [float("nan") if value is None else value for value in line.values]
