"""Scalar operations of the IR in the spelling of the printed program, and literals.

This is the reader's own list, written from the meaning of the operations and of the device layer.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, IntegerType, f32
from xdsl.ir import Attribute, Operation, SSAValue

from amk.backends.readback import syntax

Means = Callable[[syntax.Expression, SSAValue], bool]
"""Whether an operand in the program is a value of the IR."""

CALLS: dict[type[Operation], str] = {
    arith.AddfOp: "amk::add",
    arith.SubfOp: "amk::sub",
    arith.MulfOp: "amk::mul",
    arith.DivfOp: "amk::div",
    arith.MaximumfOp: "amk::maximum",
    arith.MinimumfOp: "amk::minimum",
    math.ExpOp: "amk::exp",
    math.SqrtOp: "amk::sqrt",
    math.RsqrtOp: "amk::rsqrt",
    math.AbsFOp: "amk::absolute",
    arith.SIToFPOp: "float",
}
FAST: dict[type[Operation], str] = {
    arith.DivfOp: "amk::Fast::div",
    math.ExpOp: "amk::Fast::exp",
    math.RsqrtOp: "amk::Fast::rsqrt",
}
"""What a kernel that is `fast` calls instead."""
INFIX: dict[type[Operation], str] = {
    arith.AddiOp: "+",
    arith.SubiOp: "-",
    arith.MuliOp: "*",
    arith.AndIOp: "&",
    arith.OrIOp: "|",
    arith.XOrIOp: "^",
}
UNSIGNED: dict[type[Operation], str] = {arith.DivUIOp: "/", arith.RemUIOp: "%"}
SIGNED_COMPARISONS = {0: "==", 1: "!=", 2: "<", 3: "<=", 4: ">", 5: ">="}
UNSIGNED_COMPARISONS = {6: "<", 7: "<=", 8: ">", 9: ">="}
FLOAT_COMPARISONS = {1: "==", 2: ">", 3: ">=", 4: "<", 5: "<="}
"""The ordered ones: false where an operand is not a number, as in C++."""


def scalar_type(type_: Attribute) -> str | None:
    """The C++ type of a scalar, None where the program has none for it."""
    if isinstance(type_, IndexType) or type_ == IntegerType(32):
        return "int"
    if type_ == IntegerType(1):
        return "bool"
    return "float" if type_ == f32 else None


def computes(node: syntax.Expression, op: Operation, means: Means, *, fast: bool) -> bool:
    """Whether an expression is an operation of `arith` or `math`, of a `fast` kernel or not."""
    kind = type(op)
    if kind in CALLS:
        name = FAST.get(kind, CALLS[kind]) if fast else CALLS[kind]
        return _is_call(node, name, op, means)
    if kind in INFIX:
        return _is_binary(node, INFIX[kind], op, means)
    if kind in UNSIGNED:
        return _is_unsigned_division(node, UNSIGNED[kind], op, means)
    if isinstance(op, arith.CmpiOp):
        return _is_comparison(node, op, means)
    if isinstance(op, arith.CmpfOp):
        operator = FLOAT_COMPARISONS.get(op.predicate.value.data)
        return operator is not None and _is_binary(node, operator, op, means)
    if isinstance(op, arith.SelectOp):
        return isinstance(node, syntax.Choice) and all(
            means(part, operand)
            for part, operand in zip((node.condition, node.yes, node.no), op.operands, strict=True)
        )
    if isinstance(op, arith.NegfOp):
        return isinstance(node, syntax.Unary) and means(node.operand, op.operand)
    if isinstance(op, arith.IndexCastOp):
        return means(node, op.input)
    return False


def _is_call(node: syntax.Expression, name: str, op: Operation, means: Means) -> bool:
    match node:
        case syntax.Call(function=syntax.Name(text=text), arguments=arguments) if text == name:
            return len(arguments) == len(op.operands) and all(map(means, arguments, op.operands))
        case _:
            return False


def _is_binary(node: syntax.Expression, operator: str, op: Operation, means: Means) -> bool:
    left, right = op.operands
    return (
        isinstance(node, syntax.Binary)
        and node.operator == operator
        and means(node.left, left)
        and means(node.right, right)
    )


def _is_unsigned_division(
    node: syntax.Expression, operator: str, op: Operation, means: Means
) -> bool:
    """An index is never negative; 32-bit numbers are converted, and the result back."""
    if op.operands[0].type != IntegerType(32):
        return _is_binary(node, operator, op, means)
    match node:
        case syntax.Call(function=syntax.Name(text="int"), arguments=(quotient,)):
            return _is_binary(quotient, operator, op, _unsigned(means))
        case _:
            return False


def _is_comparison(node: syntax.Expression, op: arith.CmpiOp, means: Means) -> bool:
    predicate = op.predicate.value.data
    if predicate in SIGNED_COMPARISONS:
        return _is_binary(node, SIGNED_COMPARISONS[predicate], op, means)
    narrow = op.operands[0].type == IntegerType(32)
    operator = UNSIGNED_COMPARISONS[predicate]
    return _is_binary(node, operator, op, _unsigned(means) if narrow else means)


def _unsigned(means: Means) -> Means:
    def converted(node: syntax.Expression, value: SSAValue) -> bool:
        match node:
            case syntax.Call(function=syntax.Name(text="uint32_t"), arguments=(operand,)):
                return means(operand, value)
            case _:
                return False

    return converted


# ---- literals ------------------------------------------------------------------------------------


def is_literal(node: syntax.Expression, op: arith.ConstantOp) -> bool:
    """Whether an expression is the literal of a constant: to the bit, and of the same type."""
    value = op.value
    if isinstance(value, FloatAttr):
        found = float_value(node)
        with np.errstate(over="ignore"):
            wanted = np.float32(value.value.data)
        return found is not None and found.tobytes() == wanted.tobytes()
    if not isinstance(value, IntegerAttr):
        return False
    if value.type == IntegerType(1):
        return isinstance(node, syntax.Truth) and node.value == bool(value.value.data)
    return integer_value(node) == value.value.data


def integer_value(node: syntax.Expression) -> int | None:
    """The value of a decimal literal, which may be negative; None for anything else."""
    if isinstance(node, syntax.Unary):
        value = integer_value(node.operand)
        return None if value is None else -value
    if isinstance(node, syntax.Number) and node.text.isdigit():
        return int(node.text)
    return None


def float_value(node: syntax.Expression) -> np.float32 | None:
    """The float32 that a literal stands for; None for anything else."""
    match node:
        case syntax.Unary(operand=operand):
            value = float_value(operand)
            return None if value is None else -value
        case syntax.Number(text=text) if text.endswith("f") and ("." in text or "e" in text):
            return nearest_float32(Fraction(text[:-1]))
        case syntax.Call(function=syntax.Name(text="amk::infinity"), arguments=()):
            return np.float32(np.inf)
        case syntax.Call(
            function=syntax.Name(text="amk::as_float"), arguments=(syntax.Number(text=bits),)
        ) if bits.startswith("0x"):
            return np.uint32(int(bits[2:].removesuffix("u"), 16)).view(np.float32)
        case _:
            return None


def nearest_float32(exact: Fraction) -> np.float32:
    """The float32 nearest to a number, ties to even: what a C++ compiler makes of a literal."""
    with np.errstate(over="ignore"):
        guess = np.float32(float(exact))
    if not np.isfinite(guess):
        return guess
    around = [np.nextafter(guess, np.float32(side)) for side in (-np.inf, np.inf)]
    candidates = [v for v in (guess, *around) if np.isfinite(v)]
    even = {v.tobytes(): int(v.view(np.uint32)) % 2 for v in candidates}
    return min(candidates, key=lambda v: (abs(Fraction(float(v)) - exact), even[v.tobytes()]))
