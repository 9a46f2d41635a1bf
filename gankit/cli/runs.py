"""`gankit runs [DIR]`: all runs below a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gankit.cli import aligned, complete, say

if TYPE_CHECKING:
    from gankit.runs.overview import Row


@click.command("runs")
@click.argument("folder", metavar="[DIR]", default="runs", shell_complete=complete.folders)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(folder: str, as_json: bool) -> None:
    """List the runs below DIR, by default runs/, newest first.

    The verdict is that of the report: an open alarm, or what the samples look like by the score. The best score is that
    of a checkpoint, which `--from best` takes.
    """
    from gankit.runs.folder import json_text
    from gankit.runs.overview import overview

    rows = overview(folder)
    if as_json:
        listed = {"schema": 1, "runs": [row.model_dump() for row in rows]}
        say(json_text(listed))
        return
    good = [row for row in rows if row.error is None]
    cells = [("run", "model", "state", "step", "verdict", "score", "best score", "started"), *map(_cells, good)]
    for line in aligned(cells) if good else []:
        say(line)
    for row in rows:
        if row.error is not None:
            reason = row.error if row.path in row.error else f"{row.path}: {row.error}"
            say(f"cannot be read: {reason}")
    if not rows:
        say(f"no runs below {folder}")


def _cells(row: Row) -> tuple[str, ...]:
    length = f" of {row.steps:,}" if row.steps is not None else ""
    step = f"{row.step:,}{length}" if row.step is not None else ""
    at = f" at {row.best:,}" if row.best is not None else ""
    best = "" if row.score is None else f"{row.score:.2f}{at}"
    now = "" if row.score_now is None else f"{row.score_now:.2f}"
    started = (row.started or "")[:16].replace("T", " ")
    return row.path, row.model or "", row.state or "", step, row.verdict or "", now, best, started
