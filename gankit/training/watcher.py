"""The interface for a training's events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.training.state import Training


class Watcher:
    """Receives a training's events. This one ignores them; the command line's shows them."""

    lost = ""  # the reason if the output is lost

    def notice(self, text: str) -> None:
        """A message for the user, in one line."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` pictures are decoded into the cache."""

    def finding(self, done: int, total: int) -> None:
        """The places of `done` of `total` pictures of a stream are known."""

    def begin(self, training: Training) -> None:
        """The first step is next."""

    def line(self, line: Mapping[str, Any]) -> None:
        """A new line of metrics.jsonl."""

    def sampled(self, step: int) -> None:
        """A new sample grid."""

    def alarm(self, alarm: Mapping[str, Any]) -> None:
        """A new line of alarms.jsonl."""

    def health(self, word: str) -> None:
        """The diagnostics' `health` for the progress line."""

    def end(self) -> None:
        """The last step is done."""
