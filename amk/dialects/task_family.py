"""Families of tasks and single tasks of the `task` dialect."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    ArrayAttr,
    IntegerAttr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    i64,
)
from xdsl.irdl import IRDLOperation, irdl_op_definition, opt_prop_def, prop_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import SymbolOpInterface
from xdsl.utils.exceptions import VerifyException

from amk.dialects.access import (
    AccessAttr,
    Argument,
    ExprAttr,
    parse_argument,
    parse_expr,
    parse_guard,
    symbol,
)
from amk.dialects.tile import print_arguments, verify_call
from amk.schedule.expr import Expr

AGENTS = ("compute", "stream")


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
        if self.kernel_name is not None:
            verify_call(self, self.kernel_name, self.args.data)


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
        guard = parse_guard(parser)
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
        printer.print_string(f" waits [{', '.join(f'{symbol(c)} >= {t}' for c, t in op.waits)}]")
    if op.signals:
        pairs = ", ".join(f"{symbol(c)} += {k}" for c, k in op.signals)
        printer.print_string(f" signals [{pairs}]")
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
        printer.print_string(f" {symbol(self.sym_name.data)}")
        printer.print_string(f" calls {symbol(self.kernel_name)}" if self.kernel_name else "")
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
        printer.print_string(f" {symbol(self.sym_name.data)}")
        printer.print_string(f" calls {symbol(self.kernel_name)}" if self.kernel_name else "")
        printer.print_string(f" worker {self.worker.value.data}" if self.worker is not None else "")
        printer.print_string(f" {self.agent.data}" if self.agent is not None else "")
        _print_conditions(printer, self)
