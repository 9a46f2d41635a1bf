"""A folder of pictures as a data source."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gankit.data import cache
from gankit.data.scan import File, scan, shown
from gankit.data.source import Data, DataSource, Request
from gankit.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

_BLANK = "blank: every pixel is the same colour (fully transparent?)"
_KINDS = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_ADVICE = f"put {_KINDS} pictures in it"


class Folder(DataSource):
    """Any folder of pictures, flat or nested. A file's content decides its format, not its suffix.

    With subfolders, a picture's label is its first-level subfolder, or "." outside of them.
    """

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = f"a folder, flat or nested, of {_KINDS} pictures"

    def open(self, argument: str | None, request: Request) -> Data:
        """Return the pictures below the folder `argument`: decoded once, then read from the cache.

        Raises `UserError` if the folder is missing or unreadable, if it holds no usable picture, or if the cache is not
        writable.
        """
        folder = _existing(argument)
        try:
            files, problems = scan(folder, leave_out=cache.root())
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise UserError(f"the data folder {argument} cannot be read: {reason}; check its permissions") from None
        if not files:
            first = "it holds no files" if not problems else "{file}: {reason}".format(**problems[0])
            raise UserError(f"no pictures in {argument} ({first}); {_ADVICE}")
        entry = cache.fetch(
            _settings(request),
            [str(folder), [[file.path, file.size, file.changed, file.readable] for file in files]],
            request.image_size,
            lambda writer: _build(str(argument), folder, files, request, writer),
        )
        return entry.as_data(str(argument), request.holdout, problems)


def _existing(argument: str | None) -> Path:
    if not argument:
        raise UserError("no data folder given; say which, for example --data ./pictures")
    folder = Path(os.path.realpath(os.path.expanduser(argument)))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"the data {argument} is a file, not a folder; give the folder that holds the pictures")
    there = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    near = nearest(folder.name, there)
    raise UserError(f"no data folder {argument}{near or f' (looked for {folder})'}; check the path, or try --data demo")


def _settings(request: Request) -> dict[str, object]:
    from gankit.data import decode

    return {
        "source": "folder",
        "version": decode.VERSION,
        "image_size": request.image_size,
        "fit": request.fit,
        "background": list(request.background),
    }


def _build(argument: str, folder: Path, files: list[File], request: Request, writer: cache.Writer) -> cache.Notes:
    from gankit.data import decode

    notes = cache.Notes()
    labels: list[str] = []
    first_with: dict[str, str] = {}  # content -> the first file that has it
    # Threads, because Pillow decodes without the interpreter's lock.
    with ThreadPoolExecutor(_cores()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: the code below handles or reports their causes
        for done, (file, pixels, content_or_reason) in enumerate(_decoded(pool, folder, files, request), start=1):
            name = shown(file.path)
            if pixels is None:
                notes.skipped.append({"file": name, "reason": content_or_reason})
            else:
                writer.add(pixels, name, content_or_reason)
                labels.append(file.label)
                if decode.is_blank(pixels):
                    notes.warned.append({"file": name, "reason": _BLANK})
                if (first := first_with.setdefault(content_or_reason, name)) != name:
                    notes.warned.append({"file": name, "reason": f"same bytes as {first}"})
            if request.progress is not None:
                request.progress(done, len(files))
    if not labels:
        first, reason = notes.skipped[0]["file"], notes.skipped[0]["reason"]
        raise UserError(
            f"no usable pictures in {argument} (files looked at: {len(files)}; the first, {first}: {reason}); {_ADVICE}"
        )
    if set(labels) != {"."}:
        notes.label_names = sorted(set(labels))
        numbers = {name: i for i, name in enumerate(notes.label_names)}
        notes.labels = [numbers[name] for name in labels]
    return notes


def _decoded(
    pool: ThreadPoolExecutor, folder: Path, files: list[File], request: Request
) -> Iterator[tuple[File, np.ndarray | None, str]]:
    """Each file in order, with its picture and content hash, or with None and the reason for skipping it."""
    from gankit.data import decode
    from gankit.data.colour import Unusable

    def one(file: File) -> tuple[File, np.ndarray | None, str]:
        try:
            return file, *decode.read(folder / file.path, request)
        except Unusable as reason:
            return file, None, str(reason)

    window = 16 * _cores()  # not all at once: decoded pictures wait in memory
    for start in range(0, len(files), window):
        yield from pool.map(one, files[start : start + window])


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
