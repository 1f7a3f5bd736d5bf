"""Scalar operations as C++ expressions: one rule for each operation, as data."""

from __future__ import annotations

import math as python_math
from collections.abc import Callable, Sequence

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, IntegerType
from xdsl.ir import Attribute, Operation

from amk.errors import AmkError
from amk.ir.location import location_of

PREDICATES = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")
"""C++ operators in the order of MLIR's integer predicates; unsigned ones see indices, which are
never negative."""
FLOAT_PREDICATES = {1: "==", 2: ">", 3: ">=", 4: "<", 5: "<="}
"""Ordered comparisons by MLIR's number."""

Rule = str | Callable[[Operation, Sequence[str]], str]


def _compare(op: Operation, operands: Sequence[str]) -> str:
    assert isinstance(op, arith.CmpiOp)
    return f"{operands[0]} {PREDICATES[op.predicate.value.data]} {operands[1]}"


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
    arith.NegfOp: "-{0}",
    arith.MaximumfOp: "amk::larger({0}, {1})",
    arith.MinimumfOp: "-amk::larger(-{0}, -{1})",
    math.ExpOp: "amk::exp({0})",
    math.SqrtOp: "amk::sqrt({0})",
    math.RsqrtOp: "amk::rsqrt({0})",
    math.AbsFOp: "amk::larger({0}, -{0})",
    arith.SelectOp: "{0} ? {1} : {2}",
    arith.AddiOp: "{0} + {1}",
    arith.SubiOp: "{0} - {1}",
    arith.MuliOp: "{0} * {1}",
    arith.DivUIOp: "{0} / {1}",
    arith.RemUIOp: "{0} % {1}",
    arith.AndIOp: "{0} & {1}",
    arith.OrIOp: "{0} | {1}",
    arith.XOrIOp: "{0} ^ {1}",
    arith.IndexCastOp: "{0}",
    arith.SIToFPOp: "float({0})",
    arith.CmpiOp: _compare,
    arith.CmpfOp: _compare_floats,
}


def scalar_expression(op: Operation, operands: Sequence[str]) -> str:
    """The C++ expression of an operation; AmkError if there is no rule for it."""
    rule = RULES.get(type(op))
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
    if python_math.isinf(value):
        return "amk::infinity()" if value > 0 else "-amk::infinity()"
    text = str(np.float32(value))
    return f"{text}f" if any(c in text for c in ".e") else f"{text}.0f"


def scalar_c_type(type_: Attribute) -> str:
    """The C++ type of a scalar."""
    if isinstance(type_, IndexType) or type_ == IntegerType(32):
        return "int"
    if type_ == IntegerType(1):
        return "bool"
    return "float"
