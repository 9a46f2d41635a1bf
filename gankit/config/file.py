"""A file of settings as a request: TOML, or the config.json of a run. It is not trusted."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.amend import current_form
from gankit.config.request import RunRequest, by_home, names_in, nested
from gankit.config.resolve import declared
from gankit.config.schema import REQUESTABLE, TABLES
from gankit.errors import UserError
from gankit.files import OBJECT, ordinary, parse
from gankit.options import validate


def read_file(
    path: str | Path,
    plugins: Sequence[str] = (),
    catalogue: Catalogue | None = None,
    model: str | None = None,
    default: Callable[[], str] | None = None,
) -> RunRequest:
    """The request in a TOML file or a run's config.json. Its model, if it names one, is `model["name"]`.

    `model`: the only one that the file may be for. `default`: whose settings the file has if it names none.

    A TOML file has fields of `RunConfig` by any spelling, settings of the model (of `model`, or of the file's own) at
    its top or in [model], lists or tables of components. The file may list the `plugins` that it needs, but only
    --plugin loads them. Without a `catalogue` settings of the model must be in [model]. Raises `UserError`.
    """
    table, is_run = _read(path)
    _refuse_plugins(path, table.pop("plugins", []), plugins)
    if is_run:
        return RunRequest(**_of_run(path, table, catalogue or Catalogue(plugins)))
    if isinstance(table.get("model"), str):
        table["model"] = {"name": table["model"]}
    own = table.get("model")
    named = own.get("name") if isinstance(own, Mapping) else None
    if not isinstance(named, str | None):
        raise UserError(f"--config {path}: model.name is {named!r}, and must be the name of a model, such as began")
    if model and named and named != model:
        raise UserError(f"--config {path} is for model {named!r}, and the model is {model!r}")
    name = model or named or (default() if default else None)
    fields = catalogue.get("models", name).Settings.model_fields if catalogue and isinstance(name, str) else ()
    try:
        return RunRequest(**by_home(table, fields))
    except ValueError as error:  # a name with a NUL
        raise UserError(f"--config {path} is no TOML file: {error}") from None
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from None


def _read(path: str | Path) -> tuple[dict[str, Any], bool]:
    """The file's table, and whether it is JSON."""
    if os.path.isdir(os.path.expanduser(path)):
        raise UserError(f"--config {path} is a folder: give a TOML file, or the config.json of a run folder")
    try:
        with ordinary(os.path.expanduser(path)) as file:
            text = file.read(OBJECT).decode()
        if not text.lstrip().startswith("{"):
            return tomllib.loads(text), False
        table = parse(text.encode())
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"--config {path} is no file of settings: it is nested too deeply") from None
    except ValueError as error:  # not UTF-8, neither TOML nor JSON, a number of thousands of digits
        if "recursion limit" in str(error):  # of JSON
            raise UserError(f"--config {path} is no file of settings: it is nested too deeply") from None
        raise UserError(f"--config {path} is no TOML file: {error}") from None
    return table, True


def _refuse_plugins(path: str | Path, listed: Any, plugins: Sequence[str]) -> None:
    names = names_in(listed)
    if names is None:
        raise UserError(f"plugins is {listed!r}: it must be a list of files and modules")
    missing = [name for name in names if name not in plugins]
    if missing:
        flags = shlex.join(part for name in missing for part in ("--plugin", name))
        raise UserError(
            f"--config {path} names plugins, and a file alone runs no code: look at what they do, and give {flags} "
            "if you trust them"
        )


def _of_run(path: str | Path, table: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """The settings that repeat a run with this config.json, on whatever device there is."""
    own = table.get("model")
    named = isinstance(own, Mapping) and isinstance(own.get("name"), str)
    if not named or not all(nested(table.get(kind) or {}) for kind in TABLES):
        raise UserError(f"--config {path} is no config.json of a run: give that of a run folder, or a TOML file")
    table, _ = current_form(table, catalogue)
    values = {key: table[key] for key in (*REQUESTABLE, "model") if key != "device" and table.get(key) is not None}
    cls = catalogue.get("models", table["model"]["name"])
    given = {key: value for key, value in table["model"].items() if key != "name"}
    terms = declared(cls, "terms", validate(cls.Settings, given, f"--config {path}: model {cls.name!r}", "setting"))
    left_out = {term: {"weight": 0} for term in terms if term in catalogue.kind("losses")}
    return values | {"losses": {**left_out, **(values.get("losses") or {})}}
