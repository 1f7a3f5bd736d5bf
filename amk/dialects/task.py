"""The `task` dialect: a schedule of tasks on persistent workers, with barrier semantics.

A schedule is the body of a loop over iterations (one token each). A *worker* is a resident thread
block with two in-order agents, `compute` and `stream`. A *task* waits for its conditions, reads
regions, writes regions, then signals. Tasks come as *families*: the instances of a kernel over an
index, placed on workers by an expression, in the order in which the families stand in the schedule.

- A **counter** starts at 0 and only grows. `signals [@c += k]` adds k after the writes of the task
  (release); `waits [@c >= t]` (acquire) means, in iteration e, c >= e * S + t, where S is what one
  iteration adds. t <= 0 waits for earlier iterations.
- A **packet buffer** holds 64-bit packets {32-bit payload, 32-bit epoch}. `use u` numbers the uses
  of a slot in an iteration; reading use u waits for the write of use u and sees that payload.
- A **scalar** is a run-time number with a range and an advance for each iteration, from any start.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntegerAttr,
    MemRefType,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    i64,
)
from xdsl.ir import Dialect, Region
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from amk.dialects.access import symbol
from amk.dialects.memory import is_packet
from amk.dialects.repeat import Repeat
from amk.dialects.task_family import FamilyOp, TaskOp
from amk.dialects.task_table import COLUMNS, Rows, RowsAttr, TableOp
from amk.dialects.tile import verify_buffer


@irdl_op_definition
class ScheduleOp(IRDLOperation):
    """One iteration of the persistent kernel on `workers` workers.

    ```mlir
    task.schedule @tiny attributes {workers = 2 : i64, context = 64 : i64, eos = array<i64: 2>,
    vocab = 32 : i64} {
      task.scalar @pos in 0 to 64 step 1
      task.buffer @x scratch uses 2 : memref<32xf32, "packet">
      task.family @fill for i in 2 on i args [out @x[16 * i : 16 * i + 16] use 0]
    }
    ```

    Of a GPU, `ring` is how many slots for weights a worker has, and `window` about how many bytes
    of weights it has requested at a time; without them the printer chooses.
    """

    name = "task.schedule"

    sym_name = prop_def(SymbolNameConstraint())
    workers = prop_def(IntegerAttr)
    context = opt_prop_def(IntegerAttr)
    eos = opt_prop_def(DenseArrayBase)
    vocab = opt_prop_def(IntegerAttr)
    iterations = opt_prop_def(IntegerAttr)
    ring = opt_prop_def(IntegerAttr)
    window = opt_prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator(), SymbolOpInterface(), SymbolTable())
    assembly_format = "$sym_name attr-dict-with-keyword $body"
    irdl_options = (ParsePropInAttrDict(),)

    def __init__(
        self,
        name: str,
        workers: int,
        body: Region,
        *,
        context: IntegerAttr | None = None,
        eos: DenseArrayBase | None = None,
        vocab: IntegerAttr | None = None,
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "workers": IntegerAttr(workers, i64),
                "context": context,
                "eos": eos,
                "vocab": vocab,
            },
            regions=[body],
        )

    def verify_(self) -> None:
        if self.workers.value.data <= 0:
            raise VerifyException("a schedule needs at least one worker")
        if self.iterations is not None and self.iterations.value.data <= 0:
            raise VerifyException("iterations must be positive; leave it out for any number")
        for name, size in (("ring", self.ring), ("window", self.window)):
            if size is not None and size.value.data <= 0:
                raise VerifyException(f"{name} must be positive; leave it out to have it chosen")


@irdl_op_definition
class ScalarOp(IRDLOperation):
    """A run-time scalar in [lo, hi) that grows by `step` each iteration, from any legal start.

    ```mlir
    task.scalar @pos in 0 to 2048 step 1
    ```
    """

    name = "task.scalar"

    sym_name = prop_def(SymbolNameConstraint())
    lo = prop_def(IntegerAttr)
    hi = prop_def(IntegerAttr)
    step = prop_def(IntegerAttr)

    traits = traits_def(SymbolOpInterface())

    def __init__(self, name: str, lo: int, hi: int, step: int) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "lo": IntegerAttr(lo, i64),
                "hi": IntegerAttr(hi, i64),
                "step": IntegerAttr(step, i64),
            }
        )

    @classmethod
    def parse(cls, parser: Parser) -> ScalarOp:
        name = parser.parse_symbol_name().data
        parser.parse_keyword("in")
        lo = parser.parse_integer()
        parser.parse_keyword("to")
        hi = parser.parse_integer()
        parser.parse_keyword("step")
        return cls(name, lo, hi, parser.parse_integer())

    def print(self, printer: Printer) -> None:
        lo, hi, step = (a.value.data for a in (self.lo, self.hi, self.step))
        printer.print_string(f" {symbol(self.sym_name.data)} in {lo} to {hi} step {step}")

    def verify_(self) -> None:
        if self.lo.value.data >= self.hi.value.data:
            raise VerifyException("a scalar needs a non-empty range")


@irdl_op_definition
class BufferOp(IRDLOperation):
    """A buffer of the schedule.

    `from @constant` fills a constant, `uses n` is how often the slots of a packet buffer are used
    in one iteration, `initial` says that it holds data before the first iteration, `in @arena +
    offset` places it (in bytes). A buffer in "shared" memory has one row for each worker.

    ```mlir
    task.buffer @x scratch uses 31 : memref<576xf32, "packet">
    ```
    """

    name = "task.buffer"

    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    source = opt_prop_def(SymbolRefAttr)
    uses = opt_prop_def(IntegerAttr)
    initial = opt_prop_def(IntegerAttr)
    arena = opt_prop_def(StringAttr)
    offset = opt_prop_def(IntegerAttr)
    type = prop_def(MemRefType)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        kind: str,
        type_: MemRefType,
        *,
        source: str | None = None,
        uses: int | None = None,
        initial: bool = False,
        arena: str | None = None,
        offset: int = 0,
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "kind": StringAttr(kind),
                "source": SymbolRefAttr(source) if source else None,
                "uses": IntegerAttr(uses, i64) if uses is not None else None,
                "initial": IntegerAttr(1, i64) if initial else None,
                "arena": StringAttr(arena) if arena else None,
                "offset": IntegerAttr(offset, i64) if arena else None,
                "type": type_,
            }
        )

    @classmethod
    def parse(cls, parser: Parser) -> BufferOp:
        name = parser.parse_symbol_name().data
        kind = parser.parse_identifier()
        source = arena = uses = None
        offset = 0
        if parser.parse_optional_keyword("from") is not None:
            source = parser.parse_symbol_name().data
        if parser.parse_optional_keyword("uses") is not None:
            uses = parser.parse_integer()
        initial = parser.parse_optional_keyword("initial") is not None
        if parser.parse_optional_keyword("in") is not None:
            arena = parser.parse_symbol_name().data
            parser.parse_punctuation("+")
            offset = parser.parse_integer()
        parser.parse_punctuation(":")
        at = parser.pos
        type_ = parser.parse_type()
        if not isinstance(type_, MemRefType):
            parser.raise_error("a buffer has a memref type", at)
        return cls(
            name,
            kind,
            type_,
            source=source,
            uses=uses,
            initial=initial,
            arena=arena,
            offset=offset,
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {symbol(self.sym_name.data)} {self.kind.data}")
        if self.source is not None:
            printer.print_string(f" from {symbol(self.source.root_reference.data)}")
        if self.uses is not None:
            printer.print_string(f" uses {self.uses.value.data}")
        if self.initial is not None:
            printer.print_string(" initial")
        if self.arena is not None:
            offset = self.offset.value.data if self.offset else 0
            printer.print_string(f" in {symbol(self.arena.data)} + {offset}")
        printer.print_string(" : ")
        printer.print_attribute(self.type)

    def verify_(self) -> None:
        verify_buffer(self.kind.data, self.type)
        if is_packet(self.type) != (self.uses is not None):
            raise VerifyException("a buffer in a packet space, and no other, gives its uses")
        if self.uses is not None and self.uses.value.data <= 0:
            raise VerifyException("the uses of a packet buffer must be positive")


@irdl_op_definition
class CounterOp(IRDLOperation):
    """A counter that starts at 0 and only grows.

    ```mlir
    task.counter @done
    ```
    """

    name = "task.counter"

    sym_name = prop_def(SymbolNameConstraint())

    traits = traits_def(SymbolOpInterface())
    assembly_format = "$sym_name attr-dict"

    def __init__(self, name: str) -> None:
        super().__init__(properties={"sym_name": StringAttr(name)})


@irdl_op_definition
class RepeatOp(Repeat):
    """Its families, `count` times in order, with the index counting from 0 (the layer loop).

    ```mlir
    task.repeat l in 30 {
      task.family @fill for i in 2 on i args [out @x[16 * i : 16 * i + 16] use l]
    }
    ```
    """

    name = "task.repeat"


def for_each_task(
    schedule: ScheduleOp, visit: Callable[[FamilyOp | TaskOp, dict[str, int]], None]
) -> None:
    """Call `visit(op, repeats)` for every family and task in execution order.

    `repeats` gives the indices of the enclosing repeats; a body is visited once for each. The tasks
    of a table come as single ops, which are in no module.
    """
    ranks = {
        op.sym_name.data: op.type.get_num_dims()
        for op in schedule.body.block.ops
        if isinstance(op, BufferOp)
    }

    def walk(ops, repeats: dict[str, int]) -> None:
        for op in ops:
            if isinstance(op, FamilyOp | TaskOp):
                visit(op, repeats)
            elif isinstance(op, TableOp):
                for single in op.single_tasks(ranks):
                    visit(single, repeats)
            elif isinstance(op, RepeatOp):
                for value in range(op.count.value.data):
                    walk(op.body.block.ops, {**repeats, op.index.data: value})

    walk(schedule.body.block.ops, {})


__all__ = [
    "COLUMNS",
    "TASK",
    "BufferOp",
    "CounterOp",
    "FamilyOp",
    "RepeatOp",
    "Rows",
    "RowsAttr",
    "ScalarOp",
    "ScheduleOp",
    "TableOp",
    "TaskOp",
    "for_each_task",
]

TASK = Dialect(
    "task",
    [ScheduleOp, ScalarOp, BufferOp, CounterOp, RepeatOp, FamilyOp, TaskOp, TableOp],
    [RowsAttr],
)
