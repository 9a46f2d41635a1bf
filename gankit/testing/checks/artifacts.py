"""The checks of artifacts."""

from __future__ import annotations

from gankit.testing.subject import Failed, Subject
from gankit.training.loop import step_once


def draws_from_a_run(subject: Subject) -> None:
    """An artifact accepts every line and finishes, also twice and for a run without lines."""
    for name, lines in (("drawn", 3), ("empty", 0)):
        training, batches = subject.training(artifacts=[])
        session = subject.session(training, batches, name)
        artifact = subject.cls(subject.cls.Options(), session.recorder.run)
        for _ in range(lines):
            line = session.recorder.line(step_once(training, batches))
            session.recorder.write(line)
            artifact.line(line)
        session.recorder.close()
        for made in (artifact.finish(), subject.cls(subject.cls.Options(), session.recorder.run).finish()):
            if made is not None and not made.exists():
                raise Failed(f"finish returned {made}, which is not there", "return the file that was made, or None")
