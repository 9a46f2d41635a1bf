"""`gankit invert RUN IMAGE...`: the latents of real pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, complete, from_option, out_option, plugin_option, say, scale_options


@click.command("invert")
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=complete.files)
@out_option("FILE.png", "Default: RUN/inversion.png.", "--output")
@scale_options("to at least 160 pixels a picture")
@click.option(
    "--starts",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Random starting latents; the best result counts.",
)
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Adam steps per start.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for the starts.")
@from_option("Checkpoint to use")
@plugin_option
def command(
    run: str,
    images: tuple[str, ...],
    out: str | None,
    scale: int | None,
    smooth: bool,
    starts: int,
    steps: int,
    seed: int,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Find for each IMAGE the latent z whose picture G(z) is nearest.

    Draws the picture, its reconstruction where the discriminator is an autoencoder, and G(z), and prints the mean
    |difference| of both from the picture, of values in [-1, 1]. A large difference to G(z): the generator has not
    learnt to draw that picture.
    """
    from gankit.errors import UserError
    from gankit.files import refuse_foreign
    from gankit.runs.folder import RunFolder

    run_folder = RunFolder(run)
    path = Path(out) if out else run_folder.folder / "inversion.png"
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: the name must end in .png")
    from gankit.device import choose_device
    from gankit.report.sheets import draw_inversion, refuse_input, words
    from gankit.trained.latents import invert, read_pictures
    from gankit.trained.sampling import rebuild

    refuse_input(path, images)
    if out:
        refuse_foreign(path)
    rebuilt = rebuild(run_folder, from_step, plugins, choose_device("auto"))
    inversion = invert(rebuilt, read_pictures(rebuilt, images), starts, steps, seed)
    missing = draw_inversion(inversion, [Path(name).name for name in images], path, scale, smooth)
    for line in (*words(inversion, images), *missing):
        say(line)
    if inversion.reconstructed is None:
        say(f"D's reconstruction is left out: the discriminator of {rebuilt.model.name!r} gives none")
    say(str(path))
