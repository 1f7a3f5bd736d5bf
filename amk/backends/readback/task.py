"""The text of one task against its family and its kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Operation, SSAValue

from amk.backends.readback import syntax
from amk.backends.readback.body import Body, described, is_called, scalar_ops
from amk.backends.readback.columns import Column, tabulated
from amk.backends.readback.expected import Region
from amk.backends.readback.heavy import Attention, Combine, Map
from amk.backends.readback.integers import Value
from amk.backends.readback.memory import Site
from amk.backends.readback.mismatch import fail, require
from amk.backends.readback.obligations import Step
from amk.backends.readback.outputs import Output
from amk.backends.readback.primitive import arguments_of
from amk.backends.readback.product import Product
from amk.backends.readback.scalars import scalar_type
from amk.dialects import tile
from amk.schedule.expr import Expr

SCALAR_TYPES = ("const int", "const float", "const bool")


class TaskReader:
    """Reads the statements of a task, which a place executes for all its lanes."""

    def __init__(self, site: Site, statements: Sequence[syntax.Statement], at: syntax.Node):
        self.site = site
        self.statements = list(statements)
        self.at = at
        self.body = Body(site, taken={"w", "b"})
        self.steps: list[Step] = []
        self.outputs: list[syntax.Declaration] = []
        self.structs: list[syntax.Struct] = []

    def read(self) -> list[Step]:
        """The steps of the task; Mismatch where it is not what its family says."""
        guarded = bool((table_guard(self.site) >= 0).any())
        require(not guarded, self.at, "the task runs in full, the IR has a guard")
        self._waits()
        while self._is_method("sync"):
            self.steps.append(Step("sync", self._next("a task")))
        self._indices()
        for op in scalar_ops(self.site.tasks.kernel.body.block.ops):
            self._declarations()
            self._operation(op)
        self._signals()
        left = [*self.outputs, *self.structs, *self.statements]
        if left:
            fail(left[0], "the task has nothing more to do")
        return self.steps

    def _next(self, what: str) -> syntax.Statement:
        if not self.statements:
            fail(self.at, f"{what} is missing")
        return self.statements.pop(0)

    def _is_method(self, name: str) -> bool:
        match self.statements:
            case [
                syntax.Evaluation(
                    value=syntax.Call(
                        function=syntax.Member(object=syntax.Name(text="w"), name=method),
                        arguments=(),
                    )
                ),
                *_,
            ]:
                return method == name
            case _:
                return False

    # ---- counters --------------------------------------------------------------------------

    def _waits(self) -> None:
        table, ids = self.site.tasks.expected.table, self.site.tasks.ids
        thresholds = _by_task(table.wait_task, ids, len(self.site.tasks.op.waits))
        for (counter, _), rows in zip(self.site.tasks.op.waits, thresholds, strict=True):
            statement = self._next(f"the wait for @{counter}")
            threshold = Column(table.wait_threshold[rows].astype(np.int64))
            self._wait(statement, counter, threshold)
            self.steps.append(Step("wait", statement))

    def _wait(self, statement: syntax.Statement, counter: str, threshold: Column) -> None:
        """`amk::wait(w, b.c, w.epoch(total, threshold) - 1, number);`"""
        expected = self.site.tasks.expected
        number = len(expected.buffers) + expected.counters.index(counter)
        match statement:
            case syntax.Evaluation(value=syntax.Call() as call):
                _, (pointer, target, identity) = arguments_of(call, "amk::wait", 4)
            case _:
                fail(statement, f"expected the wait for @{counter}")
        self._counter(pointer, counter)
        match target:
            case syntax.Binary(operator="-", left=epoch, right=syntax.Number(text="1")):
                what = f"the threshold of @{counter}"
                self.site.epoch(epoch, expected.signalled(counter), threshold, what)
            case _:
                fail(target, "expected w.epoch(…) - 1")
        right = identity == syntax.Number(0, 0, str(number))
        require(right, identity, f"the number of @{counter} is {number}")

    def _signals(self) -> None:
        table, ids = self.site.tasks.expected.table, self.site.tasks.ids
        amounts = _by_task(table.signal_task, ids, len(self.site.tasks.op.signals))
        for (counter, _), rows in zip(self.site.tasks.op.signals, amounts, strict=True):
            statement = self._next(f"the signal of @{counter}")
            match statement:
                case syntax.Evaluation(value=syntax.Call() as call):
                    _, (pointer, amount) = arguments_of(call, "amk::signal", 3)
                case _:
                    fail(statement, f"expected the signal of @{counter}")
            self._counter(pointer, counter)
            wanted = Column(table.signal_amount[rows].astype(np.int64))
            self.site.same(amount, wanted, f"the amount of @{counter}")
            self.steps.append(Step("signal", statement))

    def _counter(self, node: syntax.Expression, counter: str) -> None:
        match node:
            case syntax.Member(object=syntax.Name(text="b"), name=name) if (
                self.site.names.counters.get(name) == counter
            ):
                pass
            case _:
                fail(node, f"expected the counter @{counter}")

    # ---- declarations ----------------------------------------------------------------------

    def _indices(self) -> None:
        """`const int first = …;` for each index parameter of the kernel."""
        for parameter, expr in self.site.tasks.index_arguments:
            assert isinstance(parameter.type, IndexType)
            statement = self._next("an index of the kernel")
            match statement:
                case syntax.Declaration(type="const int", value=value, unused=False) if value:
                    found = self.site.scope.read(value)
                case _:
                    fail(statement, "expected an index of the kernel")
            self._same_index(statement, found, expr)
            called = is_called(statement.name, parameter)
            require(called, statement, f"'{statement.name}' is no name of this index")
            self.body.declare(statement, statement.name)
            self.body.values[syntax.Name(0, 0, statement.name)] = parameter

    def _same_index(self, node: syntax.Declaration, found: Value, expr: Expr) -> None:
        """An index argument is no column of the table: it is compared as an expression."""
        tasks = self.site.tasks
        column, expressions = tabulated(expr, tasks.indices, len(tasks))
        comparer = replace(tasks.expected.comparer, expressions=expressions)
        lane = comparer.differing(found, self.site.lanes.columns, column)
        if lane is not None:
            name = tasks.expected.table.task_name(int(tasks.ids[lane]))
            fail(node, f"'{node.name}' is not that of {name}")

    def _declarations(self) -> None:
        """Views of outputs, and structs, up to the statement that uses them."""
        while self.statements:
            match self.statements[0]:
                case syntax.Struct(name=name) as struct:
                    self.body.declare(struct, name)
                    self.structs.append(struct)
                case syntax.Declaration(type=type_) as view if type_ not in SCALAR_TYPES:
                    self.body.declare(view, view.name)
                    self.outputs.append(view)
                case _:
                    return
            self.statements.pop(0)

    def _views(self, outs: Sequence[SSAValue], counts: Sequence[int]) -> list[Output]:
        """The declared views, which are those of the outputs in their order."""
        views, self.outputs = self.outputs, []
        require(len(views) == len(outs), self.at, "another number of outputs")
        for view, out in zip(views, outs, strict=True):
            self._view(view, self.site.tasks.regions[out])
        return [
            Output(view.name, out, count)
            for view, out, count in zip(views, outs, counts, strict=True)
        ]

    def _view(self, view: syntax.Declaration, region: Region) -> None:
        element = region.buffer.element
        type_ = "const auto" if region.buffer.packet else f"{element}* const"
        value = view.value
        if value is None or view.type != type_ or view.unused:
            fail(view, f"expected '{type_} {view.name} = …;'")
        if region.buffer.packet:
            require(region.buffer.space == "packet", view, "packets to the host go one by one")
            self.site.packets(value, region)
        else:
            self.site.pointer(value, region)

    # ---- operations ------------------------------------------------------------------------

    def _operation(self, op: Operation) -> None:
        statement = self._next(described(op))
        self.body.loads = []
        match op:
            case tile.ProductOp():
                outs = self._views([*op.outs, *op.best], [*op.out_counts, *[1] * len(op.best)])
                call = self._call(statement, op)
                Product(self.site, self.body, self._structs(), outs).check(call, op)
                source = self.site.tasks.regions[op.input].buffer
                plain = () if source.packet or source.constant else (source,)
                self._step("product", statement, op, [*op.outs, *op.best], plain)
            case tile.MapOp():
                outs = self._views(op.outs, op.out_counts)
                Map(self.site, self.body, [], outs).check(self._call(statement, op), op)
                self._step("map", statement, op, op.outs)
            case tile.CombineOp():
                outs = self._views(op.outs, op.out_counts)
                Combine(self.site, self.body, [], outs).check(self._call(statement, op), op)
                self._step("combine", statement, op, op.outs)
            case tile.AttentionOp():
                Attention(self.site, self.body, [], []).check(self._call(statement, op), op)
                self._step("attention", statement, op, [op.partial])
            case tile.ArgmaxOp() | tile.ReceiveOp():
                self._received(statement, op)
            case tile.StoreOp():
                self._store(statement, op)
            case tile.StopOp():
                self._stop(statement, op)
            case _:
                self.body.define(statement, op)
                if self.body.loads:
                    self._step("load", statement, op, [])

    def _step(
        self,
        kind: str,
        node: syntax.Node,
        op: Operation,
        outs: Sequence[SSAValue],
        input_: tuple = (),
    ) -> None:
        regions = self.site.tasks.regions
        sends = any(regions[out].buffer.packet for out in outs)
        self.steps.append(Step(kind, node, tuple(self.body.loads), input_, sends))

    def _structs(self) -> list[syntax.Struct]:
        structs, self.structs = self.structs, []
        return structs

    def _call(self, statement: syntax.Statement, op: Operation) -> syntax.Expression:
        if not isinstance(statement, syntax.Evaluation):
            fail(statement, f"expected {described(op)}")
        return statement.value

    def _received(self, statement: syntax.Statement, op: tile.ArgmaxOp | tile.ReceiveOp) -> None:
        """`const T name = amk::argmax(…);` or `amk::receive(…)`."""
        type_ = f"const {scalar_type(op.result.type)}"
        if not isinstance(statement, syntax.Declaration) or statement.value is None:
            fail(statement, f"expected {described(op)}")
        right = statement.type == type_ and not statement.unused
        require(right, statement, f"{described(op)} gives '{type_}'")
        regions = self.site.tasks.regions
        if isinstance(op, tile.ArgmaxOp):
            _, (values, indices, count) = arguments_of(statement.value, "amk::argmax", 4)
            lengths: list[Column] = []
            for node, operand in ((values, op.values), (indices, op.indices)):
                self.site.packets(node, regions[operand])
                lengths.append(self.site.run(node, regions[operand]))
            constant = all(length.is_constant for length in lengths)
            require(constant, count, "argmax of a changing number of packets")
            equal = bool((lengths[0].constant == lengths[1].constant).all())
            require(equal, count, "as many values as indices")
            self.site.same(count, lengths[0], "the number of candidates")
            self._step("argmax", statement, op, [])
        else:
            _, (view,) = arguments_of(statement.value, "amk::receive", 2)
            # The device layer reads one packet as the first of a pair, of which it takes one.
            self.site.packets(view, regions[op.memory])
            one = self.site.run(view, regions[op.memory]).equals(1)
            require(one, view, "one packet is received")
            self._step("receive", statement, op, [])
        self.body.declare(statement, statement.name)
        self.body.values[syntax.Name(0, 0, statement.name)] = op.result

    def _store(self, statement: syntax.Statement, op: tile.StoreOp) -> None:
        """`if (w.leader()) …;`: one thread writes one element."""
        match statement:
            case syntax.If(
                declaration=None,
                condition=syntax.Call(
                    function=syntax.Member(object=syntax.Name(text="w"), name="leader"),
                    arguments=(),
                ),
                body=(write,),
            ):
                pass
            case _:
                fail(statement, f"expected {described(op)}, by the leader")
        region = self.site.tasks.regions[op.memory]
        self.site.run(statement, region)
        (index,) = op.indices
        function = "amk::send_host" if region.buffer.space == "host_packet" else "amk::send"
        match write:
            case syntax.Evaluation(
                value=syntax.Call(function=syntax.Name(text=name), arguments=(view, place, value))
            ) if name == function and region.buffer.packet:
                self.site.packets(view, region)
            case syntax.Assignment(
                target=syntax.Subscript(object=pointer, index=place), value=value
            ) if not region.buffer.packet:
                self.site.pointer(pointer, region)
            case _:
                fail(write, f"expected {described(op)}")
        whole = region.buffer.element != "amk::bf16"
        require(whole, write, "a single bf16 is not written")
        right = self.body.means(place, index) and self.body.means(value, op.value)
        require(right, write, f"this is not {described(op)}")
        self.steps.append(Step("send" if region.buffer.packet else "store", statement))

    def _stop(self, statement: syntax.Statement, op: tile.StopOp) -> None:
        """`w.stop(condition);`"""
        match statement:
            case syntax.Evaluation(
                value=syntax.Call(
                    function=syntax.Member(object=syntax.Name(text="w"), name="stop"),
                    arguments=(condition,),
                )
            ) if self.body.means(condition, op.condition):
                self.steps.append(Step("stop", statement))
            case _:
                fail(statement, f"expected {described(op)}")


def table_guard(site: Site) -> np.ndarray:
    """The guards of the tasks of a place: numbers of expressions, -1 for none."""
    return site.tasks.expected.table.task_guard[site.tasks.ids]


def _by_task(owners: np.ndarray, ids: np.ndarray, count: int) -> list[np.ndarray]:
    """Rows of a column of task numbers: those of the k-th entry of each task, for k < count."""
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], ids, side="left")
    return [order[starts + k] for k in range(count)]
