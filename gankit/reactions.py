"""What is done at a critical alarm."""

from __future__ import annotations

from collections.abc import Callable

from gankit.components import Alarm, Reaction


class Warn(Reaction):
    """Say it, and go on."""

    name = "warn"
    summary = "say it and go on"

    def react(self, alarm: Alarm, stop: Callable[[], None]) -> str:
        return "warned"


class Stop(Reaction):
    """End the training, with exit code 3: hours are not spent on what cannot recover."""

    name = "stop"
    summary = "end the training with exit code 3"

    def react(self, alarm: Alarm, stop: Callable[[], None]) -> str:
        stop()
        return "stopped"
