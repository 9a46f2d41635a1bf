"""Flags of `run`, `resume` and `compare`: they are derived from the fields of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click

from gankit.config.request import FLAGS, RunRequest
from gankit.config.schema import TABLES, RunConfig
from gankit.config.values import parse_pairs

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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
    shown = f"; default {default}" if default not in (None, False) and name not in TABLES and not resumed else ""
    more: dict[str, Any] = {"help": f"{words}{shown}.", "metavar": flag.metavar}
    if "=" in (flag.metavar or ""):
        more |= {"multiple": True, "callback": lambda context, option, pairs: parse_pairs(pairs, spelled)}
    elif name in TABLES:
        more |= {"multiple": True}
    elif field and field.annotation is bool:
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
