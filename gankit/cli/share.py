"""`gankit share RUN`: one page that draws new pictures by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, from_option, out_option, plugin_option, say


@click.command("share")
@click.argument("run", type=RUN, metavar="RUN")
@out_option("FILE.html", "Default: RUN/share.html.")
@click.option("--credit", metavar="TEXT", help="A line on who made the real pictures, for the page.")
@click.option("--full", is_flag=True, help="Weights in single precision: twice the size, and no visible difference.")
@from_option("Checkpoint to use")
@plugin_option
def command(
    run: str,
    out: str | None,
    credit: str | None,
    full: bool,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Write one HTML file with the averaged generator of RUN in it, which anyone can open.

    It draws new pictures in a browser, without server, network or Python. One can keep some, mix, breed and walk
    between them, slide along the directions that change most, and save a picture. Needs gankit[share].
    """
    from gankit.runs.folder import RunFolder

    run_folder = RunFolder(run)
    from gankit.sharing.page import write_shared

    shared = write_shared(run_folder, Path(out) if out else None, from_step, plugins, credit, full)
    kind = "single precision" if shared.psnr is None else f"half precision: {shared.psnr:.0f} dB from single"
    say(f"{shared.path} ({shared.size / 1e6:.1f} MB, {kind}): open it in a browser, or send it to somebody")
