"""Writes the pages that follow from the code: every hook and every class that a plugin meets, in their own words; every
setting of a run; every command.

    python docs/reference.py

A test fails where a page is not what this gives.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import click

import gankit
from gankit import hookspecs
from gankit.catalogue import KINDS, Catalogue
from gankit.cli import COMMANDS, cli
from gankit.cli.model_help import USE, sections
from gankit.config.request import FLAGS, RESUMED, RunRequest
from gankit.config.schema import REQUESTABLE, SINGLE, RunConfig, default_in_words
from gankit.options import allowed

PAGE = Path(__file__).parent / "plugins" / "reference.md"
SETTINGS = Path(__file__).parent / "settings.md"
COMMANDS_PAGE = Path(__file__).parent / "commands.md"
ABOUT_SETTINGS = """# Settings of a run

Written by `python docs/reference.py` from `gankit/config/schema.py` and `request.py`: change it there.

A setting has one name: as a key of a TOML file (`--config`), as an argument of `gankit.run`, and in config.json; its
flag goes with `gankit run`, `gankit compare` and `gankit sweep`, and with `gankit resume` where a resume may change
it. A later one of these wins: default, preset, file, flag. What is `auto` is decided for the machine. A model's own
settings are in `gankit run MODEL --help`; they are flags and arguments too: `--gamma 0.7` and `gamma=0.7` are
`--set gamma=0.7`.

## A file of settings

`gankit run --config mine.toml` trains what the file says; a flag beside it changes something. Names may have `-` or
`_`. A setting of the model stands at the top or in `[model]`, and the settings of a component in a table of its kind
and name (or at the top, as `"balance.floor" = 0.1`):

```toml
model = "began"
data = "./pictures"
image-size = 64
steps = 40_000
gamma = 0.6                        # a setting of the model
views = ["augment"]                # components by name; diagnostics, artifacts and controllers likewise

[losses]
imle = 0.2                         # a loss term and its weight

[controllers.balance]
floor = 0.1                        # a component's own setting
```

A run's config.json is such a file too: `gankit run --config RUN/config.json` trains the same again, with other flags
where you give some. The device is the machine's own. A file runs no code: one that lists `plugins` needs `--plugin` for
each of them as well.

## All settings

| name | flag | allowed | default | what it is | at a resume |
|---|---|---|---|---|---|"""
GIVEN = (
    *(
        "Step",
        "Judged",
        "Losses",
        "Settings",
        "Machine",
        "Remedy",
        "Curve",
        "Snapshot",
        "Reading",
        "Alarm",
        "Situation",
        "Continue",
        "Stop",
        "Return",
    ),
    *("Request", "Data", "Options", "Run", "UserError"),
)


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Every hook",
            "",
            "Written by `python docs/reference.py` from `gankit/hookspecs.py` and the classes: change it there.",
            "",
            f"These are version {hookspecs.VERSION} of the hooks. A plugin says which it was written for with "
            f"`GANKIT_HOOKS = {hookspecs.VERSION}` in its module. One for a later version is refused by name; "
            "of one for an earlier version a class is refused whose form has changed since, with what to write.",
            "",
            paragraphs(hookspecs),
            "",
            *described(gankit.Component, "##"),
            *[line for name in hooks() for line in hook(name)],
            "# What plugins are given",
            "",
            *[line for name in GIVEN for line in described(getattr(gankit, name))],
            "# From Python",
            "",
            *[line for name in ("run", "resume", "compare", "sweep") for line in called(name)],
            "# What gankit brings",
            "",
            "`gankit plugins show NAME` prints the same of any component, those of other plugins included.",
            "",
            *brought(),
        ]
    )


def called(name: str) -> list[str]:
    """A function and its keywords; the options of a run are those of the page of settings."""
    function = getattr(gankit, name)
    options = {"run": list(RunRequest.model_fields), "resume": sorted(RESUMED)}.get(name)
    words = f"`options`, as [settings](../settings.md) has them: {', '.join(f'`{one}`' for one in options or ())}."
    text = [f"### gankit.{name}", "", f"`{name}{signature(function)}`", "", paragraphs(function), ""]
    return [*text, words, ""] if options else text


def brought() -> list[str]:
    """Every component of gankit's own: its options, and a model's parts, knobs and readings."""
    catalogue, text = Catalogue(), list[str]()
    for kind, (what, _) in KINDS.items():
        for name in catalogue.own(kind) if kind != "commands" else ():
            item = catalogue.get(kind, name)
            text += [f"### {what} {name}", "", f"`{USE[kind].format(name)}`: {item.summary}.", ""]
            for heading, rows in sections(kind, name, catalogue).items():
                text += [f"{heading}:", ""]
                text += [f"- `{first}`{f' — {flowing(words)}' if words else ''}" for first, words in rows] + [""]
    return text


def settings() -> str:
    """The page of a run's settings."""
    rows = []
    for name, asked in RunRequest.model_fields.items():
        field, flag = RunConfig.model_fields.get(name, asked), FLAGS.get(name)
        metavar = f" {flag.metavar}" if flag and flag.metavar else ""
        written = f"`--{flag.name or name.replace('_', '-')}{metavar}`" if flag else ""
        default = "" if name in SINGLE else default_in_words(name, None if field.is_required() else field.default)
        default = "false" if field.default is False else default
        cells = (f"`{name}`", written, allowed(field), default, asked.description, "yes" if name in RESUMED else "")
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    records = [
        f"- `{name}`: {field.description}" for name, field in RunConfig.model_fields.items() if name not in REQUESTABLE
    ]
    return "\n".join([ABOUT_SETTINGS, *rows, "", "config.json has besides:", "", *records, ""])


def commands() -> str:
    """The page of the commands: what `--help` says of each, without what plugins add."""
    text = [
        "# Commands",
        "",
        "Written by `python docs/reference.py` from what `--help` says: change it there. `gankit run MODEL --help`",
        "shows a model's own settings as well; [settings](settings.md) has a run's in one table.",
        "",
    ]
    for name, summary in COMMANDS.items():
        text += [
            f"## {name}",
            "",
            f"{summary.rstrip(chr(46))}.",
            "",
            *shown(cli.get_command(click.Context(cli), name), f"gankit {name}"),
        ]
    return "\n".join(text)


def shown(command: click.Command | None, name: str) -> list[str]:
    """The help of a command and of those below it, at one width on every machine."""
    assert command is not None
    settings = cli.context_settings | {"terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, info_name=name, **settings)
    text = ["```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            text += [
                f"### {name.partition(' ')[2]} {below}",
                "",
                *shown(command.get_command(context, below), f"{name} {below}"),
            ]
    return text


def hooks() -> list[str]:
    """The hooks in the order of their page."""
    return [name for name in vars(hookspecs) if name.startswith("gankit_")]


def hook(name: str) -> list[str]:
    """A hook, and the class that it offers."""
    function = getattr(hookspecs, name)
    text = [f"## {name}", "", f"`{name}{signature(function)}`", "", paragraphs(function), ""]
    kind = name.removeprefix("gankit_")
    offered = getattr(gankit, KINDS[kind][1].partition(":")[2], None) if kind in KINDS else None  # none: a command
    return text + (described(offered) if offered else [])


def described(cls: Any, heading: str = "###") -> list[str]:
    """A class: what it is, its attributes and its methods."""
    text = [f"{heading} gankit.{cls.__name__}", "", paragraphs(cls), ""]
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
    rows = []
    for node in tree.body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            rows.append(attribute(node, lines[(node.end_lineno or node.lineno) - 1]))
        elif isinstance(node, ast.FunctionDef) and not (node.name.startswith("_") and node.name not in SPECIAL):
            rows.append(method(cls, node))
    return [*text, *[row for row in rows if row], ""]


SPECIAL = ("__init__", "__call__")


def attribute(node: ast.AnnAssign, line: str) -> str:
    """`name: type = default`, and the comment or description beside it."""
    words = line.partition("  # ")[2]
    default = ast.unparse(node.value) if node.value else ""
    if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Field":
        words = next((ast.literal_eval(k.value) for k in node.value.keywords if k.arg == "description"), words)
        default = ast.unparse(node.value.args[0]) if node.value.args else ""
    shown = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{f' = {default}' if default else ''}"
    return f"- `{shown}`{f' — {words}' if words else ''}"


def method(cls: Any, node: ast.FunctionDef) -> str:
    """A method or property, whether it must be written, and what it says."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ").removeprefix("self")
    shown = node.name if {"property", "cached_property"} & set(decorators) else f"{node.name}({arguments})"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    needed = " **(must be written)**" if "abstractmethod" in decorators else ""
    words = ast.get_docstring(node) or ""
    if not words and not needed:
        return ""
    return f"- `{shown}{returns}`{needed}{': ' if words else ''}" + textwrap.indent(flowing(words), "  ").strip()


def signature(function: Any) -> str:
    return str(inspect.signature(function)).replace("'", "")


def paragraphs(item: Any) -> str:
    """A docstring as Markdown: indented code stays code."""
    return flowing(inspect.getdoc(item) or "")


def flowing(text: str) -> str:
    """An example that begins with a decorator is set as code, and a `<` outside code is no tag."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else _prose(part) for part in parts)


def _prose(text: str) -> str:
    parts = []
    for part in text.split("\n\n"):
        code = part.lstrip().startswith(("@", "    ")) or part.startswith("    ")
        parts.append(
            f"```\n{textwrap.dedent(part)}\n```" if code else re.sub(r"<(?=[^`]*(`[^`]*`[^`]*)*$)", "&lt;", part)
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    SETTINGS.write_text(settings(), encoding="utf-8")
    COMMANDS_PAGE.write_text(commands(), encoding="utf-8")
