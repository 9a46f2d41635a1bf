"""What gankit says when a request cannot be met, and where in somebody else's code something went wrong."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable


class UserError(Exception):
    """The request is wrong: one line that says what, where and what to do. The command line exits with 2."""


class TrainingError(Exception):
    """A training could not go on (a network, a loss or the disk failed). The command line exits with 1."""


def nearest(name: str, among: Iterable[str]) -> str:
    """What to add to a refusal: did you mean X? Nothing where no name is near."""
    near = difflib.get_close_matches(name, list(among), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def told(error: BaseException) -> str:
    """An error of a plugin's in one line: its kind, its words, and the plugin's own line that led to it."""
    words = " ".join(str(error).split())
    where = place(error)
    return f"{type(error).__name__}{': ' if words else ''}{words}{f' ({where})' if where else ''}"


def place(error: BaseException) -> str:
    """The innermost line that is neither ours nor a library's, "my_gan.py, line 12"; "" where there is none."""
    libraries = [os.path.dirname(__file__)]
    for name in ("torch", "pluggy", "pydantic", "numpy"):
        if getattr(sys.modules.get(name), "__file__", None):
            libraries.append(os.path.dirname(sys.modules[name].__file__ or ""))
    python = os.path.dirname(os.__file__)
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        standard = file.startswith(python + os.sep) and "site-packages" not in file
        if not standard and not file.startswith(("<", *(library + os.sep for library in libraries))):
            folder, name = os.path.split(file)
            found = f"{os.path.basename(folder) + os.sep if name == '__init__.py' else ''}{name}, line {line}"
    return found
