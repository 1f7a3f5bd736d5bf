"""The regions of a table's accesses as they are written, and what is malformed about a table.

Part of the slow judge (`oracle`): nothing is shared with the verifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import CodeType

import numpy as np

from amk.schedule import ScheduleTable

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Touch:
    """One access of one instance that happens, with its region."""

    instance: int
    iteration: int
    row: int
    buffer: int
    write: bool
    use: int
    box: Box

    def meets(self, other: Touch) -> bool:
        """Whether the two share an element."""
        return self.buffer == other.buffer and all(
            a < d and c < b for (a, b), (c, d) in zip(self.box, other.box, strict=True)
        )

    def has(self, element: tuple[int, ...]) -> bool:
        """Whether `element` is in the region."""
        return all(a <= i < b for (a, b), i in zip(self.box, element, strict=True))

    @property
    def region(self) -> tuple[slice, ...]:
        """The region as an index of an array."""
        return tuple(slice(a, b) for a, b in self.box)


@cache
def _code(text: str) -> CodeType:
    return compile(text.replace("floordiv", "//").replace("mod", "%"), text, "eval")


class Regions:
    """The regions of a table's accesses at values of its scalar."""

    def __init__(self, table: ScheduleTable) -> None:
        assert len(table.scalars) <= 1
        assert all(b.arena is None for b in table.buffers)
        self.table = table
        self.texts = [str(e) for e in table.expressions]
        self.rank = [len(b.shape) for b in table.buffers]

    def values(self, start: int | None, iteration: int) -> np.ndarray:
        """The values of all expressions in an iteration, and a 0 (which number -1 finds)."""
        names = {}
        for scalar in self.table.scalars:
            assert start is not None
            names[scalar.name] = start + iteration * scalar.step
        return np.array([*(eval(_code(text), {}, names) for text in self.texts), 0], np.int64)

    def boxes(
        self, start: int | None, iteration: int, rows: np.ndarray | slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds lo and hi [rows, rank] of accesses in an iteration, and which touch anything."""
        table, values = self.table, self.values(start, iteration)
        lo = table.access_lo[rows] + values[table.access_lo_expr[rows]]
        hi = table.access_hi[rows] + values[table.access_hi_expr[rows]]
        guard = table.task_guard[table.access_task[rows]]
        idle = values[table.access_guard[rows]] | values[guard]
        return lo, hi, (idle == 0) & (lo < hi).all(1)


def malformed(table: ScheduleTable) -> bool:
    """Whether the table means nothing, whatever the values of its scalars."""
    total = np.zeros(len(table.counters), np.int64)
    np.add.at(total, table.signal_counter, table.signal_amount)
    if (table.wait_threshold > total[table.wait_counter]).any():
        return True
    packet, shared, uses = (
        np.array([getter(b) for b in table.buffers])[table.access_buffer]
        for getter in (lambda b: b.packet, lambda b: b.space == "shared", lambda b: b.uses)
    )
    use = table.access_use
    if (packet != (use >= 0)).any() or (use >= np.maximum(uses, 1)).any():
        return True
    fixed = (table.access_lo_expr < 0) & (table.access_hi_expr < 0)
    if (fixed & (table.access_lo > table.access_hi)).any():
        return True
    workers = np.array([q.worker for q in table.queues])
    worker = workers[table.task_queue[table.access_task]]
    inside = (worker <= table.access_lo[:, 0]) & (table.access_hi[:, 0] <= worker + 1)
    return bool((shared & ~(fixed[:, 0] & (worker >= 0) & inside)).any())
