"""What a task without a kernel means: it writes a hash of its name, its iteration and what it read.

`amk/backends/device/common/table.h` does the same on every target.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint32(0x9E3779B9)


def identity_of(name: str) -> int:
    """The number (32 bits) that stands for the name of a task, e.g. `fill[3]`."""
    return zlib.crc32(name.encode())


def avalanche(x: np.ndarray) -> np.ndarray:
    """A hash of 32-bit words in which every bit counts; x is uint32."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def write_default(
    name: str,
    iteration: int,
    indices: Sequence[int],
    read: Sequence[np.ndarray],
    written: Sequence[np.ndarray],
) -> None:
    """Fill `written` (arrays of 2- or 4-byte elements), in order.

    `iteration` counts over all launches; `indices` are the index arguments. The n-th word of
    what is read, from 1 on, is scrambled with n, so order matters; the words are summed.
    """
    words = [np.array(indices, np.int64).astype(np.uint32), *(_words(data) for data in read)]
    everything = np.concatenate(words)
    with np.errstate(over="ignore"):
        start = np.array([identity_of(name)], np.uint32) + _GOLDEN * np.uint32(
            (iteration + 1) % 2**32
        )
        places = _GOLDEN * np.arange(1, len(everything) + 1, dtype=np.uint32)
        total = avalanche(start) + avalanche(everything ^ places).sum(dtype=np.uint32)
        count = sum(data.size for data in written)
        values = avalanche(total ^ (_GOLDEN * np.arange(1, count + 1, dtype=np.uint32)))
    for data in written:
        bits = values[: data.size].astype(_bits_of(data)).reshape(data.shape)
        data[...] = bits.view(data.dtype)
        values = values[data.size :]


def _bits_of(data: np.ndarray) -> np.dtype:
    return np.dtype(np.uint16 if data.itemsize == 2 else np.uint32)


def _words(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data).view(_bits_of(data)).reshape(-1).astype(np.uint32)
