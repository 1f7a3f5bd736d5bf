"""Progress of long steps on standard error; steps of less than a second are not shown."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE_SECONDS = 1.0
_REFRESH_SECONDS = 0.25


@contextmanager
def show_progress(label: str) -> Iterator[Callable[[float], None]]:
    """Tell on standard error that `label` is under way, how far it is, and how long it took.

    Yields a function that takes the part that is done, 0 to 1. In a terminal the line is updated in
    place; elsewhere there is one line at the start and one at the end.
    """
    step = _Step(label)
    watcher = threading.Thread(target=step.watch, daemon=True)
    watcher.start()
    try:
        yield step.advance
    except BaseException:
        step.end(watcher, failed=True)
        raise
    step.end(watcher, failed=False)


class _Step:
    def __init__(self, label: str) -> None:
        self._label = label
        self._part = 0.0
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._shown = False
        self._terminal = sys.stderr.isatty()

    def advance(self, part: float) -> None:
        self._part = part

    def watch(self) -> None:
        if self._ended.wait(_PATIENCE_SECONDS):
            return
        self._shown = True
        if not self._terminal:
            self._write(f"{self._label} ...\n")
            return
        while not self._ended.wait(_REFRESH_SECONDS):
            percent = f" {self._part:.0%}" if self._part else ""
            self._write(f"\r{self._label} ...{percent} ({self._seconds():.0f} s) ")

    def end(self, watcher: threading.Thread, failed: bool) -> None:
        self._ended.set()
        watcher.join()
        if not self._shown:
            return
        start = "\r" if self._terminal else ""
        outcome = "stopped" if failed else "done"
        self._write(f"{start}{self._label}: {outcome} after {self._seconds():.1f} s     \n")

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
