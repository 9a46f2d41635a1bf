"""Features of pictures, which a network computes for minutes, kept in the cache by the pictures' content.

    CACHE/features/KEY.npz    one float32 array; a zip, so that its checksum is looked at

Whatever cannot be read or written there is computed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from os import utime
from pathlib import Path

import numpy as np

from gankit.data.cache import DAY, UNUSED_DAYS, root
from gankit.errors import UserError
from gankit.files import replacing

FORMAT = 1  # raise it when the same pictures get other features
OWN = re.compile(r"([.][0-9a-f]{8}[.])?[0-9a-f]{32}[.]npz")  # whole, or left by a killed process


def remembered(key: str, count: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The features (count, D) float32 of that key (32 hex digits), from the cache or computed and kept there."""
    path = root() / "features" / f"{key}.npz"
    found = _read(path)
    if found is not None and len(found) == count:
        return found
    features = compute()
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        with replacing(path) as beside:
            np.savez(beside, features=features)
    return features


def _read(path: Path) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            features: np.ndarray = file["features"]
        utime(path)  # its last use
    except Exception:  # a damaged zip raises many kinds of errors
        return None
    whole = features.dtype == np.float32 and features.ndim == 2 and bool(np.isfinite(features).all())
    return features if whole else None


def _tidy(place: Path) -> None:
    """Remove what nobody has used for long, and what killed processes left."""
    for path in place.iterdir():
        if OWN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            unused = time.time() - path.stat().st_mtime
            if unused > (DAY if path.name.startswith(".") else UNUSED_DAYS * DAY):
                path.unlink(missing_ok=True)
