"""Copying weights to a GPU: through two pinned buffers by turns, so that reading a file overlaps
with the copy of what was read before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

CHUNK_BYTES = 32 << 20
"""Weights are loaded in runs of rows of at most this size (but of one row at least)."""
LOADING_CHUNKS = 16
"""Device memory that loading needs at most beside the buffers, in chunks: copies, conversions (of
numbers twice as wide), paddings and places."""
_READERS = 8
"""Threads that copy out of a mapped file: its pages come faster where several are asked for."""

Upload = Callable[[Any], Any]
"""Takes rows in host memory (or already on the device), returns them on the device."""


def chunks_of(values: Any) -> Iterator[Any]:
    """Runs of rows of `values` (any array with `shape`, `dtype` and slices) of bounded size."""
    row_bytes = int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize
    step = max(1, CHUNK_BYTES // max(1, row_bytes))
    for first in range(0, len(values), step):
        yield values[first : first + step]


class Staging:
    """Two pinned buffers between host arrays and one stream of a GPU."""

    def __init__(self, xp: Any, stream: Any) -> None:
        """`xp` is cupy; arrays are allocated on its current stream, which must be `stream`."""
        self._xp, self._stream = xp, stream
        self._turns = [_Turn(xp), _Turn(xp)]
        self._readers = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))

    def upload(self, values: Any) -> Any:
        """The array on the device, to be used on the stream; returns while it is being copied."""
        if not isinstance(values, np.ndarray):
            return values
        self._turns.reverse()
        staged = self._turns[0].take(values)
        self._copy(values, staged)
        result = self._xp.empty(values.shape, values.dtype)
        result.set(staged, stream=self._stream)
        self._turns[0].copied.record(self._stream)
        return result

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown()

    def _copy(self, values: np.ndarray, staged: np.ndarray) -> None:
        step = -(-len(values) // _READERS) or 1
        parts = [slice(first, first + step) for first in range(0, len(values), step)]
        for _ in self._readers.map(lambda part: np.copyto(staged[part], values[part]), parts):
            pass


class _Turn:
    """One pinned buffer, and the end of the last copy out of it."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._memory: np.ndarray | None = None
        self.copied = xp.cuda.Event(disable_timing=True)

    def take(self, values: np.ndarray) -> np.ndarray:
        """The buffer as an array like `values`, once nothing is copied out of it any more."""
        self.copied.synchronize()
        if self._memory is None or self._memory.nbytes < values.nbytes:
            self._memory = pinned(self._xp, max(CHUNK_BYTES, values.nbytes))
        return self._memory[: values.nbytes].view(values.dtype).reshape(values.shape)


def pinned(xp: Any, size: int) -> np.ndarray:
    """Host memory (uint8 [size]) that the GPU can read and write, at the same address on both."""
    runtime = xp.cuda.runtime
    memory = xp.cuda.PinnedMemory(size, runtime.hostAllocMapped | runtime.hostAllocPortable)
    return np.asarray(_Pinned(memory, size))


class _Pinned:
    """Keeps pinned memory while an array on it lives."""

    def __init__(self, memory: Any, size: int) -> None:
        self._memory = memory
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (memory.ptr, False),
            "version": 3,
        }
