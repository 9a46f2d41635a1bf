"""Pictures of the user's as a data source: a folder of them, or shards that hold many each."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from gankit.data import cache, shards
from gankit.data.places import Place
from gankit.data.scan import File, scan, shown
from gankit.data.source import Data, DataSource, Request
from gankit.errors import UserError, nearest
from gankit.files import ordinary, read_object
from gankit.runs.advice import to_resume

_BLANK = "blank: every pixel is the same colour (fully transparent?)"
_KINDS = "PNG, JPEG, WebP, GIF, BMP or TIFF"
_ADVICE = f"put {_KINDS} pictures in it"
_FIRST = 1000  # pictures of shards, from which gankit guesses the number of all


class Folder(DataSource):
    """Any folder of pictures, flat or nested. A file's content decides its format, not its suffix.

    With subfolders, a picture's label is its first-level subfolder, or "." outside of them. A folder that holds shards
    (.parquet, .arrow, .tar) and no pictures, one shard, or a pattern of them such as train-{0000..0009}.tar is read in
    the same way: the same pictures make the same data.
    """

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = f"a folder, flat or nested, of {_KINDS} pictures; Parquet, Arrow or tar files of them"

    def open(self, argument: str | None, request: Request) -> Data:
        """Return the pictures at the path `argument`: decoded once, then read from the cache; or as a stream.

        Raises `UserError` if it is missing or unreadable, if it holds no usable picture, or if the cache is not
        writable.
        """
        place = look(argument)
        if request.stream:
            from gankit.data.stream import open_stream

            return open_stream(place, request, _settings(request))
        entry = cache.fetch(
            _settings(request),
            place.identity,
            request.image_size,
            lambda writer: _build(place, request, writer),
            lambda entry: _readable_by_now(place, entry.skipped),
        )
        return entry.as_data(str(argument), request.holdout, place.problems)


def look(argument: str | None) -> Place:
    """What lies at a path. Raises `UserError` if there is nothing, or nothing that could hold pictures."""
    if not argument:
        raise UserError("no data folder given; say which, for example --data ./pictures")
    path, columns = parted(argument)
    if (found := shards.named(path)) is not None:
        return Place(argument, *found, packed=True, columns=columns)
    folder = _existing(path)
    if _of_a_run(folder):
        raise UserError(
            f"{argument} is a run folder, and its pictures are samples and charts: go on with "
            f"`{to_resume(Path(path))}`, or give the folder of the pictures"
        )
    try:
        files, problems = scan(folder, leave_out=cache.root())
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise UserError(f"the data folder {argument} cannot be read: {reason}; check its permissions") from None
    if not files:
        first = "it holds no files" if not problems else "{file}: {reason}".format(**problems[0])
        raise UserError(f"no pictures in {argument} ({first}); {_ADVICE}")
    packed = [file for file in files if shards.is_shard(file.path)]
    if packed and not _any_picture(folder, (file for file in files if not shards.is_shard(file.path))):
        return Place(argument, folder, packed, problems, packed=True, columns=columns)
    if columns:
        raise UserError(f"{argument}: #{columns} names a column of tables, and {path} is a folder of pictures")
    return Place(argument, folder, files, problems, packed=False)


def parted(argument: str) -> tuple[str, str]:
    """The path of PATH#COLUMNS and the columns of its tables, "" without any; a "#" may be part of a path's name."""
    path, hash_sign, columns = argument.rpartition("#")
    if not hash_sign or "/" in columns or os.path.exists(os.path.expanduser(argument)):
        return argument, ""
    return path, columns


def _existing(argument: str) -> Path:
    folder = Path(os.path.realpath(os.path.expanduser(argument)))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(
            f"the data {argument} is a file, not a folder; give the folder that holds the pictures, or a .parquet, "
            ".arrow or .tar file of them (unpack other archives)"
        )
    there = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
    near = nearest(folder.name, there)
    name = f"{folder.parent.name}/{folder.name}"
    if not folder.parent.exists() and folder.parent.parent == Path.cwd() and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(
            f"no data folder {argument}, and gankit fetches nothing. Is it a data set of the Hugging Face Hub? "
            f"hf download {name} --repo-type dataset --local-dir DIR, then --data DIR"
        )
    raise UserError(f"no data folder {argument}{near or f' (looked for {folder})'}; check the path, or try --data demo")


def _of_a_run(folder: Path) -> bool:
    """Whether gankit made this folder for a run."""
    with suppress(OSError, UserError, ValueError):
        return (folder / "checkpoints").is_dir() and {"model", "data"} <= read_object(folder, "config.json").keys()
    return False


def _any_picture(folder: Path, files: Iterator[File]) -> bool:
    """Whether one of the files is a picture, by its first bytes."""
    from gankit.data import decode

    for file in files:
        try:
            with ordinary(folder / file.path) as content, decode.opened(content):
                return True
        except Exception:  # Pillow's readers raise many kinds of errors
            continue
    return False


def _readable_by_now(place: Place, skipped: list[dict[str, str]]) -> bool:
    """Whether a file that could not be read for a passing reason (its owner, too many open files) can be."""
    unread = {note["file"] for note in skipped if note["reason"].startswith("cannot be read")}
    for file in place.files if unread else ():
        if shown(file.path) in unread:
            with suppress(OSError, UserError), ordinary(place.root / file.path) as content:
                content.read(1)
                return True
    return False


def _settings(request: Request) -> dict[str, object]:
    from gankit.data import decode

    return {
        "source": "folder",
        "version": decode.VERSION,
        "image_size": request.image_size,
        "fit": request.fit,
        "background": list(request.background),
    }


def _build(place: Place, request: Request, writer: cache.Writer) -> cache.Notes:
    from gankit.data import decode

    notes = cache.Notes()
    labels: list[str] = []
    first_with: dict[str, str] = {}  # content -> the first file that has it
    done = 0
    # Threads, because Pillow decodes without the interpreter's lock.
    with ThreadPoolExecutor(decode.cores()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: the code below handles or reports their causes
        for item, pixels, content_or_reason in decode.decoded(pool, place.items(), request):
            done += 1
            if done == (_FIRST if place.packed else 1):
                writer.expect(
                    place.all_of(done, item.at) // (2 if place.packed else 1)
                )  # the guess may be twice too high
            if pixels is None:
                notes.skipped.append({"file": item.name, "reason": content_or_reason})
            else:
                writer.add(pixels, item.name, content_or_reason)
                labels.append(item.label)
                if decode.is_blank(pixels):
                    notes.warned.append({"file": item.name, "reason": _BLANK})
                if (first := first_with.setdefault(content_or_reason, item.name)) != item.name:
                    notes.warned.append({"file": item.name, "reason": f"same bytes as {first}"})
            if request.progress is not None:
                request.progress(done, place.all_of(done, item.at))
    if request.progress is not None and place.packed:
        request.progress(done, done)
    if not labels:
        _refuse_empty(place, notes)
    if set(labels) != {"."}:
        notes.label_names = sorted(set(labels))
        numbers = {name: i for i, name in enumerate(notes.label_names)}
        notes.labels = [numbers[name] for name in labels]
    return notes


def _refuse_empty(place: Place, notes: cache.Notes) -> None:
    if not notes.skipped:
        raise UserError(f"no pictures in {place.argument}: {'its shards are' if place.packed else 'it is'} empty")
    first, reason = notes.skipped[0]["file"], notes.skipped[0]["reason"]
    advice = "give shards that hold them" if place.packed else _ADVICE
    raise UserError(
        f"no usable pictures in {place.argument} (files looked at: {len(notes.skipped)}; the first, {first}: "
        f"{reason}); {advice}"
    )
