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

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
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

from amk.dialects.access import AccessAttr, Argument, ExprAttr, parse_argument, parse_expr
from amk.dialects.memory import is_packet
from amk.dialects.tile import print_arguments, verify_buffer
from amk.schedule.expr import Expr

AGENTS = ("compute", "stream")


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
    """

    name = "task.schedule"

    sym_name = prop_def(SymbolNameConstraint())
    workers = prop_def(IntegerAttr)
    context = opt_prop_def(IntegerAttr)
    eos = opt_prop_def(DenseArrayBase)
    vocab = opt_prop_def(IntegerAttr)
    iterations = opt_prop_def(IntegerAttr)
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
        printer.print_string(f" @{self.sym_name.data} in {lo} to {hi} step {step}")

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
        type_ = parser.parse_type()
        if not isinstance(type_, MemRefType):
            parser.raise_error("a buffer has a memref type")
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
        printer.print_string(f" @{self.sym_name.data} {self.kind.data}")
        if self.source is not None:
            printer.print_string(f" from @{self.source.root_reference.data}")
        if self.uses is not None:
            printer.print_string(f" uses {self.uses.value.data}")
        if self.initial is not None:
            printer.print_string(" initial")
        if self.arena is not None:
            offset = self.offset.value.data if self.offset else 0
            printer.print_string(f" in @{self.arena.data} + {offset}")
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
class RepeatOp(IRDLOperation):
    """Its families, `count` times in order, with the index counting from 0 (the layer loop).

    ```mlir
    task.repeat l in 30 {
      task.family @fill for i in 2 on i args [out @x[16 * i : 16 * i + 16] use l]
    }
    ```
    """

    name = "task.repeat"

    index = prop_def(StringAttr)
    count = prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator())

    def __init__(self, index: str, count: int, body: Region) -> None:
        super().__init__(
            properties={"index": StringAttr(index), "count": IntegerAttr(count, i64)},
            regions=[body],
        )

    @classmethod
    def parse(cls, parser: Parser) -> RepeatOp:
        index = parser.parse_identifier()
        parser.parse_keyword("in")
        return cls(index, parser.parse_integer(), parser.parse_region())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.index.data} in {self.count.value.data} ")
        printer.print_region(self.body)

    def verify_(self) -> None:
        if self.count.value.data <= 0:
            raise VerifyException("a repeat needs a positive count")


class _Tasks(IRDLOperation):
    """What families and explicit tasks share."""

    sym_name = prop_def(SymbolNameConstraint())
    kernel = opt_prop_def(SymbolRefAttr)
    args = prop_def(ArrayAttr[AccessAttr | ExprAttr])
    wait_counters = opt_prop_def(ArrayAttr[SymbolRefAttr])
    wait_thresholds = opt_prop_def(ArrayAttr[ExprAttr])
    signal_counters = opt_prop_def(ArrayAttr[SymbolRefAttr])
    signal_amounts = opt_prop_def(ArrayAttr[ExprAttr])
    guard = opt_prop_def(ExprAttr)
    agent = opt_prop_def(StringAttr)

    @property
    def kernel_name(self) -> str | None:
        return self.kernel.root_reference.data if self.kernel else None

    @property
    def waits(self) -> list[tuple[str, Expr]]:
        return _pairs(self.wait_counters, self.wait_thresholds)

    @property
    def signals(self) -> list[tuple[str, Expr]]:
        return _pairs(self.signal_counters, self.signal_amounts)

    @property
    def agent_name(self) -> str:
        return self.agent.data if self.agent else "compute"

    @property
    def index_name(self) -> str:
        """The name of the family's index; "" for a single task."""
        raise NotImplementedError

    @property
    def instances(self) -> int:
        raise NotImplementedError

    @property
    def placement(self) -> Expr | None:
        """The worker of an instance; None gives every instance a queue of its own."""
        raise NotImplementedError

    def verify_(self) -> None:
        if self.agent_name not in AGENTS:
            raise VerifyException(f"unknown agent '{self.agent_name}'; known: {', '.join(AGENTS)}")
        if len(self.wait_counters or ()) != len(self.wait_thresholds or ()):
            raise VerifyException("every wait needs a counter and a threshold")
        if len(self.signal_counters or ()) != len(self.signal_amounts or ()):
            raise VerifyException("every signal needs a counter and an amount")


def _pairs(
    counters: ArrayAttr[SymbolRefAttr] | None, values: ArrayAttr[ExprAttr] | None
) -> list[tuple[str, Expr]]:
    if counters is None or values is None:
        return []
    return [(c.root_reference.data, v.data) for c, v in zip(counters, values, strict=True)]


def _task_properties(
    name: str,
    kernel: str | None,
    args: Sequence[Argument],
    waits: Sequence[tuple[str, Expr]],
    signals: Sequence[tuple[str, Expr]],
    guard: Expr | None,
    agent: str,
):
    def counters(pairs: Sequence[tuple[str, Expr]]):
        return ArrayAttr([SymbolRefAttr(c) for c, _ in pairs]) if pairs else None

    def values(pairs: Sequence[tuple[str, Expr]]):
        return ArrayAttr([ExprAttr(v) for _, v in pairs]) if pairs else None

    return {
        "sym_name": StringAttr(name),
        "kernel": SymbolRefAttr(kernel) if kernel else None,
        "args": ArrayAttr(args),
        "wait_counters": counters(waits),
        "wait_thresholds": values(waits),
        "signal_counters": counters(signals),
        "signal_amounts": values(signals),
        "guard": ExprAttr(guard) if guard is not None else None,
        "agent": StringAttr(agent) if agent != "compute" else None,
    }


def _parse_head(parser: Parser) -> tuple[str, str | None]:
    name = parser.parse_symbol_name().data
    if parser.parse_optional_keyword("calls") is None:
        return name, None
    return name, parser.parse_symbol_name().data


def _parse_agent(parser: Parser) -> str:
    for agent in AGENTS:
        if parser.parse_optional_keyword(agent) is not None:
            return agent
    return "compute"


def _parse_conditions(parser: Parser):
    parser.parse_keyword("args")
    square = parser.Delimiter.SQUARE
    args = parser.parse_comma_separated_list(square, lambda: parse_argument(parser))
    waits: list[tuple[str, Expr]] = []
    signals: list[tuple[str, Expr]] = []
    guard = None
    if parser.parse_optional_keyword("waits") is not None:
        waits = parser.parse_comma_separated_list(square, lambda: _parse_pair(parser, ">"))
    if parser.parse_optional_keyword("signals") is not None:
        signals = parser.parse_comma_separated_list(square, lambda: _parse_pair(parser, "+"))
    if parser.parse_optional_keyword("when") is not None:
        guard = parse_expr(parser)
        parser.parse_punctuation("=")
        parser.parse_punctuation("=")
        if parser.parse_integer() != 0:
            parser.raise_error("a guard compares with 0")
    return args, waits, signals, guard


def _parse_pair(parser: Parser, sign: str) -> tuple[str, Expr]:
    """`@counter >= threshold` or `@counter += amount`."""
    name = parser.parse_symbol_name().data
    parser.parse_punctuation(">" if sign == ">" else "+")
    parser.parse_punctuation("=")
    return name, parse_expr(parser)


def _print_conditions(printer: Printer, op: _Tasks) -> None:
    print_arguments(printer, op.args.data)
    if op.waits:
        printer.print_string(f" waits [{', '.join(f'@{c} >= {t}' for c, t in op.waits)}]")
    if op.signals:
        printer.print_string(f" signals [{', '.join(f'@{c} += {k}' for c, k in op.signals)}]")
    if op.guard is not None:
        printer.print_string(f" when {op.guard.data} == 0")


@irdl_op_definition
class FamilyOp(_Tasks):
    """`count` instances of a kernel, instance i on worker `on`, with the regions given by i.

    A family without a kernel is abstract: each instance writes a hash of its identity, its epoch
    and what it read. `when e == 0` makes the other instances empty.

    ```mlir
    task.family @down calls @linear for i in 72 on i mod 7 args [
      in @act[0 : 1536] use l, in @w[l, 8 * i : 8 * i + 8, 0 : 1536],
      out @x[8 * i : 8 * i + 8] use l + 1] waits [@c >= 3] signals [@d += 1]
    ```
    """

    name = "task.family"

    index = prop_def(StringAttr)
    count = prop_def(IntegerAttr)
    on = opt_prop_def(ExprAttr)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        kernel: str | None,
        count: int,
        on: Expr | None,
        args: Sequence[Argument],
        *,
        index: str = "i",
        waits: Sequence[tuple[str, Expr]] = (),
        signals: Sequence[tuple[str, Expr]] = (),
        guard: Expr | None = None,
        agent: str = "compute",
    ) -> None:
        properties = _task_properties(name, kernel, args, waits, signals, guard, agent)
        super().__init__(
            properties={
                **properties,
                "index": StringAttr(index),
                "count": IntegerAttr(count, i64),
                "on": ExprAttr(on) if on is not None else None,
            }
        )

    @property
    def index_name(self) -> str:
        return self.index.data

    @property
    def instances(self) -> int:
        return self.count.value.data

    @property
    def placement(self) -> Expr | None:
        return self.on.data if self.on is not None else None

    @classmethod
    def parse(cls, parser: Parser) -> FamilyOp:
        name, kernel = _parse_head(parser)
        parser.parse_keyword("for")
        index = parser.parse_identifier()
        parser.parse_keyword("in")
        count = parser.parse_integer()
        on = parse_expr(parser) if parser.parse_optional_keyword("on") is not None else None
        agent = _parse_agent(parser)
        args, waits, signals, guard = _parse_conditions(parser)
        return cls(
            name,
            kernel,
            count,
            on,
            args,
            index=index,
            waits=waits,
            signals=signals,
            guard=guard,
            agent=agent,
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(f" @{self.sym_name.data}")
        printer.print_string(f" calls @{self.kernel_name}" if self.kernel else "")
        printer.print_string(f" for {self.index.data} in {self.count.value.data}")
        printer.print_string(f" on {self.on.data}" if self.on is not None else "")
        printer.print_string(f" {self.agent.data}" if self.agent is not None else "")
        _print_conditions(printer, self)

    def verify_(self) -> None:
        super().verify_()
        if self.count.value.data <= 0:
            raise VerifyException("a family needs at least one instance")


@irdl_op_definition
class TaskOp(_Tasks):
    """One task, for schedules that a tuner or a person wrote task by task.

    ```mlir
    task.task @first worker 0 args [out @x[0 : 16] use 0] signals [@done += 1]
    ```
    """

    name = "task.task"

    worker = opt_prop_def(IntegerAttr)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        kernel: str | None,
        worker: int | None,
        args: Sequence[Argument],
        *,
        waits: Sequence[tuple[str, Expr]] = (),
        signals: Sequence[tuple[str, Expr]] = (),
        guard: Expr | None = None,
        agent: str = "compute",
    ) -> None:
        properties = _task_properties(name, kernel, args, waits, signals, guard, agent)
        super().__init__(
            properties={
                **properties,
                "worker": IntegerAttr(worker, i64) if worker is not None else None,
            }
        )

    @property
    def index_name(self) -> str:
        return ""

    @property
    def instances(self) -> int:
        return 1

    @property
    def placement(self) -> Expr | None:
        return Expr.const(self.worker.value.data) if self.worker is not None else None

    @classmethod
    def parse(cls, parser: Parser) -> TaskOp:
        name, kernel = _parse_head(parser)
        worker = None
        if parser.parse_optional_keyword("worker") is not None:
            worker = parser.parse_integer()
        agent = _parse_agent(parser)
        args, waits, signals, guard = _parse_conditions(parser)
        return cls(
            name, kernel, worker, args, waits=waits, signals=signals, guard=guard, agent=agent
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(f" @{self.sym_name.data}")
        printer.print_string(f" calls @{self.kernel_name}" if self.kernel else "")
        printer.print_string(f" worker {self.worker.value.data}" if self.worker is not None else "")
        printer.print_string(f" {self.agent.data}" if self.agent is not None else "")
        _print_conditions(printer, self)


def for_each_task(
    schedule: ScheduleOp, visit: Callable[[FamilyOp | TaskOp, dict[str, int]], None]
) -> None:
    """Call `visit(op, repeats)` for every family and task in execution order.

    `repeats` gives the indices of the enclosing repeats; a body is visited once for each.
    """

    def walk(ops, repeats: dict[str, int]) -> None:
        for op in ops:
            if isinstance(op, FamilyOp | TaskOp):
                visit(op, repeats)
            elif isinstance(op, RepeatOp):
                for value in range(op.count.value.data):
                    walk(op.body.block.ops, {**repeats, op.index.data: value})

    walk(schedule.body.block.ops, {})


TASK = Dialect(
    "task",
    [ScheduleOp, ScalarOp, BufferOp, CounterOp, RepeatOp, FamilyOp, TaskOp],
    [],
)
