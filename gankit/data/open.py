"""Open a run's data source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.catalogue import Catalogue
from gankit.data.source import Data, Request
from gankit.errors import UserError


def open_source(
    data: str, request: Request, catalogue: Catalogue, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Data:
    """Open the data source NAME[:ARGUMENT], or a folder. `options`: by the source's name. Raises `UserError`."""
    name = catalogue.source_of(data)
    if request.stream and name not in (None, "folder"):
        raise UserError(
            f"--stream: {name} makes its own pictures; a folder and tar, Parquet and Arrow files are streamed"
        )
    cls = catalogue.get("datasets", name or "folder")
    source = cls(cls.Options(**(options or {}).get(cls.name, {})))
    return source.open(data.partition(":")[2] or None if name else data, request)
