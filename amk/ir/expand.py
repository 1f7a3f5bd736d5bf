"""Expands a `task.schedule` into the table that the verifier and the interpreter work on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from amk.dialects import task
from amk.dialects.access import Access, AccessAttr
from amk.dialects.memory import element_bytes, is_packet, space_of
from amk.errors import AmkError
from amk.ir.limits import check_limits
from amk.ir.location import location_of
from amk.ir.tables import Names, expand_table
from amk.schedule.builder import TableBuilder
from amk.schedule.expr import Expr
from amk.schedule.table import STREAM, ScheduleTable

PLACES = {"shared": "shared", "host": "host", "host_packet": "host"}
"""Where the memory of each memory space is; global memory for those left out."""

TaskLike = task.FamilyOp | task.TaskOp


@dataclass(frozen=True)
class Expansion:
    """A table with the way back to the IR: `ops[table.task_origin[t]]` is the op of task t."""

    table: ScheduleTable
    ops: tuple[TaskLike | task.TableOp, ...]


def schedule_of(module: ModuleOp) -> task.ScheduleOp:
    """The one schedule of a module; AmkError if there is none, or more than one."""
    schedules = [op for op in module.body.block.ops if isinstance(op, task.ScheduleOp)]
    if len(schedules) != 1:
        raise AmkError(
            f"expected one task.schedule in the module, found {len(schedules)}",
            location=location_of(module),
        )
    return schedules[0]


def expand(schedule: task.ScheduleOp) -> Expansion:
    """The table of one iteration: every task of every family, in the order of the queues.

    Raises `AmkError` on names that are not declared, and on counts beyond `amk.ir.limits`.
    """
    check_limits(schedule)
    return _Expander(schedule).run()


class _Expander:
    def __init__(self, schedule: task.ScheduleOp) -> None:
        iterations = schedule.iterations.value.data if schedule.iterations else None
        self.schedule = schedule
        self.workers = schedule.workers.value.data
        self.builder = TableBuilder(self.workers, iterations, schedule.sym_name.data)
        self.buffers: dict[str, tuple[int, task.BufferOp]] = {}
        self.counters: dict[str, int] = {}
        self.origins: dict[TaskLike, int] = {}
        self.ops: list[TaskLike | task.TableOp] = []

    def run(self) -> Expansion:
        for op in self.schedule.body.block.ops:
            self._declare(op)
        self._walk(self.schedule.body.block.ops, {})
        return Expansion(self.builder.build(), tuple(self.ops))

    def _declare(self, op: Operation) -> None:
        if isinstance(op, task.ScalarOp):
            lo, hi, step = (a.value.data for a in (op.lo, op.hi, op.step))
            self.builder.scalar(op.sym_name.data, lo, hi, step)
        elif isinstance(op, task.CounterOp):
            name = op.sym_name.data
            self.counters[name] = self.builder.counter(name, location_of(op) or "")
        elif isinstance(op, task.BufferOp):
            name = op.sym_name.data
            self.buffers[name] = self._buffer(op), op

    def _buffer(self, op: task.BufferOp) -> int:
        return self.builder.buffer(
            op.sym_name.data,
            op.type.get_shape(),
            8 if is_packet(op.type) else element_bytes(op.type),
            op.kind.data,
            arena=op.arena.data if op.arena else None,
            offset=op.offset.value.data if op.offset else 0,
            initial=op.initial is not None,
            space=PLACES.get(space_of(op.type), "global"),
            packet=is_packet(op.type),
            uses=op.uses.value.data if op.uses else 1,
            location=location_of(op) or "",
        )

    def _walk(self, ops: Iterable[Operation], repeats: dict[str, int]) -> None:
        for op in ops:
            if isinstance(op, task.RepeatOp):
                for value in range(op.count.value.data):
                    self._walk(op.body.block.ops, {**repeats, op.index.data: value})
            elif isinstance(op, task.FamilyOp | task.TaskOp):
                self._tasks(op, repeats)
            elif isinstance(op, task.TableOp):
                names = Names(self.buffers, self.counters)
                self.ops += [op] * len(expand_table(op, self.builder, names, repeats))

    def _tasks(self, op: TaskLike, repeats: dict[str, int]) -> None:
        builder, count = self.builder, op.instances
        if op not in self.origins:
            self.origins[op] = builder.origin(op.sym_name.data, location_of(op) or "")
            self.ops.append(op)
        instance = np.arange(count)
        names = {key: np.full(count, value) for key, value in repeats.items()}
        if op.index_name:
            names[op.index_name] = instance
        index = [names[key] for key in ([op.index_name] if op.index_name else []) + [*repeats]]
        guard = op.guard.data if op.guard else None
        ids = builder.tasks(self.origins[op], self._queues(op, names), index, guard, names)
        for argument in op.args:
            if isinstance(argument, AccessAttr):
                self._access(op, ids, argument.data, names)
        for counter, threshold in op.waits:
            builder.waits(ids, self._counter(op, counter), self._number(op, threshold, names))
        for counter, amount in op.signals:
            builder.signals(ids, self._counter(op, counter), self._number(op, amount, names))

    def _queues(self, op: TaskLike, names: dict[str, np.ndarray]) -> np.ndarray:
        placement = op.placement
        if placement is None:
            return self.builder.single_queues(op.instances)
        workers = np.broadcast_to(self._number(op, placement, names), (op.instances,))
        agent = STREAM if op.agent_name == "stream" else "compute"
        return self.builder.queues(workers, agent)

    def _number(self, op: TaskLike, expr: Expr, names: dict[str, np.ndarray]) -> np.ndarray:
        """An expression over the indices alone, for each instance."""
        unknown = expr.variables - names.keys()
        if unknown:
            raise AmkError(
                f"@{op.sym_name.data}: '{expr}' may only use the indices of the task, "
                f"not {', '.join(sorted(unknown))}",
                location=location_of(op),
            )
        return np.broadcast_to(np.asarray(expr.evaluate(names)), (op.instances,))

    def _counter(self, op: TaskLike, name: str) -> int:
        if name not in self.counters:
            raise AmkError(
                f"@{op.sym_name.data}: there is no counter @{name}", location=location_of(op)
            )
        return self.counters[name]

    def _access(
        self, op: TaskLike, ids: np.ndarray, access: Access, names: dict[str, np.ndarray]
    ) -> None:
        if access.buffer not in self.buffers:
            raise AmkError(
                f"@{op.sym_name.data}: there is no buffer @{access.buffer}",
                location=location_of(op),
            )
        number, buffer = self.buffers[access.buffer]
        if is_packet(buffer.type) != (access.use is not None):
            raise AmkError(
                f"@{op.sym_name.data}: an access of @{access.buffer} must "
                + ("not give a use" if access.use is not None else "give its use"),
                location=location_of(op),
            )
        use = -1 if access.use is None else self._number(op, access.use, names)
        lo = [dim.lo for dim in access.dims]
        hi = [dim.end for dim in access.dims]
        for write in (False, True):
            if access.writes if write else access.reads:
                self.builder.access(
                    ids, number, write, lo, hi, guard=access.guard, use=use, index=names
                )
