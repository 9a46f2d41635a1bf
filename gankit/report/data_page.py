"""The page of `gankit data inspect`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from gankit.data.inspection import Inspection
from gankit.report.embed import as_source
from gankit.report.page import write_page
from gankit.report.sample_grid import enlarged, factor, grid


def write(found: Inspection, path: Path) -> Path:
    """Write one HTML file. Raises UserError if it cannot be written."""
    low, middle, high = found.sides or (0, 0, 0)
    tiles = [
        ("Pictures", f"{found.pictures:,}", f"{len(found.skipped):,} files skipped"),
        ("Look-alikes", f"{found.alike:,}", f"of {found.looked:,}"),
        ("Ground", found.ground or "none", f"{found.ground_share:.0%} of the pixels" if found.ground else "is shared"),
        ("Without colour", f"{found.grey:.0%}", "of the pictures"),
    ]
    if found.sides:
        tiles += [
            ("Shorter side", f"{middle:,}", f"pixels, the median; {low:,} to {high:,}"),
            ("Formats", ", ".join(found.formats), ", ".join(f"{count:,}" for count in found.formats.values())),
        ]
    context = {
        "data": found.data,
        "advice": found.advice,
        "tiles": tiles,
        "side": found.sheet.shape[-1],
        "sheet": _source(found.sheet, 8),
        "mean": _source(found.mean, 1),
        "pairs": _source(found.pairs, 8) if len(found.pairs) else "",
        "alike": found.alike,
        "looked": found.looked,
        "tables": [
            ("Labels", [(name, f"{count:,}") for name, count in found.labels.items()]),
            ("Skipped files", [(one["file"], one["reason"]) for one in found.skipped]),
            ("Remarks", [(one["file"], one["reason"]) for one in found.warned]),
        ],
        "curves": {"panels": [], "errors": []},
    }
    return write_page("data_page.html.j2", path, context, drawn=False)


def _source(pictures: Tensor, columns: int) -> str:
    buffer = io.BytesIO()
    scale = factor(pictures.shape[-1], 64 if columns > 1 else 256)
    Image.fromarray(grid(enlarged(pictures, scale), columns).numpy()).save(buffer, "PNG")
    return as_source(buffer.getvalue(), "png")
