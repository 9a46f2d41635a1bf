"""The held-out pictures, which are never trained on."""

from __future__ import annotations

from collections.abc import Sequence


def held_out_count(contents: Sequence[str], share: float) -> int:
    """How many of the first pictures to hold out, so that copies stay on one side.

    `contents` are the sorted content hashes (N,), so the first are a random sample of the pictures. `share` is in
    [0, 1). The result is the cut nearest to `share * N` between two different contents, from 1 to N - 1; it is 0 if
    `share` is 0 or all contents are equal.
    """
    if share <= 0:
        return 0
    wanted = int(share * len(contents) + 0.5)
    cuts = (i for i in range(1, len(contents)) if contents[i] != contents[i - 1])
    return min(cuts, key=lambda cut: abs(cut - wanted), default=0)
