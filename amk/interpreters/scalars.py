"""What scalar operations (`arith`, `math`) compute in the regions and bodies of kernels.

Every value is a numpy array or scalar, so that a region runs once for all of its elements. f32 is
computed in float32 and rounded after each operation, i32 wraps, an index is an int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, IntegerType
from xdsl.interpreter import (
    Interpreter,
    InterpreterFunctions,
    PythonValues,
    impl,
    register_impls,
)
from xdsl.ir import Attribute

from amk.errors import AmkError
from amk.interpreters import numerics

_SIGNED = {
    0: np.equal,
    1: np.not_equal,
    2: np.less,
    3: np.less_equal,
    4: np.greater,
    5: np.greater_equal,
}
_UNSIGNED = {6: np.less, 7: np.less_equal, 8: np.greater, 9: np.greater_equal}
_ORDERED = {
    1: np.equal,
    2: np.greater,
    3: np.greater_equal,
    4: np.less,
    5: np.less_equal,
}
"""Float predicates that are false where an operand is NaN, by number: oeq, ogt, oge, olt, ole."""
_NOT_EQUAL = 13
"""The predicate une, which is true where an operand is NaN."""


def _type_of(type_: Attribute) -> np.dtype[Any]:
    """The numpy type of integers of `type_`."""
    if isinstance(type_, IndexType):
        return np.dtype(np.int64)
    if isinstance(type_, IntegerType) and type_.width.data in (1, 32, 64):
        return np.dtype({1: np.bool_, 32: np.int32, 64: np.int64}[type_.width.data])
    raise AmkError(f"a kernel cannot compute with {type_}")


def _unsigned(value: Any) -> Any:
    """The same bits, read as an unsigned number."""
    array = np.asarray(value)
    return array.view({4: np.uint32, 8: np.uint64}.get(array.dtype.itemsize, array.dtype))


def _signed_result(value: Any, like: Attribute) -> Any:
    return np.asarray(value).astype(_type_of(like))


@register_impls
class ScalarFunctions(InterpreterFunctions):
    """`arith` and `math` operations on arrays."""

    @impl(arith.ConstantOp)
    def run_constant(
        self, interpreter: Interpreter, op: arith.ConstantOp, args: PythonValues
    ) -> PythonValues:
        value = op.value
        if isinstance(value, FloatAttr):
            return (np.float32(value.value.data),)
        if isinstance(value, IntegerAttr):
            return (_type_of(op.result.type).type(value.value.data),)
        raise AmkError(f"a kernel cannot hold the constant {value}")

    @impl(arith.AddfOp)
    def run_addf(
        self, interpreter: Interpreter, op: arith.AddfOp, args: PythonValues
    ) -> PythonValues:
        return (np.add(args[0], args[1]),)

    @impl(arith.SubfOp)
    def run_subf(
        self, interpreter: Interpreter, op: arith.SubfOp, args: PythonValues
    ) -> PythonValues:
        return (np.subtract(args[0], args[1]),)

    @impl(arith.MulfOp)
    def run_mulf(
        self, interpreter: Interpreter, op: arith.MulfOp, args: PythonValues
    ) -> PythonValues:
        return (np.multiply(args[0], args[1]),)

    @impl(arith.DivfOp)
    def run_divf(
        self, interpreter: Interpreter, op: arith.DivfOp, args: PythonValues
    ) -> PythonValues:
        return (np.divide(args[0], args[1]),)

    @impl(arith.NegfOp)
    def run_negf(
        self, interpreter: Interpreter, op: arith.NegfOp, args: PythonValues
    ) -> PythonValues:
        return (np.negative(args[0]),)

    @impl(arith.MaximumfOp)
    def run_maximumf(
        self, interpreter: Interpreter, op: arith.MaximumfOp, args: PythonValues
    ) -> PythonValues:
        return (np.maximum(args[0], args[1]),)

    @impl(arith.MinimumfOp)
    def run_minimumf(
        self, interpreter: Interpreter, op: arith.MinimumfOp, args: PythonValues
    ) -> PythonValues:
        return (np.minimum(args[0], args[1]),)

    @impl(arith.CmpfOp)
    def run_cmpf(
        self, interpreter: Interpreter, op: arith.CmpfOp, args: PythonValues
    ) -> PythonValues:
        predicate = op.predicate.value.data
        if predicate == _NOT_EQUAL:
            return (np.not_equal(args[0], args[1]),)
        if predicate not in _ORDERED:
            raise AmkError("a kernel compares floats by oeq, ogt, oge, olt, ole or une")
        return (_ORDERED[predicate](args[0], args[1]),)

    @impl(arith.AddiOp)
    def run_addi(
        self, interpreter: Interpreter, op: arith.AddiOp, args: PythonValues
    ) -> PythonValues:
        return (np.add(args[0], args[1]),)

    @impl(arith.SubiOp)
    def run_subi(
        self, interpreter: Interpreter, op: arith.SubiOp, args: PythonValues
    ) -> PythonValues:
        return (np.subtract(args[0], args[1]),)

    @impl(arith.MuliOp)
    def run_muli(
        self, interpreter: Interpreter, op: arith.MuliOp, args: PythonValues
    ) -> PythonValues:
        return (np.multiply(args[0], args[1]),)

    @impl(arith.DivUIOp)
    def run_divui(
        self, interpreter: Interpreter, op: arith.DivUIOp, args: PythonValues
    ) -> PythonValues:
        return (_signed_result(_unsigned(args[0]) // _unsigned(args[1]), op.result.type),)

    @impl(arith.RemUIOp)
    def run_remui(
        self, interpreter: Interpreter, op: arith.RemUIOp, args: PythonValues
    ) -> PythonValues:
        return (_signed_result(_unsigned(args[0]) % _unsigned(args[1]), op.result.type),)

    @impl(arith.AndIOp)
    def run_andi(
        self, interpreter: Interpreter, op: arith.AndIOp, args: PythonValues
    ) -> PythonValues:
        return (np.bitwise_and(args[0], args[1]),)

    @impl(arith.OrIOp)
    def run_ori(
        self, interpreter: Interpreter, op: arith.OrIOp, args: PythonValues
    ) -> PythonValues:
        return (np.bitwise_or(args[0], args[1]),)

    @impl(arith.XOrIOp)
    def run_xori(
        self, interpreter: Interpreter, op: arith.XOrIOp, args: PythonValues
    ) -> PythonValues:
        return (np.bitwise_xor(args[0], args[1]),)

    @impl(arith.CmpiOp)
    def run_cmpi(
        self, interpreter: Interpreter, op: arith.CmpiOp, args: PythonValues
    ) -> PythonValues:
        predicate = op.predicate.value.data
        compare: Callable[..., Any] = _SIGNED.get(predicate) or _UNSIGNED[predicate]
        if predicate in _UNSIGNED:
            return (compare(_unsigned(args[0]), _unsigned(args[1])),)
        return (compare(args[0], args[1]),)

    @impl(arith.SelectOp)
    def run_select(
        self, interpreter: Interpreter, op: arith.SelectOp, args: PythonValues
    ) -> PythonValues:
        return (np.where(args[0], args[1], args[2]),)

    @impl(arith.IndexCastOp)
    def run_index_cast(
        self, interpreter: Interpreter, op: arith.IndexCastOp, args: PythonValues
    ) -> PythonValues:
        return (_signed_result(args[0], op.result.type),)

    @impl(math.ExpOp)
    def run_exp(self, interpreter: Interpreter, op: math.ExpOp, args: PythonValues) -> PythonValues:
        return (numerics.exp(args[0]),)

    @impl(math.RsqrtOp)
    def run_rsqrt(
        self, interpreter: Interpreter, op: math.RsqrtOp, args: PythonValues
    ) -> PythonValues:
        return (numerics.rsqrt(args[0]),)

    @impl(math.SqrtOp)
    def run_sqrt(
        self, interpreter: Interpreter, op: math.SqrtOp, args: PythonValues
    ) -> PythonValues:
        return (np.sqrt(args[0]),)

    @impl(math.AbsFOp)
    def run_absf(
        self, interpreter: Interpreter, op: math.AbsFOp, args: PythonValues
    ) -> PythonValues:
        return (np.abs(args[0]),)

    @impl(arith.SIToFPOp)
    def run_sitofp(
        self, interpreter: Interpreter, op: arith.SIToFPOp, args: PythonValues
    ) -> PythonValues:
        return (np.asarray(args[0]).astype(np.float32),)
