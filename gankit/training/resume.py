"""The start of a resume: its step, its folder, and the open alarms."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from gankit import files
from gankit.components import Alarm
from gankit.config.schema import RunConfig
from gankit.runs.folder import LINES, OBJECTS, RunFolder, write_json
from gankit.runs.score import best
from gankit.training import checkpoint
from gankit.training.loop import scheduled
from gankit.training.state import Training


def standing(run: RunFolder, training: Training) -> list[tuple[str, Alarm]]:
    """The open critical alarms as (diagnostic, alarm): since the last healthy step, and without a good verdict."""
    last: dict[str, Alarm] = {}
    for line in run.alarms():
        name = line.get("diagnostic")
        if line.get("severity") != "critical" or line.get("attempt", 1) != training.attempt:
            continue
        if training.healthy < line["step"] <= training.number and isinstance(name, str):
            readings = line.get("readings")
            last[name] = Alarm(
                str(line.get("kind")),
                "critical",
                str(line.get("message")),
                readings=readings if isinstance(readings, Mapping) else {},
                before=line.get("before"),
            )
    return [(name, alarm) for name, alarm in last.items() if not training.verdicts.get(name, True)]


def go_back(run: RunFolder, training: Training, step: int, differing: set[str]) -> None:
    """Prepare the run folder for the steps after `step`. `differing`: the names of the changed settings.

    An unchanged training that resumes from its last checkpoint will write the later lines again, so they are dropped.
    With changed settings, or from an earlier step, a new attempt begins: lines stay, pictures are set aside.
    """
    if run.attempt > training.attempt:  # the run was killed before this attempt's first checkpoint
        training.since = step
    training.attempt = run.attempt
    lines = [line["step"] for line in run.each_line() if line.get("attempt", 1) == training.attempt]
    beyond = any(number > step for number in (*lines, *(number for number, _ in run.samples())))
    if training.healthy not in run.checkpoints():  # it was removed; the chosen one is better than none
        training.healthy = step
    find_best(run, training, step)
    if step != run.checkpoints()[-1] or (differing and beyond):
        training.attempt, training.since = run.abandon_after(step), step
        return
    arrived = training.config.steps is not None and step >= training.config.steps  # then its last line stays
    run.drop_lines(
        lambda number: number > step or (number == step and not arrived and not scheduled(training, number)),
        training.attempt,
    )


def find_best(run: RunFolder, training: Training, step: int) -> None:
    """Where the checkpoint that was the best up to `step` is gone, take the best of those that are left."""
    if training.best and training.best[0] not in run.checkpoints():
        scores = {number: score for number, score in run.scores().items() if number <= step}
        number = best(scores)
        training.best = None if number is None else (number, scores[number])


def branch(run: RunFolder, step: int, out: str | Path, also: set[int], config: RunConfig) -> RunFolder:
    """A new run folder with copies of the files up to `step`, and of the checkpoints `also`, and with its own `config`.

    Whoever resumes it after a kill goes on with these settings.
    """
    names = [name for name in (*OBJECTS, *LINES) if name != "result.json" and (run.folder / name).exists()]
    paths = [run.folder / name for name in names]
    for number in {step, *also} & set(run.checkpoints()):
        paths += checkpoint.files(run, number)
    paths += [path for number, path in run.samples() if number <= step]

    def fill(folder: Path) -> None:
        for path in paths:
            target = folder / path.relative_to(run.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(files.opened(run.folder, path), "rb") as old, open(target, "xb") as new:
                shutil.copyfileobj(old, new)
        RunFolder(folder).drop_lines(lambda number: number > step)
        write_json(folder / "config.json", config.model_dump(mode="json"))

    return RunFolder(RunFolder.create(out, run.config["model"]["name"], fill))
