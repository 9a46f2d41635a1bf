"""`gankit animate RUN`: the sample grids as an animation."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.cli import RUN, out_option, say, scale_options


@click.command("animate")
@click.argument("run", type=RUN, metavar="RUN")
@out_option("FILE.gif|.mp4", "Default: RUN/animation.gif.", "--output")
@scale_options("to at least 512 pixels in all")
def command(run: str, out: str | None, scale: int | None, smooth: bool) -> None:
    """Make an animation of the sample grids of RUN."""
    from gankit.report import animate
    from gankit.runs.folder import RunFolder

    say(str(animate(RunFolder(run), Path(out) if out else None, scale=scale, smooth=smooth)))
