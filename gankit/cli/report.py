"""`gankit report RUN`: write report.html anew."""

from __future__ import annotations

import click


@click.command("report")
@click.argument("run", metavar="RUN")
def command(run: str) -> None:
    """Write report.html and losses.png of RUN anew, also while it goes on."""
    from gankit.memorisation import draw_neighbours
    from gankit.report import draw_losses, write_report
    from gankit.runs import Run

    made = Run(run)
    if made.metrics():
        draw_losses(made)
    draw_neighbours(made)
    click.echo(str(write_report(made)))
