"""How do time and memory grow with the pictures: read into the cache, start again, first batches?

    python benchmarks/large_data.py PLACE [--counts 100000,1000000] [--forms tar,parquet,folder] [--size 32] [--keep] \
        [--stream]

Draws so many pictures (rectangles on white, PNG, all different) below PLACE: tar shards of 10,000, a Parquet file for
each 100,000, or a folder with a subfolder for each 1,000. Every measurement is a process of its own: wall time, time of
all processors, the most memory. The cache is below PLACE too, and removed after each. With --stream nothing is cached:
the places are found, the first window is decoded, and then pictures are taken until the third window is there.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

SHARD, TABLE, SUBFOLDER = 10_000, 100_000, 1_000
DRAWN = 50_000


def drawn(count: int, side: int) -> Iterator[bytes]:
    """PNG files: six rectangles of random places and colours; after 50,000 the same with other bytes at the end."""
    numbers, kept = np.random.default_rng(0), []
    for start in range(0, min(count, DRAWN), 1000):
        edges = np.sort(numbers.integers(0, side + 1, (1000, 6, 2, 2)), axis=-1)
        colours = numbers.integers(0, 256, (1000, 6, 3), np.uint8)
        for n in range(min(1000, count - start)):
            page = np.full((side, side, 3), 255, np.uint8)
            for (across, down), colour in zip(edges[n], colours[n], strict=True):
                page[down[0] : down[1] + 1, across[0] : across[1] + 1] = colour
            buffer = io.BytesIO()
            Image.fromarray(page).save(buffer, "PNG", compress_level=1)
            kept.append(buffer.getvalue())
            yield kept[-1]
    for n in range(DRAWN, count):
        yield kept[n % DRAWN] + n.to_bytes(4, "big")


def draw(folder: Path, form: str, count: int, side: int) -> None:
    folder.mkdir(parents=True)
    pictures = drawn(count, side)
    if form == "tar":
        for shard in range(0, count, SHARD):
            with tarfile.open(folder / f"train-{shard // SHARD:04d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
                for n in range(shard, min(shard + SHARD, count)):
                    content = next(pictures)
                    member = tarfile.TarInfo(f"{n:08d}.png")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    elif form == "parquet":
        import pyarrow
        import pyarrow.parquet

        for table in range(0, count, TABLE):
            rows = [{"bytes": next(pictures), "path": None} for _ in range(min(TABLE, count - table))]
            made = pyarrow.table({"image": rows})
            pyarrow.parquet.write_table(made, folder / f"train-{table // TABLE:05d}.parquet", row_group_size=1000)
    else:
        for n, content in enumerate(pictures):
            if n % SUBFOLDER == 0:
                (folder / f"{n // SUBFOLDER:05d}").mkdir()
            (folder / f"{n // SUBFOLDER:05d}/{n:08d}.png").write_bytes(content)


def peak_memory() -> int:
    """The peak resident memory of this process, in kB. (getrusage counts the parent's memory, too.)"""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def measure(folder: Path, side: int) -> None:
    """In a process of its own: open the data, draw 20 batches of 64, print figures."""
    from gankit.data import Folder, Request

    before = peak_memory()
    begun, used = time.perf_counter(), time.process_time()
    data = Folder().open(str(folder), Request(side))
    opened, spent = time.perf_counter() - begun, time.process_time() - used
    peak = peak_memory()
    import torch  # 0.7 GB, which would hide what pictures take

    from gankit.data.batches import Batches

    batches = Batches(data, 64, 0, torch.device("cpu"), False, 1)
    begun = time.perf_counter()
    batches(1, 0)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for step in range(2, 22):
        batches(step, 0)
    later = (time.perf_counter() - begun) / 20
    print(json.dumps([len(data.train), opened, spent, before / 1e6, peak / 1e6, first, later]))


def measure_stream(folder: Path, side: int) -> None:
    """In a process of its own, without torch: find the places, take the first batch and those of two windows more."""
    from gankit.data import Folder, Request, stream

    before = peak_memory()
    told, begun, used = [], time.perf_counter(), time.process_time()

    def lap() -> None:
        nonlocal begun, used
        peak = peak_memory()
        told.append([time.perf_counter() - begun, time.process_time() - used, peak / 1e6])
        begun, used = time.perf_counter(), time.process_time()

    data = Folder().open(str(folder), Request(side, stream=True))
    lap()
    windows = stream.Windows(data.train, 0)  # type: ignore[arg-type]
    windows.take(0, 64)
    lap()
    window = int(windows._plan(0)[1][1])
    for start in range(64, min(2 * window + 64, len(data.train)), 64):
        windows.take(start, 64)
    lap()
    print(json.dumps([len(data.train), len(data.held_out), window, before / 1e6, told]))


def child(folder: Path, size: int, cache: Path, *flags: str) -> tuple[list[Any], float]:
    """The figures of a process of its own, and the size of the cache after it, in GB."""
    command = [sys.executable, __file__, str(folder), "--child", "--size", str(size), *flags]
    environment = {**os.environ, "GANKIT_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return json.loads(done.stdout.splitlines()[-1]), held / 1e9


def row(form: str, count: int, what: str, times: tuple[float, float], memory: tuple[float, float], held: str) -> None:
    """`times`: on the clock and of processors, in s. `memory`: the most, and that of the libraries alone, in GB."""
    (seconds, spent), (peak, before) = times, memory
    memory_in_words = f"{peak:.2f} GB, {before:.2f} of them libraries"
    print(f"| {form} | {count:,} | {what} | {seconds:.1f} | {spent:.1f} | {memory_in_words} | {held} GB |", flush=True)


def table_of_stream(folder: Path, form: str, count: int, size: int, cache: Path) -> None:
    for what in ("find the places", "start again"):
        (train, held_out, window, before, told), held = child(folder, size, cache, "--stream")
        for part, (seconds, spent, peak) in zip((what, "first batch", "two windows more"), told, strict=True):
            row(form, count, part, (seconds, spent), (peak, before), f"{held:.3f}")
    print(f"windows of {window:,}; {train:,} to train on, {held_out:,} held out", flush=True)


def table_of_cache(folder: Path, form: str, count: int, size: int, cache: Path) -> None:
    for what in ("read into the cache", "start again"):
        (train, opened, spent, before, peak, first, later), held = child(folder, size, cache)
        row(form, count, what, (opened, spent), (peak, before), f"{held:.2f}")
    print(f"first batch {first * 1e3:.0f} ms, later ones {later * 1e3:.1f} ms, of {train:,}", flush=True)


@click.command()
@click.argument("place", type=click.Path(path_type=Path))
@click.option("--counts", default="100000,1000000", show_default=True)
@click.option("--forms", default="tar", show_default=True)
@click.option("--size", default=32, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the drawn pictures.")
@click.option("--stream", is_flag=True, help="Cache no pictures.")
@click.option("--child", hidden=True, is_flag=True)
def main(place: Path, counts: str, forms: str, size: int, keep: bool, stream: bool, child: bool) -> None:
    if child:
        return (measure_stream if stream else measure)(place, size)
    cache = place / "cache"
    print(
        "| form | pictures | what | seconds | of processors | memory | cache |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for form in forms.split(","):
        for count in map(int, counts.split(",")):
            folder = place / f"{form}-{count}-{size}"
            if not folder.exists():
                draw(folder, form, count, size)
            (table_of_stream if stream else table_of_cache)(folder, form, count, size, cache)
            shutil.rmtree(cache)
            if not keep:
                shutil.rmtree(folder)


if __name__ == "__main__":
    main()
