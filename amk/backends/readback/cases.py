"""The kernels of a schedule in tables: each case of the dispatch against the tasks that take it.

A case declares the values that its tasks pass, which were compared with the table, and then reads
like a task of a family; every expression in it is compared for all of its tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from amk.backends.readback import syntax
from amk.backends.readback.body import is_called, scalar_ops
from amk.backends.readback.columns import Column
from amk.backends.readback.expected import Region, Tasks
from amk.backends.readback.integers import Scope, Value
from amk.backends.readback.lanes import WORKER, Lanes
from amk.backends.readback.memory import Names, Site
from amk.backends.readback.mismatch import fail, require
from amk.backends.readback.obligations import MET, Step, follow
from amk.backends.readback.parse import parse
from amk.backends.readback.tables import (
    ACCESSES,
    KERNEL,
    NAMES,
    NONE,
    VALUES,
    Printed,
    last_value,
    rows_of,
    values_of,
)
from amk.backends.readback.task import TaskReader
from amk.dialects.access import AccessAttr
from amk.dialects.tile import ROWS_PER_TILE
from amk.ir.expand import TaskLike
from amk.schedule.expr import Expr

VALUE = syntax.Name(0, 0, "value")


@dataclass(frozen=True)
class TableSite(Site):
    """A case, whose products stream any whole row blocks of a constant."""

    def stream(self, node: syntax.Expression, region: Region, index: np.ndarray) -> None:
        """`amk::Stream<T, K>{b.w + layer * … + low / 8 * layer_bytes<T, K>(8), blocks, 1, 0}`."""
        buffer = region.buffer
        *layers, rows, columns = buffer.shape
        height = len(layers)
        low, extent = region.low(height), region.extent(height)
        match node:
            case syntax.Braces(
                type=syntax.Template(name="amk::Stream", arguments=arguments),
                values=(
                    syntax.Binary(
                        operator="+",
                        left=base,
                        right=syntax.Binary(operator="*", left=first, right=size),
                    ),
                    blocks,
                    syntax.Number(text="1"),
                    syntax.Number(text="0"),
                ),
            ):
                pass
            case _:
                fail(node, "expected the stream of a product")
        require(buffer.constant, node, f"@{buffer.name} is streamed ahead, but it is no constant")
        alike = arguments == (buffer.element, str(columns)) and _size(size) == (*arguments, "8")
        require(alike, node, f"@{buffer.name} is not like this")
        whole = low.is_constant and extent.is_constant and rows % ROWS_PER_TILE == 0
        for column in (low, extent):
            whole = whole and not (column.constant % ROWS_PER_TILE).any()
        whole = whole and region.spans(height + 1, columns)
        require(whole, node, f"whole blocks of whole rows of @{buffer.name} are streamed")
        self.same(first, Column(low.constant // ROWS_PER_TILE), "the first block of rows")
        self.same(blocks, Column(extent.constant // ROWS_PER_TILE), "the number of blocks")
        self._layer(base, region, bool(layers))


def _size(node: syntax.Expression) -> tuple[str, ...]:
    match node:
        case syntax.Call(
            function=syntax.Template(name="amk::layer_bytes", arguments=arguments),
            arguments=(syntax.Number(text=rows),),
        ):
            return *arguments, rows
        case _:
            return ()


class CaseReader(TaskReader):
    """Reads the statements of a case for the tasks of one op."""

    def __init__(
        self,
        site: Site,
        statements: Sequence[syntax.Statement],
        at: syntax.Node,
        indices: Sequence[str],
    ) -> None:
        """`indices` are the names of the values that are index arguments, in order."""
        super().__init__(site, statements, at)
        parameters = [parameter for parameter, _ in site.tasks.index_arguments]
        for name, parameter in zip(indices, parameters, strict=True):
            require(is_called(name, parameter), at, f"'{name}' is no name of an index")
            self.body.values[syntax.Name(0, 0, name)] = parameter

    def read(self) -> list[Step]:
        """The steps of the case; Mismatch where it is not the kernel."""
        for op in scalar_ops(self.site.tasks.kernel.body.block.ops):
            self._declarations()
            self._operation(op)
        left = [*self.outputs, *self.structs, *self.statements]
        if left:
            fail(left[0], "the kernel has nothing more to do")
        return self.steps


class CasesReader:
    """Reads the compute and the stream program of a schedule in tables."""

    def __init__(self, printed: Printed, names: Names) -> None:
        self.printed = printed
        self.names = names
        self.steps: list[Step] = []
        self.streams: dict[int, list[syntax.Expression]] = {}
        """The streams of the products of each case."""
        self.declared: dict[int, list[syntax.Statement]] = {}

    def compute(self, function: syntax.Function) -> None:
        """The program that hands the tables to `run_table`, with a case for each kernel."""
        members = {buffer.number: name for name, buffer in self.names.buffers.items()}
        memory = tuple(
            syntax.Address(0, 0, _member(members[number])) for number in range(len(members))
        )
        counters = tuple(_member(name) for name in self.names.counters)
        null = (syntax.Name(0, 0, "nullptr"),)
        table = (
            *(syntax.Name(0, 0, name) for name in NAMES),
            syntax.Number(0, 0, str(len(members))),
            syntax.Name(0, 0, "memory"),
            syntax.Name(0, 0, "counters"),
        )
        wanted = (
            syntax.Aggregate(0, 0, "void* const[]", "memory", memory or null),
            syntax.Aggregate(0, 0, "uint32_t* const[]", "counters", counters or null),
            syntax.Aggregate(0, 0, "const amk::Table", "table", table),
        )
        require(function.body[:3] == wanted, function, "expected the tables, buffers and counters")
        match function.body[3:]:
            case [
                syntax.Evaluation(
                    value=syntax.Call(
                        function=syntax.Name(text="amk::run_table"), arguments=(w, given, kernels)
                    )
                )
            ] if (w, given) == (syntax.Name(0, 0, "w"), syntax.Name(0, 0, "table")):
                self._cases(kernels)
            case _:
                fail(function, "expected amk::run_table(w, table, …)")

    def _cases(self, node: syntax.Expression) -> None:
        used = np.unique(self.printed.tasks[:-1, KERNEL])
        used = used[used >= 0].tolist()
        if node == syntax.Call(0, 0, syntax.Name(0, 0, "amk::NoKernels"), ()):
            require(not used, node, "there are tasks that have a kernel")
            last_value(self.printed)
            return
        match node:
            case syntax.Lambda(
                parameters=(
                    syntax.Parameter(type="int", name="number"),
                    syntax.Parameter(type="const auto&", name="value"),
                ),
                result=None,
                body=(syntax.Switch(name="number", cases=cases),),
            ):
                pass
            case _:
                fail(node, "expected a lambda with a case for each kernel")
        numbers = [case.number for case in cases]
        require(sorted(numbers) == used, node, f"the cases are {', '.join(map(str, used))}")
        for case in cases:
            self._case(case)
        for op, rows in rows_of(self.printed, NONE):
            values_of(self.printed, op, rows)
        last_value(self.printed)

    def _case(self, case: syntax.Case) -> None:
        body = list(case.body)
        declared: list[syntax.Statement] = []
        while body and _is_value(body[0], len(declared)):
            declared.append(body.pop(0))
        self.declared[case.number] = declared
        self.streams[case.number] = _streams(body)
        for op, rows in rows_of(self.printed, case.number):
            accesses = np.diff(self.printed.tasks[:, ACCESSES])[rows]
            require(not accesses.any(), case, "the accesses of a kernel are not in the table")
            columns = values_of(self.printed, op, rows)
            right = len(columns) == len(declared)
            require(right, case, f"a task of @{op.sym_name.data} passes {len(columns)} values")
            names = [s.name for s in declared if isinstance(s, syntax.Declaration)]
            site = self._site(op, rows, names, columns, case)
            reader = CaseReader(site, body, case, _index_names(op, names, case))
            steps = reader.read()
            follow(steps, MET)  # `run_table` lets all threads meet before each task
            self.steps += steps
            self._ahead(case, op, rows)

    def _ahead(self, case: syntax.Case, op: TaskLike, rows: np.ndarray) -> None:
        """Streams are copied ahead of everything, whatever the guard of the task."""
        guards = self.printed.expected.table.task_guard[self.printed.order[rows]]
        always = not self.streams[case.number] or bool((guards < 0).all())
        require(always, case, f"@{op.sym_name.data} streams weights under a guard")

    def _site(
        self,
        op: TaskLike,
        rows: np.ndarray,
        names: Sequence[str],
        columns: Sequence[Column],
        at: syntax.Node,
    ) -> Site:
        printed = self.printed
        tasks = Tasks(printed.expected, op, printed.order[rows])
        queue = printed.expected.table.task_queue[tasks.ids].astype(np.int64)
        scope = Scope({WORKER: Value(Expr.var(WORKER), (queue, queue))})
        fixed: dict[str, np.ndarray] = {WORKER: queue}
        moving: dict[str, Column] = {}
        for name, column in zip(names, columns, strict=True):
            scope = scope.bind(at, name, Value(Expr.var(name), printed.span(column)))
            if column.is_constant:
                fixed[name] = column.constant
            else:
                moving[name] = column
        return TableSite(self.names, Lanes(fixed, (), scope, moving), tasks)

    # ---- streams ---------------------------------------------------------------------------

    def stream(self, function: syntax.Function) -> int:
        """The copies of each worker are those that the products of its queue consume: how many."""
        streaming = [number for number in sorted(self.streams) if self.streams[number]]
        unused = (syntax.Unused(0, 0, "b"), syntax.Unused(0, 0, "w"))
        if not streaming:
            require(function.body == unused, function, "there is nothing to stream")
            return 0
        loop = _loop_over_tasks(function)
        found: list[int] = []
        for statement in loop:
            found.append(self._copies(statement))
        require(found == streaming, function, "each kernel that streams does so once, in order")
        return sum(
            len(self.streams[number]) * int((self.printed.tasks[:-1, KERNEL] == number).sum())
            for number in streaming
        )

    def _copies(self, statement: syntax.Statement) -> int:
        """`if (number == case) { values; amk::stream(w, …); }`: the case's streams, in order."""
        match statement:
            case syntax.If(
                declaration=None,
                condition=syntax.Binary(
                    operator="==", left=syntax.Name(text="number"), right=syntax.Number(text=text)
                ),
                body=body,
            ) if text.isdigit() and int(text) in self.streams:
                number = int(text)
            case _:
                fail(statement, "expected the copies of a kernel")
        declared = self.declared[number]
        count = len(declared)
        require(list(body[:count]) == declared, statement, "expected the values of the kernel")
        wanted = tuple(
            syntax.Evaluation(
                0,
                0,
                syntax.Call(
                    0, 0, syntax.Name(0, 0, "amk::stream"), (syntax.Name(0, 0, "w"), stream)
                ),
            )
            for stream in self.streams[number]
        )
        require(body[count:] == wanted, statement, "expected the streams of the kernel's products")
        self._fixed(statement, number)
        return number

    def _fixed(self, statement: syntax.Statement, number: int) -> None:
        """The copies take constants of the values only: what they use must have nothing else."""
        used = {name for stream in self.streams[number] for name in _names(stream)}
        rows = np.flatnonzero(self.printed.tasks[:-1, KERNEL] == number)
        values = self.printed.numbers("kValues", 2)
        starts = self.printed.tasks[rows, VALUES]
        for place, declaration in enumerate(self.declared[number]):
            if isinstance(declaration, syntax.Declaration) and declaration.name in used:
                fixed = bool((values[starts + place, 1] < 0).all())
                require(fixed, statement, f"'{declaration.name}' depends on a run-time scalar")


def _member(name: str) -> syntax.Member:
    return syntax.Member(0, 0, syntax.Name(0, 0, "b"), name)


def _is_value(statement: syntax.Statement, number: int) -> bool:
    """`[[maybe_unused]] const int name = value(number);`."""
    if not isinstance(statement, syntax.Declaration):
        return False
    value = syntax.Call(0, 0, VALUE, (syntax.Number(0, 0, str(number)),))
    wanted = syntax.Declaration(0, 0, "const int", statement.name, value, unused=True)
    return statement == wanted


def _index_names(op: TaskLike, names: Sequence[str], at: syntax.Node) -> list[str]:
    """The names of the values that are index arguments; the others say what they are.

    Argument k has `lo{k}_{d}` and `hi{k}_{d}` for each dimension d, and `use{k}` if it has a use.
    """
    found: list[str] = []
    left = list(names)
    for number, argument in enumerate(op.args):
        if not isinstance(argument, AccessAttr):
            found.append(left.pop(0))
            continue
        dims = range(len(argument.data.dims))
        wanted = [f"{bound}{number}_{d}" for d in dims for bound in ("lo", "hi")]
        wanted += [f"use{number}"] if argument.data.use is not None else []
        right = left[: len(wanted)] == wanted
        require(right, at, f"the values of argument {number} are {', '.join(wanted)}")
        del left[: len(wanted)]
    return found


def _streams(body: Sequence[syntax.Statement]) -> list[syntax.Expression]:
    """The streams of the products of a case."""
    found: list[syntax.Expression] = []
    for statement in body:
        match statement:
            case syntax.Evaluation(
                value=syntax.Call(
                    function=syntax.Template(name="amk::product"), arguments=(_, stream, *_)
                )
            ):
                found.append(stream)
            case _:
                pass
    return found


def _names(node: object) -> Iterator[str]:
    """All names in an expression."""
    if isinstance(node, syntax.Name):
        yield node.text
    if isinstance(node, syntax.Node):
        for field in fields(node):
            yield from _names(getattr(node, field.name))
    elif isinstance(node, tuple):
        for part in node:
            yield from _names(part)


LOOP = """namespace amk::config { }
struct S { int unused; };
AMK_DEVICE void stream(amk::Producer& w, const Buffers& b) {
  (void)b;
  while (w.next()) {
    for (int t = kQueues[w.id]; t < kQueues[w.id + 1]; ++t) {
      const int* const task = kTasks + t * amk::kTaskColumns;
      const int* const values = kValues + 2 * task[amk::kFirstValue];
      const auto value = [&](int i) { return values[2 * i]; };
      const int number = task[amk::kKernel];
    }
  }
}
"""
"""What is around the copies of the kernels: the tasks of the worker's queue, one by one."""


def _loop_over_tasks(function: syntax.Function) -> tuple[syntax.Statement, ...]:
    """What the stream program does for each task, after `LOOP`."""
    wanted = parse(LOOP, "loop").functions[0].body
    match function.body, wanted:
        case (
            [first, syntax.While(body=(syntax.For() as loop,)) as outer],
            [unused, syntax.While(body=(syntax.For() as known,)) as around],
        ):
            count = len(known.body)
            same = (
                first == unused
                and outer.condition == around.condition
                and replace(loop, body=loop.body[:count]) == known
            )
            require(same, function, "expected a loop over the tasks of the worker's queue")
            return loop.body[count:]
        case _:
            return fail(function, "expected a loop over the tasks of the worker's queue")
