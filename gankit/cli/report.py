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
    from gankit.report.comparison_page import write_comparison
    from gankit.report.sweep_page import write_sweep
    from gankit.trained.run import Run

    folder = Path(run).expanduser()
    for what, write in (("comparison", write_comparison), ("sweep", write_sweep)):
        if (folder / f"{what}.json").is_file():
            if from_step is not None:
                raise click.UsageError(f"--from is for a run, and this is a {what}")
            say(str(write(folder)))
            return
    say(str(Run(run).report(from_step)))
