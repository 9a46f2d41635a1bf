"""The progress of a training: a live display on a terminal, one plain line per log interval elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gankit.cli import printable, say
from gankit.runs.advice import to_resume, to_train_further
from gankit.runs.verdict import of
from gankit.training.watcher import Watcher

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as Bar

    from gankit.runs.folder import RunFolder
    from gankit.training.state import Training


class Progress(Watcher):
    """Shows decoding, the training and its alarms. Use it as a context manager."""

    def __init__(self) -> None:
        self.terminal = sys.stdout is not None and sys.stdout.isatty()
        self.decoder: Bar | None = None
        self.live: Live | None = None
        self.training: Training | None = None
        self.last: Mapping[str, Any] = {}
        self.last_sample = 0
        self.health_word = "not looked at yet"
        self.begun = (0.0, 0)  # time and step at the start

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def say(self, text: str) -> None:
        """Print a line. The training goes on if the reader is gone or the disk is full."""
        if self.lost:
            return
        try:
            if self.live is not None:
                self.live.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
            else:
                say(text)
        except (OSError, ValueError) as error:  # ValueError: closed
            self.lost = getattr(error, "strerror", None) or str(error)
            # Text left in the buffer would fail again at exit.
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def notice(self, text: str) -> None:
        self.say(text)

    def decoding(self, done: int, total: int) -> None:
        self._read(done, total, f"read {total:,} file{'s' * (total != 1)} into the cache")

    def finding(self, done: int, total: int) -> None:
        self._read(done, total, f"found {total:,} picture{'s' * (total != 1)}, which are decoded while it trains")

    def _read(self, done: int, total: int, words: str) -> None:
        if not self.terminal:
            if done == total:
                self.say(words)
            return
        if self.decoder is None:
            from rich.progress import Progress as Bar

            self.decoder = Bar(transient=True)
            self.decoder.add_task("reading pictures", total=total)
            self.decoder.start()
        self.decoder.update(self.decoder.task_ids[0], completed=done, total=total)
        if done == total:
            self.decoder.stop()
            self.decoder = None

    def begin(self, training: Training) -> None:
        self.training = training
        self.begun = (time.monotonic(), training.number)
        self.last_sample = training.number
        if self.terminal:
            from rich.live import Live

            self.live = Live(get_renderable=self._display, refresh_per_second=4, transient=True)
            self.live.start()

    def line(self, line: Mapping[str, Any]) -> None:
        if not self.last:
            self._explain(line)
        self.last = line
        if not self.terminal:
            self.say("  ".join(f"{label} {value}" for label, value in self._facts().items()))

    def _explain(self, line: Mapping[str, Any]) -> None:
        """What the letters of the progress line stand for, once."""
        assert self.training is not None
        model = self.training.model
        notes = {label: model.curves[name].note for label, name in model.shown.items() if name in model.curves}
        if "energy/real" in line:
            notes["real, fake"] = "The discriminator's energy of real and of generated pictures: low looks real to it."
        for label, note in notes.items():
            self.say(f"    {label}: {note}")

    def sampled(self, step: int) -> None:
        self.last_sample = step

    def health(self, word: str) -> None:
        self.health_word = word

    def alarm(self, alarm: Mapping[str, Any]) -> None:
        self.notice(f"ALARM at step {alarm['step']:,}: {alarm['message']} ({alarm['action']})")
        for text in alarm["advice"]:
            self.notice(f"    try {text}")

    def end(self) -> None:
        for shown in (self.decoder, self.live):
            if shown is not None:
                with suppress(OSError, ValueError):
                    shown.stop()
        self.decoder = self.live = None

    def farewell(self, run: RunFolder) -> None:
        """Print how the run ended, where to look and how to go on."""
        result = run.result
        if not result:
            self.say(f"the run folder {run.folder} is gone, and what was in it")
            return
        how = {"steps": "finished", "time": "stopped when its time was over", "alarm": "stopped by an alarm"}
        steps, first = result["steps"], self.begun[1]
        # The time is of all starts, and the speed of the last one that trained.
        since = "" if not first else f" since step {first:,}" if first < steps else " in the start before"
        self.say(
            f"{how.get(result['reason'], 'interrupted, saved')} at step {steps:,} "
            f"after {clock(result['seconds'])}, {result['images_per_second'] or 0:,.0f} images/s{since}"
        )
        plugins = run.config["plugins"]  # of this process's flags: the training wrote it
        verdict = of(run, plugins)
        self.say(f"verdict: {verdict.headline}")
        self.say(f"look at {run.report_path}" if run.report_path.exists() else f"look into {run.folder}")
        if result["reason"] == "alarm":  # resuming unchanged would end in the same alarm
            self.say(f"the last healthy checkpoint is that of step {result['healthy']:,}; the alarm says what to try")
            return
        finished = result["reason"] == "steps"
        go_on = to_train_further(run.folder, steps, plugins) if finished else to_resume(run.folder, plugins)
        self.say(f"go on with: {go_on}")
        if verdict.next not in ("", go_on):
            self.say(f"or: {verdict.next}")

    # The display.

    def _facts(self) -> dict[str, str]:
        """Label -> value of the last line."""
        training, line = self.training, self.last
        assert training is not None
        steps = training.config.steps
        facts = {"step": f"{line.get('step', training.number):,}" + (f"/{steps:,}" if steps is not None else "")}
        if not line:
            return facts
        facts["images/s"] = f"{line['images_per_second']:,.0f}"
        facts["left"] = self._left()
        names = {**training.model.shown, "real": "energy/real", "fake": "energy/fake"}
        facts |= {label: number(line[name]) for label, name in names.items() if name in line}
        facts["sample"] = f"{self.last_sample:,}"
        return facts | ({"health": self.health_word} if self.health_word else {})

    def _left(self) -> str:
        training = self.training
        assert training is not None
        config, (began, first) = training.config, self.begun
        gone, done = time.monotonic() - began, training.number - first
        left = math.inf
        if config.steps is not None and done:
            left = (config.steps - training.number) * gone / done
        if config.time is not None:
            left = min(left, config.time - gone)
        return clock(max(left, 0)) if math.isfinite(left) else "?"

    def _display(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        training = self.training
        assert training is not None
        table = Table.grid(padding=(0, 2))
        facts = self._facts()
        facts["step"] = f"{training.number:,}" + (f"/{training.config.steps:,}" if training.config.steps else "")
        table.add_row(*(f"[dim]{label}[/dim]" for label in facts))
        table.add_row(*map(printable, facts.values()))
        shares = [training.number / training.config.steps] if training.config.steps else []
        if training.config.time:
            shares.append((time.monotonic() - self.begun[0]) / training.config.time)
        display = Table.grid()
        display.add_row(ProgressBar(total=1, completed=max(shares, default=0), width=60))
        display.add_row(table)
        return display


class NotebookProgress(Progress):
    """Shows the progress below a notebook's cell: one line that changes; messages and alarms stay."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Any = None

    def line(self, line: Mapping[str, Any]) -> None:
        display = sys.modules["IPython"].display.display  # no dependency of gankit: the notebook has it
        self.last = line
        text = {"text/plain": "  ".join(f"{label} {value}" for label, value in self._facts().items())}
        if self.shown is None:
            self.shown = display(text, raw=True, display_id=True)
        else:
            self.shown.update(text, raw=True)


@contextmanager
def somebody_looks() -> Iterator[Watcher]:
    """The progress of a call in Python: shown in a terminal and in a notebook, quiet elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ == "ZMQInteractiveShell":
        kind: type[Progress] = NotebookProgress
    elif sys.stdout is not None and sys.stdout.isatty():
        kind = Progress
    else:
        yield Watcher()
        return
    with kind() as progress:
        yield progress


def number(value: float | None) -> str:
    """Four significant digits."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.4g}"


def clock(seconds: float) -> str:
    """1:02:03, 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
