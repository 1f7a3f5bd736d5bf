"""`Schedule`: explicit schedules written task by task in Python.

s = Schedule(workers=2)
a = s.buffer("a", shape=(4, 64), dtype="f32", kind="scratch")
c = s.counter("c")
s.task("produce", worker=0, writes=[a[0:2, :]], signals=[(c, 1)])
s.task("consume", worker=1, reads=[a[0:2, :]], waits=[(c, 1)])
verdict = s.verify()          # .ok, .kind, .message, .witness, .errors
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import EllipsisType
from typing import TYPE_CHECKING

from amk.errors import AmkError
from amk.schedule.builder import TableBuilder
from amk.schedule.expr import Expr
from amk.schedule.table import COMPUTE, ITERATION, ScheduleTable

if TYPE_CHECKING:
    from amk.schedule.verify import Limits, Verdict

ITEM_BYTES = {
    "f64": 8, "i64": 8, "f32": 4, "i32": 4, "f16": 2, "bf16": 2, "i16": 2, "i8": 1,
}  # fmt: skip
PACKET_BYTES = 8

Edge = int | Expr
Index = int | Expr | slice | EllipsisType


@dataclass(frozen=True)
class Counter:
    """A counter of a schedule; use it in `waits` and `signals`."""

    owner: Schedule
    number: int
    name: str


@dataclass(frozen=True)
class Region:
    """A box of a buffer: half-open bounds per dimension, a packet use, and a guard.

    With a step other than 1 a dimension has the indices lo, lo + step, … below hi only.
    """

    buffer: Buffer
    lo: tuple[Edge, ...]
    hi: tuple[Edge, ...]
    packet_use: int = -1
    guard: Expr | None = None
    steps: tuple[int, ...] = ()

    def use(self, number: int) -> Region:
        """The same region at packet use `number` (the default is use 0)."""
        return replace(self, packet_use=number)

    def when(self, guard: Expr) -> Region:
        """The same region, touched only if `guard` is 0."""
        return replace(self, guard=guard)

    def boxes(self) -> Iterator[tuple[list[Edge], list[Edge]]]:
        """The boxes (lo, hi) that make up the region: one, unless a dimension has a step."""
        sides = []
        for low, high, step in zip(
            self.lo, self.hi, self.steps or (1,) * len(self.lo), strict=True
        ):
            if step == 1:
                sides.append([(low, high)])
                continue
            extent = Expr.of(high) - low
            if not extent.is_const:
                raise AmkError(
                    f"a region of buffer '{self.buffer.name}' has step {step} and '{extent}' "
                    "elements; with a step, their number must be known"
                )
            starts = [low + index for index in range(0, extent.value, step)]
            sides.append([(start, start + 1) for start in starts])
        for parts in product(*sides):
            yield [low for low, _ in parts], [high for _, high in parts]


@dataclass(frozen=True)
class Buffer:
    """A buffer of a schedule; `buffer[0:2, :]` is a region of it.

    Slices are taken literally: bounds are neither clipped nor counted from the end.  `:` is the
    whole dimension, an index i is `i:i + 1`, `...` is the whole buffer.  Bounds may be expressions.
    A step must be positive; `a[::2, 3:7]` touches every other row, and nothing between.
    """

    owner: Schedule
    number: int
    name: str
    shape: tuple[int, ...]
    packet: bool

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Region:
        parts = index if isinstance(index, tuple) else (index,)
        if parts == (...,):
            parts = (slice(None),) * len(self.shape)
        lo: list[Edge] = []
        hi: list[Edge] = []
        steps: list[int] = []
        for dim, part in enumerate(parts):
            low, high = self._edges(part, self.shape[dim] if dim < len(self.shape) else 1)
            lo.append(low)
            hi.append(high)
            steps.append(self._step(part))
        known = tuple(steps) if any(step != 1 for step in steps) else ()
        return Region(self, tuple(lo), tuple(hi), 0 if self.packet else -1, steps=known)

    def _step(self, part: Index) -> int:
        step = part.step if isinstance(part, slice) else None
        if step is None:
            return 1
        if not isinstance(step, int) or step < 1:
            raise AmkError(f"a region of buffer '{self.name}' has step {step}; it must be positive")
        return step

    def _edges(self, part: Index, extent: int) -> tuple[Edge, Edge]:
        if isinstance(part, EllipsisType):
            raise AmkError(f"'...' stands alone in a region of buffer '{self.name}'")
        if not isinstance(part, slice):
            return part, part + 1
        low = 0 if part.start is None else part.start
        return low, extent if part.stop is None else part.stop


class Schedule:
    """An explicit schedule; `verify` decides whether every execution of it is sound."""

    def __init__(self, workers: int, iterations: int | None = 1, name: str = "schedule") -> None:
        """An empty schedule for `workers` workers; `iterations` None means any number."""
        self._builder = TableBuilder(workers, iterations, name)

    def scalar(self, name: str, lo: int, hi: int, step: int = 1) -> Expr:
        """Declare a run-time scalar in [lo, hi), +step each iteration, any start."""
        return self._builder.scalar(name, lo, hi, step)

    @property
    def iteration(self) -> Expr:
        """The number of the iteration in the launch."""
        return Expr.var(ITERATION)

    def buffer(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "f32",
        kind: str = "scratch",
        *,
        arena: str | None = None,
        offset: int = 0,
        initial: bool = False,
        space: str = "global",
    ) -> Buffer:
        """Declare a buffer; `kind` is input, constant, state, scratch or output.

        `arena` and `offset` (bytes) place it in shared memory of that name; `initial` says that it
        holds data at the start.  Raises `AmkError` on an unknown dtype.
        """
        if dtype not in ITEM_BYTES:
            known = ", ".join(ITEM_BYTES)
            raise AmkError(f"buffer '{name}' has the unknown dtype '{dtype}'; use one of {known}")
        number = self._builder.buffer(
            name, shape, ITEM_BYTES[dtype], kind, arena=arena, offset=offset, initial=initial,
            space=space, location=_caller(),
        )  # fmt: skip
        return Buffer(self, number, name, tuple(shape), False)

    def packets(
        self, name: str, shape: Sequence[int], uses: int = 1, space: str = "global"
    ) -> Buffer:
        """Declare a packet buffer: every element is a packet with `uses` uses in an iteration."""
        number = self._builder.buffer(
            name, shape, PACKET_BYTES, packet=True, uses=uses, space=space, location=_caller()
        )
        return Buffer(self, number, name, tuple(shape), True)

    def counter(self, name: str) -> Counter:
        """Declare a counter; it starts at 0 and only grows."""
        return Counter(self, self._builder.counter(name, _caller()), name)

    def task(
        self,
        name: str,
        worker: int | None = 0,
        *,
        agent: str = COMPUTE,
        reads: Sequence[Region | Buffer] = (),
        writes: Sequence[Region | Buffer] = (),
        waits: Sequence[tuple[Counter, int]] = (),
        signals: Sequence[tuple[Counter, int]] = (),
        guard: Expr | None = None,
        index: Sequence[int] = (),
    ) -> int:
        """Append a task to a worker's queue (`worker=None`: to a queue of its own).

        It waits for `waits` (counter, threshold), reads, writes, then signals (counter, amount).
        With a `guard` it touches nothing unless the guard is 0.  Returns the task's number.
        Raises `AmkError` on a buffer or counter of another schedule.
        """
        where = _caller()
        builder = self._builder
        for handle in [*(_region(r).buffer for r in (*reads, *writes)), *(c for c, _ in waits),
                       *(c for c, _ in signals)]:  # fmt: skip
            if handle.owner is not self:
                raise AmkError(
                    f"task '{name}' uses '{handle.name}', which belongs to another schedule",
                    location=where or None,
                )
        queue = builder.single_queues(1) if worker is None else builder.queue(worker, agent)
        task = builder.tasks(builder.origin(name, where), queue, list(index), guard)
        for counter, threshold in waits:
            builder.waits(task, counter.number, threshold)
        for counter, amount in signals:
            builder.signals(task, counter.number, amount)
        for regions, write in ((reads, False), (writes, True)):
            for region in map(_region, regions):
                for lo, hi in region.boxes():
                    builder.access(
                        task, region.buffer.number, write, lo, hi,
                        guard=region.guard, use=region.packet_use,
                    )  # fmt: skip
        return int(task[0])

    def table(self) -> ScheduleTable:
        """The schedule in normal form."""
        return self._builder.build()

    def verify(self, limits: Limits | None = None, *, all_errors: bool = False) -> Verdict:
        """The verdict on the schedule (see `amk.schedule.verify.verify`)."""
        from amk.schedule.verify import verify

        return verify(self.table(), limits, all_errors=all_errors)


def _region(region: Region | Buffer) -> Region:
    return region[...] if isinstance(region, Buffer) else region


def _caller() -> str:
    """`file:line:1` of the code that called a method of `Schedule`."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}:1"


__all__ = ["Buffer", "Counter", "Region", "Schedule"]
