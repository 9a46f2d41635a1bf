"""The core's responses to a critical alarm."""

from __future__ import annotations

from gankit.components import Alarm, Continue, Decision, Reaction, Return, Situation, Stop
from gankit.training.rescue import TRIES


class Warn(Reaction):
    """Show the alarm, and go on."""

    name = "warn"
    summary = "say it and go on"

    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        return Continue("warned")


class End(Reaction):
    """End the training with exit code 3, so that a collapsed run does not waste hours."""

    name = "stop"
    summary = "end the training with exit code 3"

    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        return Stop("stopped")


class Rescue(Reaction):
    """Return to the last healthy checkpoint and go on with the model's next remedy; stop without one."""

    name = "rescue"
    summary = "go back to the last healthy checkpoint and on with the model's next remedy"

    def react(self, alarm: Alarm, situation: Situation) -> Decision:
        if situation.healthy is None:
            return Stop("stopped: there is no healthy checkpoint to go back to", keep_best=True)
        if situation.rescues >= TRIES:
            return Stop(f"stopped: {TRIES} rescues did not help", keep_best=True)
        if not situation.remedies:
            return Stop("stopped: no remedy is left to try", keep_best=True)
        back, remedy = situation.healthy, situation.remedies[0]
        words = f"rescue {situation.rescues + 1} of {TRIES}: back to step {back:,}, and on with {remedy.flags}"
        return Return(back, remedy, words)
