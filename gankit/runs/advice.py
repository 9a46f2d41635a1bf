"""What a remedy's flags are typed after: the command line that tries it, in a folder of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from gankit.runs.folder import RunFolder, to_resume


def command(run: RunFolder, remedy: Mapping[str, Any], healthy: int | None) -> str:
    """`gankit resume` from the checkpoint nearest to step `healthy`; for a new run, the command that began this one.

    `remedy` is an entry of `remedies` in alarms.jsonl. Returns "" where it has no flags, or the beginning is not known.
    """
    arguments = [str(word) for word in remedy.get("arguments") or ()]
    again = ["--out", f"{run.folder}-again"]
    if not arguments:
        return ""
    if remedy.get("new_run"):
        began = _began(run)
        return shlex.join([*began, *arguments, *again]) if began else ""
    start = []
    if isinstance(healthy, int):  # it may come from a stranger's file
        nearest = sorted(run.checkpoints(), key=lambda step: (abs(step - healthy), step))[:1]
        start = [word for step in nearest for word in ("--from", str(step))]
    return f"{to_resume(run.folder, run.config.get('plugins') or ())} {shlex.join([*start, *arguments, *again])}"


def sentences(run: RunFolder, remedies: Iterable[Mapping[str, Any]], healthy: int | None) -> list[str]:
    """Each remedy as a person reads it: why, and the command; one for a new run is left out where none is known."""
    found = []
    for remedy in remedies:
        line = command(run, remedy, healthy)
        if line:
            found.append(f"{remedy['why']}: {line}")
        elif not remedy.get("arguments"):
            found.append(str(remedy["why"]))
    return found


def _began(run: RunFolder) -> list[str]:
    """The command that began the run, without its folder; nothing where it was no command."""
    try:
        began = shlex.split(str(run.environment.get("command") or ""))
    except ValueError:
        return []
    if began[:2] != ["gankit", "run"]:
        return []
    if "--out" in began:
        place = began.index("--out")
        del began[place : place + 2]
    return began
