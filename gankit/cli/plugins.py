"""`gankit plugins list`: what is installed, what it offers, what is broken and why."""

from __future__ import annotations

import click

from gankit.cli import plugin_option


@click.group("plugins", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int | None:
    """List the plugins and what they offer."""
    return ctx.invoke(list_) if ctx.invoked_subcommand is None else None


@command.command("list")
@plugin_option
def list_(plugins: tuple[str, ...] = ()) -> int:
    """All plugins, where they come from, and what they offer; exit code 1 where one is broken."""
    from gankit.plugins import KINDS, Catalogue

    catalogue = Catalogue(plugins)
    offers: dict[int, list[str]] = {}  # two plugins may have one name
    for kind, (what, _) in KINDS.items():
        for name, (_, givers) in catalogue.kind(kind).items():
            for plugin in givers:
                offers.setdefault(id(plugin), []).append(f"{what} {name}")
    for plugin in catalogue.plugins:
        click.echo(f"{plugin.name}  ({plugin}, {plugin.where})")
        if plugin.broken:
            click.echo(f"    BROKEN: {plugin.broken}")
        for line in offers.get(id(plugin), []):
            click.echo(f"    {line}")
    clashes = catalogue.clashes()
    for line in clashes:
        click.echo(f"CLASH: {line}; leave one out with GANKIT_DISABLE_PLUGINS")
    return 1 if catalogue.broken or clashes else 0
