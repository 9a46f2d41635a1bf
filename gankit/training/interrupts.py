"""Ctrl-C, SIGTERM and SIGHUP end a training in good order; a second Ctrl-C or SIGTERM ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


class Interrupts:
    """A context that stores the first signal in `signal`: "SIGINT", "SIGTERM", "SIGHUP" or None."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python sets handlers only there
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None)):
                if number is None or (signal.getsignal(number) is signal.SIG_IGN and number == signal.SIGHUP):
                    continue  # started with `nohup`
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _received(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == "SIGHUP" and self.signal is not None:  # shell and kernel both send one
            return
        if self.signal not in (None, "SIGHUP"):  # safe, because files are written atomically
            os._exit(EXIT_CODES[name])
        self.signal = name
