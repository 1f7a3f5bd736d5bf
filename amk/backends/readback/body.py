"""Straight lines of a task: scalar operations one by one, and the names that stand for values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Operation, SSAValue

from amk.backends.readback import syntax
from amk.backends.readback.expected import BufferFacts
from amk.backends.readback.memory import Site
from amk.backends.readback.mismatch import Mismatch, fail, require
from amk.backends.readback.scalars import computes, is_literal, scalar_type
from amk.dialects import tile
from amk.ir.location import location_of

INT_MAX = 2**31 - 1


@dataclass
class Body:
    """What a sequence of statements has defined so far.

    `values` maps expressions to values of the IR: names, and what stands for a region's arguments,
    such as `y[0]`. `loads` collects the memory that was read and that tasks may write.
    """

    site: Site
    values: dict[syntax.Node, SSAValue] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    loads: list[BufferFacts] = field(default_factory=list)

    def inner(self, node: syntax.Node, names: Iterable[str | None]) -> Body:
        """The body of a lambda with parameters of these names."""
        body = Body(self.site, dict(self.values), set(self.taken), self.loads)
        for name in names:
            if name is not None:
                body.declare(node, name)
        return body

    def declare(self, node: syntax.Node, name: str) -> None:
        """A name that must not hide another."""
        hidden = name in self.taken or name in self.site.scope.values
        require(not hidden, node, f"'{name}' is declared twice")
        self.taken.add(name)

    def means(self, node: syntax.Expression, value: SSAValue) -> bool:
        """Whether an expression stands for a value of the IR."""
        if isinstance(value.owner, arith.ConstantOp):
            return is_literal(node, value.owner)
        return self.values.get(node) is value

    # ---- operations ------------------------------------------------------------------------

    def define(self, statement: syntax.Statement, op: Operation, *, early: bool = False) -> None:
        """`const T name = …;` is the operation; with `early` it may read constants only."""
        type_ = scalar_type(op.results[0].type)
        if not isinstance(statement, syntax.Declaration) or statement.value is None:
            fail(statement, f"expected {described(op)}")
        require(
            statement.type == f"const {type_}" and not statement.unused,
            statement,
            f"{described(op)} gives '{type_}'",
        )
        if isinstance(op, tile.LoadOp):
            self._load(statement.value, op, early)
        elif not computes(statement.value, op, self.means, fast=self.site.tasks.fast):
            fail(statement, f"'{statement.name}' is not {described(op)}")
        self.declare(statement, statement.name)
        self.values[syntax.Name(0, 0, statement.name)] = op.results[0]

    def _load(self, node: syntax.Expression, op: tile.LoadOp, early: bool) -> None:
        region = self.site.tasks.regions[op.memory]
        buffer = region.buffer
        if early and not buffer.constant:
            fail(node, f"@{buffer.name} is no constant: it must not be read ahead")
        strides = [buffer.strides[d] for d in region.kept]
        indices = list(zip(op.indices, strides, strict=True))
        if buffer.space == "host":
            self._load_host(node, op, indices)
            return
        if buffer.element == "amk::bf16":
            match node:
                case syntax.Call(function=syntax.Name(text="amk::to_float"), arguments=(element,)):
                    node = element
                case _:
                    fail(node, f"@{buffer.name} holds bf16: expected amk::to_float(…)")
        if not isinstance(node, syntax.Subscript):
            fail(node, f"expected {described(op)}")
        self.site.pointer(node.object, region)
        self._index(node.index, indices, buffer)
        if not buffer.constant:
            self.loads.append(buffer)

    def _load_host(
        self, node: syntax.Expression, op: tile.LoadOp, indices: list[tuple[SSAValue, int]]
    ) -> None:
        region = self.site.tasks.regions[op.memory]
        indices = [pair for pair in indices if not _is_zero(pair[0])]
        match node:
            case syntax.Call(function=syntax.Name(text="amk::load_host"), arguments=(pointer,)) if (
                not indices
            ):
                self.site.pointer(pointer, region)
            case _:
                fail(node, f"expected amk::load_host of @{region.buffer.name}")

    def _index(
        self,
        node: syntax.Expression,
        indices: list[tuple[SSAValue, int]],
        buffer: BufferFacts,
    ) -> None:
        """An index is the sum of the indices of the IR, each times the stride of its dimension."""
        wide = buffer.size > INT_MAX
        indices = [pair for pair in indices if not _is_zero(pair[0])]
        if not indices:
            require(node == syntax.Number(0, 0, "0"), node, f"the index into @{buffer.name}")
            return
        terms = self._terms(node)
        right = len(terms) == len(indices) and all(
            self._is_term(term, value, stride, wide)
            for term, (value, stride) in zip(terms, indices, strict=True)
        )
        require(right, node, f"the index into @{buffer.name}")

    def _terms(self, node: syntax.Expression) -> list[syntax.Expression]:
        if node in self.values or not isinstance(node, syntax.Binary) or node.operator != "+":
            return [node]
        return [*self._terms(node.left), node.right]

    def _is_term(self, node: syntax.Expression, value: SSAValue, stride: int, wide: bool) -> bool:
        if stride != 1:
            if not isinstance(node, syntax.Binary) or node.operator != "*":
                return False
            if node.right != syntax.Number(0, 0, str(stride)):
                return False
            node = node.left
        if not wide:
            return self.means(node, value)
        match node:
            case syntax.Call(function=syntax.Name(text="long"), arguments=(inner,)):
                return self.means(inner, value)
            case _:
                return False

    # ---- regions of scalar operations ------------------------------------------------------

    def define_some(
        self, statements: Iterable[syntax.Statement], ops: list[Operation]
    ) -> list[Operation]:
        """Statements that run ahead: some of the operations, in order, on constants; the rest."""
        left = list(ops)
        for statement in statements:
            for op in left:
                if isinstance(op, tile.YieldOp):
                    fail(statement, "nothing that may run ahead is computed here")
                try:
                    self.define(statement, op, early=True)
                except Mismatch:
                    continue
                left.remove(op)
                break
        return left


def bind(values: Mapping[str, SSAValue]) -> dict[syntax.Node, SSAValue]:
    """Names as they are looked up."""
    return {syntax.Name(0, 0, name): value for name, value in values.items()}


def is_called(name: str, parameter: SSAValue) -> bool:
    """Whether a C++ name is that of an index parameter of a kernel, as far as C++ allows it."""
    hint = re.sub(r"\W", "_", parameter.name_hint or "first").rstrip("_")
    return name.rstrip("_") in (hint, f"n{hint}")


def scalar_ops(ops: Iterable[Operation]) -> list[Operation]:
    """The operations that a program spells out: constants are written where they are used."""
    return [op for op in ops if not isinstance(op, arith.ConstantOp)]


def described(op: Operation) -> str:
    """An operation for an error message."""
    where = location_of(op)
    return op.name + (f" of {where}" if where else "")


def _is_zero(value: SSAValue) -> bool:
    constant = value.owner.value if isinstance(value.owner, arith.ConstantOp) else None
    return isinstance(constant, IntegerAttr) and constant.value.data == 0
