"""Pictures in a column of a Parquet file or of an Arrow file, as 🤗 datasets writes them. It needs pyarrow.

Such a column has the bytes of picture files, bare or in the field `bytes` of a struct. A path in it is not followed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from gankit.data.shards import LARGEST, Item
from gankit.errors import UserError, nearest
from gankit.files import parse

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE, _ROWS = 1 << 25, 256  # bytes and rows of a table that are read at once, as far as its footer tells
_NOTES = 1 << 24  # bytes of what 🤗 datasets says of its columns
_LABEL = 255  # characters
_LEAST = 8  # bytes of a row in a file, on average


@dataclass(frozen=True)
class Columns:
    """Where a table has its pictures and labels."""

    picture: str
    bare: bool  # bytes, and not a struct
    label: str  # "" without one
    names: list[str]  # of the classes, by their numbers; empty where the column has the names

    @property
    def path(self) -> str:
        """Where a Parquet file has the bytes."""
        return self.picture if self.bare else f"{self.picture}.bytes"


def pictures(file: BinaryIO, shard: str, size: int, columns: str = "", contents: bool = True) -> Iterator[Item]:
    """The picture of each row of an open file of `size` bytes; damage as an item without content.

    `columns`: PICTURES or PICTURES,LABELS; by default the only one with pictures, and the one with classes. Without
    `contents` the rows are only counted, and their labels read: their content is empty. Raises `UserError` without
    pyarrow, and where it is not clear which columns are meant.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - it is much of pyarrow
    except ImportError as error:
        raise UserError(f"{shard} needs pyarrow ({error}): pip install 'gankit[parquet]'") from None
    read = _parquet if shard.lower().endswith(".parquet") else _arrow
    done, group, row = 0, -1, 0
    try:
        for batch, found, at, place in read(file, shard, size, columns, contents):
            group, row = place, row if place == group else 0
            if isinstance(batch, int):
                rows = f"{shard} rows {done:,} to {done + batch - 1:,}"
                yield Item(rows, ".", None, "damaged: these rows are left out", at)
                done, row = done + batch, row + batch
                continue
            cells = (cell.as_py() for cell in _cells(batch, found)) if contents else itertools.repeat(b"", len(batch))
            for content, kind in zip(cells, _kinds(batch, found), strict=True):
                yield _packed(f"{shard} row {done}", content, _named(kind, found), at, place, row)
                done, row = done + 1, row + 1
    except UserError:
        raise
    except _Unsuited as reason:
        yield Item(shard, ".", None, str(reason), size)
    except Exception:  # pyarrow raises many kinds of errors for damaged files
        after = f" after {done:,} rows: the rest is left out" if done else ""
        yield Item(shard, ".", None, f"damaged or cut short{after}", size)


def some(file: BinaryIO, shard: str, size: int, columns: str, wanted: Iterable[tuple[int, int]]) -> Iterator[Item]:
    """The pictures at these places, (`Item.place`, `Item.extent`) of `pictures` in ascending order, in that order."""
    read, named = (_some_parquet if shard.lower().endswith(".parquet") else _some_arrow), [*wanted]
    groups = {place: [row for _, row in pairs] for place, pairs in itertools.groupby(named, lambda pair: pair[0])}
    done = 0
    try:
        for place, parts in read(file, shard, size, columns, groups):
            rows, before, given = groups[place], 0, 0
            try:
                for cells in parts:
                    while given < len(rows) and rows[given] < before + len(cells):
                        yield _packed("", cells[rows[given] - before].as_py(), ".", 0)
                        given, done = given + 1, done + 1
                    before += len(cells)
                    if given == len(rows):
                        break
            except Exception:  # of this group alone
                pass
            for _ in rows[given:]:
                yield Item("", ".", None, "damaged", 0)
                done += 1
    except Exception:  # pyarrow raises many kinds of errors for damaged files
        pass
    for _ in named[done:]:
        yield Item("", ".", None, "damaged", 0)


def _some_parquet(
    file: BinaryIO, shard: str, size: int, named: str, groups: Iterable[int]
) -> Iterator[tuple[int, Iterator[pa.Array]]]:
    """The cells of pictures in each of the groups of rows, in parts."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
    columns = _columns(table.schema_arrow, named, shard)
    for number in groups:
        batches = _group(table, number, [columns.path])
        yield number, (_cells(batch, columns) for batch in batches)


def _some_arrow(
    file: BinaryIO, shard: str, size: int, named: str, groups: Iterable[int]
) -> Iterator[tuple[int, Iterator[pa.Array]]]:
    import pyarrow as pa

    random = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = pa.ipc.open_file(file) if random else pa.ipc.open_stream(file)
    columns = _columns(reader.schema, named, shard)
    first = not random and any("dictionary" in str(field.type) for field in reader.schema)
    if first:
        reader.read_next_batch()  # the dictionaries come before it
    head = file.tell()

    def cells(number: int) -> Iterator[pa.Array]:
        if random:
            batch = reader.get_batch(number)
        else:
            with pa.ipc.open_stream(_From(file, head, number)) as part:
                if first:
                    part.read_next_batch()
                batch = part.read_next_batch()
        batch.validate(full=True)
        yield _cells(batch, columns)

    for number in groups:
        yield number, cells(number)


class _Unsuited(Exception):
    """A table without pictures; the message is the reason."""


def _packed(name: str, content: bytes | None, label: str, at: int, place: int = 0, row: int = 0) -> Item:
    if content is None:
        return Item(name, label, None, "it has no bytes (only the path of a file?)", at)
    if len(content) > LARGEST:
        large = f"too large: {len(content) >> 20:,} MB, and gankit reads {LARGEST >> 20} MB at most"
        return Item(name, label, None, large, at)
    return Item(name, label, content, "", at, place, row)


def _parquet(
    file: BinaryIO, shard: str, size: int, named: str, contents: bool
) -> Iterator[tuple[pa.RecordBatch | int, Columns, int, int]]:
    """Batches of rows, or the number of rows of a damaged group; the columns; the bytes up to there; the group."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
    columns = _columns(table.schema_arrow, named, shard)
    wanted = [*([columns.path] * contents), *([columns.label] * bool(columns.label))]
    done = 0
    for number in range(table.num_row_groups):
        left = table.metadata.row_group(number).num_rows
        try:
            if not contents and left * _LEAST > size:
                raise ValueError("more rows than fit, and nothing is read that would show it")
            for batch in _group(table, number, wanted):
                left, done = left - len(batch), done + len(batch)
                yield batch, columns, size * done // max(1, table.metadata.num_rows), number
        except Exception:  # of this group alone
            done += left
            if left:
                yield left, columns, size * done // max(1, table.metadata.num_rows), number


def _group(table: pa.parquet.ParquetFile, number: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of one group of a Parquet file, in batches."""
    group = table.metadata.row_group(number)
    rows = max(1, min(_ROWS, _AT_ONCE * group.num_rows // max(1, group.total_byte_size)))
    for batch in table.iter_batches(rows, [number], columns, use_threads=False):
        batch.validate(full=True)  # pyarrow would follow any offset
        yield batch


class _From:
    """An Arrow stream without the batches between its head, of `head` bytes, and `place`."""

    def __init__(self, file: BinaryIO, head: int, place: int) -> None:
        self._file, self._left, self._place, self.closed = file, head, place, False
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        if self._left <= 0:
            return self._file.read(size)
        content = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(content)
        if self._left <= 0:
            self._file.seek(self._place)
        return content + self.read(size - len(content)) if size > len(content) else content


def _arrow(
    file: BinaryIO, shard: str, size: int, named: str, contents: bool
) -> Iterator[tuple[pa.RecordBatch | int, Columns, int, int]]:
    """The batches of an Arrow stream, which is what 🤗 datasets writes, or of an Arrow file; see `_parquet`."""
    import pyarrow as pa

    random = file.read(6) == b"ARROW1"
    file.seek(0)
    with pa.ipc.open_file(file) if random else pa.ipc.open_stream(file) as reader:
        columns = _columns(reader.schema, named, shard)
        for number in range(reader.num_record_batches) if random else itertools.count():
            place = number if random else file.tell()
            try:
                batch = reader.get_batch(number) if random else reader.read_next_batch()
            except StopIteration:
                break
            batch.validate(full=True)
            yield batch, columns, min(size, file.tell()), place
    if not random:  # a stream that was cut between two batches has no other sign of it
        file.seek(max(0, size - 8))
        if file.read() != b"\xff\xff\xff\xff\0\0\0\0":
            raise ValueError("no end")


def _cells(batch: pa.RecordBatch, columns: Columns) -> pa.Array:
    """The bytes of each row's picture."""
    cells: Any = batch.column(columns.picture)
    return cells if columns.bare else cells.flatten()[cells.type.get_field_index("bytes")]


def _kinds(batch: pa.RecordBatch, columns: Columns) -> list[Any]:
    """The label of each row, as it is written there."""
    return batch.column(columns.label).to_pylist() if columns.label else [None] * len(batch)


def _named(value: Any, columns: Columns) -> str:
    """The label of a row: the name of its class, or the value in words."""
    if columns.names and isinstance(value, int):
        return columns.names[value] if 0 <= value < len(columns.names) else "."
    return "." if value is None else str(value)[:_LABEL]


def _columns(schema: pa.Schema, named: str, shard: str) -> Columns:
    """The columns to read, by their names, by what 🤗 datasets says of them, and by their types."""
    import pyarrow as pa

    picture, _, label = named.partition(",")

    def holds(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    def has_pictures(kind: pa.DataType) -> bool:
        return holds(kind) or (
            pa.types.is_struct(kind)
            and kind.get_field_index("bytes") >= 0
            and holds(kind.field(kind.get_field_index("bytes")).type)
        )

    features = _features(schema)
    possible = [field.name for field in schema if has_pictures(field.type)]
    images = [name for name in possible if features.get(name, {}).get("_type") == "Image"] or possible
    if picture:
        images = [name for name in possible if name == picture]
    if not images:
        there = ", ".join(schema.names)[:200]
        raise _Unsuited(f"no column {picture or 'of pictures'}{nearest(picture, possible)}; it has {there}")
    if len(images) > 1 and "image" not in images:
        raise UserError(
            f"{shard} has pictures in the columns {', '.join(images)}: name one behind the path, as in "
            f"--data PATH#{images[0]}"
        )
    chosen = images[0] if len(images) == 1 else "image"
    kind, names = _label_column(schema, features, label, shard)
    return Columns(chosen, not pa.types.is_struct(schema.field(chosen).type), kind, names)


def _label_column(schema: pa.Schema, features: dict[str, Any], label: str, shard: str) -> tuple[str, list[str]]:
    """The column of the labels, or "", and the names of its classes."""
    import pyarrow as pa

    def tells(kind: pa.DataType) -> bool:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)

    usable = [field.name for field in schema if tells(field.type)]
    classes = [name for name in usable if features.get(name, {}).get("_type") == "ClassLabel"]
    if label and label not in usable:
        raise UserError(
            f"{shard} has no column {label} of numbers or words{nearest(label, usable)}; it has "
            f"{', '.join(usable) or 'none'}"
        )
    found = label or (classes[0] if len(classes) == 1 else "label" if "label" in usable else "")
    names = features.get(found, {}).get("names")
    return found, [str(name)[:_LABEL] for name in names] if isinstance(names, list) else []


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What 🤗 datasets says of the columns, by their names; empty if it says nothing."""
    said = (schema.metadata or {}).get(b"huggingface", b"")
    try:
        features = parse(said)["info"]["features"] if len(said) <= _NOTES else {}
        return {str(name): one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
