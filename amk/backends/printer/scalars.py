"""Scalar operations as C++ expressions: one rule for each operation, as data."""

from __future__ import annotations

import math as python_math
from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, IntegerType, f32
from xdsl.ir import Attribute, Operation

from amk.errors import AmkError
from amk.ir.location import location_of

PREDICATES = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")
"""C++ operators in the order of MLIR's integer predicates, the unsigned ones last."""
FIRST_UNSIGNED = 6
FLOAT_PREDICATES = {1: "==", 2: ">", 3: ">=", 4: "<", 5: "<="}
"""Ordered comparisons by MLIR's number."""

Rule = str | Callable[[Operation, Sequence[str]], str]


def _compare(op: Operation, operands: Sequence[str]) -> str:
    assert isinstance(op, arith.CmpiOp)
    predicate = op.predicate.value.data
    left, right = operands if predicate < FIRST_UNSIGNED else _unsigned(op, operands)
    return f"{left} {PREDICATES[predicate]} {right}"


def _unsigned(op: Operation, operands: Sequence[str]) -> Sequence[str]:
    """The operands read as unsigned numbers; an index is never negative."""
    if op.operands[0].type != IntegerType(32):
        return operands
    return [f"uint32_t({operand})" for operand in operands]


def _divide(symbol: str) -> Rule:
    def rule(op: Operation, operands: Sequence[str]) -> str:
        left, right = _unsigned(op, operands)
        text = f"{left} {symbol} {right}"
        return text if left == operands[0] else f"int({text})"

    return rule


def _negate(op: Operation, operands: Sequence[str]) -> str:
    # A literal may be negative, and `--` is something else.
    return f"-({operands[0]})" if operands[0].startswith("-") else f"-{operands[0]}"


def _compare_floats(op: Operation, operands: Sequence[str]) -> str:
    assert isinstance(op, arith.CmpfOp)
    predicate = op.predicate.value.data
    if predicate not in FLOAT_PREDICATES:
        raise AmkError("the printer knows only ordered float comparisons", location=location_of(op))
    return f"{operands[0]} {FLOAT_PREDICATES[predicate]} {operands[1]}"


RULES: dict[type[Operation], Rule] = {
    arith.AddfOp: "amk::add({0}, {1})",
    arith.SubfOp: "amk::sub({0}, {1})",
    arith.MulfOp: "amk::mul({0}, {1})",
    arith.DivfOp: "amk::div({0}, {1})",
    arith.NegfOp: _negate,
    arith.MaximumfOp: "amk::maximum({0}, {1})",
    arith.MinimumfOp: "amk::minimum({0}, {1})",
    math.ExpOp: "amk::exp({0})",
    math.SqrtOp: "amk::sqrt({0})",
    math.RsqrtOp: "amk::rsqrt({0})",
    math.AbsFOp: "amk::absolute({0})",
    arith.SelectOp: "{0} ? {1} : {2}",
    arith.AddiOp: "{0} + {1}",
    arith.SubiOp: "{0} - {1}",
    arith.MuliOp: "{0} * {1}",
    arith.DivUIOp: _divide("/"),
    arith.RemUIOp: _divide("%"),
    arith.AndIOp: "{0} & {1}",
    arith.OrIOp: "{0} | {1}",
    arith.XOrIOp: "{0} ^ {1}",
    arith.IndexCastOp: "{0}",
    arith.SIToFPOp: "float({0})",
    arith.CmpiOp: _compare,
    arith.CmpfOp: _compare_floats,
}


FAST_RULES: dict[type[Operation], Rule] = {
    arith.DivfOp: "amk::Fast::div({0}, {1})",
    math.ExpOp: "amk::Fast::exp({0})",
    math.RsqrtOp: "amk::Fast::rsqrt({0})",
}
"""What differs in a kernel that is `fast`."""


def scalar_expression(op: Operation, operands: Sequence[str], *, fast: bool = False) -> str:
    """The C++ expression of an operation; AmkError if there is no rule for it."""
    rule = (FAST_RULES.get(type(op)) if fast else None) or RULES.get(type(op))
    if rule is None:
        raise AmkError(
            f"the printer has no rule for {op.name}; known: "
            + ", ".join(sorted(t.name for t in RULES)),
            location=location_of(op),
        )
    return rule.format(*operands) if isinstance(rule, str) else rule(op, operands)


def literal(op: arith.ConstantOp) -> str:
    """The C++ literal of a constant."""
    value = op.value
    if isinstance(value, FloatAttr):
        return float_literal(value.value.data)
    assert isinstance(value, IntegerAttr)
    if value.type == IntegerType(1):
        return "true" if value.value.data else "false"
    return str(value.value.data)


def float_literal(value: float) -> str:
    """The shortest decimal that is this float32."""
    if python_math.isnan(value):
        return "amk::as_float(0x7fc00000u)"
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    if np.isinf(rounded):
        return "amk::infinity()" if value > 0 else "-amk::infinity()"
    text = str(rounded)
    return f"{text}f" if any(c in text for c in ".e") else f"{text}.0f"


def scalar_c_type(type_: Attribute, location: str | None = None) -> str:
    """The C++ type of a scalar; AmkError (at `location`) if the printer has none for it."""
    if isinstance(type_, IndexType) or type_ == IntegerType(32):
        return "int"
    if type_ == IntegerType(1):
        return "bool"
    if type_ == f32:
        return "float"
    raise AmkError(
        f"the printer computes with f32, i32, i1 and index, not with {type_}", location=location
    )
