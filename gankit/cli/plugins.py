"""`gankit plugins list|show|new|check`: list the plugins, show what one offers, create one, or check one."""

from __future__ import annotations

from typing import Any

import click

from gankit.cli import complete, plugin_option, say
from gankit.cli.flags import flags
from gankit.scaffold import HOOKS


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int | None:
    """List the plugins and their components, show what one can be set to, create a plugin, or check one."""
    return ctx.invoke(list_) if ctx.invoked_subcommand is None else None


@command.command("list")
@plugin_option
def list_(plugins: tuple[str, ...] = ()) -> int:
    """List all plugins, their origin and their components; exit code 1 if one is broken."""
    from gankit.catalogue import KINDS, Catalogue

    catalogue = Catalogue(plugins, listing=True)
    offers: dict[int, list[str]] = {}  # two plugins may have one name
    for kind, (what, _) in KINDS.items():
        for name, (_, givers) in catalogue.kind(kind).items():
            for plugin in givers:
                offers.setdefault(id(plugin), []).append(f"{what} {name}")
    for plugin in catalogue.plugins:
        say(f"{plugin.name}  ({plugin}, {plugin.where})")
        if plugin.broken:
            say(f"    BROKEN: {plugin.broken}")
        for line in offers.get(id(plugin), []):
            say(f"    {line}")
    clashes = catalogue.clashes()
    for line in clashes:
        say(f"CLASH: {line}; leave one out with GANKIT_DISABLE_PLUGINS")
    return 1 if catalogue.broken or clashes else 0


@command.command("show")
@click.argument("name", shell_complete=complete.components())
@plugin_option
def show_(name: str, plugins: tuple[str, ...]) -> None:
    """Show the options of a component with their ranges and defaults, and a model's parts, knobs and readings.

    NAME is a component of any kind, or a plugin, whose components are shown.
    """
    from gankit.cli.model_help import show

    say(show(name, plugins))


@command.command("new")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(list(HOOKS)),
    multiple=True,
    default=["model"],
    show_default=True,
    metavar="KIND",
    help=f"Kind of its component, repeatable: {', '.join(HOOKS)}.",
)
def new(name: str, kinds: tuple[str, ...]) -> None:
    """Write a working plugin package into the new folder NAME, for you to change.

    With several kinds its components have the name and an ending: --kind model --kind loss.
    """
    from pathlib import Path

    from gankit.scaffold import WRITTEN, create, module, ordered, trial

    folder, (first, *_) = create(name, kinds, Path()), ordered(kinds)
    steps = (f"pip install -e {name}", f"gankit {trial(name, first)}", f"gankit plugins check {name}", f"pytest {name}")
    say(f"{name}/ is a whole package. What is in it is not yet what its name says, but {WRITTEN[first]}. Written:")
    say("\n".join(f"  {name}/{path.relative_to(folder)}" for path in sorted(folder.rglob("*")) if path.is_file()))
    say(f"Change {name}/{module(name)}/{first}.py into yours. Next:")
    say("\n".join(f"  {step}" for step in steps))
    say(f"Without pip, add --plugin {name} to the commands of gankit.")


@command.command("check")
@click.argument("what", metavar="PATH|NAME", shell_complete=complete.files)
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=complete.components("models"),
    help="Model to try its components on; default: one that fits.",
)
@click.option(
    "--data", multiple=True, metavar="NAME:ARGUMENT", help="Argument for its data source NAME, if it needs one."
)
@flags("losses", "controllers", "diagnostics", "views", "set")
@plugin_option
def check(what: str, model: str | None, data: tuple[str, ...], plugins: tuple[str, ...], **beside: Any) -> int:
    """Test all components of a plugin against gankit's promises to its users; exit code 1 if a test fails.

    PATH is a file or the folder of a package; NAME is an installed plugin. With --loss, --controller, --diagnostic,
    --view and --set each is tested beside others, as in a run: parts that need one another are tested together.
    """
    from gankit.testing.check import check

    return 0 if check(what, plugins, say, model, data, {key: value for key, value in beside.items() if value}) else 1
