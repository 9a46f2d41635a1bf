"""The pictures of a run as data: URIs, as many as a report has room for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from gankit.report.reading import evenly

GRIDS = 60  # in the slider, at most


def _base64(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def grids(samples: list[tuple[int, Path]], room: int) -> dict[str, Any]:
    """As many grids as there is room for, evenly in steps; of the last one the picture is always there."""
    size = {path: _size(path) * 4 // 3 for _, path in samples}
    samples = [(step, path) for step, path in samples if size[path]]
    chosen = evenly(samples, GRIDS)
    while len(chosen) > 1 and sum(size[path] for _, path in chosen) > room:
        chosen = evenly(samples, len(chosen) - 1) if len(chosen) > 2 else chosen[-1:]
    shown = [{"step": step, "source": _base64(path.read_bytes(), "png")} for step, path in chosen]
    return {"shown": shown, "count": len(samples)}


def still(found: tuple[int, Path] | None) -> dict[str, Any]:
    """One grid as WebP, a fifth of the size; {} if there is none that can be read."""
    from PIL import Image

    if found is None:
        return {}
    made = io.BytesIO()
    try:
        with Image.open(found[1], formats=["PNG"]) as picture:
            picture.convert("RGB").save(made, "WEBP", quality=80)
    except (OSError, ValueError, SyntaxError):
        return {}
    return {"step": found[0], "source": _base64(made.getvalue(), "webp")}


def neighbours(path: Path) -> dict[str, Any]:
    """neighbours.png as WebP, with what `draw_neighbours` wrote into it; {} if there is none that can be read."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            told = json.loads(picture.info["gankit"])
        told = {key: told[key] for key in ("step", "looked", "train", "held_out")} | {"nearer": told.get("nearer")}
        return told | {"source": still((told["step"], path))["source"]}
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        return {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def animation(path: Path, room: int) -> dict[str, Any]:
    """animation.gif as it is or, if that is too large, with fewer frames and as WebP; {} if there is none."""
    size = _size(path)
    if not size:
        return {}
    if size * 4 // 3 <= room:
        return {"source": _base64(path.read_bytes(), "gif"), "size": size, "whole": True}
    try:
        content = _as_webp(path, room * 3 // 4)
    except (OSError, EOFError, ValueError, SyntaxError):
        content = b""
    return {"source": _base64(content, "webp") if content else "", "size": size, "whole": False}


def _as_webp(path: Path, room: int) -> bytes:
    from PIL import Image

    with Image.open(path, formats=["GIF"]) as gif:
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
    made = io.BytesIO()
    frames[0].save(
        made,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations if len(frames) > 1 else 0,
        loop=0,
        quality=50,
        method=2,
    )
    return made.getvalue()
