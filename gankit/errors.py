"""Errors for users, and where in a plugin's code an error arose."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

NO_DATA = "no data named: give a folder of pictures with --data DIR, or try --data demo"


class UserError(Exception):
    """The request is invalid: one line says what, where and what to do. The command line exits with 2."""


class TrainingError(Exception):
    """A training failed (in a network, a loss or the disk). The command line exits with 1."""


def nearest(name: str, among: Iterable[str]) -> str:
    """A suffix for an error message: " (did you mean 'X'?)", or "" without a similar name."""
    near = difflib.get_close_matches(name, list(among), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def in_one_line(error: BaseException) -> str:
    """An error in a plugin as one line: its type, its message, and the place in the plugin's code."""
    words = " ".join(str(error).split())
    where = place(error)
    return f"{type(error).__name__}{': ' if words else ''}{words}{f' ({where})' if where else ''}"


@contextmanager
def of_a_plugin(what: str, strict: bool) -> Iterator[None]:
    """Raise `TrainingError` in one line for an error in a plugin's code; `strict`: the error itself."""
    try:
        yield
    except (UserError, TrainingError):
        raise
    except Exception as error:
        if strict:
            raise
        raise TrainingError(f"{what}: {in_one_line(error)}; GANKIT_STRICT=1 shows the traceback") from error


def place(error: BaseException) -> str:
    """The innermost line outside gankit and libraries, as in "my_gan.py, line 12"; "" without one."""
    libraries = [os.path.dirname(__file__)]
    for name in ("torch", "pluggy", "pydantic", "numpy"):
        if getattr(sys.modules.get(name), "__file__", None):
            libraries.append(os.path.dirname(sys.modules[name].__file__ or ""))
    python = os.path.dirname(os.__file__)
    innermost = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        standard = file.startswith(python + os.sep) and "site-packages" not in file
        if not standard and not file.startswith(("<", *(library + os.sep for library in libraries))):
            folder, name = os.path.split(file)
            innermost = f"{os.path.basename(folder) + os.sep if name == '__init__.py' else ''}{name}, line {line}"
    return innermost
