"""Where an instrumented program leaves its records, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amk.backends.arch import PRODUCERS
from amk.backends.program import BufferInfo

TRACE_BUFFER = "amk_trace"
"""Name of the argument that takes the records."""
WARPS = 8
"""Consumer warps of a worker on a GPU; on the host a worker is one thread."""
_WORDS = 4


@dataclass(frozen=True)
class TraceWindow:
    """The iterations of a launch that an instrumented program records."""

    first: int = 8
    tokens: int = 2


@dataclass(frozen=True)
class Waits:
    """What a warp did for one task, as arrays [workers, warps, tokens, tasks of a worker].

    Times are in nanoseconds: `begin` by the clock of the device, `arrived` (the end of the last
    wait for packets) and `end` from there on, `packets` and `weights` the time spent waiting.
    """

    task: np.ndarray
    """Numbers of families; -1 where there is no record."""
    begin: np.ndarray
    arrived: np.ndarray
    end: np.ndarray
    packets: np.ndarray
    weights: np.ndarray
    ring_full: np.ndarray
    """[workers, copy warps, tokens]: producers waited for a free slot."""
    window: np.ndarray
    """The same for copies in flight."""
    copied_at: np.ndarray
    """[copies, in no order]: when a copy of weights was asked for, by the clock of the device; also
    those of the iteration behind the traced ones."""
    copied_bytes: np.ndarray
    """The same for how large it was."""


@dataclass(frozen=True)
class TraceLayout:
    """The records of iterations `first` to `first + tokens - 1` of a launch.

    `tasks` is the most tasks that a worker has in one iteration, `copies` the most copies of a copy
    warp, `warps` what a worker consists of.
    """

    workers: int
    warps: int
    tasks: int
    tokens: int
    first: int
    copies: int = 0

    @property
    def config(self) -> Mapping[str, int]:
        """Constants of the program."""
        return {
            "kTraceWarps": self.warps,
            "kTraceTasks": self.tasks,
            "kTraceTokens": self.tokens,
            "kTraceFirst": self.first,
            "kTraceCopies": self.copies,
        }

    @property
    def info(self) -> BufferInfo:
        """The argument that takes the records."""
        words = self._records + math.prod(self._copiers)
        return BufferInfo(TRACE_BUFFER, "output", "", (2 * words,), "i32")

    @property
    def _records(self) -> int:
        return self.workers * self.warps * self.tokens * self.tasks * _WORDS

    @property
    def _copiers(self) -> tuple[int, ...]:
        """Of one more iteration: copy warps begin it while the last one ends."""
        return (self.workers, PRODUCERS, self.tokens + 1, 1 + self.copies)

    def decode(self, values: np.ndarray) -> Waits:
        """The contents of the buffer (int32)."""
        words = values.view(np.uint64)
        shape = (self.workers, self.warps, self.tokens, self.tasks, _WORDS)
        records = words[: self._records].reshape(shape)
        copiers = words[self._records :].reshape(self._copiers)
        begin = records[..., 1].astype(np.int64)
        arrived, end = _halves(records[..., 2])
        packets, weights = _halves(records[..., 3])
        ring_full, window = _halves(copiers[:, :, : self.tokens, 0])
        copies = copiers[..., 1:][copiers[..., 1:] > 0]
        return Waits(
            task=records[..., 0].astype(np.int64) - 1,
            begin=begin,
            arrived=arrived,
            end=end,
            packets=packets,
            weights=weights,
            ring_full=ring_full,
            window=window,
            copied_at=_near(copies >> np.uint64(16), int(begin.max())),
            copied_bytes=(copies & np.uint64(0xFFFF)).astype(np.int64) * 16,
        )


def _near(times: np.ndarray, near: int) -> np.ndarray:
    """The times whose low 48 bits are known (78 hours), next to a time that is known as a whole."""
    after = (times.astype(np.int64) - near) & (2**48 - 1)
    return near + np.where(after < 2**47, after, after - 2**48)


def _halves(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The low and the high 32 bits."""
    low, high = words & np.uint64(2**32 - 1), words >> np.uint64(32)
    return low.astype(np.int64), high.astype(np.int64)
