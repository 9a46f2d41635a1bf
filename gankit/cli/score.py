"""`gankit score RUN DIR`: pictures by reconstruction error."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, AnyPath, aligned, complete, from_option, out_option, plugin_option, say, scale_options

SHOWN = 10  # lines in the terminal


@click.command("score")
@click.argument("run", type=RUN, metavar="RUN")
@click.argument(
    "data",
    type=AnyPath(),
    metavar="DIR|NAME[:ARG]",
    shell_complete=complete.components("datasets", beside=complete.files),
)
@out_option("FILE.csv", "Default: RUN/scores.csv; the sheet is FILE.png beside it.")
@scale_options("to at least 96 pixels a picture")
@from_option("Checkpoint to use")
@plugin_option
def command(
    run: str,
    data: str,
    out: str | None,
    scale: int | None,
    smooth: bool,
    from_step: int | Literal["best"] | None,
    plugins: tuple[str, ...],
) -> None:
    """Order the pictures of DIR by how badly the discriminator of RUN reconstructs them, the worst first.

    DIR may be Parquet or tar files, or a data source, as in run. The discriminator reconstructs pictures like those
    that it learnt from: what is unlike them comes first. Writes a CSV file with all pictures, and a sheet of the first
    48.
    """
    from gankit.errors import UserError
    from gankit.runs.folder import RunFolder

    run_folder = RunFolder(run)
    path = Path(out) if out else run_folder.folder / "scores.csv"
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out {path}: the name must end in .csv")
    from gankit.device import choose_device
    from gankit.files import refuse_foreign
    from gankit.report.sheets import draw_ranked
    from gankit.trained.outliers import COLUMNS, rank, write
    from gankit.trained.sampling import rebuild

    sheet = path.with_suffix(".png")
    refuse_foreign(path, ",".join(COLUMNS), by="`gankit score`")
    refuse_foreign(sheet, by="`gankit score`")
    ranked = rank(rebuild(run_folder, from_step, plugins, choose_device("auto")), data)
    write(ranked, path)
    draw_ranked(ranked, sheet, scale, smooth)
    rows = [("error", "picture"), *((f"{e:.4f}", n) for n, e in zip(ranked.names, ranked.errors, strict=True))]
    for line in aligned(rows[: SHOWN + 1], numbers=(0,)):
        say(line)
    for name, reason in ranked.skipped[:SHOWN]:
        say(f"skipped {name}: {reason}")
    if more := len(ranked.skipped[SHOWN:]):
        say(f"and {more:,} more skipped")
    for note in ranked.notes:
        say(f"note: {note}")
    say(f"{len(ranked.names):,} pictures in {path}, the first of them in {sheet}")
