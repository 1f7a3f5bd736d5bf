"""The constant tables of a printed program against the verified table, number by number.

The device layer's `run_table` executes them; what the columns are is said there. Waits, signals,
guards, boxes and uses have to be those of the table, for each task of each queue in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np

from amk.backends.device import TABLE_DIMS
from amk.backends.readback import syntax
from amk.backends.readback.columns import Column, Comparer
from amk.backends.readback.expected import BufferFacts, Expected, Tasks
from amk.backends.readback.integers import INT
from amk.backends.readback.mismatch import fail, require
from amk.dialects.access import AccessAttr, Argument, ExprAttr
from amk.interpreters.default_task import identity_of
from amk.ir.expand import TaskLike
from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION

NAMES = (
    "kQueues",
    "kTasks",
    "kWaits",
    "kSignals",
    "kAccesses",
    "kValues",
    "kBuffers",
    "kExpressions",
    "kCode",
)
KERNEL, IDENTITY, GUARD, WAITS, SIGNALS, ACCESSES, VALUES, WIDTH = range(8)
"""Columns of a task."""
FORMS = {"": 0, "bf16": 1, "packet": 2, "bf16 packet": 3, "host": 4, "host_packet": 5}
"""How elements are kept: `amk::Form`."""
DEEPEST = 8
"""Numbers that the device layer holds while it computes an expression."""
NONE = -1


class Operation(IntEnum):
    """The operations of an expression in postfix form: `amk::Operation`."""

    END = 0
    CONSTANT = 1
    SCALAR = 2
    ITERATION = 3
    TIMES = 4
    PLUS = 5
    FLOORDIV = 6
    MOD = 7


BARE = (Operation.ITERATION, Operation.PLUS)
"""Operations whose number means nothing, and is 0."""
OPERANDS = {Operation.TIMES: 1, Operation.PLUS: 2, Operation.FLOORDIV: 1, Operation.MOD: 1}
"""How many results an operation takes from the stack, if any."""


class Ranged(NamedTuple):
    """An expression, with the smallest and the largest value that it can have."""

    expr: Expr
    lo: int
    hi: int


@dataclass(frozen=True)
class Printed:
    """The tables of a program, with what they mean."""

    tables: Mapping[str, syntax.Table]
    expected: Expected

    def numbers(self, name: str, width: int = 1) -> np.ndarray:
        """A table as rows, [n, width]."""
        table = self.tables[name]
        values = np.array(table.numbers, np.int64)
        require(len(values) % width == 0, table, f"{name} has rows of {width} numbers")
        fits = bool(((values >= INT[0]) & (values <= INT[1])).all())
        require(fits, table, f"a number of {name} is no int")
        return values.reshape(-1, width)

    @cached_property
    def order(self) -> np.ndarray:
        """The tasks of the verified table in the order of the printed one: queue by queue."""
        return np.argsort(self.expected.table.task_queue, kind="stable")

    @cached_property
    def tasks(self) -> np.ndarray:
        """The printed tasks, [tasks + 1, columns]; the last row only ends the one before."""
        rows = self.numbers("kTasks", WIDTH)
        count = self.expected.table.n_tasks
        require(len(rows) == count + 1, self.tables["kTasks"], f"there are {count} tasks")
        first, rest = rows[0, WAITS:], np.diff(rows[:, WAITS:], axis=0)
        right = not first.any() and bool((rest >= 0).all())
        require(right, self.tables["kTasks"], "the parts of a task follow those of the one before")
        ends = rows[-1, :WAITS].tolist() == [NONE, 0, NONE]
        require(ends, self.tables["kTasks"], "the last row is no task")
        return rows

    @property
    def expressions(self) -> list[Expr]:
        """What the code of each expression computes, in the names of the verified table."""
        return [expr for expr, _, _ in self._code]

    @cached_property
    def _code(self) -> list[Ranged]:
        """The expressions, in the order of their numbers."""
        starts = self.numbers("kExpressions")[:, 0].tolist()
        code = self.numbers("kCode", 2 if len(self.tables["kCode"].numbers) > 1 else 1)
        if len(code.reshape(-1)) == 1:
            return []
        expressions: list[Ranged] = []
        place = 0
        for start in starts:
            at = self.tables["kExpressions"]
            require(start == 2 * place, at, "an expression starts where the last one ends")
            expr, place = self._decoded(code, place)
            expressions.append(expr)
        require(place == len(code), self.tables["kCode"], "there is code of no expression")
        return expressions

    def _decoded(self, code: np.ndarray, first: int) -> tuple[Ranged, int]:
        """The expression of the postfix code from `first` on, and where the code after it is."""
        node = self.tables["kCode"]
        require(len(self.expected.table.scalars) <= 1, node, "a launch passes one scalar")
        stack: list[Ranged] = []
        for place in range(first, len(code)):
            operation, number = code[place].tolist()
            if operation == Operation.END:
                require(number == 0, node, "the end of an expression has no number")
                require(len(stack) == 1, node, "an expression gives one number")
                return stack[0], place + 1
            kept = max(0, len(stack) - OPERANDS.get(operation, 0))
            result = self._result(operation, number, stack[kept:])
            fits = INT[0] <= result.lo and result.hi <= INT[1]
            require(fits, node, "an expression may not fit into an int")
            stack[kept:] = [result]
            require(len(stack) <= DEEPEST, node, f"an expression needs more than {DEEPEST} numbers")
        return fail(node, "an expression does not end")

    def _result(self, operation: int, number: int, operands: list[Ranged]) -> Ranged:
        """What an operation puts on the stack in place of its operands."""
        node = self.tables["kCode"]
        bare = operation not in BARE or number == 0
        require(bare, node, "an operation without a number has one")
        match operation, operands:
            case Operation.CONSTANT, []:
                return Ranged(Expr.const(number), number, number)
            case Operation.SCALAR, []:
                return self._scalar(number)
            case Operation.ITERATION, []:
                return Ranged(Expr.var(ITERATION), *self.expected.iterations)
            case Operation.TIMES, [(expr, lo, hi)]:
                return Ranged(expr * number, *sorted((lo * number, hi * number)))
            case Operation.PLUS, [left, right]:
                return Ranged(left.expr + right.expr, left.lo + right.lo, left.hi + right.hi)
            case Operation.FLOORDIV | Operation.MOD, [_] if number <= 0:
                return fail(node, "a division by no positive number")
            case Operation.FLOORDIV, [(expr, lo, hi)]:
                return Ranged(expr // number, lo // number, hi // number)
            case Operation.MOD, [(expr, _, _)]:
                return Ranged(expr % number, 0, number - 1)
            case _:
                return fail(node, "this is no expression")

    def _scalar(self, more: int) -> Ranged:
        """The run-time scalar, which advances by one and `more` with each iteration."""
        node = self.tables["kCode"]
        scalars = {scalar.step - 1: scalar for scalar in self.expected.table.scalars}
        require(more in scalars, node, "no scalar advances like this")
        scalar = scalars[more]
        return Ranged(Expr.var(scalar.name), scalar.lo, scalar.hi - 1)

    @cached_property
    def comparer(self) -> Comparer:
        """Compares with expressions of the verified table, and after them the printed ones."""
        known = self.expected.table.expressions
        return Comparer([*known, *self.expressions], self.expected.ranges)

    def column(self, pairs: np.ndarray) -> Column:
        """Printed numbers: constants and numbers of expressions, [n, 2]."""
        known = len(self.expected.table.expressions)
        right = bool(((pairs[:, 1] >= NONE) & (pairs[:, 1] < len(self.expressions))).all())
        require(right, self.tables["kValues"], "there is no such expression")
        shifted = np.where(pairs[:, 1] < 0, NONE, pairs[:, 1] + known)
        column = Column(pairs[:, 0], ((1, shifted),))
        if len(pairs):
            lows, highs = self.span(column)
            fits = INT[0] <= int(lows.min()) and int(highs.max()) <= INT[1]
            require(fits, self.tables["kValues"], "a number may not fit into an int")
        return column

    def span(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest value of each printed number, over the scalars."""
        ((_, ids),) = column.parts
        lows = np.array([*(lo for _, lo, _ in self._code), 0])
        highs = np.array([*(hi for _, _, hi in self._code), 0])
        known = len(self.expected.table.expressions)
        own = np.where(ids < 0, NONE, ids - known)
        return column.constant + lows[own], column.constant + highs[own]

    def alike(self, pairs: np.ndarray, column: Column) -> bool:
        """Whether printed numbers are those of a column of the verified table."""
        return self.comparer.simplified(self.column(pairs) - column).equals(0)

    def same_expressions(self, printed: np.ndarray, verified: np.ndarray) -> bool:
        """Whether numbers of expressions, -1 for none, name equal ones."""
        none = (printed < 0) == (verified < 0)
        zeros = np.zeros(len(printed), np.int64)
        pairs = np.stack([zeros, printed], axis=1)
        return bool(none.all()) and self.alike(pairs, Column(zeros, ((1, verified),)))


def read_tables(unit: syntax.Unit, expected: Expected) -> Printed:
    """The tables of a program; Mismatch unless they are the schedule's, apart from the values."""
    right = [table.name for table in unit.tables] == list(NAMES)
    require(right, unit.tables[0], f"the tables are {', '.join(NAMES)}, in this order")
    printed = Printed({table.name: table for table in unit.tables}, expected)
    expected.comparer = printed.comparer
    _check_queues(printed)
    _check_buffers(printed)
    _check_counters(printed)
    table, node = expected.table, printed.tables["kTasks"]
    guards = printed.tasks[:-1, GUARD], table.task_guard[printed.order].astype(np.int64)
    require(printed.same_expressions(*guards), node, "a task has another guard")
    _check_accesses(printed)
    return printed


def _check_queues(printed: Printed) -> None:
    table = printed.expected.table
    counts = np.bincount(table.task_queue, minlength=len(table.queues))
    wanted = np.cumsum([0, *counts])
    found = printed.numbers("kQueues")[:, 0]
    right = np.array_equal(found, wanted)
    require(right, printed.tables["kQueues"], "the queues have other tasks")


def _check_buffers(printed: Printed) -> None:
    """Form, uses, rank and shape of each buffer."""
    rows: list[list[int]] = []
    for buffer in printed.expected.buffers.values():
        shape = list(buffer.shape)
        require(len(shape) <= TABLE_DIMS, printed.tables["kBuffers"], f"the rank of @{buffer.name}")
        rest = [0] * (TABLE_DIMS - len(shape))
        rows.append([_form(buffer), buffer.uses, len(shape), *shape, *rest])
    wanted = [number for row in rows for number in row] or [0]
    right = list(printed.tables["kBuffers"].numbers) == wanted
    require(right, printed.tables["kBuffers"], "a buffer is kept in another form")


def _form(buffer: BufferFacts) -> int:
    bf16 = "bf16 " if buffer.element == "amk::bf16" else ""
    space = buffer.space if buffer.space in ("packet", "host", "host_packet") else ""
    return FORMS[f"{bf16}{space}".strip()]


def _check_counters(printed: Printed) -> None:
    """The waits and signals of each task, in order."""
    expected, table = printed.expected, printed.expected.table
    totals = np.array([expected.signalled(name) for name in expected.counters], np.int64)
    waits = np.stack([table.wait_counter, totals[table.wait_counter], table.wait_threshold], axis=1)
    signals = np.stack([table.signal_counter, table.signal_amount], axis=1)
    for name, column, owners, rows in (
        ("kWaits", WAITS, table.wait_task, waits),
        ("kSignals", SIGNALS, table.signal_task, signals),
    ):
        counts = np.bincount(owners, minlength=table.n_tasks)[printed.order]
        ends = np.cumsum([0, *counts])
        wanted = rows[np.argsort(np.argsort(printed.order)[owners], kind="stable")]
        node = printed.tables[name]
        found = np.array(node.numbers, np.int64)
        right = np.array_equal(printed.tasks[:, column], ends) and np.array_equal(
            found, wanted.reshape(-1) if len(wanted) else [0]
        )
        require(right, node, f"{name} is not what the tasks wait for, or signal")


def _check_accesses(printed: Printed) -> None:
    """The accesses of tasks without a kernel, which the device layer makes one by one."""
    expected, table = printed.expected, printed.expected.table
    order, starts = expected.access_start
    node = printed.tables["kAccesses"]
    numbers = np.array(node.numbers, np.int64)
    place = 0
    for row, task in enumerate(printed.order.tolist()):
        require(printed.tasks[row, ACCESSES] == place, node, "accesses follow each other")
        op, _ = expected.owners[task]
        without = printed.tasks[row, KERNEL] == NONE
        name = table.task_name(task)
        require(without == (op.kernel is None), printed.tables["kTasks"], f"the kernel of {name}")
        identity = printed.tasks[row, IDENTITY] % 2**32
        require(identity == identity_of(name), printed.tables["kTasks"], f"the identity of {name}")
        if not without:
            continue
        for access in order[starts[task] : starts[task + 1]].tolist():
            rank = int(table.access_rank[access])
            found = numbers[place : place + 4 + 4 * rank]
            place += 4 + 4 * rank
            require(len(found) == 4 + 4 * rank, node, f"an access of {name} is missing")
            if not _same_access(printed, found, access, rank):
                fail(node, f"an access of {name} is not {table.box_text(access)}")
    last = printed.tasks[-1, ACCESSES] == place
    require(last and len(numbers) == max(place, 1), node, "accesses of no task")


def _same_access(printed: Printed, found: np.ndarray, access: int, rank: int) -> bool:
    table = printed.expected.table
    head = (table.access_buffer[access], table.access_write[access], table.access_use[access])
    if found[:3].tolist() != [int(number) for number in head]:
        return False
    if not printed.same_expressions(found[3:4], table.access_guard[[access]].astype(np.int64)):
        return False
    bounds = found[4:].reshape(-1, 2, 2)
    return all(
        printed.alike(
            bounds[d, side : side + 1],
            Column(values[[access], d].astype(np.int64), ((1, exprs[[access], d]),)),
        )
        for d in range(rank)
        for side, values, exprs in (
            (0, table.access_lo, table.access_lo_expr),
            (1, table.access_hi, table.access_hi_expr),
        )
    )


def values_of(printed: Printed, op: TaskLike, rows: np.ndarray) -> list[Column]:
    """The values that `rows` (tasks like one op) pass, as columns of the printed expressions.

    Mismatch unless they are, argument by argument, an index, or the bounds and use of an access.
    """
    tasks = Tasks(printed.expected, op, printed.order[rows])
    wanted: list[tuple[Column, Comparer]] = []
    known = printed.comparer
    regions = iter(tasks.regions.values()) if op.kernel is not None else iter(())
    for number, argument in enumerate(op.args):
        if not isinstance(argument, AccessAttr):
            wanted.append(_indices(printed, tasks, number))
        elif op.kernel is not None:
            region = next(regions)
            for dimension in range(len(argument.data.dims)):
                wanted.append((region.low(dimension), known))
                wanted.append((region.high(dimension), known))
            if argument.data.use is not None:
                wanted.append((region.use, known))
    node = printed.tables["kValues"]
    starts, ends = printed.tasks[rows, VALUES], printed.tasks[rows + 1, VALUES]
    name = op.sym_name.data
    right = bool((ends - starts == len(wanted)).all())
    require(right, node, f"a task of @{name} passes {len(wanted)} values")
    values = printed.numbers("kValues", 2)
    found = [printed.column(values[starts + k]) for k in range(len(wanted))]
    for number, (column, (reference, comparer)) in enumerate(zip(found, wanted, strict=True)):
        right = comparer.simplified(column - reference).equals(0)
        require(right, node, f"value {number} of @{name} is another")
    return found


def _indices(printed: Printed, tasks: Tasks, number: int) -> tuple[Column, Comparer]:
    """An index argument of each task, with a comparer that knows its expressions."""
    known = printed.comparer
    constants: list[int] = []
    rests: dict[Expr, int] = {}
    ids: list[int] = []
    for task in tasks.ids.tolist():
        op, indices = printed.expected.owners[task]
        argument = op.args.data[number]
        assert isinstance(argument, ExprAttr)
        value = argument.data.substitute(dict(indices))
        constants.append(value.constant)
        rest = value - value.constant
        place = rests.setdefault(rest, len(known.expressions) + len(rests))
        ids.append(NONE if rest.is_const else place)
    column = Column(np.array(constants, np.int64), ((1, np.array(ids, np.int64)),))
    return column, replace(known, expressions=[*known.expressions, *rests])


def last_value(printed: Printed) -> None:
    """Mismatch if there are values of no task."""
    node = printed.tables["kValues"]
    right = 2 * printed.tasks[-1, VALUES] == len(node.numbers) or len(node.numbers) == 1
    require(right, node, "values of no task")


def rows_of(printed: Printed, case: int) -> list[tuple[TaskLike, np.ndarray]]:
    """The printed tasks of a case (-1: without a kernel), in groups of tasks like one op.

    Tasks are alike if they call the same kernel, and bind it to the same buffers in the same way.
    """
    groups: dict[tuple[object, ...], tuple[TaskLike, list[int]]] = {}
    for row in np.flatnonzero(printed.tasks[:-1, KERNEL] == case).tolist():
        op, _ = printed.expected.owners[int(printed.order[row])]
        key = (op.kernel_name, *(_manner(argument) for argument in op.args))
        groups.setdefault(key, (op, []))[1].append(row)
    return [(op, np.array(rows, np.int64)) for op, rows in groups.values()]


def _manner(argument: Argument) -> tuple[object, ...]:
    """How an argument is bound, whatever the task."""
    if not isinstance(argument, AccessAttr):
        return ()
    access = argument.data
    single = tuple(dim.hi is None for dim in access.dims)
    return access.mode, access.buffer, single, access.use is None
