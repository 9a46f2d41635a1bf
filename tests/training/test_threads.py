"""A training on the CPU gives way to other programs, as threads that wait for each other cost nearly all the time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from conftest import TINY

from gankit.training import threads as module
from gankit.training.threads import QUIET, WINDOW, Threads, fitting
from gankit.training.watcher import Watcher


class Noticed(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads, which no variable of the environment fixes."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


Loads = Callable[..., list[int]]


@pytest.fixture
def under(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> Loads:
    """The numbers of threads under other programs' loads, in cores of two: before the first step, then by window."""

    def follow(loads: Sequence[float], earlier: float = 0) -> list[int]:
        torch.set_num_threads(2)
        clock, busy = 0.0, 0.0

        def passes(seconds: float) -> None:
            nonlocal clock, busy
            clock, busy = clock + seconds, busy + load * seconds

        monkeypatch.setattr(module, "sleep", passes)
        monkeypatch.setattr(module, "perf_counter", lambda: clock)
        monkeypatch.setattr(Threads, "_cores", lambda self: [0, 1])
        monkeypatch.setattr(Threads, "_measured", lambda self: (clock, busy + clock, clock))
        watcher = Noticed()
        threads, counts, load = Threads("cpu", watcher), [], earlier
        passes(WINDOW)
        for number, now in enumerate(loads):
            load = now
            if number:
                passes(WINDOW + 0.1)
                threads.follow()
            else:
                threads.begin()
            counts.append(torch.get_num_threads())
        follow.lines = watcher.lines  # type: ignore[attr-defined]
        return counts

    return follow


def test_a_core_that_others_use_has_no_thread() -> None:
    assert [fitting(2, 2, others) for others in (0, 0.2, 0.3, 0.7, 1, 1.2, 2, 9)] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert [fitting(8, 8, others) for others in (0, 1, 3.5, 8)] == [8, 7, 4, 1]
    assert fitting(4, 16, 10) == 4  # never more than torch's own number
    assert fitting(4, 16, 13) == 3


def test_it_gives_way_within_a_window_and_comes_back_after_some_quiet_ones(under: Loads) -> None:
    assert under([0, 0, 0.8, 0.9]) == [2, 2, 1, 1]
    assert under([0, 1] + [0] * QUIET) == [2, 1] + [1] * (QUIET - 1) + [2]
    assert under([0, 1] + [0] * (QUIET - 1) + [1] + [0] * (QUIET - 1)) == [2] + [1] * (2 * QUIET)


def test_the_load_at_the_start_counts_and_none_before_it(under: Loads) -> None:
    assert under([0], earlier=2) == [2]
    assert under([1], earlier=0) == [1]


def test_it_says_so_once(under: Loads) -> None:
    under([0, 1, *[0] * QUIET, 1, 1])
    (line,) = under.lines  # type: ignore[attr-defined]
    assert "1.0 of 2 cores busy: gankit uses 1 thread," in line
    assert "OMP_NUM_THREADS=N fixes" in line


def test_a_number_that_the_user_fixed_stays(under: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert under([2, 2, 2]) == [2, 2, 2]


def test_a_training_among_busy_programs_uses_one_thread_and_leaves_torch_as_it_was(
    two_threads: None, gankit: Callable, tmp_path: Path, undrawn: None
) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        said = gankit("run", "began", *TINY, "--out", "run")
    finally:
        for program in busy:
            program.kill()
            program.wait()
    assert said.code == 0
    assert "cores busy: gankit uses 1 thread," in said.out + said.err
    assert json.loads((tmp_path / "run/result.json").read_text())["threads"] == [1]
    assert torch.get_num_threads() == 2


def test_the_measurement_leaves_out_this_process(two_threads: None) -> None:
    threads = Threads("cpu", Watcher())
    _, busy, own = threads._measured()
    user = threads.process.cpu_times().user
    while threads.process.cpu_times().user < user + 0.5:
        sum(range(10_000))
    _, busy_after, own_after = threads._measured()
    assert own_after - own >= 0.4
    assert busy_after - busy >= own_after - own - 0.1
