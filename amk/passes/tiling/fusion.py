"""Which operations of the `nn` level one phase computes.

The products of one vector are lowered together, with the element-wise operations behind them. Where
an element-wise operation joins two products (SiLU(gate) * up), their rows are interleaved, so that
a group of neighbouring rows holds everything that one output element needs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from amk.dialects import nn

ELEMENTWISE = (nn.RopeOp, nn.SiluOp, nn.GeluOp, nn.MulOp, nn.AddOp)


@dataclass(frozen=True)
class Component:
    """Products whose rows are interleaved (usually one), and what is computed from their rows."""

    products: tuple[nn.LinearOp, ...]
    epilogue: tuple[Operation, ...]
    outputs: tuple[SSAValue, ...]
    """The values that other operations use."""

    @property
    def rows(self) -> int:
        """Rows of each product."""
        return nn.tensor_of(self.products[0].result, "result").get_shape()[0]

    @property
    def rope(self) -> nn.RopeOp | None:
        """The rotation among the epilogue, if there is one."""
        return next((op for op in self.epilogue if isinstance(op, nn.RopeOp)), None)

    def outside_operands(self) -> list[SSAValue]:
        """Values that the epilogue reads and that it does not compute, positions apart."""
        inside = {op.result for op in self.products} | {op.results[0] for op in self.epilogue}
        return [
            operand
            for op in self.epilogue
            for operand in _element_operands(op)
            if operand not in inside
        ]


def _element_operands(op: Operation) -> Sequence[SSAValue]:
    return (op.x,) if isinstance(op, nn.RopeOp) else op.operands


def siblings(first: nn.LinearOp) -> list[nn.LinearOp]:
    """The products of the same vector in the same block, in order."""
    block = first.parent_block()
    assert block is not None
    return [op for op in block.ops if isinstance(op, nn.LinearOp) and op.x is first.x]


def components(products: Sequence[nn.LinearOp], ready: Collection[SSAValue]) -> list[Component]:
    """Split sibling products by the element-wise operations that join them.

    `ready` are the values that earlier phases left in buffers; an element-wise operation is fused
    if it reads nothing but those, parameters and results of these products.
    """
    block = products[0].parent_block()
    assert block is not None
    roots: dict[SSAValue, int] = {op.result: i for i, op in enumerate(products)}
    parent = list(range(len(products)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    fused: list[Operation] = []
    for op in _after(block, products[0]):
        if not isinstance(op, ELEMENTWISE):
            continue
        operands = _element_operands(op)
        inside = [v for v in operands if v in roots]
        if not inside or not all(v in roots or _available(v, ready) for v in operands):
            continue
        fused.append(op)
        first = find(roots[inside[0]])
        for value in inside[1:]:
            parent[find(roots[value])] = first
        roots[op.results[0]] = first
    result: list[Component] = []
    for root in sorted({find(i) for i in range(len(products))}):
        members = tuple(op for i, op in enumerate(products) if find(i) == root)
        epilogue = tuple(op for op in fused if find(roots[op.results[0]]) == root)
        result.append(Component(members, epilogue, _outputs(members, epilogue)))
    return result


def _after(block: Block, first: Operation) -> list[Operation]:
    operations = list(block.ops)
    return operations[operations.index(first) :]


def _available(value: SSAValue, ready: Collection[SSAValue]) -> bool:
    return value in ready or isinstance(value.owner, nn.ParamOp)


def _outputs(
    products: Sequence[nn.LinearOp], epilogue: Sequence[Operation]
) -> tuple[SSAValue, ...]:
    inside = set(epilogue)
    values = [op.result for op in products] + [op.results[0] for op in epilogue]
    return tuple(v for v in values if any(use.operation not in inside for use in v.uses))
