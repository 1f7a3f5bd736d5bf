"""Which bytes of its arena a box of a buffer touches, against a list of all of them."""

from __future__ import annotations

import itertools
import random

import numpy as np

from amk.schedule.table import Buffer
from amk.schedule.verify.bounds import _touches  # pyright: ignore[reportPrivateUsage]


def test_touched_bytes() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        shape = tuple(rng.randint(1, 4) for _ in range(rng.randint(0, 3)))
        buffer = Buffer("b", shape, rng.choice([1, 2, 8]), "scratch", "page", rng.randint(0, 9))
        lo = np.array([rng.randint(-1, n) for n in (*shape, 0)])
        hi = np.array([rng.randint(0, n + 1) for n in (*shape, 0)])
        offset, size = rng.randint(0, 90), rng.randint(1, 30)
        sides = (range(max(a, 0), min(b, n)) for a, b, n in zip(lo, hi, shape, strict=False))
        touched: set[int] = set()
        for element in itertools.product(*sides):
            number = 0
            for index, extent in zip(element, shape, strict=True):
                number = number * extent + int(index)
            start = buffer.offset + number * buffer.item_bytes
            touched.update(range(start, start + buffer.item_bytes))
        expected = not touched.isdisjoint(range(offset, offset + size))
        assert _touches(buffer, lo, hi, offset, size) == expected


def test_a_large_box_is_not_listed() -> None:
    buffer = Buffer("b", (2**20, 2**20, 2), 4, "scratch", "page", 16)
    lo, hi = np.array([0, 0, 1]), np.array([2**20, 2**20, 2])
    assert not _touches(buffer, lo, hi, 0, 20)
    assert not _touches(buffer, lo, hi, 24, 4)
    assert _touches(buffer, lo, hi, 24, 5)
    assert _touches(buffer, lo, hi, 16 + 2**43 - 1, 1)
