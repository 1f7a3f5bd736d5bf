"""Dense tables of tasks: irregular schedules as arrays of integers in one op."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from xdsl.dialects.builtin import (
    ArrayAttr,
    MemRefType,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
)
from xdsl.ir import Data
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    traits_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.parser.base_parser import BaseParser
from xdsl.printer import Printer
from xdsl.traits import SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.lexer import Position

from amk.dialects.access import (
    MODES,
    Access,
    AccessAttr,
    Argument,
    Dim,
    ExprAttr,
    parse_expr,
    symbol,
)
from amk.dialects.task_family import AGENTS, TaskOp
from amk.dialects.tile import verify_call
from amk.schedule.expr import Expr

COLUMNS = {
    "tasks": ("worker", "agent", "kernel", "guard", "name"),
    "waits": ("task", "counter", "threshold"),
    "signals": ("task", "counter", "amount"),
    "accesses": ("task", "buffer", "mode", "use", "guard", "single"),
    "moving": ("access", "bound", "expression"),
}
"""What a row of each array says; an access goes on with the bounds lo, hi of each dimension."""

_JUST_NUMBERS = re.compile(r"[\d\s,\[\]-]*")


@dataclass(frozen=True, eq=False)
class Rows:
    """Integers [rows, columns], int64; equal rows compare equal."""

    array: np.ndarray

    @staticmethod
    def of(array: np.ndarray | Sequence[Sequence[int]], width: int = 0) -> Rows:
        """`array`; with no rows, `width` columns."""
        made = np.asarray(array, np.int64)
        return Rows(made.reshape(0, width) if made.size == 0 else made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.array.shape, self.array.tobytes()))

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.array.tolist()))}]"


@irdl_attr_definition
class RowsAttr(Data[Rows]):
    """A dense array of integers, a list of rows: `#task.rows<[[0, 1], [2, 3]]>`."""

    name = "task.rows"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Rows:
        with parser.in_angle_brackets():
            return parse_rows(parser)

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{self.data}>")


def parse_rows(parser: BaseParser) -> Rows:
    """Parse `[[0, 1], [2, 3]]` at once: token by token, a large table would take minutes."""
    at = parser.pos
    text = parser._current_token.span.input.content  # pyright: ignore[reportPrivateUsage]
    if not text.startswith("[", at):
        parser.raise_error("expected a list of rows of integers")
    try:
        rows, end = json.JSONDecoder().raw_decode(text, at)
    except json.JSONDecodeError as error:
        parser.raise_error(f"expected rows of integers: {error.msg}", Position(error.pos))
    wrong = _JUST_NUMBERS.match(text, at, end)
    if wrong is None or wrong.end() != end:
        parser.raise_error("expected integers", Position(wrong.end() if wrong else at))
    widths = [len(row) if isinstance(row, list) else -1 for row in rows]
    for number, width in enumerate(widths):
        if width < 1 or any(isinstance(value, list) for value in rows[number]):
            parser.raise_error(f"row {number} is not a list of integers", at)
        if width != widths[0]:
            parser.raise_error(
                f"row {number} has {width} numbers, the rows before it have {widths[0]}", at
            )
    try:
        array = np.array(rows, np.int64)
    except OverflowError:
        parser.raise_error("a number does not fit into 64 bits", at)
    parser._resume_from(end)  # pyright: ignore[reportPrivateUsage]
    return Rows.of(array)


@irdl_op_definition
class TableOp(IRDLOperation):
    """Many tasks as arrays of integers, for irregular schedules that a program wrote.

    `tasks` has a row for each task, in the order of the queues: worker (-1: a queue of its own),
    agent (0 compute, 1 stream), kernel, guard and name, which are places in the lists `kernels`,
    `exprs` and `names` (-1: none). `index` gives the numbers that follow the name (-1: unused).
    `waits` and `signals` have rows task, counter, threshold or amount. `accesses` lists what tasks
    touch, in the order of the arguments of their kernels: task, buffer, mode (0 in, 1 out, 2
    inout), use, guard, single, and the bounds lo, hi of each dimension (0, 0 beyond the rank of the
    buffer). Bit d of `single` says that dimension d is one index, which a kernel does not see.
    With buffer -1 the argument is an index of the value lo. `moving` adds an expression to a bound:
    access, bound (2 d for lo, 2 d + 1 for hi of dimension d), expression.

    ```mlir
    task.table @steps names ["fill"] buffers [@a] counters [@c] exprs [pos mod 2]
      tasks [[0, 0, -1, -1, 0], [1, 0, -1, -1, -1]]
      waits [[1, 0, 1]] signals [[0, 0, 1]]
      accesses [[0, 0, 1, -1, -1, 0, 0, 4], [1, 0, 0, -1, 0, 0, 0, 2]]
      moving [[1, 1, 0]]
    ```
    """

    name = "task.table"

    sym_name = prop_def(SymbolNameConstraint())
    names = opt_prop_def(ArrayAttr[StringAttr])
    kernels = opt_prop_def(ArrayAttr[SymbolRefAttr])
    buffers = opt_prop_def(ArrayAttr[SymbolRefAttr])
    counters = opt_prop_def(ArrayAttr[SymbolRefAttr])
    exprs = opt_prop_def(ArrayAttr[ExprAttr])
    tasks = prop_def(RowsAttr)
    index = opt_prop_def(RowsAttr)
    waits = opt_prop_def(RowsAttr)
    signals = opt_prop_def(RowsAttr)
    accesses = opt_prop_def(RowsAttr)
    moving = opt_prop_def(RowsAttr)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        tasks: Rows,
        *,
        names: Sequence[str] = (),
        kernels: Sequence[str] = (),
        buffers: Sequence[str] = (),
        counters: Sequence[str] = (),
        exprs: Sequence[Expr] = (),
        **arrays: Rows,
    ) -> None:
        """`arrays` are `index`, `waits`, `signals`, `accesses` and `moving`; empty ones are left
        out."""
        lists = {
            "names": [StringAttr(n) for n in names],
            "kernels": [SymbolRefAttr(n) for n in kernels],
            "buffers": [SymbolRefAttr(n) for n in buffers],
            "counters": [SymbolRefAttr(n) for n in counters],
            "exprs": [ExprAttr(e) for e in exprs],
        }
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "tasks": RowsAttr(tasks),
                **{key: ArrayAttr(items) if items else None for key, items in lists.items()},
                **{key: RowsAttr(rows) for key, rows in arrays.items() if len(rows.array)},
            }
        )

    @property
    def instances(self) -> int:
        return len(self.tasks.data.array)

    def rows(self, key: str) -> np.ndarray:
        """An array by its name, without rows if it is left out."""
        found = self.properties.get(key)
        width = len(COLUMNS.get(key, ()))
        return found.data.array if isinstance(found, RowsAttr) else np.zeros((0, width), np.int64)

    def symbols(self, key: str) -> list[str]:
        """The names in `kernels`, `buffers` or `counters`."""
        found = self.properties.get(key)
        return [s.root_reference.data for s in found.data] if isinstance(found, ArrayAttr) else []

    @property
    def expressions(self) -> list[Expr]:
        return [e.data for e in self.exprs.data] if self.exprs is not None else []

    @property
    def words(self) -> list[str]:
        return [n.data for n in self.names.data] if self.names is not None else []

    @classmethod
    def parse(cls, parser: Parser) -> TableOp:
        name = parser.parse_symbol_name().data
        square = parser.Delimiter.SQUARE
        found: dict[str, list] = {}
        readers = {
            "names": parser.parse_str_literal,
            "kernels": lambda: parser.parse_symbol_name().data,
            "buffers": lambda: parser.parse_symbol_name().data,
            "counters": lambda: parser.parse_symbol_name().data,
            "exprs": lambda: parse_expr(parser),
        }
        for key, reader in readers.items():
            if parser.parse_optional_keyword(key) is not None:
                found[key] = parser.parse_comma_separated_list(square, reader)
        arrays: dict[str, Rows] = {}
        for key in ("tasks", "index", "waits", "signals", "accesses", "moving"):
            if key == "tasks":
                parser.parse_keyword(key)
            elif parser.parse_optional_keyword(key) is None:
                continue
            arrays[key] = parse_rows(parser)
        return cls(name, arrays.pop("tasks"), **found, **arrays)  # pyright: ignore[reportArgumentType]

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {symbol(self.sym_name.data)}")
        if self.words:
            printer.print_string(" names [")
            printer.print_list(self.words, printer.print_string_literal)
            printer.print_string("]")
        lists = {
            k: [symbol(n) for n in self.symbols(k)] for k in ("kernels", "buffers", "counters")
        }
        lists["exprs"] = [str(e) for e in self.expressions]
        for key, items in lists.items():
            if items:
                printer.print_string(f" {key} [{', '.join(items)}]")
        with printer.indented():
            for key in ("tasks", "index", "waits", "signals", "accesses", "moving"):
                rows = self.rows(key).tolist()
                if not rows and key != "tasks":
                    continue
                printer._print_new_line()  # pyright: ignore[reportPrivateUsage]
                printer.print_string(f"{key} [")
                with printer.indented():
                    for number, row in enumerate(rows):
                        printer.print_string("," if number else "")
                        printer._print_new_line()  # pyright: ignore[reportPrivateUsage]
                        printer.print_string(str(row))
                printer.print_string("]")

    def verify_(self) -> None:
        if not self.instances:
            raise VerifyException("a table needs at least one task")
        for key, columns in COLUMNS.items():
            array = self.rows(key)
            width, least = array.shape[1], len(columns)
            if key == "accesses" and len(array):
                if width < least or (width - least) % 2:
                    raise VerifyException(
                        f"every row of accesses has {least} numbers ({', '.join(columns)}) and "
                        f"two for each dimension, here it has {width}"
                    )
            elif width != least and len(array):
                raise VerifyException(
                    f"every row of {key} has {least} numbers ({', '.join(columns)}), here it has "
                    f"{width}"
                )
        if self.index is not None and len(self.index.data.array) != self.instances:
            raise VerifyException(
                f"index has {len(self.index.data.array)} rows for {self.instances} tasks"
            )
        for key, column, what, low, end in self._ranges():
            values = self.rows(key)[:, COLUMNS[key].index(column)]
            bad = np.flatnonzero((values < low) | (values >= end))
            if len(bad):
                raise VerifyException(
                    f"row {bad[0]} of {key} gives the {column} {values[bad[0]]}, but there "
                    + (f"are {end} {what}" if end else f"are no {what}")
                )

        if self.kernels is not None:
            ranks = self._ranks()
            for number, (row, arguments) in enumerate(
                zip(self.rows("tasks").tolist(), self._arguments(ranks), strict=True)
            ):
                if row[2] >= 0:
                    self._verify_call(number, self.symbols("kernels")[row[2]], arguments)

    def _verify_call(self, number: int, kernel: str, arguments: Sequence[Argument]) -> None:
        try:
            verify_call(self, kernel, arguments)
        except VerifyException as error:
            raise VerifyException(f"task {number}: {error}") from error

    def _ranks(self) -> dict[str, int]:
        """The ranks of the buffers around the table."""
        parent = self.parent
        found: dict[str, int] = {}
        while parent is not None:
            for op in parent.ops:
                type_ = op.properties.get("type")
                if op.name == "task.buffer" and isinstance(type_, MemRefType):
                    found[cast(StringAttr, op.properties["sym_name"]).data] = type_.get_num_dims()
            above = parent.parent_op()
            parent = above.parent if above is not None else None
        return found

    def _ranges(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Array, column, what it counts, least value, end."""
        kernels, buffers = (len(self.symbols(k)) for k in ("kernels", "buffers"))
        counters, exprs, names = (
            len(self.symbols("counters")),
            len(self.expressions),
            len(self.words),
        )
        accesses = self.rows("accesses")
        bounds = max(accesses.shape[1] - len(COLUMNS["accesses"]), 0)
        yield "tasks", "agent", "agents (0 compute, 1 stream)", 0, len(AGENTS)
        yield "tasks", "kernel", "kernels", -1, kernels
        yield "tasks", "guard", "expressions", -1, exprs
        yield "tasks", "name", "names", -1, names
        for key in ("waits", "signals"):
            yield key, "task", "tasks", 0, self.instances
            yield key, "counter", "counters", 0, counters
        yield "accesses", "task", "tasks", 0, self.instances
        yield "accesses", "buffer", "buffers", -1, buffers
        yield "accesses", "mode", "modes (0 in, 1 out, 2 inout)", 0, len(MODES)
        yield "accesses", "guard", "expressions", -1, exprs
        yield "moving", "access", "accesses", 0, len(accesses)
        yield "moving", "bound", "bounds of an access", 0, bounds
        yield "moving", "expression", "expressions", 0, exprs

    def task_name(self, task: int) -> str:
        """The name of one task with its index."""
        word = int(self.rows("tasks")[task, 4])
        index = [int(i) for i in self.rows("index")[task] if i >= 0] if self.index else []
        if word < 0:
            return f"{self.sym_name.data}[{', '.join(map(str, [task, *index]))}]"
        name = self.words[word]
        return f"{name}[{', '.join(map(str, index))}]" if index else name

    def single_tasks(self, ranks: Mapping[str, int]) -> Iterator[TaskOp]:
        """Every task as an op of its own, outside of the module; `ranks` are those of buffers."""
        exprs, counters, kernels = (
            self.expressions, self.symbols("counters"), self.symbols("kernels"),
        )  # fmt: skip
        by_task = {key: _grouped(self.rows(key), self.instances) for key in ("waits", "signals")}
        arguments = self._arguments(ranks)
        for number, row in enumerate(self.rows("tasks").tolist()):
            worker, agent, kernel, guard, _ = row
            made = TaskOp(
                self.task_name(number),
                kernels[kernel] if kernel >= 0 else None,
                worker if worker >= 0 else None,
                arguments[number],
                waits=[(counters[c], Expr(t)) for _, c, t in by_task["waits"][number]],
                signals=[(counters[c], Expr(k)) for _, c, k in by_task["signals"][number]],
                guard=exprs[guard] if guard >= 0 else None,
                agent=AGENTS[agent],
            )
            made.location = self.location
            yield made

    def _arguments(self, ranks: Mapping[str, int]) -> list[list[Argument]]:
        exprs, buffers = self.expressions, self.symbols("buffers")
        added: dict[int, list[tuple[int, Expr]]] = {}
        for access, bound, expr in self.rows("moving").tolist():
            added.setdefault(access, []).append((bound, exprs[expr]))
        found: list[list[Argument]] = [[] for _ in range(self.instances)]
        for number, row in enumerate(self.rows("accesses").tolist()):
            task, buffer, mode, use, guard, single = row[:6]
            bounds = [Expr(b) for b in row[6:]]
            for bound, expr in added.get(number, ()):
                bounds[bound] = bounds[bound] + expr
            if buffer < 0:
                found[task].append(ExprAttr(bounds[0]))
                continue
            name = buffers[buffer]
            dims = [
                Dim(bounds[2 * d], None if single >> d & 1 else bounds[2 * d + 1])
                for d in range(ranks.get(name, len(bounds) // 2))
            ]
            access = Access(
                MODES[mode], name, tuple(dims), Expr(use) if use >= 0 else None,
                exprs[guard] if guard >= 0 else None,
            )  # fmt: skip
            found[task].append(AccessAttr(access))
        return found


def _grouped(rows: np.ndarray, count: int) -> list[list[list[int]]]:
    """The rows of each task, which their first column names."""
    found: list[list[list[int]]] = [[] for _ in range(count)]
    for row in rows.tolist():
        found[row[0]].append(row)
    return found
