"""`gankit report RUN|COMPARISON|SWEEP`: rewrite report.html."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from gankit.cli import RUN, from_option, say


@click.command("report")
@click.argument("run", type=RUN, metavar="RUN|COMPARISON|SWEEP")
@from_option("Checkpoint that the page ends with")
def command(run: str, from_step: int | Literal["best"] | None) -> None:
    """Rewrite report.html and losses.png of RUN, also while it trains; or report.html of a comparison or a sweep.

    --from shows the run as it was at a checkpoint; without it the page is whole again.
    """
    from gankit.report import draw_losses, write_report
    from gankit.report.comparison_page import write_comparison
    from gankit.report.story import read
    from gankit.report.sweep_page import write_sweep
    from gankit.runs.folder import RunFolder

    folder = Path(run).expanduser()
    for what, write in (("comparison", write_comparison), ("sweep", write_sweep)):
        if (folder / f"{what}.json").is_file():
            if from_step is not None:
                raise click.UsageError(f"--from is for a run, and this is a {what}")
            say(str(write(folder)))
            return
    run_folder = RunFolder(run)
    until = None
    if from_step is not None:
        from gankit.training.checkpoint import choose

        until = choose(run_folder, from_step)
    story = read(run_folder, until)  # first: many lines and torch take much memory, and not at once
    from gankit.trained.memorisation import draw_neighbours, draw_real

    draw_neighbours(run_folder)
    draw_real(run_folder)
    if story.metrics:
        draw_losses(run_folder, story)
    say(str(write_report(run_folder, story=story)))
