"""The bytes of regions as sorted, disjoint runs [n, 2] (first, end), for witnesses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from amk.schedule.table import Buffer

MAX_RUNS = 2**16
"""Of a region with more runs than this, only the first whole rows are looked at."""


@dataclass(frozen=True)
class Bytes:
    """Bytes [first, end) of an arena, or of a buffer that has memory of its own."""

    memory: str
    first: int
    end: int

    def __str__(self) -> str:
        return f"bytes {self.first}:{self.end} of {self.memory}"


def memory_of(buffer: Buffer) -> str:
    """The name of the memory in which a buffer lies."""
    return buffer.name if buffer.arena is None else buffer.arena


def runs(buffer: Buffer, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """The bytes of a box, clipped to its buffer."""
    shape = buffer.shape
    low = [max(int(a), 0) for a in lo[: len(shape)]]
    high = [min(int(b), n) for b, n in zip(hi, shape, strict=False)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return np.zeros((0, 2), np.int64)
    first = np.zeros(1, np.int64)
    last = max((d for d in range(len(shape)) if (low[d], high[d]) != (0, shape[d])), default=0)
    for dim in range(last):
        count = min(high[dim] - low[dim], max(1, MAX_RUNS // len(first)))
        index = low[dim] + np.arange(count)
        first = (first[:, None] + index * math.prod(shape[dim + 1 :])).ravel()
    inner = math.prod(shape[last + 1 :])
    begin, length = (low[last] * inner, (high[last] - low[last]) * inner) if shape else (0, 1)
    begins = ((first + begin) * buffer.item_bytes) + (buffer.offset if buffer.arena else 0)
    return merged(np.stack([begins, begins + length * buffer.item_bytes], 1))


def merged(found: np.ndarray) -> np.ndarray:
    """The union of runs in any order."""
    if not len(found):
        return found.reshape(0, 2)
    found = found[np.argsort(found[:, 0], kind="stable")]
    ends = np.maximum.accumulate(found[:, 1])
    new = np.ones(len(found), bool)
    new[1:] = found[1:, 0] > ends[:-1]
    last = np.append(np.flatnonzero(new)[1:] - 1, len(found) - 1)
    return np.stack([found[new, 0], ends[last]], 1)


def common(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The bytes in both."""
    edges = np.unique(np.concatenate([one.ravel(), two.ravel()]))
    inside = _covered(edges, one) & _covered(edges, two)
    return merged(np.stack([edges[:-1][inside], edges[1:][inside]], 1))


def missing(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The bytes of `one` that are not in `two`."""
    edges = np.unique(np.concatenate([one.ravel(), two.ravel()]))
    inside = _covered(edges, one) & ~_covered(edges, two)
    return merged(np.stack([edges[:-1][inside], edges[1:][inside]], 1))


def _covered(edges: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which pieces between edges lie in the runs."""
    change = np.zeros(len(edges), np.int64)
    np.add.at(change, np.searchsorted(edges, found[:, 0]), 1)
    np.add.at(change, np.searchsorted(edges, found[:, 1]), -1)
    return np.cumsum(change)[:-1] > 0
