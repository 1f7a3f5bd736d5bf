"""What a schedule may count up to: beyond it is refused before anything is expanded.

The verifier works on 64-bit integers and holds every task of an iteration in memory. Within these
limits none of its sums can overflow. The number of tasks is not limited as such, but their table
must fit into the memory of the machine: a slip of the pen in a count is an error at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np
from xdsl.ir import Operation

from amk.dialects import task
from amk.dialects.access import AccessAttr
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION

MAX_COUNT = 2**31 - 1
"""Workers, iterations, uses of a packet, and the ends and steps of run-time scalars."""

MAX_BYTES = 2**48
"""The size of a buffer, and where in its arena it begins."""

MAX_VALUE = 2**48
"""The value of an expression, of every part of it too, wherever it is evaluated."""

TASK_BYTES = 64
"""What a task takes in the schedule's table, its conditions and regions apart."""

CONDITION_BYTES = 32
"""What a wait or a signal takes, with the copy that exists while the table is built."""

ACCESS_BYTES = 512
"""What an access takes, likewise."""


def check_limits(schedule: task.ScheduleOp) -> None:
    """Raise `AmkError` at the op of `schedule` that exceeds a limit, if there is one."""
    iterations = schedule.iterations.value.data if schedule.iterations else MAX_COUNT
    _check(schedule, "the number of workers", schedule.workers.value.data, MAX_COUNT)
    _check(schedule, "the number of iterations", iterations, MAX_COUNT)
    sizes: dict[str, int] = {}
    for op in schedule.body.block.ops:
        if isinstance(op, task.ScalarOp):
            lo, hi, step = (a.value.data for a in (op.lo, op.hi, op.step))
            for value in (lo, hi, step):
                _check(op, f"a number of @{op.sym_name.data}", value, MAX_COUNT)
            sizes[op.sym_name.data] = max(abs(lo), abs(hi))
            if step:
                iterations = min(iterations, (hi - lo) // abs(step) + 1)
        elif isinstance(op, task.BufferOp):
            _check_buffer(op)
    sizes[ITERATION] = iterations
    _check_memory(schedule)
    _check_tasks(schedule.body.block.ops, sizes)


def _check_buffer(op: task.BufferOp) -> None:
    name = op.sym_name.data
    size = 8
    for extent in op.type.get_shape():
        size *= extent
    _check(op, f"the size of @{name} in bytes", size, MAX_BYTES)
    if op.offset is not None:
        offset = op.offset.value.data
        _check(op, f"the offset of @{name}", offset, MAX_BYTES)
    if op.uses is not None:
        uses = op.uses.value.data
        _check(op, f"the number of uses of @{name}", uses, MAX_COUNT)


def machine_memory() -> int:
    """Bytes of memory of this machine, 2^36 if it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**36


def _check_memory(schedule: task.ScheduleOp) -> None:
    tasks, size = _measure(schedule.body.block.ops)
    limit = machine_memory()
    if size > limit:
        shown = str(tasks) if tasks < 10**30 else "more than 10^30"
        more = f"about {size >> 30} GiB" if size < 2**70 else "more than 10^12 GiB"
        raise AmkError(
            f"one iteration has {shown} tasks, whose table would take {more}; this machine has "
            f"{limit >> 30} GiB",
            location=location_of(schedule),
        )


def _measure(ops: Iterable[Operation]) -> tuple[int, int]:
    """Tasks and bytes of one iteration; an empty turn of a repeat counts as a task, since it takes
    time."""
    tasks = size = 0
    for op in ops:
        if isinstance(op, task.RepeatOp):
            inner, bytes_of = _measure(op.body.block.ops)
            tasks += op.count.value.data * max(inner, 1)
            size += op.count.value.data * max(bytes_of, TASK_BYTES)
        elif isinstance(op, task.FamilyOp | task.TaskOp):
            tasks += op.instances
            conditions = CONDITION_BYTES * (len(op.waits) + len(op.signals))
            size += op.instances * (TASK_BYTES + conditions + ACCESS_BYTES * len(op.args))
        elif isinstance(op, task.TableOp):
            tasks += op.instances
            conditions = CONDITION_BYTES * (len(op.rows("waits")) + len(op.rows("signals")))
            accesses = ACCESS_BYTES * len(op.rows("accesses"))
            size += op.instances * TASK_BYTES + conditions + accesses
    return tasks, size


def _check_tasks(ops: Iterable[Operation], sizes: Mapping[str, int]) -> None:
    for op in ops:
        if isinstance(op, task.RepeatOp):
            inside = {**sizes, op.index.data: op.count.value.data}
            _check_tasks(op.body.block.ops, inside)
        elif isinstance(op, task.FamilyOp | task.TaskOp):
            _check_task(op, {**sizes, op.index_name: op.instances})
        elif isinstance(op, task.TableOp):
            _check_table(op, sizes)


def _check_task(op: task.FamilyOp | task.TaskOp, sizes: Mapping[str, int]) -> None:
    if op.placement is not None:
        _check_value(op, op.placement, sizes, MAX_COUNT)
    if op.guard is not None:
        _check_value(op, op.guard.data, sizes, MAX_VALUE)
    for _, number in (*op.waits, *op.signals):
        _check_value(op, number, sizes, MAX_COUNT)
    for argument in op.args:
        if not isinstance(argument, AccessAttr):
            continue
        if argument.data.use is not None:
            _check_value(op, argument.data.use, sizes, MAX_COUNT)
        for expr in argument.data.expressions():
            _check_value(op, expr, sizes, MAX_VALUE)


def _check_table(op: task.TableOp, sizes: Mapping[str, int]) -> None:
    for key, column in (("tasks", 0), ("waits", 2), ("signals", 2), ("accesses", 3)):
        _check_column(op, key, op.rows(key)[:, column], MAX_COUNT)
    _check_column(
        op, "accesses", op.rows("accesses")[:, len(task.COLUMNS["accesses"]) :], MAX_VALUE
    )
    if op.index is not None:
        _check_column(op, "index", op.index.data.array, MAX_COUNT)
    for expr in op.expressions:
        _check_value(op, expr, sizes, MAX_VALUE)


def _check_column(op: task.TableOp, key: str, values: np.ndarray, limit: int) -> None:
    """Check all numbers of some columns of a table."""
    bad = np.argwhere((values > limit) | (values < -limit))
    if len(bad):
        row, value = int(bad[0][0]), int(values[tuple(bad[0])])
        raise AmkError(
            f"@{op.sym_name.data}: row {row} of {key} has the number {value}; the limit is {limit}",
            location=location_of(op),
        )


def _check(op: Operation, what: str, value: int, limit: int) -> None:
    if abs(value) > limit:
        # Python refuses to print integers of more than some thousand digits.
        shown = str(value) if abs(value) < 10**30 else "beyond 10^30"
        raise AmkError(f"{what} is {shown}; the limit is {limit}", location=location_of(op))


def _check_value(
    op: task.FamilyOp | task.TaskOp | task.TableOp,
    expr: Expr,
    sizes: Mapping[str, int],
    limit: int,
) -> None:
    """Check all values of `expr`, where the variable v has values in [-sizes[v], sizes[v]]."""
    if _peak(expr, sizes) > limit:
        raise AmkError(
            f"@{op.sym_name.data}: '{str(expr)[:60]}' may reach values beyond the limit {limit}",
            location=location_of(op),
        )


def _peak(expr: Expr, sizes: Mapping[str, int]) -> int:
    """A bound on the absolute value of `expr` and of everything that its evaluation meets."""
    peak = abs(expr.constant)
    for atom, count in expr.terms:
        if atom.operand is None:
            # A name that is not declared is an error of its own, later.
            largest = sizes.get(atom.name, 0)
        else:
            largest = max(_peak(atom.operand, sizes), atom.divisor)
        peak += max(largest, 1) * abs(count)
    return peak
