"""Emits scalar operations at the end of a block, and builds kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import (
    FloatAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    UnitAttr,
    f32,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from amk.dialects import tile
from amk.dialects.access import Access, AccessAttr, Argument, ExprAttr
from amk.schedule.expr import Expr

INDEX = IndexType()


class Scalars:
    """Appends `arith`, `math` and `tile` operations to a block and returns their results."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def add_op(self, op: Operation) -> OpResult:
        """Append an operation; its first result."""
        self.block.add_op(op)
        return op.results[0]

    def index(self, value: int) -> SSAValue:
        return self.add_op(arith.ConstantOp(IntegerAttr(value, INDEX)))

    def integer(self, value: int) -> SSAValue:
        return self.add_op(arith.ConstantOp(IntegerAttr(value, i32)))

    def float(self, value: float) -> SSAValue:
        return self.add_op(arith.ConstantOp(FloatAttr(value, f32)))

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.AddfOp(a, b))

    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.SubfOp(a, b))

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.MulfOp(a, b))

    def div(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.DivfOp(a, b))

    def sigmoid_times(self, x: SSAValue, gate: SSAValue) -> SSAValue:
        """x / (1 + exp(-gate))."""
        exp = self.add_op(math.ExpOp(self.add_op(arith.NegfOp(gate))))
        return self.div(x, self.add(self.float(1.0), exp))

    def rsqrt(self, x: SSAValue) -> SSAValue:
        return self.add_op(math.RsqrtOp(x))

    def load(self, memory: SSAValue, *indices: SSAValue) -> SSAValue:
        return self.add_op(tile.LoadOp(memory, indices))

    def select(self, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
        return self.add_op(arith.SelectOp(condition, yes, no))

    def compare(self, predicate: str, a: SSAValue, b: SSAValue) -> SSAValue:
        """An integer comparison: eq, ne, slt, sge, ult, …"""
        return self.add_op(arith.CmpiOp(a, b, predicate))

    def add_index(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.AddiOp(a, b))

    def mul_index(self, a: SSAValue, factor: int) -> SSAValue:
        return a if factor == 1 else self.add_op(arith.MuliOp(a, self.index(factor)))

    def mod_index(self, a: SSAValue, divisor: int) -> SSAValue:
        return self.add_op(arith.RemUIOp(a, self.index(divisor)))

    def cast(self, value: SSAValue, type_: Attribute) -> SSAValue:
        """Between index and i32."""
        return self.add_op(arith.IndexCastOp(value, type_))

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.AndIOp(a, b))

    def either(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add_op(arith.OrIOp(a, b))


def scalar_region(
    argument_types: Sequence[Attribute],
    emit: Callable[[Scalars, Sequence[SSAValue]], Sequence[SSAValue]],
) -> Region:
    """A region whose block yields what `emit(scalars, arguments)` returns."""
    block = Block(arg_types=argument_types)
    block.add_op(tile.YieldOp(*emit(Scalars(block), block.args)))
    return Region(block)


APPROXIMATED = (
    arith.DivfOp,
    math.ExpOp,
    math.RsqrtOp,
    math.SqrtOp,
    tile.AttentionOp,
    tile.CombineOp,
)
"""Operations that a fast kernel may approximate."""


class KernelBuilder(Scalars):
    """A kernel under construction: parameters with what they are bound to, and the body."""

    def __init__(self, name: str) -> None:
        super().__init__(Block())
        self.name = name
        self.arguments: list[Argument] = []

    def parameter(self, type_: MemRefType, access: Access) -> SSAValue:
        """A memref parameter, bound to `access`."""
        self.arguments.append(AccessAttr(access))
        argument = self.block.insert_arg(type_, len(self.block.args))
        argument.name_hint = access.buffer
        return argument

    def index_parameter(self, expr: Expr) -> SSAValue:
        """An index parameter, bound to `expr`."""
        self.arguments.append(ExprAttr(expr))
        argument = self.block.insert_arg(INDEX, len(self.block.args))
        argument.name_hint = "first"
        return argument

    def build(self, *, fast: bool) -> tile.KernelOp:
        """The kernel; `fast` marks one whose functions may be approximated, if it has any."""
        kernel = tile.KernelOp(self.name, Region(self.block))
        if fast and any(isinstance(op, APPROXIMATED) for op in kernel.walk()):
            kernel.fast = UnitAttr()
        return kernel
