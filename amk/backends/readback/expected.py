"""What the verified IR expects of a printed program: its table, and the way from ops to columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.ir import Operation, SSAValue

from amk.backends.readback.columns import Column, Comparer
from amk.backends.readback.integers import ITERATIONS
from amk.dialects import task, tile
from amk.dialects.access import Access, AccessAttr, ExprAttr
from amk.dialects.memory import is_packet, space_of
from amk.errors import AmkError
from amk.ir.expand import Expansion, TaskLike, expand, schedule_of
from amk.ir.location import location_of
from amk.schedule.expr import Expr
from amk.schedule.table import ScheduleTable

ELEMENTS = {"f32": "float", "bf16": "amk::bf16", "i32": "int"}


@dataclass(frozen=True)
class BufferFacts:
    """A buffer of the schedule: its number, and the column of the table that it stands for."""

    op: task.BufferOp
    number: int
    visible: bool = False
    """Whether the program keeps shared memory where all workers see it."""
    exposed: bool = False
    """Whether another queue may overwrite what a task reads: plain memory that two queues share."""

    @property
    def name(self) -> str:
        return self.op.sym_name.data

    @property
    def shape(self) -> tuple[int, ...]:
        return self.op.type.get_shape()

    @property
    def space(self) -> str:
        space = space_of(self.op.type)
        return "" if self.visible and space == "shared" else space

    @property
    def packet(self) -> bool:
        return is_packet(self.op.type)

    @property
    def element(self) -> str:
        """The C++ type of an element."""
        return ELEMENTS[str(self.op.type.element_type)]

    @property
    def uses(self) -> int:
        return self.op.uses.value.data if self.op.uses else 1

    @property
    def constant(self) -> bool:
        """Whether nothing writes it while a launch runs."""
        return self.op.kind.data in ("constant", "input") and self.space != "host"

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours in each dimension."""
        return tuple(int(np.prod(self.shape[d + 1 :])) for d in range(len(self.shape)))

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape))


class Expected:
    """The schedule of a module and what follows from it."""

    def __init__(self, module: ModuleOp, *, in_tables: bool = False) -> None:
        """With `in_tables`, for a program that runs its schedule from tables."""
        self.in_tables = in_tables
        self.schedule = schedule_of(module)
        self.expansion: Expansion = expand(self.schedule)
        self.kernels = {
            op.sym_name.data: op for op in module.body.block.ops if isinstance(op, tile.KernelOp)
        }
        ops = [op for op in self.schedule.body.block.ops if isinstance(op, task.BufferOp)]
        self.buffers = {
            op.sym_name.data: BufferFacts(op, number, in_tables, self._is_exposed(number))
            for number, op in enumerate(ops)
        }
        self.comparer = Comparer(self.table.expressions, self.ranges)
        """Compares with numbers of the table; a program in tables adds its own expressions."""
        self.counters = [
            op.sym_name.data
            for op in self.schedule.body.block.ops
            if isinstance(op, task.CounterOp)
        ]

    def _is_exposed(self, number: int) -> bool:
        """Whether a buffer is plain memory that one queue writes and another accesses.

        In shared memory, that are two queues of one worker.
        """
        table = self.table
        buffer = table.buffers[number]
        if buffer.packet or buffer.kind in ("constant", "input"):
            return False
        if buffer.arena is not None:
            return True
        rows = table.access_buffer == number
        queues = table.task_queue[table.access_task[rows]].astype(np.int64)
        workers = np.array([queue.worker for queue in table.queues], np.int64)[queues]
        group = workers if buffer.space == "shared" else np.zeros(len(queues), np.int64)
        written = np.unique(group[table.access_write[rows]])
        return any(len(np.unique(queues[group == one])) > 1 for one in written.tolist())

    @cached_property
    def families(self) -> list[task.FamilyOp]:
        """The families in order; AmkError if there is anything else."""
        families: list[task.FamilyOp] = []
        for op in self.expansion.ops:
            if not isinstance(op, task.FamilyOp):
                message = f"@{op.sym_name.data}: only families are printed as loops"
                raise AmkError(message, location=location_of(op))
        for op in self.schedule.walk():
            if isinstance(op, task.FamilyOp):
                families.append(op)
        return families

    @property
    def table(self) -> ScheduleTable:
        return self.expansion.table

    @cached_property
    def owners(self) -> list[tuple[TaskLike, Mapping[str, int]]]:
        """The op of each task of the table, and the values of its indices."""
        owners: list[tuple[TaskLike, Mapping[str, int]]] = []

        def visit(op: TaskLike, repeats: dict[str, int]) -> None:
            for instance in range(op.instances):
                own = {op.index_name: instance} if op.index_name else {}
                owners.append((op, {**repeats, **own}))

        task.for_each_task(self.schedule, visit)
        return owners

    @property
    def workers(self) -> int:
        """The workers of the program: in tables, one for each queue."""
        return len(self.table.queues) if self.in_tables else self.table.workers

    def kernel_of(self, op: TaskLike) -> tile.KernelOp:
        """The kernel that a family calls; AmkError if it has none."""
        kernel = self.kernels.get(op.kernel_name or "")
        if kernel is None:
            message = f"@{op.sym_name.data}: a family without a kernel cannot be read back"
            raise AmkError(message, location=location_of(op))
        return kernel

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """The values of the run-time scalars; AmkError for one that the device layer lacks."""
        for scalar in self.table.scalars:
            if not self.in_tables and (scalar.name, scalar.step) != ("pos", 1):
                raise AmkError(f"no program can be read back that has a scalar @{scalar.name}")
        return {scalar.name: (scalar.lo, scalar.hi - 1) for scalar in self.table.scalars}

    @cached_property
    def iterations(self) -> tuple[int, int]:
        """The numbers that an iteration of a launch can have: it ends before a scalar does."""
        most = [ITERATIONS[1]]
        if self.table.iterations is not None:
            most.append(self.table.iterations - 1)
        for scalar in self.table.scalars:
            if scalar.step:
                most.append((scalar.hi - 1 - scalar.lo) // abs(scalar.step))
        return 0, min(most)

    @cached_property
    def family_of(self) -> np.ndarray:
        """The number of the family of each task, [tasks]."""
        numbers: dict[Operation, int] = {op: number for number, op in enumerate(self.families)}
        origins = np.array([numbers[op] for op in self.expansion.ops], np.int64)
        return origins[self.table.task_origin]

    @cached_property
    def by_worker(self) -> tuple[np.ndarray, np.ndarray]:
        """The tasks of all workers in order: workers [tasks] ascending, tasks [tasks].

        AmkError for a task that is on no worker's compute queue.
        """
        queues = self.table.queues
        workers = np.array([q.worker if q.agent == "compute" else -1 for q in queues], np.int64)
        owner = workers[self.table.task_queue]
        if (owner < 0).any():
            name = self.table.task_name(int(np.flatnonzero(owner < 0)[0]))
            raise AmkError(f"{name} runs on no worker's compute queue: it cannot be read back")
        order = np.lexsort((np.arange(len(owner)), owner))
        return owner[order], order

    @cached_property
    def access_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the accesses sorted by task, and where each task's begin, [tasks + 1]."""
        order = np.argsort(self.table.access_task, kind="stable")
        starts = np.searchsorted(
            self.table.access_task[order], np.arange(self.table.n_tasks + 1), side="left"
        )
        return order, starts

    def signalled(self, counter: str) -> int:
        """What one iteration adds to a counter."""
        number = self.counters.index(counter)
        return int(self.table.signal_amount[self.table.signal_counter == number].sum())


@dataclass(frozen=True)
class Tasks:
    """The tasks of a family that one place executes: `ids` [n], one for each lane."""

    expected: Expected
    op: TaskLike
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def kernel(self) -> tile.KernelOp:
        return self.expected.kernel_of(self.op)

    @property
    def fast(self) -> bool:
        """Whether the kernel's exponentials, divisions and roots may be approximate."""
        return self.kernel.fast is not None

    @cached_property
    def worker(self) -> np.ndarray:
        """The worker of each task."""
        table = self.expected.table
        workers = np.array([queue.worker for queue in table.queues], np.int64)
        return workers[table.task_queue[self.ids]]

    @cached_property
    def indices(self) -> Mapping[str, np.ndarray]:
        """The index of the family and those of the repeats around it, for each task."""
        found = [self.expected.owners[number][1] for number in self.ids.tolist()]
        names = found[0] if found else {}
        return {name: np.array([values[name] for values in found], np.int64) for name in names}

    @cached_property
    def regions(self) -> dict[SSAValue, Region]:
        """What each memref parameter of the kernel is bound to."""
        order, starts = self.expected.access_start
        regions: dict[SSAValue, Region] = {}
        rank = 0
        parameters = self.kernel.body.block.args
        for argument, parameter in zip(self.op.args, parameters, strict=True):
            if isinstance(argument, AccessAttr):
                access = argument.data
                rows = order[starts[self.ids] + rank]
                table = self.expected.table
                number = self.expected.buffers[access.buffer].number
                if (table.access_buffer[rows] != number).any():
                    raise AmkError(f"@{self.op.sym_name.data}: its accesses are in another order")
                regions[parameter] = Region(self, access, rows)
                rank += access.reads + access.writes
        return regions

    @cached_property
    def index_arguments(self) -> list[tuple[SSAValue, Expr]]:
        """The index parameters of the kernel with their values."""
        parameters = self.kernel.body.block.args
        return [
            (parameter, argument.data)
            for argument, parameter in zip(self.op.args, parameters, strict=True)
            if isinstance(argument, ExprAttr) and isinstance(parameter.type, IndexType)
        ]


@dataclass(frozen=True)
class Region:
    """A parameter's region for each task: rows of the table's accesses, [n]."""

    tasks: Tasks
    access: Access
    rows: np.ndarray

    @property
    def buffer(self) -> BufferFacts:
        return self.tasks.expected.buffers[self.access.buffer]

    def low(self, dimension: int) -> Column:
        """The first index in a dimension."""
        table = self.tasks.expected.table
        return Column(
            table.access_lo[self.rows, dimension].astype(np.int64),
            ((1, table.access_lo_expr[self.rows, dimension]),),
        )

    def high(self, dimension: int) -> Column:
        """One past the last index in a dimension."""
        table = self.tasks.expected.table
        return Column(
            table.access_hi[self.rows, dimension].astype(np.int64),
            ((1, table.access_hi_expr[self.rows, dimension]),),
        )

    def extent(self, dimension: int) -> Column:
        """The number of indices in a dimension."""
        column = self.high(dimension) - self.low(dimension)
        return self.tasks.expected.comparer.simplified(column)

    def spans(self, dimension: int, extent: int) -> bool:
        """Whether it is [0, extent) in a dimension, for every task."""
        low, high = self.low(dimension), self.high(dimension)
        return low.equals(0) and high.equals(extent)

    @property
    def use(self) -> Column:
        table = self.tasks.expected.table
        return Column(table.access_use[self.rows].astype(np.int64))

    @property
    def guard(self) -> np.ndarray:
        """Numbers of the guard expressions, -1 for none."""
        return self.tasks.expected.table.access_guard[self.rows]

    @property
    def kept(self) -> list[int]:
        """The dimensions that the parameter has."""
        return [d for d, dim in enumerate(self.access.dims) if dim.hi is not None]

    @property
    def offset(self) -> Column:
        """Elements from the start of the buffer; in shared memory, of the worker's row."""
        first = 1 if self.buffer.space == "shared" else 0
        total = Column.of(0, len(self.tasks))
        for dimension in range(first, len(self.buffer.shape)):
            total = total + self.low(dimension) * self.buffer.strides[dimension]
        return total

    @property
    def private(self) -> bool:
        """Whether it lies in the row of the task's own worker, as shared memory has to."""
        return self.low(0).equals(self.tasks.worker) and self.extent(0).equals(1)

    @property
    def run(self) -> Column | None:
        """The number of neighbouring elements that it is; None where it is no such run.

        That is one range, in a dimension after which all dimensions are whole and before which
        there is one index.
        """
        shape = self.buffer.shape
        dimensions = range(1 if self.buffer.space == "shared" else 0, len(shape))
        for dimension in dimensions:
            if self.extent(dimension).equals(1) and dimension < len(shape) - 1:
                continue
            if all(self.spans(d, shape[d]) for d in dimensions if d > dimension):
                return self.extent(dimension) * self.buffer.strides[dimension]
            return None
        return Column.of(1, len(self.tasks))
