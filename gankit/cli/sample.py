"""`gankit sample RUN`: pictures from a run's averaged generator."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.cli import plugin_option, say


@click.command("sample")
@click.argument("run", metavar="RUN")
@click.option("-n", "--number", "n", type=click.IntRange(1), default=64, show_default=True, help="Number of pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed for the latents.")
@click.option(
    "--from",
    "from_step",
    type=int,
    metavar="STEP",
    help="Checkpoint to use; default: the last.",
)
@click.option(
    "--grid", type=click.Path(), metavar="FILE.png", help="One picture with all samples; default: RUN/sample.png."
)
@click.option("--out", type=click.Path(), metavar="DIR", help="New folder for 00000.png …, one file per picture.")
@click.option("--alpha", is_flag=True, help="Write transparent PNG without background, to lay over anything.")
@plugin_option
def command(
    run: str,
    n: int,
    seed: int,
    from_step: int | None,
    grid: str | None,
    out: str | None,
    alpha: bool,
    plugins: tuple[str, ...],
) -> None:
    """Draw N pictures with the averaged generator of RUN."""
    from gankit.errors import UserError
    from gankit.runs.folder import RunFolder

    if grid and out:
        raise click.UsageError("--grid and --out exclude each other: one picture, or a folder of them")
    if out and Path(out).exists():
        raise UserError(f"--out {out} exists: name a new folder")
    if grid and Path(grid).suffix.lower() != ".png":
        raise UserError(f"--grid {grid}: the name must end in .png")
    run_folder = RunFolder(run)
    from gankit.report.sample_grid import save_grid
    from gankit.trained.sampling import sample, save_each

    pictures = sample(run_folder, n, seed=seed, step=from_step, plugins=plugins, alpha=alpha)
    if out:
        save_each(pictures, Path(out))
        say(f"{n} pictures in {out}")
        return
    path = Path(grid) if grid else run_folder.folder / "sample.png"
    save_grid(pictures, path)
    say(str(path))
