"""`gankit sample RUN`: pictures from a run's averaged generator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, AnyPath, from_option, out_option, plugin_option, say, scale_options

PICTURES = (
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".mp4",
    ".svg",
    ".avif",
    ".heic",
    ".jxl",
    ".pdf",
)  # no name of a folder


@click.command("sample")
@click.argument("run", type=RUN, metavar="RUN")
@click.option("-n", "--number", "n", type=click.IntRange(1), default=64, show_default=True, help="Number of pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for the latents.")
@from_option("Checkpoint to use")
@out_option(
    "FILE.png|DIR",
    "One picture with all samples, by default RUN/sample.png; or a new folder for 00000.png …, one file per picture.",
)
@click.option("--grid", type=AnyPath(), hidden=True)  # its former name
@scale_options("to at least 128 pixels a picture; in DIR 1")
@click.option("--alpha", is_flag=True, help="Write transparent PNG without background, to lay over anything.")
@plugin_option
def command(
    run: str,
    n: int,
    seed: int,
    from_step: int | Literal["best"] | None,
    grid: str | None,
    out: str | None,
    scale: int | None,
    smooth: bool,
    alpha: bool,
    plugins: tuple[str, ...],
) -> None:
    """Draw N pictures with the averaged generator of RUN."""
    from gankit.errors import UserError
    from gankit.files import refuse_foreign
    from gankit.runs.folder import RunFolder

    if grid and out:
        raise click.UsageError("--grid and --out exclude each other: one picture, or a folder of them")
    if out and Path(out).suffix.lower() == ".png":
        grid, out = out, None
    if out and Path(out).exists():
        raise UserError(f"--out {out} exists: name a new folder")
    wrong = Path(grid or out or "").suffix.lower()
    if wrong in PICTURES or (grid and wrong != ".png"):
        raise UserError(f"--out {grid or out}: the name of one picture must end in .png")
    run_folder = RunFolder(run)
    if grid:
        refuse_foreign(Path(grid))
    from gankit.report.sample_grid import save_grid
    from gankit.trained.sampling import sample, save_each

    pictures = sample(run_folder, n, seed=seed, step=from_step, plugins=plugins, alpha=alpha)
    if out:
        save_each(pictures, Path(out), scale or 1, smooth)
        say(f"{n} pictures in {out}")
        return
    path = Path(grid) if grid else run_folder.folder / "sample.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_grid(pictures, path, scale=scale, smooth=smooth)
    say(str(path))
