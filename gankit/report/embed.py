"""The pictures of a run as data: URIs, as many as fit into a report."""

from __future__ import annotations

import base64
import io
import math
import os
import struct
from pathlib import Path
from typing import Any

from gankit.errors import UserError
from gankit.files import finite, opened
from gankit.report.story import evenly, picture
from gankit.runs.folder import RunFolder, counts

LARGEST = 1 << 27  # pixels of a grid
GRIDS = 60  # in the slider, at most
SIGNS = {".png": b"\x89PNG\r\n\x1a\n", ".gif": b"GIF8"}  # first bytes of a valid file


def as_source(content: bytes, kind: str) -> str:
    """A picture as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def grids(run: RunFolder, samples: list[tuple[int, Path]], room: int) -> tuple[dict[str, Any], list[Path]]:
    """As many grids as fit, evenly in steps, always with the last one; and those that cannot be shown."""
    size = {path: _size(run, path) * 4 // 3 for _, path in samples}
    out = [path for path in size if not 0 < size[path] <= room]
    samples = [(step, path) for step, path in samples if path not in out]
    chosen = evenly(samples, GRIDS)
    while len(chosen) > 1 and sum(size[path] for _, path in chosen) > room:
        chosen = evenly(samples, len(chosen) - 1) if len(chosen) > 2 else chosen[-1:]
    shown = []
    for step, path in chosen:
        content = _whole(run, path)
        if content:
            shown.append({"step": step, "source": as_source(content, "png")})
        else:
            out.append(path)
    return {"shown": shown, "count": len(samples)}, out


def _whole(run: RunFolder, path: Path) -> bytes:
    """The content of a PNG, or b"" for a damaged one."""
    from PIL import Image

    try:
        content = run.read(path)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as grid:
            grid.verify()  # checksums; no pixel is decoded
    except Exception:  # Pillow's readers raise many kinds of errors for damaged files
        return b""
    return content


def still(run: RunFolder, sample: tuple[int, Path] | None) -> dict[str, Any]:
    """One grid as WebP, a fifth of the size; {} if there is none that can be read."""
    if sample is None:
        return {}
    buffer = io.BytesIO()
    try:
        with picture(run, sample[1]) as grid:
            grid.convert("RGB").save(buffer, "WEBP", quality=80)
    except Exception:  # as in `_whole`
        return {}
    return {"step": sample[0], "source": as_source(buffer.getvalue(), "webp")}


def neighbours(run: RunFolder) -> dict[str, Any]:
    """The numbers of neighbours.json, {} where it cannot be read, and neighbours.png as WebP, "" likewise."""
    try:
        stored = run.neighbours
        numbers: dict[str, Any] = {key: int(stored[key]) for key in ("step", "looked", "train", "held_out")}
        counted = ("copies", "samples", "equal", "equal_held_out")  # an older gankit did not count them
        numbers |= {name: stored.get(name) for name in counted}
        if numbers["copies"] is not None and not counts(numbers["copies"], 0):
            return {}
    except (OSError, UserError, KeyError, TypeError, ValueError, OverflowError):
        return {}
    pairs = still(run, (numbers["step"], run.neighbours_path))
    return {**numbers, "chance": finite(stored.get("chance")), "source": pairs.get("source", "")}


def real(run: RunFolder, room: int) -> str:
    """real.png as it is; "" where there is none, or none that fits."""
    size = _size(run, run.real_path)
    return as_source(run.read(run.real_path), "png") if 0 < size * 4 // 3 <= room else ""


def _size(run: RunFolder, path: Path) -> int:
    """The size of a picture in bytes; 0 unless its format matches its suffix, and for a PNG of too many pixels."""
    try:
        with os.fdopen(opened(run.folder, path), "rb") as file:
            start = file.read(24)
            fits = start.startswith(SIGNS[path.suffix])
            if path.suffix == ".png":  # width and height: a browser would take the memory
                fits = fits and math.prod(struct.unpack(">II", start[16:24].ljust(8))) <= LARGEST
            return os.fstat(file.fileno()).st_size if fits else 0
    except (OSError, UserError):
        return 0


def animation(run: RunFolder, path: Path, room: int) -> dict[str, Any]:
    """animation.gif as it is or, if that is too large, with fewer frames and as WebP; {} if there is none."""
    size = _size(run, path)
    if not size:
        return {}
    if size * 4 // 3 <= room:
        return {"source": as_source(run.read(path), "gif"), "size": size, "whole": True}
    try:
        content = _as_webp(run, path, room * 3 // 4)
    except Exception:  # as in `_whole`
        content = b""
    return {"source": as_source(content, "webp") if content else "", "size": size, "whole": False}


def _as_webp(run: RunFolder, path: Path, room: int) -> bytes:
    with picture(run, path, "GIF") as gif:
        count = getattr(gif, "n_frames", 1)
        probe = len(_webp(gif, [count - 1]))
        wanted = max(1, min(count, int(0.9 * room / probe)))
        chosen = sorted({round(n * (count - 1) / max(wanted - 1, 1)) for n in range(wanted)} | {count - 1})
        content = _webp(gif, chosen)
    return content if len(content) <= room else b""


def _webp(gif: Any, chosen: list[int]) -> bytes:
    """The chosen frames, each shown until the next one begins."""
    frames, durations = [], []
    for n in range(chosen[0], getattr(gif, "n_frames", 1)):
        gif.seek(n)
        shown = gif.info.get("duration", 100)
        if n in chosen:
            frames.append(gif.convert("RGB"))
            durations.append(shown)
        else:
            durations[-1] += shown
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations if len(frames) > 1 else 0,
        loop=0,
        quality=50,
        method=2,
    )
    return buffer.getvalue()
