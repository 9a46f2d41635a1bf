"""`gankit interpolate RUN`: from one latent to another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, complete, from_option, out_option, plugin_option, say, scale_options

FRAMES, COLUMNS = 32, 9  # default frames of a film, and of a strip


@click.command("interpolate")
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--frames",
    type=click.IntRange(2),
    help=f"Frames from one latent to the other, both included; default {FRAMES}, in a .png {COLUMNS}.",
)
@out_option("FILE.gif|.mp4|.png", "Default: RUN/interpolation.gif.", "--output")
@scale_options("to at least 512 pixels in all, or 96 a picture in a .png")
@click.option(
    "--between",
    nargs=2,
    multiple=True,
    metavar="A B",
    shell_complete=complete.files,
    help="Interpolate between two pictures; may be repeated.",
)
@click.option(
    "--mirror",
    multiple=True,
    metavar="IMAGE",
    shell_complete=complete.files,
    help="Interpolate from a picture to its mirror image; may be repeated.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for the latents.")
@from_option("Checkpoint to use")
@plugin_option
def command(
    run: str,
    frames: int | None,
    out: str | None,
    scale: int | None,
    smooth: bool,
    between: tuple[tuple[str, str], ...],
    mirror: tuple[str, ...],
    seed: int,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Show what the generator of RUN draws on the straight line from one latent to another.

    The ends are eight random pairs, or with --between and --mirror the latents that `gankit invert` finds for pictures.
    A .gif or .mp4 goes there and back; a .png shows the frames side by side, one row per pair.
    """
    from gankit.runs.folder import RunFolder

    run_folder = RunFolder(run)
    path = Path(out) if out else run_folder.folder / "interpolation.gif"
    strip = path.suffix.lower() == ".png"
    from gankit.errors import UserError
    from gankit.files import refuse_foreign
    from gankit.report.animation import background, refuse_name

    if path.suffix.lower() not in (".gif", ".mp4", ".png"):
        raise UserError(f"--out {path}: the name must end in .gif, .mp4 or .png")
    if not strip:
        refuse_name(path)
    from gankit.device import choose_device
    from gankit.report.sheets import draw_film, draw_strip, refuse_input, words
    from gankit.trained.latents import Inversion, ways
    from gankit.trained.sampling import rebuild

    def tell(inversion: Inversion, names: list[str]) -> None:
        for line in words(inversion, names):
            say(line)

    refuse_input(path, [*(name for pair in between for name in pair), *mirror])
    if out:
        refuse_foreign(path)
    rebuilt = rebuild(run_folder, from_step, plugins, choose_device("auto"))
    shown, ends = ways(rebuilt, between, mirror, frames or (COLUMNS if strip else FRAMES), seed, tell)
    if strip:
        draw_strip(shown, ends, path, scale, smooth)
    else:
        draw_film(shown, ends, path, background(run_folder), scale, smooth)
    say(str(path))
