"""What a schedule may count up to: beyond it is refused before anything is expanded.

The verifier works on 64-bit integers and holds every task of an iteration in memory. Within these
limits none of its sums can overflow, and a slip of the pen in a count is an error at once and not a
machine out of memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdsl.ir import Operation

from amk.dialects import task
from amk.dialects.access import AccessAttr
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION

MAX_TASKS = 2**20
"""Tasks of one iteration."""

MAX_COUNT = 2**31 - 1
"""Workers, iterations, uses of a packet, and the ends and steps of run-time scalars."""

MAX_BYTES = 2**48
"""The size of a buffer, and where in its arena it begins."""

MAX_VALUE = 2**48
"""The value of an expression, of every part of it too, wherever it is evaluated."""


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
    tasks = _count(schedule.body.block.ops)
    _check(schedule, "the number of tasks in one iteration", tasks, MAX_TASKS)
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


def _count(ops: Iterable[Operation]) -> int:
    """Tasks of one iteration; an empty turn of a repeat counts as one, since it takes time."""
    total = 0
    for op in ops:
        if isinstance(op, task.RepeatOp):
            total += op.count.value.data * max(_count(op.body.block.ops), 1)
        elif isinstance(op, task.FamilyOp | task.TaskOp):
            total += op.instances
    return total


def _check_tasks(ops: Iterable[Operation], sizes: Mapping[str, int]) -> None:
    for op in ops:
        if isinstance(op, task.RepeatOp):
            inside = {**sizes, op.index.data: op.count.value.data}
            _check_tasks(op.body.block.ops, inside)
        elif isinstance(op, task.FamilyOp | task.TaskOp):
            _check_task(op, {**sizes, op.index_name: op.instances})


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


def _check(op: Operation, what: str, value: int, limit: int) -> None:
    if abs(value) > limit:
        # Python refuses to print integers of more than some thousand digits.
        shown = str(value) if abs(value) < 10**30 else "beyond 10^30"
        raise AmkError(f"{what} is {shown}; the limit is {limit}", location=location_of(op))


def _check_value(
    op: task.FamilyOp | task.TaskOp, expr: Expr, sizes: Mapping[str, int], limit: int
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
