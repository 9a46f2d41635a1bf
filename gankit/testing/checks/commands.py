"""What is checked of commands: their help."""

from __future__ import annotations

from gankit.testing.subject import Failed, Subject


def says_how_it_is_used(subject: Subject) -> None:
    """A command's --help works, and says what the command is for: `gankit --help` shows its first line."""
    from click.testing import CliRunner

    said = CliRunner().invoke(subject.cls, ["--help"])
    if said.exit_code:
        raise Failed(
            f"gankit {subject.name} --help ends with {said.exit_code}: {said.exception!r}", "mend what it names"
        )
    if not subject.cls.get_short_help_str():
        raise Failed(f"gankit {subject.name} --help does not say what it does", "give its function a docstring")
