"""One value as people write it: a colour, a duration, KEY=VALUE."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator

from gankit.errors import UserError


def colour(text: str) -> tuple[int, int, int]:
    """RGB, 0..255, of a colour's name or `#rrggbb`. Raises ValueError for any other text."""
    from PIL import ImageColor

    try:
        rgb = ImageColor.getrgb(text)[:3]
        if max(rgb) > 255:  # Pillow takes rgb(999,999,999)
            raise ValueError
        return rgb
    except ValueError:
        raise ValueError(f"{text!r} is no colour: write a name like white, or #rrggbb") from None


def hexadecimal(text: str) -> str:
    """A colour's name or `#rrggbb` as `#rrggbb`. Raises ValueError as `colour` does."""
    return "#{:02x}{:02x}{:02x}".format(*colour(text))


Colour = Annotated[str, AfterValidator(hexadecimal)]  # a colour's name or #rrggbb, stored as #rrggbb


def duration(text: str, flag: str = "--time") -> float:
    """Seconds of `90s`, `30m`, `2h`, `1h30m`, `1d`; a bare number is seconds."""
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * units[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise UserError(f"{flag} {text}: write it like 90s, 30m, 2h or 1h30m")


def parse_value(text: str) -> Any:
    """The VALUE of `--set KEY=VALUE`: a TOML value if it parses as one, otherwise the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # TOML's, or Python's for a number of thousands of digits
        return None if text in ("none", "null") else text


def parse_pairs(pairs: Iterable[str], flag: str) -> dict[str, Any]:
    """`KEY=VALUE` strings as a mapping."""
    result = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"{flag} {pair}: write KEY=VALUE")
        result[key.strip()] = parse_value(value.strip())
    return result
