"""Small schedules as plain data: what the explorer judges and the verifier's table is built from.

Expressions are texts of Python arithmetic (`//`, `%`) over scalar names and `iter`, or integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from amk.schedule import Expr, ScheduleTable, TableBuilder, parse

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
