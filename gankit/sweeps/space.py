"""What a sweep varies: `--vary NAME=a,b,c` for choices, `NAME=uniform:LOW,HIGH`, `loguniform:` or `int:` for a range.

A NAME is a key of an arm of `gankit compare`: one of `--set` (`gamma`, `balance.floor`), `loss.NAME`, `view`,
`controller`, `preset`, `batch_size` or `mirror`.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gankit.comparison.arms import as_typed
from gankit.config.request import RunRequest, meant
from gankit.config.values import parse_value
from gankit.errors import UserError, nearest

RANGES = ("uniform", "loguniform", "int")
FLAGS = ("preset", "batch_size", "mirror")  # that may be varied, besides components and settings
COMPONENTS = ("view", "controller")
LARGEST = 1e30  # of the ends of a range; the inverse is the least
DIGITS = 4  # of a drawn number, so that a command with it stays short
Values = dict[str, Any]  # by the name of a parameter


@dataclass(frozen=True)
class Parameter:
    """A varied setting: its choices, or a range."""

    name: str
    text: str  # as typed, without the name
    kind: str  # "choices", or one of RANGES
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def draw(self, source: random.Random) -> Any:
        """A value at random."""
        if self.kind == "choices":
            return source.choice(self.choices)
        if self.kind == "int":
            return source.randint(int(self.low), int(self.high))
        if self.kind == "uniform":
            return self.rounded(source.uniform(self.low, self.high))
        return self.rounded(math.exp(source.uniform(math.log(self.low), math.log(self.high))))

    def rounded(self, value: float) -> Any:
        """A value of the range with few digits: DIGITS of the range's width, on a logarithmic scale of the value."""
        if self.kind not in ("uniform", "loguniform"):
            return value
        width = self.high - self.low
        size = min(value, width) if self.kind == "loguniform" else width
        return min(max(round(value, DIGITS - math.ceil(math.log10(size))), self.low), self.high)

    def samples(self) -> list[Any]:
        """Values that show whether all are allowed: every choice, or the ends and a number between them."""
        if self.kind == "choices":
            return list(self.choices)
        if self.kind == "int":
            return [int(self.low), int(self.high)]
        return [self.low, self.high, self.low + 0.382 * (self.high - self.low)]

    def position(self, value: Any) -> float | None:
        """The place of a value between the ends, in [0, 1]; of a choice, evenly. None for a value outside."""
        if self.kind == "choices":
            labels = [as_typed(one) for one in self.choices]
            return labels.index(as_typed(value)) / (len(labels) - 1) if as_typed(value) in labels else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if self.kind == "loguniform":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def labels(self) -> list[tuple[float, str]]:
        """Marks for an axis: (position, text)."""
        if self.kind == "choices":
            return [(float(self.position(one) or 0.0), as_typed(one)) for one in self.choices]
        return [(0.0, f"{self.low:.4g}"), (1.0, f"{self.high:.4g}")]


def parse(texts: Sequence[str], fields: Collection[str]) -> list[Parameter]:
    """The parameters of `--vary`. `fields`: the settings of the model.

    Raises UserError for a malformed text, an empty range, one value, and for what cannot be varied. Whether values are
    allowed, the resolution of a run tells.
    """
    parameters: dict[str, Parameter] = {}
    for text in texts:
        key, equals, rest = text.partition("=")
        if not equals or not key.strip() or not rest.strip():
            raise UserError(f"--vary {text}: write NAME=a,b,c, or NAME=uniform:LOW,HIGH, loguniform: or int:")
        name = _known(key.strip(), fields)
        if name in parameters:
            raise UserError(f"--vary {text}: {name} is varied twice: leave one out")
        parameters[name] = one(name, rest.strip())
    if not parameters:
        raise UserError("nothing is varied: say what with --vary, such as --vary gamma=0.3,0.5,0.7")
    return list(parameters.values())


def one(name: str, text: str) -> Parameter:
    """The parameter of that name with the choices or the range in `text`. Raises UserError as `parse` does."""
    shown = f"--vary {name}={text}"
    kind, colon, rest = text.partition(":")
    if colon and kind in RANGES:
        return _range(name, text, kind, rest)
    if colon and re.fullmatch("[a-z-]+", kind) and "," in rest:
        raise UserError(f"{shown}: no range {kind!r}{nearest(kind, RANGES)}: write one of {', '.join(RANGES)}")
    # A comma inside brackets is part of a value: betas=[0.5,0.9].
    choices = [_value(part, shown) for part in re.split(r",(?![^\[]*\])", text)]
    if "" in choices:
        raise UserError(f"{shown}: a value is empty: write the values with commas between them")
    names = [_plain(choice, shown) for choice in choices]
    if len(choices) == 1:
        raise UserError(f"{shown} varies nothing: give several values, or {_fixed(name, names[0])} for this one")
    twice = next((label for n, label in enumerate(names) if label in names[:n]), None)
    if twice is not None:
        raise UserError(f"{shown}: {twice} is there twice: leave one out")
    return Parameter(name, text, "choices", tuple(choices))


def _range(name: str, text: str, kind: str, rest: str) -> Parameter:
    shown = f"--vary {name}={text}"
    ends = [_value(part, shown) for part in rest.split(",")]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool) and end == end]
    if len(numbers) != 2 or len(ends) != 2:
        raise UserError(f"{shown}: a range has two numbers: {kind}:LOW,HIGH")
    if any(number and not 1 / LARGEST < abs(number) < LARGEST for number in numbers):
        raise UserError(f"{shown}: an end must be 0, or of a size between {1 / LARGEST:g} and {LARGEST:g}")
    low, high = numbers
    if kind == "int" and not all(isinstance(end, int) and abs(end) < 1 << 53 for end in numbers):
        raise UserError(f"{shown}: the ends must be whole numbers")
    if low >= high:
        raise UserError(f"{shown}: the range is empty: the first number must be below the second")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{shown}: a logarithmic range begins above 0")
    return Parameter(name, text, kind, (), low, high)


def _value(text: str, shown: str) -> Any:
    try:
        return parse_value(text.strip())
    except RecursionError:
        raise UserError(f"{shown[:60]}…: a value has too many brackets") from None


def _plain(value: Any, shown: str) -> str:
    """A choice as typed. Raises UserError for a value that no setting has, such as a date."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(f"{shown}: {value} is no value of a setting") from None
    return as_typed(value)


def _fixed(name: str, value: str) -> str:
    """The flag for one value."""
    if name.startswith("loss."):
        return f"--loss {name.removeprefix('loss.')}={value}"
    if name in (*FLAGS, *COMPONENTS):
        return f"--{name.replace('_', '-')} {value}"
    return f"--set {name}={value}"


def _known(key: str, fields: Collection[str]) -> str:
    """The name of a parameter as `comparison.arms` knows it. Raises UserError for what cannot be varied."""
    if key.startswith("loss."):
        return key
    name = meant(key, fields)
    if name in fields or "." in name or name in (*FLAGS, *COMPONENTS):
        return name
    may = (*fields, *FLAGS, *COMPONENTS, "loss.NAME", "COMPONENT.FIELD")
    reasons = {
        "seed": "--seeds N trains each trial with several",
        "seeds": "--seeds N trains each trial with several",
        **dict.fromkeys(("data", "image_size", "fit", "background", "holdout"), "all trials see the same pictures"),
        **dict.fromkeys(("steps", "time"), "all trials have the same length"),
        "losses": "name a term, as in loss.imle",
        "loss": "name a term, as in loss.imle",
    }
    if name in reasons or name in RunRequest.model_fields or name in ("out", "plugin", "diagnostic"):
        reason = reasons.get(name, f"a sweep varies {', '.join(may)}")
        raise UserError(f"--vary {key}=…: {key} cannot be varied: {reason}")
    raise UserError(f"--vary {key}=…: there is no setting {key!r}{nearest(name, may)}. There are: {', '.join(may)}")


# Values without a search engine.


def size(space: Sequence[Parameter]) -> int | None:
    """The number of combinations, or None where a parameter has a range of numbers."""
    counts = [int(p.high - p.low) + 1 if p.kind == "int" else len(p.choices) for p in space]
    return math.prod(counts) if all(counts) else None


def grid(space: Sequence[Parameter]) -> Iterator[Values]:
    """Every combination of the choices; the last parameter changes fastest."""
    for combination in itertools.product(*(parameter.choices for parameter in space)):
        yield {parameter.name: value for parameter, value in zip(space, combination, strict=True)}


def drawn(space: Sequence[Parameter], seed: int, number: int, before: Sequence[Mapping[str, Any]]) -> Values:
    """The values of trial `number` at random, another combination than those `before`. It depends on no state."""
    taken = {key_of(values) for values in before}
    for attempt in itertools.count():
        source = random.Random(f"{seed} {number} {attempt}")
        values = {parameter.name: parameter.draw(source) for parameter in space}
        if key_of(values) not in taken or attempt > 10_000:
            return values
    raise AssertionError


def key_of(values: Mapping[str, Any]) -> str:
    """A combination of values as text, to compare it."""
    return json.dumps(values, sort_keys=True)
