"""Open a run's data source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gankit.catalogue import Catalogue
from gankit.data.source import Data, Request
from gankit.errors import UserError, of_a_plugin


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
    with of_a_plugin(f"data source {cls.name!r} failed, and nothing was written", catalogue.strict):
        source = cls(cls.Options(**(options or {}).get(cls.name, {})))
        opened = source.open(data.partition(":")[2] or None if name else data, request)
        _refuse_other_forms(opened, f"data source {cls.name!r}", request)
    return opened


def _refuse_other_forms(opened: Any, source: str, request: Request) -> None:
    """Raise `UserError` for what is no `Data` of pictures of the requested size or of points."""
    if not isinstance(opened, Data):
        raise UserError(f"{source}: `open` returns {type(opened).__name__}: it must return gankit.Data(…)")
    size = request.image_size
    wanted = f"uint8 (N, {size}, {size}, 3) for pictures, or float32 (N, D) for points"
    for part, items in (("train", opened.train), ("held_out", opened.held_out)):
        shape, small = tuple(items.shape), items.dtype == np.uint8
        fits = small and shape[1:3] == (size, size) if len(shape) == 4 else len(shape) == 2 and not small
        if len(items) and not fits:
            raise UserError(f"{source}: its `{part}` is {items.dtype} {shape}: it must be {wanted}")
