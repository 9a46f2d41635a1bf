"""gankit's speed as ratios to the plain loop of reference.py, in one run: `make bench`, or see --help.

Each side is a process that waits while the other computes. They take turns (A B, A B, …). A ratio compares two
successive turns, so a machine that grows slower or busier slows both. The table has the median, the smallest and the
largest. A turn of gankit does the runner's work at each step: the batch, `step_once`, and a line of metrics.jsonl at
the default interval.

If other programs compute at the same time, threads wait for each other and every number is wrong. So each row has
the share of the machine's cores that other programs used. `--patience 600` waits at most 600 seconds in all for a
quiet machine, and repeats disturbed turns.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
ILLUSTRATIONS = HERE.parents[1] / "shared/data/illustrations"
BATCH, DEFAULT_BATCH = 16, 32  # of the paper's networks; of the defaults
SETTINGS = ((32, 16), (32, 32), (64, 32))  # side of the pictures, n
GOAL = 2.5  # images/s to the reference
ROOF = 2048  # side of the square matrices whose product is the machine's rate
DISTURBED = 0.05  # share of the machine's cores that other programs use


# The work of the processes. -------------------------------------------------------------------------------------------


def peak_memory() -> float:
    """The peak resident memory of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


PEAK = """
import atexit, sys
from gankit.cli import main
from gankit.device import peak_memory
atexit.register(lambda: print(peak_memory("cpu"), file=sys.stderr))
main()
"""  # getrusage would count the memory of the parent, too
PAPER = {"networks": "began-autoencoder", "latent": 64, "edges": 0, "balance.floor": 0}  # what reference.py trains


def assemble(data: str, size: int, scratch: Path, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    """The session of a run of BEGAN in a new folder below `scratch`, as `gankit.run` has it before the first step."""
    from gankit import Run
    from gankit.catalogue import Catalogue
    from gankit.config.request import RunRequest
    from gankit.config.resolve import resolve
    from gankit.runs.folder import write_json
    from gankit.training import start
    from gankit.training.attempts import session
    from gankit.training.threads import Threads
    from gankit.training.watcher import Watcher

    catalogue = Catalogue([])
    if settings:
        options |= {"set": settings, "losses": {"energy-distance": 0, "imle": 0, "critic": 0}, "batch_size": BATCH}
    asked = RunRequest(data=data, image_size=size, **options)
    resolved = resolve("began", asked, catalogue)
    opened = start.open_data(resolved, catalogue, Watcher())
    training, batches = start.assemble(resolved, opened, catalogue)
    folder = Run.create(Path(tempfile.mkdtemp(dir=scratch)) / "run", "began")
    write_json(folder / "config.json", training.config.model_dump(mode="json"))
    watcher = Watcher()
    return session(Run(folder), training, batches, catalogue, watcher, Threads("cpu", watcher))


def steps_of(at: Any) -> Callable[[], None]:
    """A step of the session of `assemble`, as the runner makes it, with a line of metrics.jsonl at intervals."""
    from gankit.training.loop import scheduled, step_once

    training, batches = at.training, at.batches
    started = time.perf_counter()

    def step() -> None:
        readings = step_once(training, batches)
        training.seconds = time.perf_counter() - started
        at.threads.follow()
        if scheduled(training, training.number):
            at.observe(readings)

    step.ready = at.threads.begin
    return step


def gankit_steps(data: str, size: int, n: int, scratch: Path, precision: str = "auto") -> Callable[[], None]:
    return steps_of(assemble(data, size, scratch, PAPER | {"filters": n}, precision=precision))


def default_steps(data: str, size: int, scratch: Path) -> Callable[[], None]:
    return steps_of(assemble(data, size, scratch))


def compiled_steps(data: str, size: int, scratch: Path) -> Callable[[], None]:
    """gankit's default step with both networks compiled, which gankit does not do."""
    at = assemble(data, size, scratch)
    for network in at.training.networks.values():
        network.compile()
    return steps_of(at)


def one_thread_steps(data: str, scratch: Path) -> Callable[[], None]:
    """gankit's default step with one thread, as under OMP_NUM_THREADS=1."""
    import torch

    torch.set_num_threads(1)
    return steps_of(assemble(data, 32, scratch))


def roof_steps() -> Callable[[], None]:
    """Square matrices multiplied in bf16, or in fp32 where bf16 is not native."""
    import torch

    from gankit.device import machine_of

    kind = torch.bfloat16 if machine_of("cpu").fast_bf16 else torch.float32
    a, b = (torch.randn(ROOF, ROOF).to(kind) for _ in range(2))
    return lambda: torch.mm(a, b) is None and None


def arithmetic(size: int, n: int) -> int:
    """Floating-point operations of a step's matrix products and convolutions, in the reference's plain layers.

    For gankit's step: one pass of D for each batch, a backward pass for each loss. The reference has a third pass.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    sys.path.insert(0, str(HERE))
    import reference

    generator, discriminator = reference.Decoder(size, n), reference.Discriminator(size, n)
    weights_g, weights_d = list(generator.parameters()), list(discriminator.parameters())
    with FlopCounterMode(display=False) as counted:
        fake = generator(torch.rand(BATCH, reference.LATENT))
        real = torch.rand(BATCH, 3, size, size)
        real_error = (discriminator(real) - real).abs().mean()
        fake_error = (discriminator(fake) - fake).abs().mean()
        torch.autograd.grad(real_error - 0.1 * fake_error, weights_d, retain_graph=True)
        torch.autograd.grad(fake_error, weights_g)
    return counted.get_total_flops()


def reference_steps(data: str, size: int, n: int, scratch: Path) -> Callable[[], None]:
    import reference

    return reference.Loop(data, size, n, BATCH).step


def reference_without_loaders(data: str, size: int, n: int, scratch: Path) -> Callable[[], None]:
    """The reference's step on one batch that is in memory already."""
    import reference

    loop = reference.Loop(data, size, n, BATCH)
    batch = next(loop.batches)
    loop.batches = itertools.repeat(batch)
    return loop.step


def gankit_input(data: str, size: int, n: int, scratch: Path) -> Callable[[], None]:
    batches = assemble(data, size, scratch, PAPER | {"filters": n}).batches
    steps = iter(range(1, 1 << 60))
    return lambda: batches(next(steps), 0) and None


def reference_input(data: str, size: int, n: int, scratch: Path) -> Callable[[], None]:
    import reference

    batches = reference.endless(reference.loader(data, size, BATCH))
    return lambda: next(batches) is None and None


def serve(make: Callable[..., Callable[[], None]], arguments: tuple[Any, ...], warm: int, pipe: Any) -> None:
    """Make the steps, then take turns: seconds to go on for -> (steps done, seconds taken).

    A step function may have a function `ready` for the start of each turn: gankit's threads follow the load of the
    machine, and while it waited that was the other side's.
    """
    sys.path.insert(0, str(HERE))
    step = make(*arguments)
    started = time.perf_counter()
    for _ in range(warm):
        step()
    pipe.send(time.perf_counter() - started)
    while (seconds := pipe.recv()) is not None:
        getattr(step, "ready", bool)()
        steps, started = 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < seconds or steps < 2:
            step()
            steps += 1
        pipe.send((steps, taken))
    pipe.send(peak_memory())


class Side:
    """A process that computes when it is its turn."""

    def __init__(self, make: Callable[..., Callable[[], None]], arguments: tuple[Any, ...], warm: int) -> None:
        context = multiprocessing.get_context("spawn")  # not a copy of this process
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(make, arguments, warm, theirs))
        self.process.start()
        theirs.close()
        self.warming = self.pipe.recv()  # seconds of the first steps

    def turn(self, seconds: float) -> float:
        """Steps/s over a number of seconds."""
        self.pipe.send(seconds)
        steps, taken = self.pipe.recv()
        return steps / taken

    def end(self) -> float:
        """End it; its peak memory in MiB."""
        self.pipe.send(None)
        peak = self.pipe.recv()
        self.process.join()
        return peak


class Patience:
    """Waits for other programs to end, up to a total of seconds, and measures their share."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self.cores = psutil.cpu_count() or 1

    def mark(self) -> tuple[float, float, float]:
        """The time, and the processor seconds of all programs and of this process with its children."""
        all_, own = psutil.cpu_times(), 0.0
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                own += sum(process.cpu_times())  # with the children that it has waited for
        return time.perf_counter(), all_.user + all_.system + getattr(all_, "nice", 0.0), own

    def others(self, since: tuple[float, float, float]) -> float:
        """The share of all cores that other programs used since a mark."""
        taken, busy, own = (now - then for now, then in zip(self.mark(), since, strict=True))
        return max(0.0, busy - own) / taken / self.cores

    def wait(self) -> None:
        """Wait until other programs leave the machine alone, or patience ends."""
        while self.left > 0:
            since = self.mark()
            time.sleep(1)
            if self.others(since) < DISTURBED:
                return
            self.left -= 1

    def repeat(self, others: float, since: tuple[float, float, float]) -> bool:
        """Whether to repeat the measurements since a mark."""
        if others < DISTURBED or self.left <= 0:
            return False
        self.left -= time.perf_counter() - since[0]
        return True


class Unstarted(RuntimeError):
    """A side that ended before its first turn, by the name of its step function."""


@dataclass
class Turns:
    """The results of `alternate`, a list for each side."""

    rates: list[list[float]]  # steps/s of each turn
    others: list[float]  # the cores' share of other programs in each round
    warming: list[float]  # seconds of the first steps
    peaks: list[float]  # MiB

    def ratios(self, above: int = 1, below: int = 0) -> list[float]:
        return [a / b for a, b in zip(self.rates[above], self.rates[below], strict=True)]


def alternate(
    makes: Sequence[tuple[Any, tuple[Any, ...]]], rounds: int, seconds: float, warm: int, patience: Patience
) -> Turns:
    """Sides that take turns: the step function of each, and its arguments."""
    rates: list[list[float]] = [[] for _ in makes]
    shares: list[float] = []
    sides: list[Side] = []
    try:
        for make, arguments in makes:
            try:
                sides.append(Side(make, arguments, warm))
            except EOFError:  # its process has ended, with the reason above
                raise Unstarted(make.__name__) from None
        while len(shares) < rounds:
            patience.wait()
            since = patience.mark()
            turn = [side.turn(seconds) for side in sides]
            others = patience.others(since)
            if not patience.repeat(others, since):
                shares.append(others)
                for rate, mine in zip(rates, turn, strict=True):
                    rate.append(mine)
        return Turns(rates, shares, [side.warming for side in sides], [side.end() for side in sides])
    finally:
        for side in sides:
            side.process.terminate()


def overhead(data: str, steps: int, scratch: Path, pipe: Any) -> None:
    """Seconds in `train` and, of these, in `step_once`, for a default run at 32×32."""
    import torch

    from gankit.training import loop as runner
    from gankit.training.interrupts import Interrupts

    at = assemble(data, 32, scratch, steps=steps)
    training, batches = at.training, at.batches
    for _ in range(20):
        runner.step_once(training, batches)
    training.number = 0
    inside, bare = 0.0, runner.step_once

    def timed(*arguments: Any) -> Any:
        nonlocal inside
        started = time.perf_counter()
        readings = bare(*arguments)
        if training.device.type == "cuda":
            torch.cuda.synchronize()
        inside += time.perf_counter() - started
        return readings

    runner.step_once = timed
    started = time.perf_counter()
    runner.train(at, Interrupts())
    pipe.send((time.perf_counter() - started, inside))


@contextmanager
def busy_program() -> Iterator[None]:
    """A program of one thread that computes all the time."""
    program = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        program.kill()
        program.wait()


# The measurements. --------------------------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "gankit", *words]


def help_seconds() -> float:
    """Seconds of `gankit --help`."""
    started = time.perf_counter()
    subprocess.run(command("--help"), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def first_step(data: str, out: Path) -> float:
    """Seconds from the start of `gankit run` on cached data to its first step, the first sample grid included."""
    started = time.perf_counter()
    words = ("run", "began", "--data", data, "--out", str(out), "--steps", "1", "--log-every", "1")
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, taken = out / "metrics.jsonl", None
    while taken is None and process.poll() is None:
        time.sleep(0.005)
        if metrics.exists() and metrics.stat().st_size:
            taken = time.perf_counter() - started
    process.kill()
    process.wait()
    if taken is None:
        raise RuntimeError(f"gankit {' '.join(words)} ended with {process.returncode}")
    return taken


def evaluation(data: str, folder: Path) -> float:
    """Seconds of `gankit evaluate` of a run, with features of its real pictures from an evaluation before."""
    subprocess.run(
        command("run", "began", "--data", data, "--out", str(folder), "--steps", "1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(command("evaluate", str(folder)), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def compared(data: str, folder: Path) -> float:
    """Seconds of `gankit compare` beside the steps of its two runs, per run, with the measuring of few samples."""
    words = ("compare", "began", "ebgan", "--data", data, "--seeds", "1", "--steps", "60", "--samples", "50")
    started = time.perf_counter()
    subprocess.run(command(*words, "--out", str(folder)), stdout=subprocess.DEVNULL, check=True)
    rows = json.loads((folder / "comparison.json").read_text())["runs"]
    return (time.perf_counter() - started - sum(row["seconds"] for row in rows)) / len(rows)


def build_rate(data: str, folder: Path) -> tuple[int, float]:
    """The number of pictures, and pictures/s of decoding into the cache at 64×64."""
    from gankit.data.folder import Folder
    from gankit.data.source import Request

    before = os.environ.get("GANKIT_CACHE")
    os.environ["GANKIT_CACHE"] = str(folder)
    try:
        started = time.perf_counter()
        opened = Folder(None).open(data, Request(64))
        count = len(opened.train) + len(opened.held_out)
        return count, count / (time.perf_counter() - started)
    finally:
        if before is None:
            del os.environ["GANKIT_CACHE"]
        else:
            os.environ["GANKIT_CACHE"] = before


def whole_run_memory(data: str, folder: Path) -> float:
    """Peak resident MiB of `gankit run` at 64×64 with an empty cache: decoding, 60 steps, the report."""
    words = ("run", "began", "--data", data, "--out", str(folder / "run"), "--image-size", "64", "--steps", "60")
    environment = os.environ | {"GANKIT_CACHE": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"gankit {' '.join(words)} ended with {done.returncode}")
    return int(done.stderr.split()[-1]) / 2**20


@contextmanager
def pictures(given: str | None, scratch: Path) -> Iterator[str]:
    """The folder to read: the argument, the illustrations, or the demo data as PNG files."""
    if given or ILLUSTRATIONS.is_dir():
        yield str(given or ILLUSTRATIONS)
        return
    from PIL import Image

    from gankit.data.demo import Demo
    from gankit.data.source import Request

    folder = scratch / "demo" / "figures"
    folder.mkdir(parents=True)
    opened = Demo().open(None, Request(64, holdout=0))
    for i, picture in enumerate(opened.train):
        Image.fromarray(picture).save(folder / f"{i:05d}.png")
    yield str(folder.parent)


def spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def row(what: str, measured: Turns, goal: str = "", roof: str = "", batch: int = BATCH) -> str:
    ratios = measured.ratios()
    plain, fast = (batch * statistics.median(rates) for rates in measured.rates[:2])
    return (
        f"| {what} | {plain:,.0f} | {fast:,.0f} | **{statistics.median(ratios):.2f}×** "
        f"[{min(ratios):.2f}–{max(ratios):.2f}] | {goal} | {roof} | "
        f"{measured.peaks[0]:,.0f} / {measured.peaks[1]:,.0f} | {statistics.median(measured.others):.0%} |"
    )


def compiled_row(size: int, measured: Turns) -> str:
    eager, compiled = (DEFAULT_BATCH * statistics.median(rates) for rates in measured.rates)
    saved = DEFAULT_BATCH / eager - DEFAULT_BATCH / compiled  # seconds a step
    worth = f"{(measured.warming[1] - measured.warming[0]) / saved:,.0f}" if saved > 0 else "never"
    return (
        f"| {size}×{size} | {eager:,.0f} | {compiled:,.0f} | {spread(measured.ratios(), 2)} | "
        f"{measured.warming[0]:.1f} / {measured.warming[1]:.1f} | {worth} | "
        f"{statistics.median(measured.others):.0%} |"
    )


def machine() -> str:
    import torch

    from gankit.device import describe, machine_of

    bf16 = "bf16 natively" if machine_of("cpu").fast_bf16 else "no native bf16"
    return (
        f"{describe('cpu')} (of {os.cpu_count()}), {bf16}; torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def commit() -> str:
    """The commit of the measured code."""
    words = ("git", "-C", str(HERE), "describe", "--always", "--dirty")
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def measure(data: str, scratch: Path, rounds: int, patience: Patience, say: Callable[[str], None]) -> None:
    from gankit.catalogue import Catalogue
    from gankit.config.request import RunRequest
    from gankit.config.resolve import resolve

    # The same networks on both sides, and the cache built before anything is timed.
    sys.path.insert(0, str(HERE))
    import reference

    for size, n in SETTINGS:
        at = assemble(data, size, scratch, PAPER | {"filters": n})
        reference.same_networks(at.training.networks, size, n)
    resolved = resolve("began", RunRequest(data=data), Catalogue([]))
    say(f"gankit runs in {resolved.precision}, the reference in fp32; batch {BATCH}.\n")

    say("| | reference, images/s | gankit, images/s | ratio, median [min–max] | goal | of the roof | MiB | others |")
    say("|---|---|---|---|---|---|---|---|")
    roofs: list[float] = []
    for size, n in SETTINGS:
        seconds = 2.5 if size < 64 else 4
        given = (data, size, n, scratch)
        sides = ((reference_steps, given), (gankit_steps, given), (roof_steps, ()))
        measured = alternate(sides, rounds, seconds, 3, patience)
        work = arithmetic(size, n)
        roofs += [rate * 2 * ROOF**3 / 1e9 for rate in measured.rates[2]]
        share = statistics.median(measured.ratios(1, 2)) * work / (2 * ROOF**3)
        done = statistics.median(measured.rates[1]) * work / 1e9
        say(row(f"training, {size}×{size}, n = {n}", measured, f"≥ {GOAL:g}×", f"{share:.0%} ({done:.0f} GFLOP/s)"))
    for size, n in SETTINGS[:2]:
        given = (data, size, n, scratch)
        sides = ((reference_without_loaders, given), (gankit_steps, (*given, "fp32")))
        measured = alternate(sides, rounds, 2.5, 3, patience)
        say(row(f"training, {size}×{size}, n = {n}, fp32 on both sides, no loaders", measured, "≥ 2×"))
    for size in (32, 64):
        given = (data, size, 16, scratch)
        measured = alternate(((reference_input, given), (gankit_input, given)), rounds, 1, 10, patience)
        say(row(f"input alone, {size}×{size}", measured, "≥ 20×"))
    say(f"\nThe roof, {ROOF}×{ROOF} matrices multiplied: {spread(roofs)} GFLOP/s.\n")

    say("| gankit's defaults | eager, images/s | compiled | ratio | first 3 steps, s | pays from step | others |")
    say("|---|---|---|---|---|---|---|")
    for size in (32, 64):
        try:
            sides = ((default_steps, (data, size, scratch)), (compiled_steps, (data, size, scratch)))
            say(compiled_row(size, alternate(sides, rounds, 2.5, 3, patience)))
        except Unstarted as side:
            if str(side) != compiled_steps.__name__:
                raise
            say(f"| {size}×{size} | | cannot be compiled here | | | | |")
    say("")

    say("| gankit's defaults, 32×32 | one thread, images/s | gankit | ratio | goal | | MiB | others |")
    say("|---|---|---|---|---|---|---|---|")
    sides = ((one_thread_steps, (data, scratch)), (default_steps, (data, 32, scratch)))
    say(row("alone", alternate(sides, rounds, 8, 3, patience), batch=DEFAULT_BATCH))
    with busy_program():
        measured = alternate(sides, rounds, 8, 3, patience)
        say(row("beside a busy program of one thread", measured, "≥ 0.9×", batch=DEFAULT_BATCH))
    say("")

    say("| | | goal | others |")
    say("|---|---|---|---|")

    def single(what: str, goal: str, times: int, one: Callable[[int], str | float], digits: int = 0) -> None:
        """A row of one number with repeated measurements."""
        values, shares, number = [], [], 0
        while len(values) < times:
            patience.wait()
            since = patience.mark()
            value = one(number)
            others, number = patience.others(since), number + 1
            if not patience.repeat(others, since):
                values.append(value)
                shares.append(others)
        say(f"| {what} | {spread(values, digits)} | {goal} | {statistics.median(shares):.0%} |")

    def share_in_steps(number: int) -> float:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=overhead, args=(data, 3000, scratch, theirs))
        process.start()
        total, inside = ours.recv()
        process.join()
        return 100 * inside / total

    count = build_rate(data, scratch / "count")[0]
    single("runner with its defaults, 32×32, 3,000 steps: share in bare steps, %", "≥ 97", 1, share_in_steps, 1)
    single("gankit --help, s", "≤ 0.5", 5, lambda i: help_seconds(), 2)
    single(
        "start to first step logged, cached data, s", "≤ 2", 3, lambda i: first_step(data, scratch / f"first-{i}"), 1
    )
    single(
        "gankit evaluate, of a run, features of real pictures known, s",
        "≤ 15",
        2,
        lambda i: evaluation(data, scratch / f"evaluated-{i}"),
        1,
    )
    what = "gankit compare beside the steps of its runs, s a run"
    single(what, "≤ 10", 1, lambda i: compared(data, scratch / f"compared-{i}"), 1)
    what = f"building the cache at 64×64 ({count:,} pictures), pictures/s"
    single(what, "≥ 500", 3, lambda i: build_rate(data, scratch / f"cache-{i}")[1])
    what = "whole run at 64×64 with an empty cache: peak resident, MiB"
    single(what, "< 2,048", 1, lambda i: whole_run_memory(data, scratch / f"memory-{i}"))


def save(title: str, name: str, lines: list[str]) -> None:
    """Save the output as benchmarks/results/DATE<name>.md."""
    path = HERE / "results" / f"{date.today()}{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# {title}, {date.today()}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"written to {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="gankit's speed as ratios to a plain reference loop, in one run.")
    parser.add_argument("--data", help="a folder of pictures in subfolders (default: the illustrations, or demo data)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for a quiet machine (default 0)")
    parser.add_argument("--save", action="store_true", help="also write benchmarks/results/DATE.md")
    asked = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gankit-bench-") as folder:
        scratch = Path(folder)
        with pictures(asked.data, scratch) as data:
            say(f"{machine()}.")
            say(f"Data: {Path(data).name}. Rounds: {asked.rounds}. Commit: {commit()}.")
            measure(data, scratch, asked.rounds, Patience(asked.patience), say)
    say("\nMiB are the peak resident memory of the training process, reference / gankit; the reference's two loader")
    say(
        "processes come on top. Images/s count real pictures, one batch a step. The share of the roof is of the rate of"
    )
    say("that product, for the arithmetic of the plain layers with one pass of D for each batch. Others: the share of")
    say("all cores that other programs had.")
    print(f"{time.perf_counter() - started:.0f} s")
    if asked.save:
        save("Speed", "", lines)


if __name__ == "__main__":
    main()
