"""Explicit schedules as text: from the Python builder to `task` ops and back to a table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import Literal

import numpy as np
from xdsl.dialects.builtin import (
    BFloat16Type,
    FileLineColLoc,
    Float32Type,
    IntAttr,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    i64,
)
from xdsl.ir import Block, Operation, Region
from xdsl.printer import Printer

from amk.dialects import task
from amk.dialects.access import Access, AccessAttr, Dim
from amk.dialects.memory import in_space
from amk.dialects.task import Rows
from amk.dialects.task_family import AGENTS
from amk.errors import AmkError
from amk.ir.expand import expand, schedule_of
from amk.ir.module import parse_module, verify_module
from amk.schedule import Expr, Schedule, ScheduleTable
from amk.schedule.table import SINGLE, Buffer

SPACES = {
    ("global", False): "", ("shared", False): "shared", ("host", False): "host",
    ("global", True): "packet", ("host", True): "host_packet",
}  # fmt: skip
"""The memory space of a buffer by where its memory is and whether it holds packets."""

NAME = re.compile(r"[A-Za-z_]\w*")
RESERVED = ("floordiv", "mod", "use", "if", "when", "waits", "signals", "args", "true", "false")


MANY = 1000
"""Schedules with more tasks are written as a dense table unless the form is given."""

Form = Literal["tasks", "table"]


def module_of(schedule: Schedule | ScheduleTable, form: Form | None = None) -> ModuleOp:
    """A module with one `task.schedule` of `task.task` ops, or of one `task.table`.

    Single tasks keep their names with the indices, e.g. `@"fill[3]"`; a name that is taken gets a
    number. Reading it back gives the same table, those names and locations apart. A table alone
    does not tell types apart: 4 bytes become f32, 2 bytes bf16. Raises `AmkError` on what the
    dialect does not have: other sizes of elements, packets in shared memory, run-time scalars
    without a plain name, and in a dense table regions of the wrong rank.
    """
    table = schedule.table() if isinstance(schedule, Schedule) else schedule
    return _Maker(table).module(form or ("tasks" if table.n_tasks <= MANY else "table"))


def print_schedule(schedule: Schedule | ScheduleTable, form: Form | None = None) -> str:
    """The text of `module_of`, with a newline at the end."""
    text = StringIO()
    Printer(text).print_op(module_of(schedule, form))
    return text.getvalue() + "\n"


def read_schedule(text: str, name: str = "schedule.mlir") -> ScheduleTable:
    """The table of the one schedule in `text`; `AmkError` with a location if the text is wrong."""
    module = parse_module(text, name)
    verify_module(module)
    return expand(schedule_of(module)).table


class _Maker:
    """Makes the ops of one table."""

    def __init__(self, table: ScheduleTable) -> None:
        self.table = table
        self.taken: set[str] = set()
        for scalar in table.scalars:
            if not NAME.fullmatch(scalar.name) or scalar.name in RESERVED:
                raise AmkError(f"run-time scalar '{scalar.name}' needs a plain name")
            self._unique(scalar.name)
        self.buffers = [self._unique(b.name) for b in table.buffers]
        self.counters = [self._unique(c.name) for c in table.counters]

    def module(self, form: Form) -> ModuleOp:
        table = self.table
        ops: list[Operation] = [task.ScalarOp(s.name, s.lo, s.hi, s.step) for s in table.scalars]
        ops += [self._buffer(n, b) for n, b in zip(self.buffers, table.buffers, strict=True)]
        for name, counter in zip(self.counters, table.counters, strict=True):
            ops.append(_located(task.CounterOp(name), counter.location))
        if form == "tasks":
            ops += self._tasks()
        elif table.n_tasks:
            ops.append(self._table())
        schedule = task.ScheduleOp(table.name, table.workers, Region(Block(ops)))
        if table.iterations is not None:
            schedule.properties["iterations"] = IntegerAttr(table.iterations, i64)
        return ModuleOp([schedule])

    def _unique(self, name: str) -> str:
        result, number = name, 1
        while result in self.taken:
            number += 1
            result = f"{name}_{number}"
        self.taken.add(result)
        return result

    def _buffer(self, name: str, buffer: Buffer) -> Operation:
        elements = {8: Float32Type()} if buffer.packet else {4: Float32Type(), 2: BFloat16Type()}
        element = elements.get(buffer.item_bytes)
        space = SPACES.get((buffer.space, buffer.packet))
        if element is None or space is None:
            raise AmkError(
                f"buffer '{buffer.name}' has no form in the task dialect: elements of "
                f"{buffer.item_bytes} bytes in {buffer.space} memory",
                location=buffer.location or None,
            )
        made = task.BufferOp(
            name,
            buffer.kind,
            in_space(MemRefType(element, buffer.shape), space),
            uses=buffer.uses if buffer.packet else None,
            initial=buffer.initial,
            arena=buffer.arena,
            offset=buffer.offset,
        )
        return _located(made, buffer.location)

    def _tasks(self) -> Iterable[Operation]:
        table = self.table
        accesses = _by_task(table.access_task, table.n_tasks)
        waits = _by_task(table.wait_task, table.n_tasks)
        signals = _by_task(table.signal_task, table.n_tasks)
        for number in range(table.n_tasks):
            queue = table.queues[table.task_queue[number]]
            single = queue.agent == SINGLE
            made = task.TaskOp(
                self._unique(table.task_name(number)),
                None,
                None if single else queue.worker,
                [AccessAttr(self._access(row)) for row in accesses[number]],
                waits=[
                    (self.counters[table.wait_counter[r]], _constant(table.wait_threshold[r]))
                    for r in waits[number]
                ],
                signals=[
                    (self.counters[table.signal_counter[r]], _constant(table.signal_amount[r]))
                    for r in signals[number]
                ],
                guard=self._guard(table.task_guard[number]),
                agent="compute" if single else queue.agent,
            )
            yield _located(made, table.task_location(number))

    def _table(self) -> Operation:
        table = self.table
        agents = np.array([0 if q.agent == SINGLE else AGENTS.index(q.agent) for q in table.queues])
        workers = np.array([q.worker for q in table.queues])
        words = list(dict.fromkeys(o.name for o in table.origins))
        word = np.array([words.index(o.name) for o in table.origins])
        queue, none = table.task_queue, np.full(table.n_tasks, -1)
        tasks = [workers[queue], agents[queue], none, table.task_guard, word[table.task_origin]]
        index = table.task_index if (table.task_index >= 0).any() else np.zeros((0, 1))
        return task.TableOp(
            self._unique("tasks"),
            Rows.of(np.stack(tasks, 1)),
            names=words,
            buffers=self.buffers,
            counters=self.counters,
            exprs=table.expressions,
            index=Rows.of(index),
            waits=_rows(table.wait_task, table.wait_counter, table.wait_threshold),
            signals=_rows(table.signal_task, table.signal_counter, table.signal_amount),
            accesses=self._boxes(),
            moving=self._moving(),
        )

    def _boxes(self) -> Rows:
        table = self.table
        ranks = np.array([len(b.shape) for b in table.buffers], np.int64)[table.access_buffer]
        for row in np.flatnonzero(table.access_rank != ranks)[:1]:
            name = table.task_name(int(table.access_task[row]))
            raise AmkError(f"{name}: {table.box_text(row)} has the wrong rank for a dense table")
        bounds = np.stack([table.access_lo, table.access_hi], 2).astype(np.int64)
        bounds[np.arange(bounds.shape[1])[None, :] >= ranks[:, None]] = 0
        flat = bounds.reshape(len(ranks), 2 * bounds.shape[1])
        return _rows(
            table.access_task, table.access_buffer, table.access_write, table.access_use,
            table.access_guard, np.zeros(len(ranks)), *flat.T,
        )  # fmt: skip

    def _moving(self) -> Rows:
        both = np.stack([self.table.access_lo_expr, self.table.access_hi_expr], 2)
        flat = both.reshape(len(both), 2 * both.shape[1])
        row, bound = np.nonzero(flat >= 0)
        return _rows(row, bound, flat[row, bound])

    def _access(self, row: int) -> Access:
        table = self.table
        dims = tuple(
            Dim(
                self._bound(table.access_lo[row, d], table.access_lo_expr[row, d]),
                self._bound(table.access_hi[row, d], table.access_hi_expr[row, d]),
            )
            for d in range(int(table.access_rank[row]))
        )
        use = int(table.access_use[row])
        return Access(
            "out" if table.access_write[row] else "in",
            self.buffers[table.access_buffer[row]],
            dims,
            None if use < 0 else Expr.const(use),
            self._guard(table.access_guard[row]),
        )

    def _bound(self, constant: int, number: int) -> Expr:
        return _constant(constant) + (self.table.expressions[number] if number >= 0 else 0)

    def _guard(self, number: int) -> Expr | None:
        return None if number < 0 else self.table.expressions[number]


def _rows(*columns: np.ndarray) -> Rows:
    return Rows.of(np.stack(columns, 1), len(columns))


def _constant(value: int) -> Expr:
    return Expr.const(int(value))


def _by_task(tasks: np.ndarray, count: int) -> list[list[int]]:
    """The rows of each task, in their order."""
    rows: list[list[int]] = [[] for _ in range(count)]
    for row, number in enumerate(tasks.tolist()):
        rows[number].append(row)
    return rows


def _located(op: Operation, location: str) -> Operation:
    """`op` at `file:line:col`, if there is one."""
    parts = location.rsplit(":", 2)
    if len(parts) == 3:
        name, line, column = parts
        op.location = FileLineColLoc(StringAttr(name), IntAttr(int(line)), IntAttr(int(column)))
    return op
