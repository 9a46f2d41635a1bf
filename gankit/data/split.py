"""Which pictures are never trained on."""

from __future__ import annotations

from collections.abc import Sequence


def held_out_count(contents: Sequence[str], share: float) -> int:
    """How many of the first pictures to hold out, so that copies stay on one side.

    `contents` are the content hashes (N,) in sorted order: being hashes, the first are a random sample of
    the pictures, whatever their names and folders. `share` is in [0, 1). The answer is the cut nearest to
    `share * N` that lies between two different contents, so it is at least 1 and at most N - 1; it is 0 where
    `share` is 0 or where all contents are the same.
    """
    if share <= 0:
        return 0
    wanted = int(share * len(contents) + 0.5)
    cuts = (i for i in range(1, len(contents)) if contents[i] != contents[i - 1])
    return min(cuts, key=lambda cut: abs(cut - wanted), default=0)
