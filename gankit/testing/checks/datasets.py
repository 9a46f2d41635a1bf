"""The checks of data sources."""

from __future__ import annotations

import numpy as np

from gankit.data.source import Data, Request
from gankit.testing.subject import Failed, Subject


def opens_to_items(subject: Subject) -> None:
    """A data source opens to uint8 pictures of the requested size, or float32 points, the same ones every time."""
    argument = str(subject.options.get("data", subject.name)).partition(":")[2] or None
    digests = []
    for size in (16, 32, 16):
        data = subject.cls(subject.cls.Options()).open(argument, Request(image_size=size, holdout=0.25))
        if not isinstance(data, Data):
            raise Failed(f"open returned {data!r}", "return gankit.Data(name, train, held_out, digest)")
        for part, items in (("train", data.train), ("held_out", data.held_out)):
            pictures = items.dtype == np.uint8 and items.shape[1:] == (size, size, 3)
            points = items.dtype == np.float32 and items.ndim == 2
            if not (pictures or points):
                raise Failed(
                    f"{part} is {items.dtype} of shape {items.shape} where {size}×{size} was asked for",
                    "give uint8 (N, S, S, 3) with S the size asked for, or float32 (N, D)",
                )
        if not len(data.held_out):
            raise Failed("nothing is held out of a share of 0.25", "split by request.holdout")
        labels = data.labels
        if labels is not None and (
            labels.dtype != np.int64
            or labels.shape != (len(data.train),)
            or not 0 <= labels.min() <= labels.max() < len(data.label_names)
        ):
            raise Failed("labels do not fit", "give int64 (N,) for train, each a place in label_names")
        digests.append(data.digest)
    if digests[0] != digests[2]:
        raise Failed("opened twice, its digest is another", "let the digest follow from the content alone")
