"""A remedy as the command line that tries it in a new folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from gankit.runs.folder import RunFolder, to_resume


def command(run: RunFolder, remedy: Mapping[str, Any], healthy: int | None) -> str:
    """`gankit resume` from the checkpoint nearest to step `healthy`, or, for a new run, the command of this run.

    `remedy` is an entry of `remedies` in alarms.jsonl. Returns "" if it has no flags, or the command is unknown.
    """
    arguments = [str(word) for word in remedy.get("arguments") or ()]
    again = ["--out", f"{run.folder}-again"]
    if not arguments:
        return ""
    if remedy.get("new_run"):
        words = _command(run)
        return shlex.join([*words, *arguments, *again]) if words else ""
    start = []
    if isinstance(healthy, int):  # the file is not trusted
        nearest = sorted(run.checkpoints(), key=lambda step: (abs(step - healthy), step))[:1]
        start = [word for step in nearest for word in ("--from", str(step))]
    return f"{to_resume(run.folder, run.config.get('plugins') or ())} {shlex.join([*start, *arguments, *again])}"


def sentences(run: RunFolder, remedies: Iterable[Mapping[str, Any]], healthy: int | None) -> list[str]:
    """Each remedy's reason and command, for people; a remedy with flags but no known command is left out."""
    lines = []
    for remedy in remedies:
        line = command(run, remedy, healthy)
        if line:
            lines.append(f"{remedy['why']}: {line}")
        elif not remedy.get("arguments"):
            lines.append(str(remedy["why"]))
    return lines


def _command(run: RunFolder) -> list[str]:
    """The words of the command that started the run, without --out; empty for a run from Python."""
    try:
        words = shlex.split(str(run.environment.get("command") or ""))
    except ValueError:
        return []
    if words[:2] != ["gankit", "run"]:
        return []
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    return words
