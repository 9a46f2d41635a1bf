"""What is in a data folder: counts, forms, look-alikes and the ground, with advice."""

from __future__ import annotations

import os
import shlex
import statistics
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gankit.catalogue import Catalogue
from gankit.data import decode
from gankit.data.batches import to_float
from gankit.data.folder import look
from gankit.data.open import open_source
from gankit.data.shards import Item
from gankit.data.source import Request
from gankit.data.stream import Streamed
from gankit.errors import UserError
from gankit.metrics.cleanliness import edge, ground_colour, per_picture
from gankit.metrics.features import pixels
from gankit.runs.verdict import FEW, JUDGED

ALIKE = 4.0  # of 255: root mean square of two pictures' difference, averaged to 16×16, below which they look alike
MOST = 10_000  # pictures at random: all figures but the counts are theirs
SHOWN, PAIRS = 64, 32  # pictures and pairs on the page
LONG = 2.0  # a side over the other
GREY = 12  # of 255: between the channels of a pixel without a colour


@dataclass(frozen=True)
class Inspection:
    """A folder as `gankit data inspect` tells it. Shares are in [0, 1], sides in pixels of the files."""

    data: str
    pictures: int
    formats: dict[str, int]
    sides: tuple[int, int, int] | None  # the smallest, the median and the largest shorter side
    long: float  # the share of pictures that are more than twice as long as wide, or the other way
    labels: dict[str, int]
    skipped: list[dict[str, str]]
    warned: list[dict[str, str]]
    ground: str | None  # the colour that the outermost pixels share, "#ffffff"
    ground_share: float  # of all pixels
    grey: float  # the share of pictures without a colour
    looked: int  # pictures among which look-alikes were sought
    alike: int  # of them, pictures with another that looks the same
    advice: list[str]
    streamed: bool  # then skipped and warned are those of `looked` alone
    sheet: Tensor = field(repr=False)  # (n, C, S, S) in [-1, 1], at random
    mean: Tensor = field(repr=False)  # (1, C, S, S)
    pairs: Tensor = field(repr=False)  # (2 n, C, S, S): the pairs that are most alike and differ

    @property
    def figures(self) -> dict[str, Any]:
        """Everything but the pictures, for JSON."""
        return {key: value for key, value in asdict(self).items() if key not in ("sheet", "mean", "pairs")}


def inspect(data: str, request: Request, catalogue: Catalogue) -> Inspection:
    """Look at the pictures that a folder or data source gives for a request without hold-out.

    Raises `UserError` as `gankit run` does, and for points.
    """
    data = data if os.path.lexists(data) else data.removeprefix("folder:")  # the name of the source is optional
    opened = open_source(data, request, catalogue)
    if len(opened.shape) != 3:
        raise UserError(f"{data} gives points, and only pictures can be looked at")
    count = len(opened.train)
    chosen = np.random.default_rng(0).permutation(count)[:MOST]
    if isinstance(opened.train, Streamed):
        chosen.sort()
        formats, sides, long = _headers(opened.train.items(chosen))
        pictures, _ = opened.train.usable(chosen)
        if not len(pictures):
            raise UserError(f"no usable pictures among {len(chosen):,} of {opened.name} at random")
        some = to_float(torch.from_numpy(pictures[np.random.default_rng(0).permutation(len(pictures))]))
    else:
        left_out = {note["file"] for note in opened.skipped}
        items = () if catalogue.source_of(data) else look(data).items()
        formats, sides, long = _headers(item for item in items if item.name not in left_out)
        some = to_float(torch.from_numpy(opened.train[chosen]))
    colour = ground_colour(edge(some))
    rows = per_picture(some, colour)
    other, distance = _nearest(pixels(some, 16))
    order = distance.argsort()[: 2 * PAIRS]
    pairs = dict.fromkeys(tuple(sorted((int(n), int(other[n])))) for n in order if 0 < distance[n] < ALIKE)
    flat = [place for pair in list(pairs)[:PAIRS] for place in pair]
    labels = Counter(opened.label_names[n] for n in opened.labels) if opened.labels is not None else Counter()
    found = Inspection(
        data=opened.name,
        pictures=count,
        formats=formats,
        sides=sides,
        long=long,
        labels=dict(labels.most_common()),
        skipped=opened.skipped,
        warned=opened.warned,
        ground=None if colour is None else "#" + "".join(f"{int(channel):02x}" for channel in colour),
        ground_share=0.0 if colour is None else float(rows[:, 3].mean() / some.shape[-1] ** 2),
        grey=float((_colourful(some) < GREY).float().mean()),
        looked=len(some),
        alike=int((distance < ALIKE).sum()),
        advice=[],
        streamed=opened.streamed,
        sheet=some[:SHOWN],
        mean=some.mean(0, keepdim=True),
        pairs=some[flat],
    )
    found.advice.extend(_advice(found, request))
    return found


def _headers(items: Iterable[Item]) -> tuple[dict[str, int], tuple[int, int, int] | None, float]:
    """Formats, shorter sides and the share of long pictures, by the files' headers."""
    formats: Counter[str] = Counter()
    sides, long = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in items:
            try:
                with item.opened() as content, decode.opened(content) as picture:
                    formats[picture.format or "?"] += 1
                    sides.append(min(picture.size))
                    long += max(picture.size) > LONG * min(picture.size)
            except (OSError, ValueError, SyntaxError, UserError, Image.DecompressionBombError):
                continue  # opening the folder said why
    if not sides:
        return {}, None, 0.0
    return dict(formats.most_common()), (min(sides), int(statistics.median(sides)), max(sides)), long / len(sides)


def _nearest(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The place of each row's nearest other row, and the root mean square of their difference, of 255."""
    places, distances = [], []
    for start in range(0, len(rows), 500):
        found = torch.cdist(rows[start : start + 500], rows, compute_mode="donot_use_mm_for_euclid_dist")
        found[torch.arange(len(found)), torch.arange(start, start + len(found))] = torch.inf
        distance, place = found.min(1)
        places.append(place)
        distances.append(distance)
    scale = 127.5 / rows.shape[1] ** 0.5
    return torch.cat(places), torch.cat(distances) * scale


def _colourful(pictures: Tensor) -> Tensor:
    """(N,): the difference between the channels that 99 % of a picture's pixels stay below, of 255."""
    spread = (pictures.amax(1) - pictures.amin(1)).flatten(1)
    return spread.quantile(0.99, 1) * 127.5


def _advice(found: Inspection, request: Request) -> list[str]:
    advice = []
    if found.streamed and found.pictures > found.looked:
        advice.append(
            f"a stream is looked at in part: all but the counts of pictures and labels is of {found.looked:,} at "
            "random, also what would be skipped; nobody looks for files that are equal"
        )
    if found.pictures < JUDGED:
        few = "1 picture is" if found.pictures == 1 else f"{found.pictures} pictures are"
        what = "to judge samples by"
        if found.pictures < 3:
            what = "for `gankit run`, which needs 2 to train on beside 1 that is held out"
        advice.append(f"{few} too few {what}: add pictures, to {FEW} at least")
    elif found.pictures < FEW:
        advice.append(f"{found.pictures} pictures are few: a model learns them by heart. Add pictures, or use --mirror")
    if found.alike > 0.05 * found.looked:
        advice.append(
            f"{found.alike:,} of {found.looked:,} pictures look like another one: a model sees those kinds more often. "
            "Leave copies out, if that is not meant"
        )
    if found.sides and found.sides[1] < request.image_size:
        advice.append(
            f"half of the pictures are smaller than {request.image_size} pixels and are enlarged: use a smaller "
            "--image-size"
        )
    if found.long > 0.2:
        other = "crop" if request.fit == "pad" else "pad"
        advice.append(
            f"{found.long:.0%} of the pictures are long or wide: look whether --fit {other} shows more of them"
        )
    if found.skipped:
        several = len(found.skipped) > 1
        files = f"{len(found.skipped):,} files are no usable pictures" if several else "1 file is no usable picture"
        advice.append(f"{files}: gankit run skips {'them' if several else 'it'}")
    if found.grey > 0.9:
        advice.append("the pictures have no colours: the samples will have none, and colours cannot be judged")
    return advice or [f"nothing speaks against a training: gankit run began --data {shlex.quote(found.data)}"]
