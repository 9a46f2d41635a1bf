"""`gankit animate RUN`: the sample grids as an animation."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.cli import say


@click.command("animate")
@click.argument("run", metavar="RUN")
@click.option("-o", "--output", type=click.Path(), metavar="FILE.gif|.mp4", help="Default: RUN/animation.gif.")
def command(run: str, output: str | None) -> None:
    """Make an animation of the sample grids of RUN."""
    from gankit.report import animate
    from gankit.runs.folder import RunFolder

    say(str(animate(RunFolder(run), Path(output) if output else None)))
