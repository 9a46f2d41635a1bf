"""`gankit plugins check`: run the conformance kit on a plugin's components, without pytest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gankit.catalogue import KINDS, Catalogue, Plugin, modules_of
from gankit.errors import UserError, in_one_line, nearest
from gankit.testing.checks import CHECKS
from gankit.testing.checks.every import is_accepted
from gankit.testing.subject import Failed, Subject


def check(
    name: str,
    plugins: Sequence[str],
    say: Callable[[str], None],
    model: str | None = None,
    data: Sequence[str] = (),
    beside: Mapping[str, Any] | None = None,
) -> bool:
    """Check every component of the plugin `name`: a file, a package's folder, or an installed plugin.

    `data`: NAME:ARGUMENT for each data source that needs an argument. `beside`: what each is tested with, as options of
    `gankit.run`. `say` receives a line for each check, and advice
    for each failure. Returns whether all checks passed.
    """
    arguments = {source.partition(":")[0]: {"data": source} for source in data}
    catalogue, checked = _select(name, plugins)
    for kind in KINDS:  # calls the hooks, which sets `broken` where one raises
        catalogue.kind(kind)
    passed = failed = 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are tiny
    try:
        for plugin in checked:
            say(f"{plugin.name}  ({plugin}, {plugin.where})")
            if plugin.broken:
                failed += 1
                say(f"  FAIL  it cannot be loaded: {plugin.broken}")
                say("        do: mend what the line names; GANKIT_STRICT=1 gankit plugins list shows the traceback")
            for subject in _subjects(catalogue, plugin, [*plugins, *_not_installed(checked)], model):
                own = arguments.get(subject.name, {}) if subject.kind == "datasets" else {}
                subject.options = {**(beside or {}), **own}
                with tempfile.TemporaryDirectory(prefix="gankit-check-") as folder:
                    subject.folder = Path(folder)
                    good, bad = _run(subject, say)
                passed, failed = passed + good, failed + bad
        clashes = catalogue.clashes(of=checked)
        for line in clashes:
            say(f"  FAIL  {line}")
            say("        do: give it a name of its own")
    finally:
        torch.set_num_threads(threads)
    failed += len(clashes)
    say(f"{passed} passed, {failed} failed")
    return not failed


def _run(subject: Subject, say: Callable[[str], None]) -> tuple[int, int]:
    """The numbers of passed and failed checks. A component that no run accepts fails only once."""
    say(f"  {subject}")
    passed = failed = 0
    for each in CHECKS[subject.kind]:
        words = each.__name__.replace("_", " ")
        try:
            skipped = each(subject)
        except Failed as error:
            what, do = error.what, error.do
        except Exception as error:
            what, do = in_one_line(error), "mend the line that it names"
        else:
            passed += 1
            say(f"    ok    it {words}{f' ({skipped})' if skipped else ''}")
            continue
        failed += 1
        say(f"    FAIL  it {words}: {' '.join(what.split())}")
        say(f"          do: {do}")
        if each is is_accepted:
            break
    return passed, failed


def _subjects(catalogue: Catalogue, plugin: Plugin, plugins: Sequence[str], model: str | None) -> list[Subject]:
    return [
        Subject(kind, name, Path(), plugins, model if kind != "models" else None, catalogue=catalogue)
        for kind in KINDS
        for name, (_, givers) in catalogue.kind(kind).items()
        if givers == [plugin]
    ]


def _not_installed(checked: Sequence[Plugin]) -> list[str]:
    return [plugin.where for plugin in checked if not plugin.installed]


def _select(name: str, plugins: Sequence[str]) -> tuple[Catalogue, list[Plugin]]:
    """The catalogue with the plugins of that name, and these plugins."""
    path = Path(name).expanduser()
    if path.suffix == ".py" or path.is_file():
        catalogue = Catalogue([*plugins, name], listing=True)
        return catalogue, [plugin for plugin in catalogue.added if plugin.where == name]
    catalogue = Catalogue(plugins, listing=True)
    selected = [plugin for plugin in catalogue.plugins if name in (plugin.name, plugin.distribution)]
    package = (path / "pyproject.toml").exists() or not selected  # a code folder may have an installed plugin's name
    if path.is_dir() and package:
        return _of_package(path, plugins)
    if not selected:
        there = [plugin.name for plugin in catalogue.plugins]
        raise UserError(
            f"{name} is no file, folder or installed plugin{nearest(name, there)}. There are: {', '.join(there)}"
        )
    return catalogue, selected


def _of_package(folder: Path, plugins: Sequence[str]) -> tuple[Catalogue, list[Plugin]]:
    """The plugins of a package's pyproject.toml, installed or not."""
    entries = modules_of(folder)
    catalogue = Catalogue(plugins, listing=True)
    there = {(plugin.name, plugin.where) for plugin in catalogue.plugins if plugin.installed}
    missing = [module for name, module in entries.items() if (name, module) not in there]
    catalogue = Catalogue([*plugins, *missing], listing=True)
    return catalogue, [plugin for plugin in catalogue.plugins if plugin.where in entries.values()]
