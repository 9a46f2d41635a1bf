"""Pictures that are decoded when they are needed, where a cache of all would not fit, in an order known beforehand.

An epoch is a random order of blocks of neighbouring pictures. Some blocks are a window, which lies decoded in memory
and is given out in a random order; a thread decodes the next one meanwhile. Both orders follow from (seed, epoch), so a
batch is a function of (seed, step): a resume decodes the window that it needs, and of several processes each a part.
"""

from __future__ import annotations

import math
import threading
import warnings
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from gankit.data import decode
from gankit.data.cache import hashed
from gankit.data.places import HELD, Index, PicturesGone, Place, index
from gankit.data.shards import Item
from gankit.data.source import Data, Request, by_reason
from gankit.errors import UserError

BYTES = 1 << 28  # of decoded pictures: the present window and the next
BLOCK, BLOCKS = 256, 64  # the most pictures of a block; the fewest blocks of a window, where its pictures are enough
HELD_BYTES, KEPT_BYTES = 1 << 27, 1 << 26  # of held-out pictures; of training pictures that measures ask for
TRIES = 1000  # pictures to look at for one that can be decoded
GOOD, BAD, GONE = 0, 1, 2  # of a picture

_here: weakref.WeakValueDictionary[str, Data] = weakref.WeakValueDictionary()


class Group(Protocol):
    """The processes that decode a window together; this one is number `rank` of `count`."""

    rank: int
    count: int

    def gather(self, parts: np.ndarray) -> None:
        """Fill (count * m, …): process r has the items from r m to (r + 1) m."""


def open_stream(place: Place, request: Request, settings: Mapping[str, Any]) -> Data:
    """The pictures at a place as a stream. `settings`: what alters pixels. Raises `UserError` as `index` does."""
    warnings.filterwarnings("ignore", module="PIL")  # threads decode: `decode` handles or reports the causes
    found = index(place, request.progress)
    number = min(int(request.holdout * len(found) + 0.5), HELD, HELD_BYTES // (3 * request.image_size**2))
    number = min(max(number, 1), len(found) - 1) if request.holdout > 0 else 0
    skipped = sorted([*found.skipped, *place.problems], key=lambda note: note["file"])
    told = _Told(found, request, skipped)
    train = Streamed(found, request, np.sort(found.first[:number]), None, told)
    data = Data(
        name=place.argument,
        train=train,
        held_out=Streamed(found, request, np.empty(0, np.int64), found.first[:number], told),
        digest=hashed([settings, found.digest]),
        labels=_labels(found, train),
        label_names=tuple(sorted(found.label_names)) if set(found.label_names) != {"."} else (),
        skipped=skipped,
    )
    _here[data.digest] = data
    return data


def here(digest: str) -> Data | None:
    """A stream that this process has open, by its digest."""
    return _here.get(digest)


def _labels(found: Index, train: Streamed) -> np.ndarray | None:
    if set(found.label_names) == {"."}:
        return None
    places = {name: place for place, name in enumerate(sorted(found.label_names))}
    number = np.array([places[name] for name in found.label_names])
    return number[np.delete(found.rows["label"], train.apart)]


class _Told:
    """What is said of pictures that cannot be decoded: each of them once."""

    def __init__(self, found: Index, request: Request, skipped: list[dict[str, str]]) -> None:
        self.found, self.request, self.skipped = found, request, skipped
        self.known: set[int] = set()

    def bad(self, rows: np.ndarray, reasons: Mapping[int, str]) -> None:
        """`reasons`: by row, as far as this process has met them."""
        new = [int(row) for row in rows if int(row) not in self.known]
        if self.request.notice is None or not new:
            return
        self.known.update(new)
        other = np.array(sorted(set(new) - reasons.keys()), np.int64)
        known = {**_decoded(self.found, other, self.request).reasons, **reasons}
        for row in new:
            reason = known.get(row, "another process cannot decode it")
            self.skipped.append({"file": self.found.name(row), "reason": reason})
        self.request.notice(
            f"skipped {len(new):,} picture{'s' * (len(new) > 1)} of {self.found.place.argument}"
            f"{by_reason(self.skipped[-len(new) :])}"
        )


@dataclass
class _Decoded:
    """Pictures (n, S, S, 3) uint8, and what became of each: GOOD, BAD or GONE, uint8 (n,)."""

    pictures: np.ndarray
    states: np.ndarray
    reasons: dict[int, str]  # of bad ones, by row
    gone: str = ""  # why pictures could not be read


def _decoded(
    found: Index, rows: np.ndarray, request: Request, share: int = 1, stop: threading.Event | None = None
) -> _Decoded:
    """Decode the pictures of rows in ascending order. `share`: processes that use the cores; `stop`: to end early."""
    side = request.image_size
    made = _Decoded(np.zeros((len(rows), side, side, 3), np.uint8), np.full(len(rows), GONE, np.uint8), {})
    try:
        with ThreadPoolExecutor(max(1, decode.cores() // share)) as pool:
            for n, (_, pixels, reason) in enumerate(decode.decoded(pool, found.items(rows), request)):
                if pixels is None:
                    made.states[n], made.reasons[int(rows[n])] = BAD, reason
                else:
                    made.pictures[n], made.states[n] = pixels, GOOD
                if stop is not None and stop.is_set():
                    break
    except UserError as error:
        made.gone = str(error)
        made.states[:] = GONE
    return made


class Streamed:
    """Pictures as an array, uint8 (N, S, S, 3), of which only a slice or the items at places (n,) can be had.

    The place of one that cannot be decoded is taken by the next. What was asked for stays in memory, up to a bound.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(
        self, found: Index, request: Request, apart: np.ndarray, chosen: np.ndarray | None, told: _Told
    ) -> None:
        """The rows of an index without those `apart`, in ascending order; or those `chosen`."""
        self.found, self.request, self.apart, self.chosen, self.told = found, request, apart, chosen, told
        self._before = apart - np.arange(len(apart))
        self._kept: dict[int, np.ndarray] = {}
        self._most = KEPT_BYTES // (3 * request.image_size**2) if chosen is None else len(chosen)

    def __len__(self) -> int:
        return len(self.found) - len(self.apart) if self.chosen is None else len(self.chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self.request.image_size, self.request.image_size, 3)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def items(self, places: np.ndarray) -> Iterator[Item]:
        """What should be pictures at places in ascending order, undecoded. Raises `PicturesGone`."""
        return self.found.items(self.rows(places))

    def usable(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pictures at places in ascending order that can be decoded, and their places; of the training part alone.

        The others are told, and none takes their place. Raises `PicturesGone`.
        """
        made = _decoded(self.found, self.rows(places), self.request)
        if made.gone:
            raise PicturesGone(made.gone)
        good = made.states == GOOD
        self.told.bad(self.rows(places[~good]), made.reasons)
        return made.pictures[good], places[good]

    def rows(self, places: np.ndarray) -> np.ndarray:
        """The rows of the index at these places."""
        if self.chosen is not None:
            return self.chosen[places]
        return places + np.searchsorted(self._before, places, side="right")

    def __getitem__(self, places: Any, /) -> np.ndarray:
        if isinstance(places, int | np.integer):
            return self[np.array([places])][0]
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        wanted = np.asarray(places)
        wanted = np.flatnonzero(wanted) if wanted.dtype == bool else wanted.astype(np.int64)
        if len(wanted) and (wanted.min() < -len(self) or wanted.max() >= len(self)):
            raise IndexError(f"a place beyond {len(self):,} pictures")
        each, back = np.unique(wanted % max(1, len(self)), return_inverse=True)
        pictures = np.empty((len(each), *self.shape[1:]), np.uint8)
        known = np.array([int(place) in self._kept for place in each], bool)
        for n in np.flatnonzero(known):
            pictures[n] = self._kept[int(each[n])]
        pictures[~known] = self._read(each[~known])
        for place, picture in zip(each[~known].tolist(), pictures[~known], strict=True):
            if len(self._kept) < self._most:
                self._kept[place] = picture.copy()
        return pictures[back]

    def _read(self, places: np.ndarray) -> np.ndarray:
        """The pictures at places in ascending order, or those that take theirs."""
        rows = self.rows(places)
        order = np.argsort(rows)
        made = _decoded(self.found, rows[order], self.request)
        if made.gone:
            raise PicturesGone(made.gone)
        pictures, states = np.empty_like(made.pictures), np.empty_like(made.states)
        pictures[order], states[order] = made.pictures, made.states
        self.told.bad(rows[states == BAD], made.reasons)
        for n in np.flatnonzero(states == BAD):
            pictures[n] = self._next(int(places[n]))
        return pictures

    def _next(self, place: int) -> np.ndarray:
        """The next picture that can be decoded."""
        for step in range(1, min(TRIES, len(self))):
            made = _decoded(self.found, self.rows(np.array([(place + step) % len(self)])), self.request)
            if made.gone:
                raise PicturesGone(made.gone)
            if made.states[0] == GOOD:
                return made.pictures[0]
        first = self.told.skipped[0] if self.told.skipped else {"file": "?", "reason": "?"}
        raise UserError(
            f"no usable pictures in {self.found.place.argument} among {min(TRIES, len(self)):,} in a row "
            f"({first['file']}: {first['reason']})"
        )


class _Ahead(threading.Thread):
    """Decodes a part of a window while the training goes on."""

    def __init__(self, key: bytes, pictures: Streamed, places: np.ndarray, share: int) -> None:
        # At the interpreter's end the pool of `_decoded` takes no more work, and so the thread ends. A daemon would be
        # stopped anywhere, also in the C++ of pyarrow, which aborts the process.
        super().__init__(daemon=False)
        self.key, self.stop = key, threading.Event()
        self._of = pictures, places, share
        self._made: _Decoded | None = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        pictures, places, share = self._of
        try:
            self._made = _decoded(pictures.found, pictures.rows(places), pictures.request, share, self.stop)
        except Exception as error:  # `result` raises it in the training's thread
            self._error = error

    def result(self) -> _Decoded:
        self.join()
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made


@dataclass
class _Window:
    key: bytes
    places: np.ndarray  # (n,) in ascending order
    pictures: np.ndarray  # (n, S, S, 3)
    stand_in: np.ndarray  # (n,): its own number, or that of the picture that takes its place


class Windows:
    """The order of a stream's training part, and the windows of it that lie in memory."""

    def __init__(self, pictures: Streamed, seed: int) -> None:
        self.pictures, self.seed = pictures, seed
        most = max(1, BYTES // 2 // math.prod(pictures.shape[1:]))
        self.block = max(1, min(BLOCK, most // BLOCKS))
        self.blocks = most // self.block  # of a window
        self._plan = lru_cache(maxsize=2)(self._plan_of)
        self._now: _Window | None = None
        self._ahead: _Ahead | None = None

    def __del__(self) -> None:
        if (ahead := getattr(self, "_ahead", None)) is not None:
            ahead.stop.set()

    def _plan_of(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The blocks of each window of an epoch, and where each window begins and the last one ends."""
        n = len(self.pictures)
        count = -(-n // self.block)
        order = np.random.default_rng((self.seed, 1, epoch)).permutation(count)
        windows = [np.sort(some) for some in np.array_split(order, -(-count // self.blocks))]
        sizes = [len(some) * self.block - (-n % self.block) * int(some[-1] == count - 1) for some in windows]
        return windows, np.cumsum([0, *sizes])

    def take(self, start: int, size: int, group: Group | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`size` pictures from number `start` of all epochs on, and their places in the training part.

        Raises `PicturesGone` in every process of the group if one cannot read its part any more.
        """
        pictures, places = [], []
        n, end = len(self.pictures), start + size
        while start < end:
            epoch, at = divmod(start, n)
            _, edges = self._plan(epoch)
            number = int(np.searchsorted(edges, at, side="right")) - 1
            stop = min(end, epoch * n + int(edges[number + 1]))
            window = self._window(epoch, number, group)
            order = np.random.default_rng((self.seed, 1, epoch, number)).permutation(len(window.places))
            chosen = window.stand_in[order[at - edges[number] :][: stop - start]]
            pictures.append(window.pictures[chosen])
            places.append(window.places[chosen])
            start = stop
        return np.concatenate(pictures), np.concatenate(places)

    def _window(self, epoch: int, number: int, group: Group | None) -> _Window:
        windows, _ = self._plan(epoch)
        blocks = windows[number]
        if self._now is None or self._now.key != blocks.tobytes():
            self._now = None  # its memory is the next one's
            self._now = self._come(blocks, group)
        following = windows[number + 1] if number + 1 < len(windows) else self._plan(epoch + 1)[0][0]
        key = following.tobytes()
        if key != self._now.key and (self._ahead is None or self._ahead.key != key):
            self._look(following, group)
        return self._now

    def _look(self, blocks: np.ndarray, group: Group | None) -> _Ahead:
        """Begin to decode this process's part of a window: neighbouring blocks, which no other process reads."""
        if self._ahead is not None:
            self._ahead.stop.set()
        places, share = self._places(blocks), group.count if group else 1
        if group:
            places = places[group.rank * -(-len(places) // share) :][: -(-len(places) // share)]
        self._ahead = _Ahead(blocks.tobytes(), self.pictures, places, share)
        return self._ahead

    def _places(self, blocks: np.ndarray) -> np.ndarray:
        every = (blocks[:, None] * self.block + np.arange(self.block)).reshape(-1)
        return every[every < len(self.pictures)]

    def _come(self, blocks: np.ndarray, group: Group | None) -> _Window:
        """The window, of which every process has decoded its part."""
        ahead, key = self._ahead, blocks.tobytes()
        if ahead is None or ahead.key != key:
            ahead = self._look(blocks, group)
        made = ahead.result()
        self._ahead = ahead = None
        places = self._places(blocks)
        states = _together(made.states, len(places), group, GONE)
        self._refuse_gone(places[states == GONE], made.gone)
        pictures = _together(made.pictures, len(places), group, 0)
        good, bad = np.flatnonzero(states == GOOD), np.flatnonzero(states == BAD)
        self.pictures.told.bad(self.pictures.rows(places[bad]), made.reasons)
        if not len(good):
            raise PicturesGone(
                f"none of {len(bad):,} pictures of {self.pictures.found.place.argument} can be decoded any more"
            )
        stand_in = np.arange(len(places))
        stand_in[bad] = good[np.searchsorted(good, bad) % len(good)]
        return _Window(key, places, pictures, stand_in)

    def _refuse_gone(self, places: np.ndarray, reason: str) -> None:
        """Raise `PicturesGone` if there are such places; `reason`: this process's, or "" if another has met it."""
        if len(places):
            rows = self.pictures.rows(places[:1])
            reason = reason or _decoded(self.pictures.found, rows, self.pictures.request).gone
            raise PicturesGone(
                reason or f"another process cannot read {self.pictures.found.name(int(rows[0]))} any more"
            )


def _together(part: np.ndarray, n: int, group: Group | None, padding: int) -> np.ndarray:
    """(n, …): the parts of all processes."""
    if group is None:
        return part
    each = -(-n // group.count)
    whole = np.full((each * group.count, *part.shape[1:]), padding, part.dtype)
    whole[group.rank * each :][: len(part)] = part
    group.gather(whole)
    return whole[:n]
