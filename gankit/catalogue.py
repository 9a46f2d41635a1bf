"""Discover, load and check plugins; the catalogue of named components.

With pluggy alone a broken import ends every command, a second `began` silently replaces the first, a misspelt hook is
ignored. Here a broken plugin is quarantined with its reason, and a name that two plugins offer is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from gankit import hookspecs
from gankit.errors import UserError, in_one_line, nearest

GROUP = "gankit"
KINDS = {  # kind -> its name in messages, its base class
    "models": ("model", "gankit.model:Model"),
    "networks": ("network pair", "gankit.model:NetworkPair"),
    "losses": ("loss term", "gankit.components:LossTerm"),
    "controllers": ("controller", "gankit.components:Controller"),
    "diagnostics": ("diagnostic", "gankit.components:Diagnostic"),
    "reactions": ("reaction", "gankit.components:Reaction"),
    "views": ("view", "gankit.components:View"),
    "artifacts": ("artifact", "gankit.components:Artifact"),
    "datasets": ("data source", "gankit.data:DataSource"),
    "commands": ("command", "click:Command"),  # an instance of it
}
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass
class Plugin:
    """One plugin, as in `gankit plugins list`."""

    name: str
    distribution: str
    version: str
    where: str
    installed: bool = False  # it has an entry point, so GANKIT_DISABLE_PLUGINS can disable it
    broken: str | None = None  # the reason

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


class Catalogue:
    """All components of the core and the plugins, by kind and name. It calls a hook when needed, `--plugin` at once."""

    def __init__(self, extra: Sequence[str] = (), made_with: Sequence[str] = (), listing: bool = False) -> None:
        """`extra`: the files and modules of `--plugin`. Raises `UserError` if one of them, or a hook of it, fails.

        `made_with`: those of the run's start, which the message for an unknown component names. `listing`: a failing
        hook of `extra` only makes its plugin `broken`.
        """
        self.left_out = [name for name in made_with if name not in extra]
        self.strict = os.environ.get("GANKIT_STRICT", "") not in ("", "0")
        self.plugins: list[Plugin] = []
        self.added: list[Plugin] = []  # those of `extra`
        self._manager = pluggy.PluginManager("gankit")
        self._manager.add_hookspecs(hookspecs)
        self._kinds: dict[str, dict[str, tuple[Any, list[Plugin]]]] = {}
        builtin = importlib.import_module("gankit.builtin")
        self._own_commands = frozenset(builtin.COMMANDS)
        self._add(Plugin("gankit", "gankit", "", builtin.__file__ or ""), lambda: builtin)
        disabled = {name.strip() for name in os.environ.get("GANKIT_DISABLE_PLUGINS", "").split(",")}
        for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, _distribution(e))):
            if not disabled & {entry.name, _distribution(entry)}:
                version = entry.dist.version if entry.dist else ""
                self._add(Plugin(entry.name, _distribution(entry), version, entry.value, installed=True), entry.load)
        for name in dict.fromkeys(extra):
            package = modules_of(name) if is_package(name) else {}
            for own, module in (package or {Path(name).stem: name}).items():
                plugin = Plugin(own, f"--plugin {name}", "", module)
                self._add(plugin, partial(importlib.import_module if package else _load, module))
                self.added.append(plugin)
                self._refuse_broken()
        for kind in () if listing else KINDS:
            if any(plugin in self.added for plugin, _ in self._calls(f"gankit_{kind}")):
                self.kind(kind)
                self._refuse_broken()

    def _add(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        self.plugins.append(plugin)
        try:
            module = load()
            _refuse_another_version(module)
            _refuse_unmarked(module)
            _refuse_unknown_arguments(module)
            if self._manager.is_registered(module):  # a copy, so that `get` refuses its names with both plugins
                module = SimpleNamespace(**vars(module))
            self._manager.register(module, name=f"{plugin.name} ({plugin})")
            unknown = [hook.name for hook in self._manager.get_hookcallers(module) or () if not hook.has_spec()]
            if unknown:
                self._manager.unregister(module)
                known = [name for name in dir(hookspecs) if name.startswith("gankit_")]
                raise ValueError(f"there is no hook {unknown[0]!r}{nearest(unknown[0], known)}")
        except (Exception, SystemExit) as error:
            self._quarantine(plugin, error)

    def _quarantine(self, plugin: Plugin, error: BaseException) -> None:
        if self.strict:
            raise error
        plugin.broken = in_one_line(error)

    def _refuse_broken(self) -> None:
        for plugin in (plugin for plugin in self.added if plugin.broken):
            raise UserError(f"{plugin} cannot be used: {plugin.broken}")

    def _calls(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        by_name = {f"{plugin.name} ({plugin})": plugin for plugin in self.plugins}
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = by_name[implementation.plugin_name]
            if not plugin.broken:
                yield plugin, implementation.function

    def kind(self, kind: str) -> dict[str, tuple[Any, list[Plugin]]]:
        """All components of a kind: name -> (class or command, the plugins that offer it)."""
        if kind not in self._kinds:
            offered: dict[str, tuple[Any, list[Plugin]]] = {}
            for plugin, function in self._calls(f"gankit_{kind}"):
                try:
                    classes = _several(kind, [_checked(kind, item) for item in _listed(kind, function())])
                except (Exception, SystemExit) as error:
                    self._quarantine(plugin, error)
                    continue
                for item in classes:
                    first = offered.setdefault(item.name, (item, []))
                    if plugin not in first[1]:
                        first[1].append(plugin)
            for name in offered.keys() & self._own_commands if kind == "commands" else ():
                offered[name][1].insert(0, self.plugins[0])
            self._kinds[kind] = dict(sorted(offered.items()))
        return self._kinds[kind]

    def own(self, kind: str) -> list[str]:
        """The names of a kind that gankit's own distribution offers: its core, and the plugins that come with it."""
        return [name for name, (_, plugins) in self.kind(kind).items() if any(p.distribution == GROUP for p in plugins)]

    def added_model(self) -> str | None:
        """The model that the plugins of `--plugin` bring, or None. Raises `UserError` if they bring several."""
        names = [name for name, (_, plugins) in self.kind("models").items() if all(p in self.added for p in plugins)]
        if len(names) > 1:
            raise UserError(f"name a model: the plugins of --plugin bring {', '.join(names)}")
        return next(iter(names), None)

    def get(self, kind: str, name: str) -> Any:
        """The class of that name. Raises `UserError` for an unknown name (with the nearest one) or an ambiguous one."""
        known = self.kind(kind)
        what = KINDS[kind][0]
        if name not in known:
            if self.left_out:
                again = " ".join(f"--plugin {shlex.quote(plugin)}" for plugin in self.left_out)
                raise UserError(f"{what} {name!r} is not here: the run names {again}: give it again if you trust it")
            if is_package(name):
                raise UserError(
                    f"unknown {what} {name!r}. The folder {name} is a plugin that is not installed: add "
                    f"--plugin {name}, or pip install -e {name}"
                )
            there = f"There are: {', '.join(known) or 'none'}{self.failures()}"
            raise UserError(f"unknown {what} {name!r}{nearest(name, known)}. {there}")
        item, plugins = known[name]
        if len(plugins) > 1:
            raise UserError(
                f"{what} {name!r} is offered by {' and by '.join(f'{p.name!r} ({p})' for p in plugins)}: "
                f"leave one out{self._how_to_leave_out(plugins)}"
            )
        return item

    def source_of(self, data: str) -> str | None:
        """The name of the data source in NAME[:ARGUMENT], or None for the path of a folder."""
        name = data.partition(":")[0]
        return name if name in self.kind("datasets") and name != "folder" else None

    def notify(self, hook: str, **arguments: Any) -> list[str]:
        """Call the hook of every plugin. A plugin that raises is quarantined; return one line for each."""
        failed = []
        for plugin, function in self._calls(hook):
            wanted = inspect.signature(function).parameters
            try:
                function(**{name: value for name, value in arguments.items() if name in wanted})
            except (Exception, SystemExit) as error:
                self._quarantine(plugin, error)
                failed.append(f"plugin {plugin.name!r} failed in {hook} and is not told again: {plugin.broken}")
        return failed

    @property
    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded or whose hooks raised, with the reason in `broken`."""
        return [plugin for plugin in self.plugins if plugin.broken]

    def failures(self) -> str:
        """A suffix for an error message: the broken plugins, one of which may be the cause."""
        return "".join(f"; plugin {p.name!r} ({p}) failed to load: {p.broken}" for p in self.broken)

    def clashes(self, of: Sequence[Plugin] | None = None) -> list[str]:
        """One line for each name that several plugins offer. Only a distribution's own plugins may have its name.

        `of`: only the clashes of these plugins.
        """
        claimed: list[tuple[str, list[Plugin]]] = []
        bearers = [plugin for plugin in self.plugins if plugin.installed or plugin.name == GROUP]
        for name in sorted({plugin.name for plugin in bearers}):
            givers = {p.distribution: p for p in reversed(bearers) if name in (p.name, p.distribution)}
            claimed.append((f"the name {name!r} of a plugin", list(givers.values())[::-1]))
        for kind, (what, _) in KINDS.items():
            claimed += [(f"{what} {name!r}", plugins) for name, (_, plugins) in self.kind(kind).items()]
        return [
            f"{what} is claimed by {' and by '.join(f'{p.name!r} ({p})' for p in plugins)}"
            for what, plugins in claimed
            if len(plugins) > 1 and (of is None or any(plugin in of for plugin in plugins))
        ]

    def _how_to_leave_out(self, plugins: Sequence[Plugin]) -> str:
        """How to disable one of these: by its name, or by its distribution if the name is not unique."""
        names = [name for p in self.plugins for name in {p.name, p.distribution}]
        switches = [p.name if names.count(p.name) == 1 else p.distribution for p in plugins if p.installed]
        return (
            ", with " + " or with ".join(f"GANKIT_DISABLE_PLUGINS={switch}" for switch in switches) if switches else ""
        )


def _distribution(entry: EntryPoint) -> str:
    return (entry.dist and entry.dist.name) or "?"


def is_package(folder: str | Path) -> bool:
    """Whether a folder has a pyproject.toml that names plugins."""
    try:
        return bool(_entries(Path(folder).expanduser()))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def modules_of(folder: str | Path) -> dict[str, str]:
    """The plugins of a package's folder, {name: module}, which can be imported from now on; installed or not.

    Raises `UserError` if the folder is no package of plugins.
    """
    path = Path(folder).expanduser()
    try:
        entries = _entries(path)
    except OSError as error:
        raise UserError(
            f"{folder} has no pyproject.toml ({error.strerror}): name the folder of a package, or a file"
        ) from None
    except ValueError as error:
        raise UserError(f"{path / 'pyproject.toml'} is no TOML file: {error}") from None
    except (KeyError, TypeError):
        raise UserError(
            f'{path / "pyproject.toml"} names no plugin: add [project.entry-points.{GROUP}] with NAME = "module"'
        ) from None
    sys.path[:0] = [place for place in (str(path.resolve()), str((path / "src").resolve())) if place not in sys.path]
    return entries


def _entries(folder: Path) -> dict[str, str]:
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(table["project"]["entry-points"][GROUP].items())


def _load(file_or_module: str) -> ModuleType:
    """Import an argument of `--plugin`."""
    path = Path(file_or_module).expanduser()
    code = (path / "__init__.py").is_file()  # a module whose folder lies in the working directory
    if path.suffix != ".py" and (code or not path.exists()) and os.sep not in file_or_module:
        return importlib.import_module(file_or_module)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file, nor the folder of a package of plugins")
    if path.suffix != ".py":
        raise ValueError(f"{path.name} is no Python file: its name must end in .py")
    name = f"gankit_plugin_{path.stem.replace('-', '_')}"  # a prefix, so that a file random.py hides no module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pydantic look it up
    spec.loader.exec_module(module)
    return module


def _refuse_unmarked(module: Any) -> None:
    """Raise ValueError for a hook without its marker, which pluggy silently ignores."""
    for name, value in vars(module).items():
        if name.startswith("gankit_") and inspect.isfunction(value) and not hasattr(value, "gankit_impl"):
            raise ValueError(f"{name} is not marked: put @gankit.hookimpl above it")


def _refuse_another_version(module: Any) -> None:
    """Raise ValueError if the plugin states a version of the hooks that does not fit, or uses a hook changed since."""
    stated = getattr(module, "GANKIT_HOOKS", hookspecs.VERSION)
    if type(stated) is not int:
        raise ValueError(f"GANKIT_HOOKS is {stated!r}: it must be a whole number, here {hookspecs.VERSION}")
    written = f"it was written for version {stated} of gankit's hooks, and this gankit has version {hookspecs.VERSION}"
    if not 1 <= stated <= hookspecs.VERSION:
        raise ValueError(f"{written}: install a newer {'gankit' if stated > 0 else 'release of the plugin'}")
    for version, hooks in hookspecs.CHANGED.items():
        for hook, instead in hooks.items():
            if stated < version and hasattr(getattr(module, hook, None), "gankit_impl"):
                raise ValueError(f"{written}: {instead}; then say GANKIT_HOOKS = {hookspecs.VERSION}")


def _refuse_unknown_arguments(module: Any) -> None:
    """Raise TypeError for an argument that the hook does not have; pluggy's message is harder to read."""
    for name, value in vars(module).items():
        spec = getattr(hookspecs, name, None)
        if not hasattr(value, "gankit_impl") or not hasattr(spec, "gankit_spec"):
            continue
        known = inspect.signature(spec).parameters  # type: ignore[arg-type]
        for argument in inspect.signature(value).parameters.values():
            needed = argument.default is argument.empty and argument.kind is argument.POSITIONAL_OR_KEYWORD
            if needed and argument.name not in known:
                raise TypeError(
                    f"{name} asks for {argument.name!r}{nearest(argument.name, known)}, and gankit gives it "
                    f"{' and '.join(known) or 'nothing'}"
                )


def _listed(kind: str, offered: Any) -> list[Any]:
    if not isinstance(offered, list | tuple):
        raise TypeError(f"gankit_{kind} must return a list, and returned {offered!r}")
    return list(offered)


def _several(kind: str, classes: list[Any]) -> list[Any]:
    """The classes; raises ValueError if two share a name."""
    names = [item.name for item in classes]
    for name in (name for name in names if names.count(name) > 1):
        raise ValueError(f"gankit_{kind} returned two with the name {name!r}")
    return classes


def _checked(kind: str, item: Any) -> Any:
    """The item; raises TypeError or ValueError if it is not of that kind or its name is invalid."""
    from gankit import options  # pydantic is slow to import, and most commands need no component

    module, _, base_name = KINDS[kind][1].partition(":")
    base = getattr(importlib.import_module(module), base_name)
    if kind == "commands":
        if not isinstance(item, base) or not item.name:
            raise TypeError(f"gankit_commands returned {item!r}, which is no click command")
        return item
    if not (isinstance(item, type) and issubclass(item, base)):
        raise TypeError(f"gankit_{kind} returned {item!r}, which is no subclass of gankit.{base_name}")
    name = getattr(item, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{item.__name__}.name is {name!r}: it must be lower-case words joined by hyphens")
    if not isinstance(summary := getattr(item, "summary", None), str):
        raise TypeError(f"{item.__name__}.summary is {summary!r}: it must be one line of text")
    options.refuse_collisions(item, "Settings" if kind == "models" else "Options")
    options.refuse_other_forms(item)
    _refuse_ended_forms(kind, item, base)
    for missing in sorted(getattr(item, "__abstractmethods__", ())):
        own = [word for word in vars(item) if not word.startswith("_")]
        raise TypeError(f"{item.__name__} has no {missing!r}, which a gankit.{base_name} needs{nearest(missing, own)}")
    return item


def _refuse_ended_forms(kind: str, item: Any, base: type) -> None:
    """A class of a plugin that was written for an earlier version of the hooks, if it is one that the change broke."""
    for form in hookspecs.FORMS:
        written = inspect.getattr_static(item, form.attribute, None)
        if form.kind == kind and written is not vars(base).get(form.attribute) and form.ended(written):
            raise ValueError(
                f"{item.__name__}.{form.attribute} has its form of before version {form.version} of gankit's "
                f"hooks; {form.instead}"
            )
