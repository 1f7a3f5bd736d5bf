"""Small schedules as plain data: what the explorer judges and the verifier's table is built from.

Expressions are texts of Python arithmetic (`//`, `%`) over scalar names and `iter`, or integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amk.schedule import ScheduleTable, TableBuilder, parse

Bound = int | str


@dataclass
class Buffer:
    shape: tuple[int, ...]
    kind: str = "scratch"
    item: int = 1
    arena: str | None = None
    offset: int = 0
    initial: bool = False
    packet: bool = False
    uses: int = 1


@dataclass
class Access:
    buffer: int
    write: bool
    lo: tuple[Bound, ...]
    hi: tuple[Bound, ...]
    guard: Bound = 0
    use: int = -1


@dataclass
class Task:
    queue: int | None
    """A worker's compute queue, or None for a queue of its own."""
    waits: list[tuple[int, int]] = field(default_factory=list)
    signals: list[tuple[int, int]] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    guard: Bound = 0


@dataclass
class Program:
    tasks: list[Task]
    buffers: list[Buffer] = field(default_factory=list)
    counters: int = 0
    iterations: int | None = 1
    scalars: list[tuple[str, int, int, int]] = field(default_factory=list)
    workers: int = 4


def table_of(program: Program) -> ScheduleTable:
    """The program in the verifier's normal form."""
    b = TableBuilder(program.workers, program.iterations)
    for scalar in program.scalars:
        b.scalar(*scalar)
    for number, x in enumerate(program.buffers):
        b.buffer(
            f"b{number}", x.shape, x.item, x.kind, arena=x.arena, offset=x.offset,
            initial=x.initial, packet=x.packet, uses=x.uses,
        )  # fmt: skip
    for number in range(program.counters):
        b.counter(f"c{number}")
    for number, task in enumerate(program.tasks):
        queue = b.single_queues(1) if task.queue is None else b.queue(task.queue)
        ids = b.tasks(b.origin(f"t{number}"), queue, guard=_expr(task.guard))
        for counter, threshold in task.waits:
            b.waits(ids, counter, threshold)
        for counter, amount in task.signals:
            b.signals(ids, counter, amount)
        for a in task.accesses:
            lo, hi = [_expr(e) for e in a.lo], [_expr(e) for e in a.hi]
            b.access(ids, a.buffer, a.write, lo, hi, guard=_expr(a.guard), use=a.use)
    return b.build()


def _expr(bound: Bound):
    return bound if isinstance(bound, int) else parse(bound)
