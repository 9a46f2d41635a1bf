"""`gankit report RUN|COMPARISON`: write report.html anew."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("run", metavar="RUN|COMPARISON")
def command(run: str) -> None:
    """Write report.html and losses.png of RUN anew, also while it goes on; or report.html of a comparison."""
    from gankit.report import draw_losses, write_report
    from gankit.report.comparison_page import write_comparison
    from gankit.runs.folder import RunFolder
    from gankit.trained.memorisation import draw_neighbours

    folder = Path(run).expanduser()
    if (folder / "comparison.json").is_file():
        click.echo(str(write_comparison(folder)))
        return
    made = RunFolder(run)
    if made.metrics():
        draw_losses(made)
    draw_neighbours(made)
    click.echo(str(write_report(made)))
