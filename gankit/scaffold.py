"""`gankit plugins new`: a plugin package from templates, which works without a change."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gankit.builtin import COMMANDS
from gankit.catalogue import KINDS, NAME, Catalogue
from gankit.errors import UserError
from gankit.files import making
from gankit.hookspecs import VERSION

HOOKS = {  # kind of component -> its hook, its name's ending in a package of several kinds, its test class
    "model": ("gankit_models", "model", "ModelTests"),
    "networks": ("gankit_networks", "networks", "NetworkTests"),
    "loss": ("gankit_losses", "r1", "LossTests"),
    "controller": ("gankit_controllers", "warm-up", "ControllerTests"),
    "view": ("gankit_views", "noise", "ViewTests"),
    "diagnostic": ("gankit_diagnostics", "spread", "DiagnosticTests"),
    "reaction": ("gankit_reactions", "return", "ReactionTests"),
    "dataset": ("gankit_datasets", "discs", "DatasetTests"),
    "logger": ("gankit_artifacts", "table", "ArtifactTests"),
    "command": ("gankit_commands", "metrics", "CommandTests"),
}
WRITTEN = {  # what works before a line is changed
    "model": "a small convolutional GAN with the non-saturating loss",
    "networks": "a linear generator and a linear autoencoder",
    "loss": "the gradient penalty R1",
    "controller": "learning rates that rise over the first steps",
    "view": "noise over what the discriminator sees",
    "diagnostic": "a measure of how far apart generated pictures are",
    "reaction": "one return to the last healthy checkpoint, then the end",
    "dataset": "coloured discs on white",
    "logger": "a CSV file of every metric",
    "command": "a list of a run's last metrics",
}
TRIAL = {  # how a package of that kind is used, after `gankit`
    "model": "run {} --data demo",
    "networks": "run began --data demo --set networks={}",
    "loss": "run began --data demo --loss {}=0.01",
    "controller": "run began --data demo --controller {}",
    "view": "run began --data demo --view {}",
    "diagnostic": "run began --data demo --diagnostic {}",
    "reaction": "run began --data demo --on-alarm {}",
    "dataset": "run began --data {}",
    "logger": "run began --data demo --artifact {}",
    "command": "{} RUN",
}
LONGEST = 35  # letters of a name, so that every line of a template passes the linter
TEMPLATES = Path(__file__).parent / "templates" / "plugin"


def create(name: str, kinds: Iterable[str], where: Path) -> Path:
    """Write the package `name` with components of these kinds into `where`/`name`, atomically; return that folder.

    The first of them in the order of `HOOKS` has the package's name, each other one the name with an ending. Raises
    `UserError` for a name that Python, gankit or an installed plugin uses, and if the folder exists.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    package = module(name)
    folder = where / name
    _refuse_name(name, package, folder)
    kinds = ordered(kinds)
    parts = []
    for part in kinds:
        hook, added, tests = HOOKS[part]
        own = name if part == kinds[0] else f"{name}-{added}"
        cls = "command" if part == "command" else camel(own)
        parts.append({"part": part, "hook": hook, "name": own, "cls": cls, "tests": tests, "is": WRITTEN[part]})
    _refuse_taken([part["name"] for part in parts], [part["hook"].removeprefix("gankit_") for part in parts])
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    by_part = {part["part"]: part for part in parts}
    words: dict[str, Any] = {
        **{"name": name, "package": package, "parts": parts, "by_part": by_part},
        **{"version": version("gankit"), "hooks": VERSION, "trial": trial(name, kinds[0]), "kind": kinds[0]},
    }
    files = {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        f"{package}/__init__.py": "init.py.j2",
        **{f"{package}/{part}.py": f"{part}.py.j2" for part in by_part},
        f"tests/test_{package.removeprefix('gankit_')}.py": "test.py.j2",
    }
    texts = {}
    for path, template in files.items():
        about = by_part.get(template.removesuffix(".py.j2"), {})
        text = environment.get_template(template).render(
            words | {"cls": about.get("cls"), "own_name": about.get("name")}
        )
        if about:
            _refuse_shadow(name, about["cls"], text)
        texts[path] = text
    try:
        with making(folder) as beside:
            for path, text in texts.items():
                (beside / path).parent.mkdir(parents=True, exist_ok=True)
                (beside / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder


def ordered(kinds: Iterable[str]) -> list[str]:
    """Each kind once, in the order of `HOOKS`: a model before what goes with it."""
    return [kind for kind in HOOKS if kind in set(kinds)]


def module(name: str) -> str:
    """The package that Python imports: gankit_wgan_gp for wgan-gp."""
    return f"gankit_{name.replace('-', '_')}"


def trial(name: str, kind: str) -> str:
    """The words after `gankit` that use a new package of that kind."""
    return TRIAL[kind].format(name)


def camel(name: str) -> str:
    """The name of its class: WganGp for wgan-gp."""
    return "".join(word.capitalize() for word in name.split("-"))


def _refuse_name(name: str, package: str, folder: Path) -> None:
    if not NAME.fullmatch(name) or not name[0].isalpha() or len(name) > LONGEST:
        raise UserError(
            f"{name!r} is no name for a plugin: write lower-case words joined by hyphens, beginning with a letter, of "
            f"at most {LONGEST} letters, as in wgan-gp"
        )
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists, and nothing is overwritten: choose another name, or another folder")
    there = importlib.util.find_spec(package)
    if there is not None and there.origin is not None:  # a mere folder of the name gives way to a package
        raise UserError(f"{name!r} would be imported as {package!r}, which a package here has: choose another")


def _refuse_shadow(name: str, cls: str, text: str) -> None:
    """Raise for a class whose name Python has, or its file uses for something else already."""
    bound: list[str] = []
    for node in ast.walk(ast.parse("" if keyword.iskeyword(cls) else text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.ClassDef):
            bound.append(node.name)
    if keyword.iskeyword(cls) or bound.count(cls) > 1:
        raise UserError(f"{name!r} would make a class {cls!r}, a name that Python or gankit uses: choose another")


def _refuse_taken(names: list[str], kinds: list[str]) -> None:
    catalogue = Catalogue()
    for name, kind in zip(names, kinds, strict=True):
        if kind == "commands" and name in COMMANDS:
            raise UserError(f"command {name!r} is gankit's own: choose another name")
        if name in catalogue.kind(kind):
            givers = " and ".join(f"{plugin.name!r} ({plugin})" for plugin in catalogue.kind(kind)[name][1])
            raise UserError(f"{KINDS[kind][0]} {name!r} is there already, of {givers}: choose another name")
