"""Where the time of a training step goes, by operation and shape: `python benchmarks/profiling.py [MODEL] [options]`.

    python benchmarks/profiling.py began --image-size 32 --set filters=32
    python benchmarks/profiling.py ebgan --threads 1

Self time of each operation of `step_once`, forward and backward, grouped by the shapes of its arguments. The shapes
distinguish the layers: a convolution's weight is (filters out, filters in, height, width). Profiling costs time, so
the first line gives the step's time without it. (The file is not profile.py: torch would import it in place of the
standard library's.)
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import click
import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed import machine

STEPS = 20


@click.command()
@click.argument("model", default="began")
@click.option("--data", default="demo", show_default=True, help="A folder of pictures, or a data source.")
@click.option("--image-size", type=int)
@click.option("--batch-size", type=int)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE")
@click.option("--loss", "losses", multiple=True, metavar="NAME=WEIGHT")
@click.option("--threads", type=int, help="Of the CPU; default: torch's own choice.")
@click.option("--rows", default=25, show_default=True, help="How many operations to show.")
def main(
    model: str, data: str, settings: list[str], losses: list[str], threads: int | None, rows: int, **options: object
) -> None:
    from gankit.catalogue import Catalogue
    from gankit.config.request import RunRequest
    from gankit.config.resolve import resolve
    from gankit.config.values import parse_pairs
    from gankit.training import start
    from gankit.training.loop import step_once
    from gankit.training.watcher import Watcher

    if threads:
        torch.set_num_threads(threads)
    catalogue = Catalogue([])
    asked = RunRequest(
        data=data,
        set=parse_pairs(settings, "--set"),
        losses=parse_pairs(losses, "--loss"),
        **options,
    )
    resolved = resolve(model, asked, catalogue)
    opened = start.open_data(resolved, catalogue, Watcher())
    training, batches = start.assemble(resolved, opened, catalogue)
    cuda = resolved.device == "cuda"

    def step() -> None:
        step_once(training, batches)
        if cuda:
            torch.cuda.synchronize()

    times = []
    for number in range(4 * STEPS):
        started = time.perf_counter()
        step()
        if number >= STEPS:
            times.append(time.perf_counter() - started)
    median = statistics.median(times)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] * cuda)], record_shapes=True) as found:
        for _ in range(STEPS):
            step()

    def own(entry: object) -> float:
        """Its self time in microseconds."""
        return float(getattr(entry, "self_device_time_total" if cuda else "self_cpu_time_total"))

    entries = sorted(found.key_averages(group_by_input_shape=True), key=own, reverse=True)
    total = sum(map(own, entries))
    size, batch = resolved.image_size, resolved.batch_size
    print(f"{machine()}, {torch.get_num_threads()} threads in use.")
    print(
        f"{model}, {size}×{size}, batch {batch}, {resolved.precision}: {1e3 * median:.1f} ms a step, "
        f"{batch / median:,.0f} images/s; while profiled {total / STEPS / 1e3:.1f} ms.\n"
    )
    print("| operation | shapes | calls a step | ms a step | share |")
    print("|---|---|---|---|---|")
    for entry in entries[:rows]:
        shapes = " ".join("×".join(map(str, shape)) for shape in entry.input_shapes if shape)
        ms = own(entry) / STEPS / 1e3
        print(f"| {entry.key} | {shapes} | {entry.count / STEPS:g} | {ms:.2f} | {own(entry) / total:.1%} |")


if __name__ == "__main__":
    main()
