"""How many threads a training on the CPU uses: one for each core that other programs leave idle.

Threads spin while they wait for each other. Where another program holds a core, the others wait for the one that
shares it, in every operation: on two cores beside one busy program, two threads made a twentieth of the images a
second of one thread (docs/evidence/speed.md).
"""

from __future__ import annotations

import math
import os
from time import perf_counter, sleep

import psutil
import torch

from gankit.training.watcher import Watcher

FIRST, WINDOW = 0.2, 5.0  # seconds of a measurement: before the first step, and from then on
QUIET = 6  # windows without other work before more threads are used again: programs work in bursts
SPARE = 0.25  # of a core that other programs may use beside a thread: a browser, a mail program


class Threads:
    """Chooses the number of threads before the first step and follows the machine's load from then on.

    It never exceeds torch's own number at its start. `OMP_NUM_THREADS` in the environment fixes the number: results
    are equal to the bit for one number of threads only.
    """

    def __init__(self, device: str, watcher: Watcher, alone: bool = True) -> None:
        """`alone`: no other process takes part in this training; else the number is theirs."""
        self.watcher = watcher
        self.most = torch.get_num_threads()
        self.used = {self.most}  # all numbers so far
        self.steady = device != "cpu" or not alone or self.most == 1 or "OMP_NUM_THREADS" in os.environ
        self.process, self.quiet = psutil.Process(), 0
        self.last = (0.0, 0.0, 0.0)  # what was measured last

    def begin(self) -> None:
        """Before the first step, or after a wait: choose the number of threads."""
        if not self.steady:
            self.last = self._measured()  # what others did until now does not count
            sleep(FIRST)
            self._choose(wait=False)
            self.used = {torch.get_num_threads()}

    def follow(self) -> None:
        """After a step: follow the load, every five seconds."""
        if not self.steady and perf_counter() - self.last[0] >= WINDOW:
            self._choose(wait=True)

    def end(self) -> None:
        """Leave torch as it was."""
        if not self.steady:
            torch.set_num_threads(self.most)

    def _choose(self, wait: bool) -> None:
        others, now = self._others(), torch.get_num_threads()
        wanted = fitting(self.most, len(self._cores()), others)
        self.quiet = self.quiet + 1 if wanted > now else 0
        if wanted == now or (wait and wanted > now and self.quiet < QUIET):
            return
        self.quiet = 0
        torch.set_num_threads(wanted)
        if wanted in self.used:  # one line for each number is enough
            return
        self.used.add(wanted)
        self.watcher.notice(
            f"other programs keep {others:.1f} of {len(self._cores())} cores busy: gankit uses {wanted} "
            f"thread{'s' * (wanted > 1)}, as more would wait for each other (OMP_NUM_THREADS=N fixes the number)"
        )

    def _others(self) -> float:
        """How many cores other programs kept busy since the last call, on average."""
        before, self.last = self.last, self._measured()
        seconds, busy, own = (new - old for new, old in zip(self.last, before, strict=True))
        return max(0.0, (busy - own) / max(seconds, 1e-9))

    def _measured(self) -> tuple[float, float, float]:
        """The time, the busy seconds of this process's cores, and those of this process itself."""
        each = psutil.cpu_times(percpu=True)
        busy = sum(one.user + one.system + getattr(one, "nice", 0) for one in (each[core] for core in self._cores()))
        own = self.process.cpu_times()
        return perf_counter(), busy, own.user + own.system

    def _cores(self) -> list[int]:
        """The cores that this process may use."""
        count = psutil.cpu_count() or 1
        allowed = self.process.cpu_affinity() if hasattr(self.process, "cpu_affinity") else range(count)
        return [core for core in allowed if core < count]


def fitting(most: int, cores: int, others: float) -> int:
    """The number of threads, 1 to `most`, beside other programs that keep `others` of the `cores` busy."""
    return max(1, min(most, cores - math.ceil(others - SPARE)))
