"""The checks of commands."""

from __future__ import annotations

from gankit.testing.subject import Failed, Subject


def says_how_it_is_used(subject: Subject) -> None:
    """A command's --help works and describes the command: `gankit --help` shows its first line."""
    from click.testing import CliRunner

    result = CliRunner().invoke(subject.cls, ["--help"])
    if result.exit_code:
        raise Failed(
            f"gankit {subject.name} --help ends with {result.exit_code}: {result.exception!r}", "mend what it names"
        )
    if not subject.cls.get_short_help_str():
        raise Failed(f"gankit {subject.name} --help does not say what it does", "give its function a docstring")
