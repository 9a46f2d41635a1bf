"""The common parts of the pages: writing one, its filters, and panels as plain data for report.js."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gankit.files import replacing
from gankit.report.curves import Line, Panel, Series

if TYPE_CHECKING:
    from markupsafe import Markup

PAGE = 9_700_000  # bytes; plotly takes about half


def room(context: dict[str, Any]) -> int:
    """Bytes that a page has left for pictures, beside its text and data."""
    from plotly.offline import get_plotlyjs

    return PAGE - len(get_plotlyjs().encode()) - len(repr(context).encode()) - 100_000


def write_page(template: str, path: Path, context: dict[str, Any], drawn: bool) -> Path:
    """Render a template into one HTML file, whole or not at all; with plotly if `drawn`.

    Raises UserError if the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"breakable": breakable, "command": command, "letter": letter}
    here = Path(__file__).parent
    style = (here / "report.css").read_text(encoding="utf-8")
    scripts = [*([get_plotlyjs()] if drawn else []), (here / "report.js").read_text(encoding="utf-8")]
    taken = re.findall(r'getElementById\("([0-9a-f]{64})"\)', scripts[0])
    page = environment.get_template(template).render(
        **context,
        policy=policy(style, scripts),
        style=Markup(style),
        taken=taken,
        scripts=[Markup(script) for script in scripts],
    )
    with replacing(path) as beside:
        # A folder name may hold invalid Unicode.
        beside.write_text(page, encoding="utf-8", errors="replace")
    return path


def policy(style: str, scripts: Sequence[str]) -> str:
    """The Content-Security-Policy of a page: this style sheet, these scripts, no others, and no network.

    Plotly adds an empty style sheet, fills it rule by rule, and sets style attributes of its elements.
    """
    ours = " ".join(map(digest, scripts))
    styles = f"style-src {digest(style)} {digest('')}; style-src-attr 'unsafe-inline'"
    return f"default-src 'none'; img-src data: blob:; {styles}; script-src {ours}"


def digest(text: str) -> str:
    """A script or style sheet as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Filters of the templates: each escapes its argument.


def breakable(name: str) -> Markup:
    """A dotted name that a narrow column may break after its dots, slashes, commas and colons."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([./,:])", r"\1<wbr>", str(escape(name))))


def command(line: str) -> Markup:
    """A command line that does not break at the hyphens of its options."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in line.split(" ")]
    whole = Markup('<span class="whole">{}</span>')
    return Markup(" ").join(whole.format(part) if part.startswith("-") and len(part) < 30 else part for part in parts)


def letter(text: str) -> Markup:
    """A letter of the papers, "k_t", with its index below the line."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))


# Curves: plain data for plotly, by report.js.


def panel_data(panel: Panel) -> dict[str, Any]:
    """A panel with all its series."""
    values = [value for s in panel.series for value in s.line.values if value is not None]
    return {
        "title": panel.title,
        "letter": panel.series[0].about.letter if panel.kind == "control" else "",
        "note": panel.note,
        "kind": panel.kind,
        "log": panel.log,
        "bounds": panel.bounds,
        "level": panel.level,
        "best": panel.best,
        "zero": bool(values) and panel.kind == "control" and min(values) < 0 < max(values),
        "series": [_one(series, alone=len(panel.series) == 1) for series in panel.series],
    }


def _one(series: Series, alone: bool) -> dict[str, Any]:
    mark = str(letter(series.about.letter))
    name = html.escape(series.name)
    return {
        "name": (mark or name) if alone else f"{name} {mark}".strip(),
        "line": _points(series.line),
        "smooth": _points(series.smooth) if series.smooth else None,
        "abandoned": [_points(line) for line in series.abandoned],
    }


def _points(line: Line) -> list[list[Any]]:
    return [line.steps, [None if value is None else float(f"{value:.5g}") for value in line.values]]


def label(text: str) -> str:
    """Text for a plotly label, which reads simple HTML, broken into lines."""
    lines, rest = [], text
    while rest:
        cut = len(rest) if len(rest) <= 60 else max(rest.rfind(" ", 0, 60), 0) or 60
        lines.append(html.escape(rest[:cut].strip()))
        rest = rest[cut:]
    return "<br>".join(lines[:6])
