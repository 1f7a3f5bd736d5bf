"""`amk::product` against `tile.product`: the stream, the input, and the regions as lambdas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from xdsl.ir import Block, Operation, SSAValue

from amk.backends.readback import syntax
from amk.backends.readback.body import Body, described, scalar_ops
from amk.backends.readback.expected import Region
from amk.backends.readback.mismatch import fail, require
from amk.backends.readback.outputs import Output, Writes
from amk.backends.readback.primitive import (
    Primitive,
    arguments_of,
    element_of,
    lambda_of,
    place_of,
)
from amk.backends.readback.scalars import scalar_type
from amk.dialects import tile

NOTHING = syntax.Braces(0, 0, syntax.Name(0, 0, "amk::Nothing"), ())

Places = Sequence[Mapping[syntax.Node, SSAValue]]
"""What stands for the arguments of a region, in each of its copies."""


@dataclass(frozen=True)
class Ahead:
    """What a lambda that runs ahead leaves: for each copy, its names and the operations to come."""

    bodies: list[Body]
    left: list[list[Operation]]
    parameter: tuple[str, str | None]
    """How the lambda that comes later takes the results."""


class Product(Primitive):
    """A call of `amk::product`."""

    def check(self, node: syntax.Expression, op: tile.ProductOp) -> None:
        """Mismatch unless the call is the operation."""
        template, arguments = arguments_of(node, "amk::product", 9)
        stream, x, rows, load_k, prologue, load_r, epilogue, finish = arguments
        weights = self.region(op.weights)
        buffer = weights.buffer
        *layers, _, columns = buffer.shape
        group = op.group.value.data
        copies = self.copies(template[2] if len(template) == 4 else "", group, node)
        best = "true" if op.best else "false"
        wanted = (buffer.element, str(columns), str(group * copies), best)
        require(template == wanted, node, f"expected amk::product<{', '.join(wanted)}>")
        instance = self.site.tasks.indices[self.site.tasks.op.index_name]
        self.site.stream(stream, weights, instance)
        height = weights.extent(len(layers))
        self.site.same(rows, height, f"the number of rows of @{buffer.name}")
        most = self.most(height, rows)
        self.whole(rows, height, group * copies)
        self._input(x, self.region(op.input), columns)

        outputs, best_outputs = self.outputs[: len(op.outs)], self.outputs[len(op.outs) :]
        self.sizes(node, outputs, height, group)
        k = op.prologue.block.args[0]
        early = self._ahead(load_k, "k", [{syntax.Name(0, 0, "k"): k}], op.prologue.block)
        self._prologue(prologue, op, early)
        r = op.epilogue.block.args[0]
        places: Places = [{place_of(group, copy): r} for copy in range(copies)]
        early = self._ahead(load_r, "r", places, op.epilogue.block)
        if self.structs:
            fail(self.structs[0], "a struct that the product does not use")
        writes = Writes(self.site, outputs, group, copies, most)
        self._epilogue(epilogue, op, writes, early, places)
        self._finish(finish, op, best_outputs)

    def _input(self, node: syntax.Expression, region: Region, columns: int) -> None:
        buffer = region.buffer
        size = self.site.run(node, region)
        require(size.equals(columns), node, f"the input is not {columns} elements")
        if buffer.packet:
            packets = columns // (2 if buffer.element == "amk::bf16" else 1)
            self.site.packets(node, region, aligned=packets % 2 == 0)
            return
        match node:
            case syntax.Braces(
                type=syntax.Template(name="amk::Plain", arguments=(element,)), values=(pointer,)
            ) if element == buffer.element:
                self.site.pointer(pointer, region)
            case _:
                fail(node, f"expected amk::Plain<{buffer.element}>")

    # ---- what runs ahead -------------------------------------------------------------------

    def _fresh(self, names: Mapping[syntax.Node, SSAValue]) -> Body:
        values = {**self.body.values, **names}
        return Body(self.site, values, set(self.body.taken), self.body.loads)

    def _ahead(self, node: syntax.Expression, argument: str, copies: Places, block: Block) -> Ahead:
        """The lambda that computes from constants what it can, for all copies of a region.

        It returns a struct of the results that the rest of the region uses.
        """
        ops = scalar_ops(block.ops)
        fresh = [self._fresh(copy) for copy in copies]
        if not (isinstance(node, syntax.Lambda) and len(node.body) > 1):
            empty = lambda_of(node, ("int", None))
            right = empty.result is None and empty.body == (syntax.Return(0, 0, NOTHING),)
            require(right, node, "expected a lambda that returns amk::Nothing")
            return Ahead(fresh, [list(ops) for _ in copies], ("amk::Nothing", None))
        inner = lambda_of(node, ("int", argument))
        require(inner.result is None, node, "this lambda declares no type")
        if not self.structs:
            fail(node, "there is no struct for what this returns")
        struct = self.structs.pop(0)
        early = self.body.inner(node, [argument, "c"])
        first, *statements, last = inner.body
        right = first == syntax.Declaration(0, 0, struct.name, "c", None)
        require(right, first, f"expected '{struct.name} c;'")
        require(last == syntax.Return(0, 0, syntax.Name(0, 0, "c")), last, "expected 'return c;'")
        fields = {field.name: field for field in struct.fields}
        require(len(fields) == len(struct.fields), struct, "a field is declared twice")
        left: list[list[Operation]] = []
        for copy, late in zip(copies, fresh, strict=True):
            early.values.update(copy)
            defined = list(takewhile(lambda s: isinstance(s, syntax.Declaration), statements))
            statements = statements[len(defined) :]
            left.append(early.define_some(defined, ops))
            kept = list(takewhile(lambda s: isinstance(s, syntax.Assignment), statements))
            statements = statements[len(kept) :]
            for statement in kept:
                self._keep(statement, fields, early, late)
        if statements:
            fail(statements[0], "nothing that may run ahead is computed here")
        if fields:
            fail(struct, f"'{next(iter(fields))}' is never set")
        return Ahead(fresh, left, (f"const {struct.name}&", "c"))

    def _keep(
        self,
        statement: syntax.Statement,
        fields: dict[str, syntax.Field],
        early: Body,
        late: Body,
    ) -> None:
        """`c.field = name;`: the rest of the region finds the value there."""
        match statement:
            case syntax.Assignment(
                target=syntax.Member(object=syntax.Name(text="c"), name=name) as target,
                value=syntax.Name() as kept,
            ) if name in fields and kept in early.values:
                value = early.values[kept]
            case _:
                fail(statement, "expected 'c.field = value;', once for each field")
        field = fields.pop(name)
        right = field.type == scalar_type(value.type) and field.extent is None
        require(right, field, f"'{name}' has another type than its value")
        late.values[target] = value

    # ---- the regions -----------------------------------------------------------------------

    def _prologue(self, node: syntax.Expression, op: tile.ProductOp, early: Ahead) -> None:
        stat = ("float&", "stat" if op.has_stat else None)
        inner = lambda_of(node, ("int", "k"), ("float", "x"), early.parameter, stat)
        require(inner.result == "float", node, "expected '-> float'")
        body = early.bodies[0].inner(node, ["k", "x", "c", "stat"])
        body.values[syntax.Name(0, 0, "k")] = op.prologue.block.args[0]
        body.values[syntax.Name(0, 0, "x")] = op.prologue.block.args[1]
        ops = early.left[0]
        statements = list(inner.body)
        self.run(statements, body, ops, node)
        for inside in ops:
            if isinstance(inside, tile.LoadOp) and not self.region(inside.memory).buffer.constant:
                fail(node, f"{described(inside)} reads ahead what tasks may write")
        result = ops[-1]
        if op.has_stat:
            self._statistic(statements.pop(0) if statements else None, result, body, node)
        match statements:
            case [syntax.Return(value=value)] if body.means(value, result.operands[0]):
                pass
            case _:
                fail(statements[0] if statements else node, f"expected {described(result)}")

    def _statistic(
        self,
        statement: syntax.Statement | None,
        result: Operation,
        body: Body,
        node: syntax.Node,
    ) -> None:
        """`stat = amk::add(stat, value);`"""
        stat = syntax.Name(0, 0, "stat")
        match statement:
            case syntax.Assignment(
                target=target,
                value=syntax.Call(
                    function=syntax.Name(text="amk::add"), arguments=(total, summand)
                ),
            ) if target == stat == total and body.means(summand, result.operands[1]):
                pass
            case _:
                fail(statement or node, f"expected the sum of {described(result)}")

    def _epilogue(
        self,
        node: syntax.Expression,
        op: tile.ProductOp,
        writes: Writes,
        early: Ahead,
        places: Places,
    ) -> None:
        group, copies = writes.group, writes.copies
        inner = lambda_of(
            node,
            ("int", "r"),
            (f"const float (&)[{group * copies}]", "y"),
            ("float", "stat"),
            early.parameter,
            ("amk::Best&", "best" if op.best else None),
        )
        require(inner.result is None, node, "an epilogue returns nothing")
        statements = list(inner.body)
        rest = op.epilogue.block.args[1:]
        finished: list[Body] = []
        taken: set[str] = set()
        for copy, (body, ops) in enumerate(zip(early.bodies, early.left, strict=True)):
            body = body.inner(node, ["r", "y", "stat", "c", "best"])
            body.taken |= taken
            body.values.update(places[copy])
            for element in range(group):
                body.values[element_of("y", copy * group + element)] = rest[element]
            if op.has_stat:
                body.values[syntax.Name(0, 0, "stat")] = rest[group]
            self.run(statements, body, ops, node)
            if op.best:
                self._take(statements.pop(0) if statements else None, body, ops[-1], node)
            taken = body.taken
            finished.append(body)
        values = [list(ops[-1].operands) for ops in early.left]
        writes.check(statements, values, finished, node)

    def _take(
        self,
        statement: syntax.Statement | None,
        body: Body,
        result: Operation,
        node: syntax.Node,
    ) -> None:
        """`best.take(value, index);`"""
        candidate = result.operands[-2:]
        match statement:
            case syntax.Evaluation(
                value=syntax.Call(
                    function=syntax.Member(object=syntax.Name(text="best"), name="take"),
                    arguments=(value, index),
                )
            ) if body.means(value, candidate[0]) and body.means(index, candidate[1]):
                pass
            case _:
                fail(statement or node, "expected the candidate for the best row")

    def _finish(
        self, node: syntax.Expression, op: tile.ProductOp, outputs: Sequence[Output]
    ) -> None:
        """The lambda that sends the best value and its index, each as one packet."""
        if not op.best:
            inner = lambda_of(node, ("amk::Best", None))
            require(inner.body == () and inner.result is None, node, "nothing is to be done here")
            return
        inner = lambda_of(node, ("amk::Best", "best"))
        require(inner.result is None, node, "this lambda returns nothing")
        sends = {
            output.name: member for output, member in zip(outputs, ("value", "index"), strict=True)
        }
        for statement in inner.body:
            match statement:
                case syntax.Evaluation(
                    value=syntax.Call(
                        function=syntax.Name(text="amk::send"),
                        arguments=(
                            syntax.Name(text=name),
                            syntax.Number(text="0"),
                            syntax.Member(object=syntax.Name(text="best"), name=member),
                        ),
                    )
                ) if sends.pop(name, None) == member:
                    pass
                case _:
                    fail(statement, "expected the best value and its index, each once")
        require(not sends, node, "expected the best value and its index, each once")
        for output in outputs:
            region = self.region(output.memory)
            packet = region.buffer.packet and region.buffer.element != "amk::bf16"
            one = self.site.run(node, region).equals(1)
            require(packet and one, node, f"@{region.buffer.name} is not one packet")
