"""What the shell offers at TAB, as `shell_complete` of click's parameters; click has the rest. It imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]  # no generic before click 8.2
_KINDS = ("models", "datasets", "networks", "controllers", "losses", "diagnostics", "views", "artifacts", "reactions")
_HARMLESS = re.compile(r"[\w@%+=:,./-]+")  # it means itself in a shell; other names are left to the shell's own TAB


def files(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Files, by the shell itself."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Folders, by the shell itself."""
    return [CompletionItem(incomplete, type="dir")]


def runs(incomplete: str) -> list[CompletionItem[str]]:
    """The runs below runs/ and `last`; or folders, where no run is meant."""
    from gankit.runs.overview import run_folders

    there = sorted((str(path) for path in run_folders(Path("runs"))), reverse=True)
    there = [name for name in (*(["last"] if there else []), *there) if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, filter(_HARMLESS.fullmatch, there))]


def components(*kinds: str, beside: Completer | None = None) -> Completer:
    """The installed components of these kinds, or of any kind, and what `beside` has."""

    def complete(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        more = beside(ctx, option, incomplete) if beside else []
        path = incomplete.startswith((".", "~")) or os.sep in incomplete
        there = {} if path else installed()
        names = sorted({name for kind in kinds or there for name in there.get(kind, ())})
        return [*more, *(CompletionItem(name) for name in names if name.startswith(incomplete))]

    return complete


def installed(ask: bool = True) -> dict[str, dict[str, list[str]]]:
    """The installed components: kind -> name -> the names of its settings.

    To ask the plugins imports torch, which takes seconds, so the answer is kept until a plugin or gankit changes.
    Without `ask`, and where nothing is kept, no kind has any.
    """
    from gankit.catalogue import NAME, Catalogue
    from gankit.data import cache

    stamp, file = _stamp(), cache.root() / "names.json"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return {
                kind: {
                    name: [one for one in fields if re.fullmatch(r"[a-z]\w*", one, re.ASCII)]
                    for name, fields in kept["names"][kind].items()
                    if NAME.fullmatch(name)
                }
                for kind in _KINDS
            }
    if not ask:
        return {kind: {} for kind in _KINDS}
    catalogue = Catalogue()
    names = {kind: {name: _fields(item) for name, (item, _) in catalogue.kind(kind).items()} for kind in _KINDS}
    from gankit.errors import UserError
    from gankit.files import replacing

    with suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as beside:
            beside.write_text(json.dumps({"stamp": stamp, "names": names}), encoding="utf-8")
    return names


def _fields(item: Any) -> list[str]:
    options: Any = getattr(item, "Settings", None) or getattr(item, "Options", None)
    return list(options.model_fields)


def _stamp() -> str:
    """It changes with the installed plugins, and with the code of any of them and of gankit's own components."""
    from gankit.catalogue import GROUP

    modules = [entry.value.partition(":")[0] for entry in entry_points(group=GROUP)]
    seen: list[Any] = [os.environ.get("GANKIT_DISABLE_PLUGINS", "")]
    for module in ("gankit.builtin", "gankit.data", *sorted(modules)):
        with suppress(ImportError, OSError, ValueError):
            spec = find_spec(module)
            places = (spec and spec.submodule_search_locations) or ()
            code = [file for place in places for file in sorted(Path(place).glob("*.py"))]
            code = code or [Path((spec and spec.origin) or "")]
            seen += [module, *((str(file), file.stat().st_mtime_ns) for file in code)]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()
