"""Prints an irregular schedule: its tasks as constant tables, with a loop that dispatches them.

Families that are placed by index arithmetic are loops (`schedule.py`). Everything else that the
`task` dialect can say comes here: explicit tasks, guarded families, placements of any kind, stream
queues, tasks with a queue of their own, tasks without a kernel, buffers that share an arena. Each
queue becomes a worker of the program; what is shared by the agents of a worker lies in memory that
all of them see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import IndexType
from xdsl.ir import SSAValue

from amk.backends.device import TABLE_DIMS
from amk.backends.printer.bindings import C_TYPES, Binding, Buffer, counters_of
from amk.backends.printer.expressions import INT_MAX, Variables
from amk.backends.printer.kernel import KernelPrinter
from amk.backends.printer.schedule import Family, Owner, check_guards
from amk.backends.printer.text import LOCALS, Writer, spell
from amk.dialects import task, tile
from amk.dialects.access import Access, AccessAttr, Dim
from amk.errors import AmkError
from amk.interpreters.default_task import identity_of
from amk.ir.expand import TaskLike, expand
from amk.ir.location import location_of
from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION

FORMS = ("", "bf16", "packet", "bf16 packet", "host", "host_packet")
"""How elements are kept, in the order of `amk::Form`."""
NUMBERS_PER_LINE = 24
NONE = -1
END, CONSTANT, SCALAR, ITERATION_VALUE, TIMES, PLUS, FLOORDIV, MOD = range(8)
"""`amk::Operation`."""


class VisibleBuffer(Buffer):
    """A buffer of which nothing lies in shared memory: a queue is a worker of its own here."""

    @property
    def space(self) -> str:
        return "" if super().space == "shared" else super().space


@dataclass(frozen=True)
class Variant:
    """A kernel with the buffers that its parameters are bound to: one case of the dispatch."""

    kernel: tile.KernelOp
    family: Family
    bindings: Mapping[SSAValue, Binding]
    indices: Mapping[SSAValue, str]
    """C++ names of the index parameters."""
    names: tuple[str, ...]
    """C++ names of the values that a task passes, in order."""


@dataclass
class Tables:
    """The numbers of every table, as `amk::Table` describes them."""

    queues: list[int] = field(default_factory=lambda: [0])
    tasks: list[Sequence[int]] = field(default_factory=list)
    waits: list[Sequence[int]] = field(default_factory=list)
    signals: list[Sequence[int]] = field(default_factory=list)
    accesses: list[int] = field(default_factory=list)
    values: list[Sequence[int]] = field(default_factory=list)
    buffers: list[Sequence[int]] = field(default_factory=list)


class TablePrinter:
    """Prints the tables and the programs of the two agents of a worker."""

    def __init__(
        self,
        schedule: task.ScheduleOp,
        owners: Sequence[Owner],
        families: Mapping[TaskLike, Family],
        buffers: Mapping[str, Buffer],
    ) -> None:
        """`owners` and `families` are those of `schedule.owners_of` and `families_of`."""
        self.schedule = schedule
        self.table = expand(schedule).table
        self.owners = owners
        self.families = families
        self.buffers = buffers
        self.counters = counters_of(schedule)
        self.expressions: dict[Expr, int] = {e: i for i, e in enumerate(self.table.expressions)}
        self.steps = _scalar_steps(schedule)
        self.variants: dict[tuple[object, ...], int] = {}
        self.cases: list[Variant] = []
        self.tables = Tables()
        self.order = np.argsort(self.table.task_queue, kind="stable").tolist()
        """The tasks, queue by queue: row r of the printed table is task order[r]."""
        self._check_queues()
        self._fill()

    @property
    def queues(self) -> int:
        """The workers of the program."""
        return len(self.table.queues)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Of the rows of the printed table."""
        return tuple(self.table.task_name(number) for number in self.order)

    # ---- the numbers -----------------------------------------------------------------------

    def _check_queues(self) -> None:
        """Every queue must learn whether the loop ends: from a task of its own."""
        stops = {
            op
            for op, family in self.families.items()
            if any(isinstance(inner, tile.StopOp) for inner in family.kernel.walk())
        }
        if not stops:
            return
        deciding = {
            int(self.table.task_queue[number])
            for number, (op, _) in enumerate(self.owners)
            if op in stops
        }
        for number, queue in enumerate(self.table.queues):
            if number not in deciding:
                raise AmkError(
                    f"no task of {queue} decides whether the loop ends, but others do: the printer "
                    f"needs a tile.stop in every queue",
                    location=location_of(self.schedule),
                )

    def _fill(self) -> None:
        table, tables = self.table, self.tables
        tables.buffers = [self._buffer(b) for b in self.buffers.values()]
        totals = np.zeros(len(table.counters), np.int64)
        np.add.at(totals, table.signal_counter, table.signal_amount)
        waits, signals, accesses = (
            _rows_by_task(tasks, table.n_tasks)
            for tasks in (table.wait_task, table.signal_task, table.access_task)
        )
        for number in self.order:
            op, names = self.owners[number]
            kernel = NONE
            starts = self._starts()
            tables.waits += [
                (
                    int(table.wait_counter[row]),
                    int(totals[table.wait_counter[row]]),
                    int(table.wait_threshold[row]),
                )
                for row in waits[number]
            ]
            tables.signals += [
                (int(table.signal_counter[row]), int(table.signal_amount[row]))
                for row in signals[number]
            ]
            if op in self.families:
                kernel = self._variant(self.families[op])
                for argument in op.args:
                    self._argument(argument, names)
            else:
                for argument in op.args:
                    if not isinstance(argument, AccessAttr):
                        self._value(argument.data, names)
                for row in accesses[number]:
                    self._access(row)
            identity = identity_of(table.task_name(number))
            guard = int(table.task_guard[number])
            tables.tasks.append((kernel, _signed(identity), guard, *starts))
        tables.tasks.append((NONE, 0, NONE, *self._starts()))
        counts = np.bincount(table.task_queue, minlength=self.queues)
        tables.queues = [0, *np.cumsum(counts).tolist()]

    def _starts(self) -> tuple[int, int, int, int]:
        t = self.tables
        return len(t.waits), len(t.signals), len(t.accesses), len(t.values)

    def _buffer(self, buffer: Buffer) -> Sequence[int]:
        shape = buffer.type.get_shape()
        if len(shape) > TABLE_DIMS:
            raise AmkError(
                f"@{buffer.name} has {len(shape)} dimensions; tables hold {TABLE_DIMS}",
                location=location_of(buffer.op),
            )
        bf16 = "bf16 " if buffer.element == "bf16" else ""
        space = buffer.space if buffer.space in ("packet", "host", "host_packet") else ""
        form = FORMS.index(f"{bf16}{space}".strip())
        return form, buffer.uses, len(shape), *shape, *[0] * (TABLE_DIMS - len(shape))

    def _access(self, row: int) -> None:
        table = self.table
        buffer = [*self.buffers.values()][table.access_buffer[row]]
        if buffer.space == "stream":
            name = table.task_name(int(table.access_task[row]))
            raise AmkError(f"@{name}: only a kernel can read @{buffer.name}, which is packed")
        numbers = [
            int(table.access_buffer[row]),
            int(table.access_write[row]),
            int(table.access_use[row]),
            int(table.access_guard[row]),
        ]
        for dim in range(int(table.access_rank[row])):
            numbers += [
                int(table.access_lo[row, dim]),
                int(table.access_lo_expr[row, dim]),
                int(table.access_hi[row, dim]),
                int(table.access_hi_expr[row, dim]),
            ]
        self.tables.accesses += numbers

    def _argument(self, argument, names: Mapping[str, int]) -> None:
        if not isinstance(argument, AccessAttr):
            self._value(argument.data, names)
            return
        for dim in argument.data.dims:
            self._value(dim.lo, names)
            self._value(dim.end, names)
        if argument.data.use is not None:
            self._value(argument.data.use, names)

    def _value(self, expr: Expr, names: Mapping[str, int]) -> None:
        """Add a value as a constant and the number of an expression over run-time scalars."""
        value = expr.substitute(names)
        rest = value - value.constant
        number = NONE
        if not rest.is_const:
            number = self.expressions.setdefault(rest, len(self.expressions))
        self.tables.values.append((value.constant, number))

    # ---- kernels ---------------------------------------------------------------------------

    def _variant(self, family: Family) -> int:
        """The case of the dispatch that runs a task; tasks with equal bindings share one."""
        check_guards(family)
        key: tuple[object, ...] = (family.kernel,)
        for argument in family.op.args:
            if isinstance(argument, AccessAttr):
                single = tuple(dim.hi is None for dim in argument.data.dims)
                key = (*key, argument.data.buffer, single)
        if key not in self.variants:
            self.variants[key] = len(self.cases)
            self.cases.append(self._bind(family))
        return self.variants[key]

    def _bind(self, family: Family) -> Variant:
        """The parameters of a kernel, bound to regions whose bounds are values of the task."""
        names: list[str] = []
        variables = Variables()
        bindings: dict[SSAValue, Binding] = {}
        indices: dict[SSAValue, str] = {}

        def declare(name: str, last: int) -> Expr:
            nonlocal variables
            names.append(name)
            variables = variables.with_variable(name, name, last)
            return Expr.var(name)

        accesses: list[tuple[SSAValue, Access]] = []
        parameters = family.kernel.body.block.args
        for number, (argument, parameter) in enumerate(
            zip(family.op.args, parameters, strict=True)
        ):
            if not isinstance(argument, AccessAttr):
                assert isinstance(parameter.type, IndexType)
                indices[parameter] = spell(parameter.name_hint or "first", {*LOCALS, *names})
                names.append(indices[parameter])
                continue
            access = argument.data
            buffer = self.buffers[access.buffer]
            dims: list[Dim] = []
            for d, (dim, size) in enumerate(zip(access.dims, buffer.type.get_shape(), strict=True)):
                low = declare(f"lo{number}_{d}", size)
                high = declare(f"hi{number}_{d}", size)
                dims.append(Dim(low, None if dim.hi is None else high))
            use = None if access.use is None else declare(f"use{number}", buffer.uses - 1)
            accesses.append((parameter, Access(access.mode, access.buffer, tuple(dims), use)))
        for parameter, access in accesses:
            bindings[parameter] = Binding(self.buffers[access.buffer], access, variables)
        return Variant(family.kernel, family, bindings, indices, tuple(names))

    # ---- text ------------------------------------------------------------------------------

    def print(self, writer: Writer, gpu: bool) -> None:
        """The tables and both programs; a GPU has agents that stream the weights."""
        self.print_tables(writer)
        writer.line()
        self.compute(writer)
        writer.line()
        if gpu:
            self.stream(writer)
            writer.line()

    def print_tables(self, writer: Writer) -> None:
        """The constants."""
        writer.comment("The schedule as tables; amk::Table says what the columns are.")
        t = self.tables
        code: list[Sequence[int]] = []
        starts: list[int] = []
        for expr in self.expressions:
            starts.append(2 * len(code))
            code += [*self._postfix(expr), (END, 0)]
        for name, rows in (
            ("kQueues", t.queues), ("kTasks", t.tasks), ("kWaits", t.waits),
            ("kSignals", t.signals), ("kAccesses", t.accesses), ("kValues", t.values),
            ("kBuffers", t.buffers), ("kExpressions", starts), ("kCode", code),
        ):  # fmt: skip
            _print_numbers(writer, name, rows)

    def compute(self, writer: Writer) -> None:
        """The program of the compute agent of each worker."""
        with writer.block("AMK_DEVICE void compute(amk::Worker& w, const Buffers& b)"):
            memory = ", ".join(f"(void*)b.{buffer.spelling}" for buffer in self.buffers.values())
            counters = ", ".join(f"b.{name}" for name in self.counters.values())
            writer.line(f"void* const memory[] = {{{memory or 'nullptr'}}};")
            writer.line(f"uint32_t* const counters[] = {{{counters or 'nullptr'}}};")
            writer.line(
                "const amk::Table table = {kQueues, kTasks, kWaits, kSignals, kAccesses, kValues, "
                f"kBuffers, kExpressions, kCode, {len(self.buffers)}, memory, counters}};"
            )
            if not self.cases:
                writer.line("amk::run_table(w, table, amk::NoKernels());")
                return
            head = "amk::run_table(w, table, [&](int number, const auto& value)"
            with writer.block(head, "});"), writer.block("switch (number)"):
                for number, variant in enumerate(self.cases):
                    with writer.block(f"case {number}:"):
                        writer.comment(f"calls @{variant.kernel.sym_name.data}")
                        _declare(writer, variant)
                        _Kernel(writer, variant.bindings, variant.indices).print(variant.kernel)
                        writer.line("break;")

    def stream(self, writer: Writer) -> None:
        """The copies of the weights that the products of each worker's queue consume."""
        with writer.block("AMK_DEVICE void stream(amk::Producer& w, const Buffers& b)"):
            streaming = [n for n, case in enumerate(self.cases) if case.family.products]
            writer.line("(void)b;")
            if not streaming:
                writer.line("(void)w;")
                return
            head = "for (int t = kQueues[w.id]; t < kQueues[w.id + 1]; ++t)"
            with writer.block("while (w.next())"), writer.block(head):
                writer.line("const int* const task = kTasks + t * amk::kTaskColumns;")
                writer.line("const int* const values = kValues + 2 * task[amk::kFirstValue];")
                writer.line("const auto value = [&](int i) { return values[2 * i]; };")
                writer.line("const int number = task[amk::kKernel];")
                for number in streaming:
                    with writer.block(f"if (number == {number})"):
                        self._copies(writer, self.cases[number])

    def _copies(self, writer: Writer, variant: Variant) -> None:
        self._check_streams(variant)
        _declare(writer, variant)
        for product in variant.family.products:
            writer.line(f"amk::stream(w, {_stream(product, variant.bindings)});")

    def _postfix(self, expr: Expr) -> list[tuple[int, int]]:
        """Operations and their numbers, as `amk::Numbers` takes them."""
        code: list[tuple[int, int]] = []
        for atom, factor in expr.terms:
            some = bool(code)
            if atom.operand is not None:
                kind = FLOORDIV if atom.kind == "floordiv" else MOD
                code += [*self._postfix(atom.operand), (kind, atom.divisor)]
            elif atom.name == ITERATION:
                code.append((ITERATION_VALUE, 0))
            else:
                code.append((SCALAR, self.steps[atom.name] - 1))
            if factor != 1:
                code.append((TIMES, factor))
            if some:
                code.append((PLUS, 0))
        if expr.constant or not code:
            code += [(CONSTANT, expr.constant), *[(PLUS, 0)] * bool(code)]
        return code

    def _check_streams(self, variant: Variant) -> None:
        """The copies run ahead of everything: what they copy must not depend on a scalar."""
        op = variant.family.op
        if op.guard is not None:
            raise AmkError(
                f"@{op.sym_name.data}: a task that streams weights cannot be guarded",
                location=location_of(op),
            )


def _declare(writer: Writer, variant: Variant) -> None:
    for position, name in enumerate(variant.names):
        writer.line(f"[[maybe_unused]] const int {name} = value({position});")


class _Kernel(KernelPrinter):
    """Prints a kernel whose streamed weights are any whole row blocks of a constant."""

    def __init__(
        self,
        writer: Writer,
        bindings: Mapping[SSAValue, Binding],
        indices: Mapping[SSAValue, str],
    ) -> None:
        super().__init__(writer, bindings, indices, 1, "0")

    def _stream(self, op: tile.ProductOp) -> str:
        return _stream(op, self.bindings)


def _stream(op: tile.ProductOp, bindings: Mapping[SSAValue, Binding]) -> str:
    """Some row blocks of packed weights, as an `amk::Stream` of one instance."""
    binding = bindings[op.weights]
    buffer, dims = binding.buffer, binding.access.dims
    rows, columns = buffer.type.get_shape()[-2:]
    element, show = C_TYPES[buffer.element], binding.variables.print
    base, size = f"b.{buffer.spelling}", f"amk::layer_bytes<{element}, {columns}>"
    if len(dims) == 3:
        base += f" + {show(dims[0].lo)} * {size}({rows})"
    low, high = show(dims[-2].lo), show(dims[-2].end)
    base += f" + {low} / 8 * {size}(8)"
    return f"amk::Stream<{element}, {columns}>{{{base}, ({high} - {low}) / 8, 1, 0}}"


def check_rows(family: Family, buffers: Mapping[str, Buffer]) -> None:
    """A task of a table streams whole blocks of whole rows; AmkError otherwise."""
    bound = dict(family.accesses())
    for product in family.products:
        access = bound[product.weights]
        columns = buffers[access.buffer].type.get_shape()[-1]
        rows, whole = access.dims[-2:]
        aligned = all((end % tile.ROWS_PER_TILE) == 0 for end in (rows.lo, rows.end))
        if not aligned or (whole.lo, whole.hi) != (0, columns):
            raise AmkError(
                f"@{family.op.sym_name.data}: @{access.buffer} is packed in blocks of "
                f"{tile.ROWS_PER_TILE} whole rows; the task reads [{rows}, {whole}]",
                location=location_of(family.op),
            )


def _scalar_steps(schedule: task.ScheduleOp) -> dict[str, int]:
    """The run-time scalar, of which a launch passes one, and what an iteration adds to it."""
    scalars = [op for op in schedule.body.block.ops if isinstance(op, task.ScalarOp)]
    if len(scalars) > 1:
        raise AmkError(
            "a launch passes one run-time scalar; the schedule has "
            + ", ".join(f"@{op.sym_name.data}" for op in scalars),
            location=location_of(scalars[1]),
        )
    return {op.sym_name.data: op.step.value.data for op in scalars}


def _rows_by_task(tasks: np.ndarray, count: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(count)]
    for row, number in enumerate(tasks.tolist()):
        rows[number].append(row)
    return rows


def _signed(word: int) -> int:
    """A 32-bit word as an `int` of C++."""
    return word - 2**32 if word >= 2**31 else word


def _print_numbers(writer: Writer, name: str, rows: Sequence[int | Sequence[int]]) -> None:
    numbers = [n for row in rows for n in ((row,) if isinstance(row, int) else row)] or [0]
    if not all(-INT_MAX - 1 <= n <= INT_MAX for n in numbers):
        raise AmkError(f"a number of the schedule does not fit the 32 bits of a table ({name})")
    with writer.block(f"AMK_TABLE int {name}[] =", "};"):
        for first in range(0, len(numbers), NUMBERS_PER_LINE):
            line = ", ".join(map(str, numbers[first : first + NUMBERS_PER_LINE]))
            writer.line(f"{line},")
