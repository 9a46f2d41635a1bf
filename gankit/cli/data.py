"""`gankit data inspect DIR`: what is in a folder of pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gankit.cli import aligned, complete, out_option, plugin_option, say

if TYPE_CHECKING:
    from gankit.data.inspection import Inspection

SHOWN = 10  # skipped files, and remarks, in the terminal


@click.group("data")
def command() -> None:
    """Look at a folder of pictures before a training."""


@command.command("inspect")
@click.argument("data", metavar="DIR|NAME[:ARG]", shell_complete=complete.components("datasets", beside=complete.files))
@click.option(
    "--image-size", default=32, show_default=True, type=click.IntRange(8, 1024), metavar="S", help="As in run."
)
@click.option("--fit", default="pad", show_default=True, type=click.Choice(["pad", "crop"]), help="As in run.")
@click.option("--background", default="white", show_default=True, metavar="COLOUR", help="As in run.")
@click.option("--stream", is_flag=True, help="Look at some at random, and keep no cache of all.")
@out_option("FILE.html", "Also write a page with the pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@plugin_option
def inspect_(
    data: str,
    image_size: int,
    fit: str,
    background: str,
    stream: bool,
    out: str | None,
    as_json: bool,
    plugins: tuple[str, ...],
) -> None:
    """Count the pictures of DIR or of a file, and say what would be skipped, what looks alike, and what to do about it.

    \b
    gankit data inspect ./my-pictures -o inspection.html
    """
    from gankit.catalogue import Catalogue
    from gankit.config.values import colour
    from gankit.data.inspection import inspect
    from gankit.data.source import Request
    from gankit.errors import UserError

    path = Path(os.path.expanduser(out)) if out else None
    if path and (path.suffix.lower() != ".html" or os.path.lexists(path)):
        raise UserError(f"--out {out}: " + ("it exists" if os.path.lexists(path) else "the name must end in .html"))
    try:
        request = Request(image_size, fit, colour(background), holdout=0, stream=stream, notice=lambda line: None)
    except ValueError as error:
        raise UserError(f"--background {error}") from None
    found = inspect(data, request, Catalogue(plugins))
    if as_json:
        say(json.dumps(found.figures, ensure_ascii=False))
    else:
        for line in _lines(found):
            say(line)
    if path:
        from gankit.report.data_page import write

        write(found, path)
        say(f"look at {path}", err=as_json)


def _lines(found: Inspection) -> Iterator[str]:
    """The inspection as the terminal shows it."""
    rows = [("pictures", f"{found.pictures:,}"), ("skipped", f"{len(found.skipped):,}")]
    if found.sides:
        low, middle, high = found.sides
        rows += [("formats", ", ".join(f"{name} {count:,}" for name, count in found.formats.items()))]
        rows += [("shorter side", f"{low:,} to {high:,} pixels, median {middle:,}")]
    rows += [("labels", f"{len(found.labels):,}")] if found.labels else []
    rows += [("look-alikes", f"{found.alike:,} of {found.looked:,}")]
    rows += [("ground", f"{found.ground}, {found.ground_share:.0%} of the pixels" if found.ground else "none")]
    rows += [("without colour", f"{found.grey:.0%} of the pictures")]
    yield from aligned(rows)
    for what, notes in (("skipped", found.skipped), ("remark on", found.warned)):
        for one in notes[:SHOWN]:
            yield f"{what} {one['file']}: {one['reason']}"
        if len(notes) > SHOWN:
            yield f"and {len(notes) - SHOWN:,} more"
    yield from (f"- {line}" for line in found.advice)
