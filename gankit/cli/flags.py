"""Flags of `run`, `resume`, `compare` and `sweep`: they are derived from the fields of a request.

A setting of a model is a flag as well: --gamma 0.5 is --set gamma=0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from gankit.cli import AnyPath, complete
from gankit.config.request import FLAGS, RunRequest, meant
from gankit.config.schema import COMPONENTS, TABLES, RunConfig, default_in_words
from gankit.config.values import parse_pairs
from gankit.errors import nearest

COMPLETED = {  # setting -> what the shell offers for it
    "data": complete.components("datasets", beside=complete.files),
    "on_alarm": complete.components("reactions"),
    **{kind: complete.components(kind) for kind in COMPONENTS},
}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Runs side by side; default: 1, with --ray one for each GPU, or machine without any.",
)


def _reachable(context: click.Context, option: click.Parameter, address: str | None) -> str | None:
    from gankit.cluster.connection import reachable

    if address is not None and not context.resilient_parsing:
        reachable(address)  # before anything that takes time
    return address


ray_option = click.option(
    "--ray",
    callback=_reachable,
    metavar="local|ADDRESS",
    help="Train on a Ray cluster: HOST:PORT, ray://HOST:PORT, or one of this machine; needs gankit[ray].",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="The first seed; a file of --config does not set it.",
)
config_option = click.option(
    "--config", "config_file", type=AnyPath(), metavar="FILE", help="Settings in TOML, or a run's config.json."
)


def flags(
    *names: str, but: tuple[str, ...] = (), resumed: bool = False, defaults: Mapping[str, Any] | None = None
) -> Decorator:
    """The flags of the settings `names`, or of all `but` some, in the order of the fields.

    `resumed`: only settings that a resume may change; their default is the run's own value. `defaults`: defaults of
    this command that differ from a run's.
    """
    chosen = names or [name for name, flag in FLAGS.items() if name not in but and (flag.resumed or not resumed)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(chosen):
            function = _option(name, resumed, defaults or {})(function)
        return function

    return decorate


def _option(name: str, resumed: bool, defaults: Mapping[str, Any]) -> Decorator:
    flag, described, field = FLAGS[name], RunRequest.model_fields[name], RunConfig.model_fields.get(name)
    spelled = f"--{flag.name or name.replace('_', '-')}"
    default = defaults.get(name, field.default if field and not field.is_required() else None)
    words = (described.description or "")[0].upper() + (described.description or "")[1:]
    default = "" if resumed else default_in_words(name, default)
    shown = f"; default {default}" if default else ""
    more: dict[str, Any] = {"help": f"{words}{shown}.", "metavar": flag.metavar, "shell_complete": COMPLETED.get(name)}
    if "=" in (flag.metavar or ""):
        more |= {"multiple": True, "callback": lambda context, option, pairs: parse_pairs(pairs, spelled)}
    elif name in TABLES:
        more |= {"multiple": True}
    elif field and field.annotation is bool:
        spelled = f"{spelled}/--no-{spelled[2:]}"  # off, beside a file that switches it on
        more |= {"is_flag": True, "default": None}
    elif field:
        more |= {"type": _type(field, flag.read, flag.auto and not resumed)}
    return click.option(spelled, name, **more)


class _Whole(click.IntRange):
    """A whole number; the help shows its range. `RunConfig` checks the range, for a call as for a flag."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return click.INT.convert(value, param, ctx)


class _Number(click.FloatRange):
    """A number, as `_Whole`."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return click.FLOAT.convert(value, param, ctx)


def _type(field: Any, read: Callable[[str], Any] | None, auto: bool) -> Any:
    """The click type of a field's annotation and range."""
    if read:
        return read
    parts = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    (kind,) = [part for part in parts if part is not type(None)]
    if get_origin(kind) is Literal:
        return click.Choice([*(("auto",) if auto else ()), *get_args(kind)])
    if kind not in (int, float):
        return str
    ends = {
        end: getattr(item, end) for item in field.metadata for end in ("ge", "gt", "le", "lt") if hasattr(item, end)
    }
    low, high = ends.get("ge", ends.get("gt")), ends.get("le", ends.get("lt"))
    return (_Whole if kind is int else _Number)(low, high, min_open="gt" in ends, max_open="lt" in ends)


# Settings of a model as flags.


class SettingsCommand(click.Command):
    """A command with --set, which also accepts its KEYs as flags, and synonyms of other flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.rewritten(ctx, args))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """The options, and the settings of the models that are named; by default of BEGAN."""
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("--"):
            return found
        models = complete.installed(ask=not found)["models"]  # seconds only for what is no other option
        words = [str(word).partition(":")[0] for name in ("words", "models") for word in ctx.params.get(name) or ()]
        named = [word for word in words if word in models] or ["began"]
        fields = dict.fromkeys(field for model in named for field in models.get(model, ()))
        known = {flag for option in self.get_params(ctx) for flag in option.opts}
        more = [flag for flag in (f"--{field.replace('_', '-')}" for field in fields) if flag not in known]
        return [*found, *(CompletionItem(flag) for flag in more if flag.startswith(incomplete))]

    def rewritten(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments with each unknown flag as the known one that is meant. Raises UsageError for any other."""
        if "--" in args:
            return args
        known = {
            name: option
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
            for name in (*option.opts, *option.secondary_opts)
        }
        words = _words(args, known)
        if ctx.resilient_parsing:  # the shell asks what may come next; unknown words are passed over
            return [part for word in words if word.known for part in word.written]
        if all(word.known for word in words):
            return args
        plain = [word.text for word in words if not word.text.startswith("-")]
        plugins = [str(word.value) for word in words if word.text == "--plugin"]
        trains = plain or any(word.text in ("--data", "--config") for word in words)  # else a model is asked for first
        fields = _fields_of_models(plain, plugins) if trains else {}
        return [part for word in words for part in _as_known(word, known, fields)]


@dataclass(frozen=True)
class _Word:
    """An argument of the command line, with its value if it is an option that has one."""

    text: str  # a flag, without `=VALUE`; or a positional argument
    value: str | None
    written: tuple[str, ...]  # as typed
    known: bool


def _words(args: Sequence[str], known: Mapping[str, click.Option]) -> list[_Word]:
    words, rest = [], list(args)
    while rest:
        written = rest.pop(0)
        text, equals, value = written.partition("=") if written.startswith("--") else (written, "", "")
        option = known.get(text)
        takes = text.startswith("--") if option is None else not option.is_flag
        if not equals and takes and rest and (option or not rest[0].startswith("--")):
            words.append(_Word(text, rest[0], (written, rest.pop(0)), option is not None))
        else:
            known_one = option is not None or not text.startswith("--")
            words.append(_Word(text, value if equals else None, (written,), known_one))
    return words


def _fields_of_models(words: Sequence[str], plugins: Sequence[str]) -> Mapping[str, Any]:
    """The settings of the models among these words, else of all models."""
    from gankit.catalogue import Catalogue

    models = Catalogue(plugins).kind("models")
    named = {word.partition(":")[0] for word in words} & models.keys()
    return {
        name: field
        for model in sorted(named or models)
        for name, field in models[model][0].Settings.model_fields.items()
    }


def _as_known(word: _Word, known: Mapping[str, click.Option], fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The word in the form that the parser knows."""
    if word.known:
        return word.written
    name = meant(word.text.removeprefix("--"), fields)
    flag = FLAGS[name].name if name in FLAGS else None
    spelled = f"--{flag or name.replace('_', '-')}"
    if spelled in known:
        return (spelled, *(() if word.value is None else (word.value,)))
    if name in fields or "." in name:
        value = word.value
        if value is None and name in fields and fields[name].annotation is bool:
            value = "true"
        if value is None:
            raise click.UsageError(f"{word.text} needs a value: {word.text} VALUE, or --set {name}=VALUE")
        return ("--set", f"{name}={value}")
    if name == "epochs":
        raise click.UsageError(f"{word.text}: a training has no epochs here, its length is --steps")
    names = [flag.removeprefix("--") for flag in known] + [field.replace("_", "-") for field in fields]
    near = nearest(word.text.removeprefix("--"), names).replace("'", "'--", 1)
    raise click.UsageError(f"no option {word.text}{near}")
