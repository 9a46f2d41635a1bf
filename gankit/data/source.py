"""The base class of data sources, and the arrays that they return."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gankit.options import Component, OptionsT


@dataclass(frozen=True)
class Request:
    """The settings of `gankit run` that a data source may need."""

    image_size: int  # side of the square pictures in pixels
    fit: str = "pad"  # "pad": the whole picture, padded to a square; "crop": the central square
    background: tuple[int, int, int] = (255, 255, 255)  # RGB, 0..255, under transparency and in the padding
    holdout: float = 0.1  # share of held-out pictures, which are never trained on, 0 <= holdout < 1
    progress: Callable[[int, int], None] | None = None  # called with (done, total) while pictures are decoded
    stream: bool = False  # decode pictures each time, and keep none: only a folder and shards can
    notice: Callable[[str], None] | None = None  # called with a line for the user, also later


class Items(Protocol):
    """What is used of an array of pictures or points; a stream decodes pictures when it is asked for them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, places: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Data:
    """An opened data source.

    `train` and `held_out` are uint8 (N, S, S, 3) pictures, often memory-mapped, or float32 (N, D) points; of a stream
    (`Request.stream`) they are no arrays, but give arrays for a slice or for places.
    `labels` are those of `train`, int64 (N,) indices into `label_names`, or None. `skipped` and `warned` are lists of
    {"file": str, "reason": str}. `digest` (hex) identifies the content, whatever the folder's name.
    """

    name: str
    train: Items
    held_out: Items
    digest: str
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] = ()
    skipped: list[dict[str, str]] = field(default_factory=list)
    warned: list[dict[str, str]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one item as a network sees it: (3, S, S) for pictures, (D,) for points."""
        if self.train.ndim == 4:
            _, height, width, channels = self.train.shape
            return (channels, height, width)
        return tuple(self.train.shape[1:])

    @property
    def streamed(self) -> bool:
        """Whether pictures are decoded when they are asked for."""
        return not isinstance(self.train, np.ndarray)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, in the order of their numbers; empty without labels."""
        return self.label_names if self.labels is not None else ()


KINDS = 4  # of reasons, in a line


def by_reason(notes: Sequence[Mapping[str, str]]) -> str:
    """How a line on `skipped` or `warned` goes on: how many have each kind of reason, and the first of each kind."""
    kinds: dict[str, list[Mapping[str, str]]] = {}
    for note in notes:
        kind = "copy" if note["reason"].startswith("same bytes as") else note["reason"].partition(":")[0]
        kinds.setdefault(kind, []).append(note)
    if len(kinds) == 1:
        return f", first {notes[0]['file']}: {notes[0]['reason']} (all in data.json)"
    parts = []
    most = sorted(kinds.items(), key=lambda item: -len(item[1]))
    for kind, those in most[:KINDS]:
        file, reason = those[0]["file"], those[0]["reason"]
        detail = reason if kind == "copy" else reason.partition(": ")[2]
        name = "copies" if kind == "copy" and len(those) > 1 else kind
        parts.append(f"{len(those):,} {name}, first {file}{': ' * bool(detail)}{detail}")
    others = sum(len(those) for _, those in most[KINDS:])
    parts += [f"{others:,} for other reasons"] if others else []
    return f": {'; '.join(parts)} (all in data.json)"


class DataSource(Component[OptionsT]):
    """Base class of data sources, offered by the hook `gankit_datasets` and used as `--data NAME[:ARGUMENT]`.

    ```python
    import hashlib

    import numpy as np

    import gankit


    class Plain(gankit.DataSource):
        "500 pictures of one colour each, drawn evenly from all there are."

        name = "plain"
        summary = "pictures of one colour each"

        def open(self, argument, request):
            colours = np.random.default_rng(0).integers(0, 256, (500, 1, 1, 3), np.uint8)
            pictures = np.broadcast_to(colours, (500, request.image_size, request.image_size, 3))
            held = round(500 * request.holdout)
            return gankit.Data(self.name, pictures[held:], pictures[:held], hashlib.sha256(colours).hexdigest())
    ```
    """

    def __init__(self, options: OptionsT | None = None) -> None:
        super().__init__(self.Options() if options is None else options)

    @abstractmethod
    def open(self, argument: str | None, request: Request) -> Data:
        """Return the data, or raise `gankit.UserError` with one line that says what, where and what to do."""
