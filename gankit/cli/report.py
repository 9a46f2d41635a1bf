"""`gankit report RUN|COMPARISON`: rewrite report.html."""

from __future__ import annotations

from pathlib import Path

import click

from gankit.cli import RUN, say


@click.command("report")
@click.argument("run", type=RUN, metavar="RUN|COMPARISON")
def command(run: str) -> None:
    """Rewrite report.html and losses.png of RUN, also while it trains; or report.html of a comparison."""
    from gankit.report import draw_losses, write_report
    from gankit.report.comparison_page import write_comparison
    from gankit.report.story import read
    from gankit.runs.folder import RunFolder

    folder = Path(run).expanduser()
    if (folder / "comparison.json").is_file():
        say(str(write_comparison(folder)))
        return
    run_folder = RunFolder(run)
    story = read(run_folder)  # first: many lines and torch take much memory, and not at once
    from gankit.trained.memorisation import draw_neighbours, draw_real

    draw_neighbours(run_folder)
    draw_real(run_folder)
    if story.metrics:
        draw_losses(run_folder, story)
    say(str(write_report(run_folder, story=story)))
