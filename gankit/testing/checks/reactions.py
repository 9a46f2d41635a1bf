"""The checks of reactions."""

from __future__ import annotations

from gankit.components import Alarm, Continue, Return, Situation, Stop
from gankit.model import Remedy
from gankit.testing.subject import Failed, Subject


def says_what_it_did(subject: Subject) -> None:
    """A reaction returns a decision with words for a critical alarm, with and without a checkpoint to return to."""
    alarm = Alarm("one-mode", "critical", "All pictures are one.", (), {"spread": 0.01}, 100)
    ways = (Situation(100, 0, [Remedy("a lower learning rate", {"learning_rate": 1e-5})]), Situation(None, 0, []))
    for situation in ways:
        decision = subject.cls(subject.cls.Options()).react(alarm, situation)
        if not isinstance(decision, Continue | Stop | Return):
            raise Failed(f"react returned {decision!r}", "return gankit.Continue, gankit.Stop or gankit.Return")
        if not decision.words:
            raise Failed(f"react returned {decision!r}", "say in a few words what is done: they stand in alarms.jsonl")
