"""Small schedules as plain data: what the explorer judges and the verifier's table is built from.

Expressions are texts of Python arithmetic (`//`, `%`) over scalar names and `iter`, or integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from amk.schedule import Expr, ScheduleTable, TableBuilder, parse
from amk.schedule.table import COMPUTE, SINGLE

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
    shared: bool = False
    """The first dimension is the worker, and a task touches only what is its own worker's."""


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
            space="shared" if x.shared else "global",
        )  # fmt: skip
    for number in range(program.counters):
        b.counter(f"c{number}")
    tasks = program.tasks
    for number in range(len(tasks)):
        b.origin(f"t{number}")
    queues = [b.single_queues(1)[0] if t.queue is None else b.queue(t.queue) for t in tasks]
    b.tasks(np.arange(len(tasks)), np.array(queues), guard=_bounds([t.guard for t in tasks]))
    waits = [(number, *wait) for number, task in enumerate(tasks) for wait in task.waits]
    signals = [(number, *signal) for number, task in enumerate(tasks) for signal in task.signals]
    if waits:
        b.waits(*np.array(waits).T)
    if signals:
        b.signals(*np.array(signals).T)
    every = [(number, a) for number, task in enumerate(tasks) for a in task.accesses]
    for rank in sorted({len(a.lo) for _, a in every}):
        # Only accesses to packets need their order, and packet buffers have one rank.
        rows = [(number, a) for number, a in every if len(a.lo) == rank]
        b.access(
            np.array([number for number, _ in rows]), np.array([a.buffer for _, a in rows]),
            np.array([a.write for _, a in rows]),
            [_bounds([a.lo[dim] for _, a in rows]) for dim in range(rank)],
            [_bounds([a.hi[dim] for _, a in rows]) for dim in range(rank)],
            guard=_bounds([a.guard for _, a in rows]), use=np.array([a.use for _, a in rows]),
        )  # fmt: skip
    return b.build()


def _bounds(bounds: list[Bound]) -> np.ndarray | list[Expr | int]:
    if any(isinstance(bound, str) for bound in bounds):
        return [parse(bound) if isinstance(bound, str) else bound for bound in bounds]
    return np.array(bounds)


def program_of(table: ScheduleTable) -> Program:
    """A table without arenas as a program; an element stands for its bytes."""
    texts = [str(e).replace("floordiv", "//").replace("mod", "%") for e in table.expressions]

    def bound(constant: int, number: int) -> Bound:
        return constant if number < 0 else f"{constant} + {texts[number]}"

    queues = [table.queues[q] for q in table.task_queue]
    # A worker has one agent here; other queues are nobody's.
    program = Program(
        [Task(None if queue.agent == SINGLE else queue.worker) for queue in queues],
        [
            Buffer(b.shape, b.kind, initial=b.initial, packet=b.packet, uses=b.uses,
                   shared=b.space == "shared")
            for b in table.buffers
        ],
        len(table.counters), table.iterations,
        [(s.name, s.lo, s.hi, s.step) for s in table.scalars], table.workers,
    )  # fmt: skip
    assert all(b.arena is None for b in table.buffers)
    assert all(q.agent in (COMPUTE, SINGLE) for q in table.queues)
    for task, guard in zip(program.tasks, table.task_guard.tolist(), strict=True):
        task.guard = bound(0, guard)
    columns = table.wait_task, table.wait_counter, table.wait_threshold
    for task, counter, threshold in zip(*(c.tolist() for c in columns), strict=True):
        program.tasks[task].waits.append((counter, threshold))
    columns = table.signal_task, table.signal_counter, table.signal_amount
    for task, counter, amount in zip(*(c.tolist() for c in columns), strict=True):
        program.tasks[task].signals.append((counter, amount))
    for row, task in enumerate(table.access_task.tolist()):
        rank = int(table.access_rank[row])
        lo, hi = (
            tuple(map(bound, constant[row, :rank].tolist(), number[row, :rank].tolist()))
            for constant, number in (
                (table.access_lo, table.access_lo_expr), (table.access_hi, table.access_hi_expr),
            )
        )  # fmt: skip
        guard, use = int(table.access_guard[row]), int(table.access_use[row])
        buffer, write = int(table.access_buffer[row]), bool(table.access_write[row])
        access = Access(buffer, write, lo, hi, bound(0, guard), use)
        program.tasks[task].accesses.append(access)
    return program
