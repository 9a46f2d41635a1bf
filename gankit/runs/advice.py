"""Command lines to paste. What a file names is not trusted: no line takes a plugin from one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gankit.runs.folder import RunFolder

PLUGIN, RAY = "--plugin", "--ray"
TRAINING = ("run", "resume", "compare", "sweep")
FIRST_LOOK = 500  # step of the first look at the samples: nothing is measured before it


def to_resume(folder: Path, plugins: Sequence[str] = ()) -> str:
    """The command line that resumes a run. `plugins`: those of this process's own flags, never of a file."""
    return shlex.join(["gankit", "resume", str(folder), *with_plugins(plugins)])


def to_train_further(folder: Path, steps: int, plugins: Sequence[str] = ()) -> str:
    """The command line that trains a finished run as long again, and to the first look at its samples at least."""
    return f"{to_resume(folder, plugins)} --steps {max(2 * steps, FIRST_LOOK)}"


def with_plugins(names: Sequence[str]) -> list[str]:
    """The flags that load these plugins."""
    return [part for name in names for part in (PLUGIN, name)]


def command(run: RunFolder, remedy: Mapping[str, Any], healthy: int | None, plugins: Sequence[str] = ()) -> str:
    """`gankit resume` from the checkpoint nearest to step `healthy`, or, for a new run, the command of this run.

    `remedy` is an entry of `remedies` in alarms.jsonl. `plugins`: those of this process's own flags. Returns "" if it
    has no flags, or names plugins, or if the command is unknown.
    """
    given = remedy.get("arguments")
    arguments = [str(word) for word in given] if isinstance(given, list | tuple) else []
    again = ["--out", f"{run.folder}-again"]
    if not arguments or apart(arguments)[1]:
        return ""
    if remedy.get("new_run"):
        words, _ = apart(_words(run.environment.get("command")))
        if words[1:2] != ["run"]:
            return ""
        if "--out" in words:
            place = words.index("--out")
            del words[place : place + 2]
        return shlex.join([*words, *with_plugins(plugins), *arguments, *again])
    start = []
    if isinstance(healthy, int):  # the file is not trusted
        nearest = sorted(run.checkpoints(), key=lambda step: (abs(step - healthy), step))[:1]
        start = [word for step in nearest for word in ("--from", str(step))]
    return f"{to_resume(run.folder, plugins)} {shlex.join([*start, *arguments, *again])}"


def sentences(
    run: RunFolder, remedies: Iterable[Mapping[str, Any]], healthy: int | None, plugins: Sequence[str]
) -> list[str]:
    """Each remedy's reason and command, for people; a remedy with flags but no known command is left out."""
    lines = []
    for remedy in remedies:
        line = command(run, remedy, healthy, plugins)
        if line:
            lines.append(f"{remedy['why']}: {line}")
        elif not remedy.get("arguments"):
            lines.append(str(remedy["why"]))
    return lines


def recorded(line: object) -> tuple[str, list[str]]:
    """A command line of a file that trains, quoted anew, without its plugins; and these. "" for any other line."""
    words, plugins = apart(_words(line))
    return shlex.join(_without(words, RAY)[0]), plugins  # a cluster, too, exchanges code


def again(line: object, folder: Path) -> dict[str, str]:
    """How a page of a comparison or a sweep says to repeat and to continue it, by the command line in its file."""
    repeat, plugins = recorded(line)
    go_on = f"{repeat} --out {shlex.quote(str(folder))}" if repeat else ""
    return {"repeat": repeat, "go_on": go_on, "plugins": named(plugins)}


def named(plugins: object) -> str:
    """What to know of the plugins that a file names, which no command line here has; "" for none."""
    names = list(dict.fromkeys(map(str, plugins))) if isinstance(plugins, list) else []
    if not names:
        return ""
    each = f"the plugin {names[0]}" if len(names) == 1 else f"the plugins {', '.join(names)}"
    flags = shlex.join(with_plugins(names))
    return f"Its files name {each}: code, which the commands here leave out. Add {flags} if you trust it."


def apart(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """The words of a command line without its plugins, and the plugins."""
    return _without(words, PLUGIN)


def _without(words: Iterable[str], flag: str) -> tuple[list[str], list[str]]:
    """The words of a command line without a flag and its values, and the values."""
    kept, values, rest = list[str](), list[str](), iter(words)
    for word in rest:
        if word == flag:
            values.append(next(rest, ""))
        elif word.startswith(f"{flag}="):
            values.append(word.partition("=")[2])
        else:
            kept.append(word)
    return kept, values


def _words(line: object) -> list[str]:
    """The words of a command line that trains; none for another line."""
    try:
        words = shlex.split(line) if isinstance(line, str) else []
    except ValueError:
        return []
    return words if len(words) > 1 and words[0] == "gankit" and words[1] in TRAINING else []
