"""What is done at a critical alarm."""

from __future__ import annotations

from gankit.components import Alarm, Control, Reaction


class Warn(Reaction):
    """Say it, and go on."""

    name = "warn"
    summary = "say it and go on"

    def react(self, alarm: Alarm, control: Control) -> str:
        return "warned"


class Stop(Reaction):
    """End the training, with exit code 3: hours are not spent on what cannot recover."""

    name = "stop"
    summary = "end the training with exit code 3"

    def react(self, alarm: Alarm, control: Control) -> str:
        control.stop()
        return "stopped"


class Rescue(Reaction):
    """Go back to the last healthy checkpoint and on with the model's next remedy; stop when none is left."""

    name = "rescue"
    summary = "go back to the last healthy checkpoint and on with the model's next remedy"

    def react(self, alarm: Alarm, control: Control) -> str:
        going, words = control.go_back(alarm)
        if not going:
            control.stop(keep_best=True)
            return f"stopped: {words}"
        return words
