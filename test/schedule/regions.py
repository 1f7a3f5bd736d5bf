"""The regions of a table's accesses as they are written, and what is malformed about a table.

Part of the slow judge (`oracle`): nothing is shared with the verifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import CodeType

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
        self.lo, self.hi = table.access_lo.tolist(), table.access_hi.tolist()
        self.lo_expr, self.hi_expr = table.access_lo_expr.tolist(), table.access_hi_expr.tolist()
        self.guards = list(
            zip(
                table.access_guard.tolist(),
                table.task_guard[table.access_task].tolist(),
                strict=True,
            )
        )

    def values(self, start: int | None, iteration: int) -> list[int]:
        """The values of all expressions in an iteration."""
        names = {}
        for scalar in self.table.scalars:
            assert start is not None
            names[scalar.name] = start + iteration * scalar.step
        return [eval(_code(text), {}, names) for text in self.texts]

    def box(self, row: int, values: list[int]) -> Box | None:
        """The region of an access, or None where it touches nothing."""
        if any(guard >= 0 and values[guard] for guard in self.guards[row]):
            return None
        box = []
        for dim in range(self.rank[self.table.access_buffer[row]]):
            first, last = self.lo_expr[row][dim], self.hi_expr[row][dim]
            low = self.lo[row][dim] + (values[first] if first >= 0 else 0)
            high = self.hi[row][dim] + (values[last] if last >= 0 else 0)
            if low >= high:
                return None
            box.append((low, high))
        return tuple(box)


def malformed(table: ScheduleTable) -> bool:
    """Whether the table means nothing, whatever the values of its scalars."""
    total = [0] * len(table.counters)
    for counter, amount in zip(table.signal_counter, table.signal_amount, strict=True):
        total[counter] += int(amount)
    for counter, threshold in zip(table.wait_counter, table.wait_threshold, strict=True):
        if threshold > total[counter]:
            return True
    for row in range(len(table.access_task)):
        buffer = table.buffers[table.access_buffer[row]]
        use = int(table.access_use[row])
        if buffer.packet != (use >= 0) or use >= max(buffer.uses, 1):
            return True
        for dim in range(len(buffer.shape)):
            fixed = table.access_lo_expr[row, dim] < 0 and table.access_hi_expr[row, dim] < 0
            if fixed and table.access_lo[row, dim] > table.access_hi[row, dim]:
                return True
        worker = table.queues[table.task_queue[table.access_task[row]]].worker
        if buffer.space == "shared" and (
            table.access_lo_expr[row, 0] >= 0
            or table.access_hi_expr[row, 0] >= 0
            or worker < 0
            or not worker <= table.access_lo[row, 0]
            or not table.access_hi[row, 0] <= worker + 1
        ):
            return True
    return False
