"""Prints the families of a schedule: the compute program and the stream program of a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Block, SSAValue

from amk.backends.printer.bindings import Binding, Buffer, counters_of
from amk.backends.printer.expressions import Variables
from amk.backends.printer.kernel import KernelPrinter, stream_of
from amk.backends.printer.text import LOCALS, Writer, spell
from amk.backends.trace_layout import TRACE_BUFFER
from amk.dialects import task, tile
from amk.dialects.access import Access, AccessAttr, argument_text
from amk.errors import AmkError
from amk.ir.expand import TaskLike
from amk.ir.location import location_of
from amk.schedule.expr import Expr


@dataclass(frozen=True)
class Family:
    """A family with its kernel and the number that identifies it in error messages."""

    op: TaskLike
    kernel: tile.KernelOp
    number: int

    @property
    def products(self) -> list[tile.ProductOp]:
        return [op for op in self.kernel.body.block.ops if isinstance(op, tile.ProductOp)]

    def accesses(self) -> Iterator[tuple[SSAValue, Access]]:
        """The memref parameters with what they are bound to."""
        for argument, parameter in zip(self.op.args, self.kernel.body.block.args, strict=True):
            if isinstance(argument, AccessAttr):
                yield parameter, argument.data


class SchedulePrinter:
    """Prints the programs of the two agents of a worker."""

    def __init__(
        self,
        writer: Writer,
        schedule: task.ScheduleOp,
        families: Mapping[TaskLike, Family],
        buffers: Mapping[str, Buffer],
        trace: bool = False,
    ) -> None:
        """With `trace`, the programs record when each task begins, waits and ends."""
        self.writer = writer
        self.trace = trace
        self.schedule = schedule
        self.families = families
        self.buffers = buffers
        self.counters = counters_of(schedule)
        self.workers = schedule.workers.value.data
        names = {"iter": "w.iteration"}
        ranges = {"iter": (0, 2**31 - 2)}
        for op in schedule.body.block.ops:
            if isinstance(op, task.ScalarOp):
                names[op.sym_name.data] = f"w.{op.sym_name.data}"
                ranges[op.sym_name.data] = (op.lo.value.data, op.hi.value.data - 1)
        self.variables = Variables(names, ranges)

    # ---- the two programs ------------------------------------------------------------------

    def print(self, *, stream_only: bool, gpu: bool) -> None:
        """Both programs; a GPU has agents that stream the weights."""
        if stream_only:
            self.discard()
        else:
            self.compute()
        self.writer.line()
        if gpu:
            self.stream()
            self.writer.line()

    def compute(self) -> None:
        with self.writer.block("AMK_DEVICE void compute(amk::Worker& w, const Buffers& b)"):
            self._traced(f"w.trace.open(b.{TRACE_BUFFER}, w.id);")
            with self.writer.block("while (w.next())"):
                self._traced("w.trace.next(w.iteration);")
                self._walk(self.schedule.body.block, self.variables, self._task)
                self._traced("w.trace.end();")

    def stream(self) -> None:
        """The same families in the same order, of which only the streamed weights are left."""
        with self.writer.block("AMK_DEVICE void stream(amk::Producer& w, const Buffers& b)"):
            self._traced(f"w.trace.open(b.{TRACE_BUFFER}, w.id);")
            with self.writer.block("while (w.next())"):
                self._traced("w.trace.next(w.iteration);")
                self._walk(self.schedule.body.block, self.variables, self._copies)
            self._traced("w.trace.next(w.iteration);")

    def discard(self) -> None:
        """Instead of `compute`: everything that is streamed is thrown away."""
        with (
            self.writer.block("AMK_DEVICE void compute(amk::Worker& w, const Buffers& b)"),
            self.writer.block("while (w.next())"),
        ):
            self._walk(self.schedule.body.block, self.variables, self._discards)

    def _traced(self, line: str) -> None:
        if self.trace:
            self.writer.line(line)

    def _walk(self, block: Block, variables: Variables, visit) -> None:
        for op in block.ops:
            if isinstance(op, task.FamilyOp):
                visit(self.families[op], variables)
            elif isinstance(op, task.RepeatOp):
                name, count = op.index.data, op.count.value.data
                index = spell(name)
                with self.writer.block(f"for (int {index} = 0; {index} < {count}; ++{index})"):
                    inner = variables.with_variable(name, index, count - 1)
                    self._walk(op.body.block, inner, visit)

    # ---- one family ------------------------------------------------------------------------

    def _bindings(self, family: Family, variables: Variables) -> dict[SSAValue, Binding]:
        bindings: dict[SSAValue, Binding] = {}
        for parameter, access in family.accesses():
            binding = Binding(self.buffers[access.buffer], access, variables)
            binding.check_owner(family.op.placement, family.op)
            bindings[parameter] = binding
        return bindings

    @contextmanager
    def _instances(self, op: TaskLike) -> Iterator[None]:
        """The instances of a family on this worker, under the name of its index."""
        count, index = op.instances, spell(op.index_name)
        rotation = rotation_of(op, self.workers)
        assert rotation is not None
        start = "w.id"
        if rotation:
            wraps = count + rotation > self.workers
            start = f"(w.id + {self.workers - rotation}) % {self.workers}"
            if not wraps:
                start = f"w.id - {rotation}"
        if count > self.workers:
            head = f"for (int {index} = {start}; {index} < {count}; {index} += {self.workers})"
        elif count == self.workers:
            head = ""
        elif rotation and count + rotation <= self.workers:
            head = f"if (const int {index} = {start}; {index} >= 0 && {index} < {count})"
        else:
            head = f"if (const int {index} = {start}; {index} < {count})"
        with self.writer.block(head):
            if not head:
                self.writer.line(f"[[maybe_unused]] const int {index} = {start};")
            yield

    def _task(self, family: Family, variables: Variables) -> None:
        op, writer = family.op, self.writer
        check_guards(family)
        variables = self._with_index(op, variables)
        writer.line()
        where = location_of(op)
        placement = f"for {op.index_name} in {op.instances} on {op.placement}"
        writer.comment(f"task.family @{op.sym_name.data} calls @{op.kernel_name} {placement}")
        if where is not None:
            writer.comment(f"from {where}")
        for argument in op.args:
            writer.comment(f"  {argument_text(argument)}")
        with self._instances(op):
            self._task_body(family, variables)

    def _task_body(self, family: Family, variables: Variables) -> None:
        op, writer = family.op, self.writer
        bindings = self._bindings(family, variables)
        writer.line(f"w.at({family.number});")
        self._traced(f"w.trace.at({family.number});")
        self._waits(op, variables)
        if self._needs_sync(family, bindings):
            writer.line("w.sync();")
        indices: dict[SSAValue, str] = {}
        used = {*LOCALS, *variables.names.values()}
        for argument, parameter in zip(op.args, family.kernel.body.block.args, strict=True):
            if isinstance(parameter.type, IndexType):
                name = spell(parameter.name_hint or "first", used)
                used.add(name)
                assert not isinstance(argument, AccessAttr)
                writer.line(f"const int {name} = {variables.print(argument.data)};")
                indices[parameter] = name
        for product in family.products:
            self._check_rows(family, bindings[product.weights])
        index = spell(op.index_name)
        KernelPrinter(writer, bindings, indices, op.instances, index).print(family.kernel)
        self._signals(op, variables)

    def _with_index(self, op: TaskLike, variables: Variables) -> Variables:
        return variables.with_variable(op.index_name, spell(op.index_name), op.instances - 1)

    def _needs_sync(self, family: Family, bindings: Mapping[SSAValue, Binding]) -> bool:
        """Whether the task touches memory that other warps of the worker may be writing or reading.

        A product's epilogue runs after all warps have arrived, attention has barriers of its own.
        What one thread stores for all of them may be a packet: to who receives it, it says that the
        worker's reads before it have ended, also those of the other warps.
        """
        guarded: set[SSAValue] = set()
        for op in family.kernel.body.block.ops:
            if isinstance(op, tile.StoreOp):
                return True
            if isinstance(op, tile.ProductOp | tile.AttentionOp):
                guarded.update(v for inner in op.walk() for v in inner.operands)
        return any(
            not binding.buffer.is_constant
            and not binding.buffer.is_packet
            and binding.buffer.space not in ("stream", "host")
            for parameter, binding in bindings.items()
            if parameter not in guarded
        )

    def _check_rows(self, family: Family, weights: Binding) -> None:
        """The packed stream deals row blocks evenly, in order; the IR must say the same."""
        rows, columns = weights.buffer.type.get_shape()[-2:]
        blocks = rows // tile.ROWS_PER_TILE
        count = family.op.instances
        index = Expr.var(family.op.index_name)

        def bound(instance: Expr) -> Expr:
            return (instance if blocks == count else instance * blocks // count) * 8

        dim, whole = weights.access.dims[-2:]
        if (dim.lo, dim.hi) != (bound(index), bound(index + 1)):
            raise AmkError(
                f"@{family.op.sym_name.data}: @{weights.buffer.name} is packed for rows dealt "
                f"evenly to {count} instances; the family reads rows {dim}",
                location=location_of(family.op),
            )
        if (whole.lo, whole.hi) != (0, columns):
            raise AmkError(
                f"@{family.op.sym_name.data}: @{weights.buffer.name} is packed for whole rows; "
                f"the family reads columns {whole} of {columns}",
                location=location_of(family.op),
            )

    def _waits(self, op: TaskLike, variables: Variables) -> None:
        for counter, threshold in op.waits:
            total = self._signalled(counter)
            target = f"w.epoch({total}, {variables.print(threshold)}) - 1"
            name, number = self.counters[counter], self._counter_number(counter)
            self.writer.line(f"amk::wait(w, b.{name}, {target}, {number});")

    def _signals(self, op: TaskLike, variables: Variables) -> None:
        for counter, amount in op.signals:
            name = self.counters[counter]
            self.writer.line(f"amk::signal(w, b.{name}, {variables.print(amount)});")

    def _counter_number(self, name: str) -> int:
        return len(self.buffers) + [*self.counters].index(name)

    def _signalled(self, counter: str) -> int:
        """What one iteration adds to a counter."""
        total = 0

        def visit(op: task.FamilyOp | task.TaskOp, repeats: dict[str, int]) -> None:
            nonlocal total
            for name, amount in op.signals:
                if name == counter:
                    for i in range(op.instances):
                        total += amount.evaluate({**repeats, op.index_name: i})

        task.for_each_task(self.schedule, visit)
        return total

    def _copies(self, family: Family, variables: Variables) -> None:
        self._each_stream(family, variables, "amk::stream")

    def _discards(self, family: Family, variables: Variables) -> None:
        self._each_stream(family, variables, "amk::discard")

    def _each_stream(self, family: Family, variables: Variables, function: str) -> None:
        if not family.products:
            return
        op = family.op
        variables = self._with_index(op, variables)
        bindings = self._bindings(family, variables)
        self.writer.comment(f"task.family @{op.sym_name.data}")
        with self._instances(op):
            for product in family.products:
                stream = stream_of(product, bindings, op.instances, spell(op.index_name))
                self.writer.line(f"{function}(w, {stream});")


def rotation_of(op: TaskLike, workers: int) -> int | None:
    """r of a placement (i + r) mod workers; None for others, which are no index arithmetic."""
    placement, index = op.placement, Expr.var(op.index_name)
    if placement is None:
        return None
    if op.instances == 1:
        only = placement.substitute({op.index_name: 0})
        return only.value if only.is_const and 0 <= only.value < workers else None
    for rotation in range(workers):
        shifted = index + rotation
        if placement == shifted % workers:
            return rotation
        if placement == shifted and op.instances + rotation <= workers:
            return rotation
    return None


def check_guards(family: Family) -> None:
    """AmkError for a guard: only attention leaves out accesses, under a condition of its own."""
    optional: set[SSAValue] = set()
    for op in family.kernel.body.block.ops:
        if isinstance(op, tile.AttentionOp):
            optional.update((op.key, op.value, op.key_row, op.value_row))
    for parameter, access in family.accesses():
        if access.guard is not None and parameter not in optional:
            raise AmkError(
                f"@{family.op.sym_name.data}: the printer accesses @{access.buffer} in every "
                f"task, not only if {access.guard} == 0",
                location=location_of(family.op),
            )


def is_irregular(schedule: task.ScheduleOp) -> bool:
    """Whether the schedule is more than families of kernels, in turn on the compute queues."""
    workers = schedule.workers.value.data
    for op in schedule.walk():
        if isinstance(op, task.TaskOp) or op.name == "task.table":
            return True
        if isinstance(op, task.BufferOp) and op.arena is not None:
            return True
        if isinstance(op, task.ScalarOp) and (op.sym_name.data, op.step.value.data) != ("pos", 1):
            return True
        if isinstance(op, task.FamilyOp) and (
            op.kernel_name is None
            or op.guard is not None
            or op.agent_name != "compute"
            or rotation_of(op, workers) is None
        ):
            return True
    return False


Owner = tuple[TaskLike, Mapping[str, int]]
"""The op of a task, and the values of its indices."""


def owners_of(schedule: task.ScheduleOp) -> list[Owner]:
    """Where each task comes from, in the order of the table of the schedule."""
    owners: list[Owner] = []

    def visit(op: TaskLike, repeats: dict[str, int]) -> None:
        for instance in range(op.instances):
            owners.append((op, {**repeats, op.index_name: instance}))

    task.for_each_task(schedule, visit)
    return owners


def families_of(
    owners: Iterable[Owner], kernels: Mapping[str, tile.KernelOp]
) -> dict[TaskLike, Family]:
    """The ops of tasks that have a kernel, numbered in order; AmkError where it does not exist."""
    families: dict[TaskLike, Family] = {}
    for op, _ in owners:
        if op in families or op.kernel_name is None:
            continue
        kernel = kernels.get(op.kernel_name)
        if kernel is None:
            raise AmkError(
                f"@{op.sym_name.data}: there is no kernel @{op.kernel_name}",
                location=location_of(op),
            )
        families[op] = Family(op, kernel, len(families))
    return families
