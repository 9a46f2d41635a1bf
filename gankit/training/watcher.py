"""Who is told how a training goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.training.state import Training


class Watcher:
    """Who is told how the training goes. This one keeps silent; the command line shows it."""

    lost = ""  # why nobody hears it any more

    def notice(self, text: str) -> None:
        """Something that a person should read, in one line."""

    def decoding(self, done: int, total: int) -> None:
        """Pictures are being read into the cache."""

    def begin(self, training: Training) -> None:
        """The first step is next."""

    def line(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""

    def sampled(self, step: int) -> None:
        """A sample grid was written."""

    def alarm(self, alarm: Mapping[str, Any]) -> None:
        """A line of alarms.jsonl was written."""

    def health(self, word: str) -> None:
        """A diagnostic's word on the training's health."""

    def end(self) -> None:
        """The last step is done."""
