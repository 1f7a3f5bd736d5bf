"""Integer expressions of the printed program, with the meaning that C++ gives them.

An expression becomes an `Expr` over the columns of its lanes (`lanes.py`) and the run-time scalars.
That is exact where no operation leaves its type and no negative number is divided by `/` or `%`,
which round towards zero; both are errors here, decided by interval arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from amk.backends.readback import syntax
from amk.backends.readback.mismatch import fail
from amk.schedule.expr import Expr

Bound = int | np.ndarray
Range = tuple[Bound, Bound]
"""Smallest and largest value, both included: the same for all lanes, or one of each lane [n]."""

INT = (-(2**31), 2**31 - 1)
LONG = (-(2**63), 2**63 - 1)
ITERATIONS = (0, 2**31 - 2)
HELPERS = {"amk::floordiv": "/", "amk::floormod": "%"}


@dataclass(frozen=True)
class Value:
    """An integer of the program; `wide` where its type is `long`."""

    expr: Expr
    range: Range
    wide: bool = False


@dataclass(frozen=True)
class Scope:
    """The integer variables that can be seen: by the name in C++, also `w.id` and `w.pos`."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def bind(self, node: syntax.Node, name: str, value: Value) -> Scope:
        """The same, and one more name, which must not hide another."""
        if name in self.values:
            fail(node, f"'{name}' hides another variable")
        return replace(self, values={**self.values, name: value})

    def read(self, node: syntax.Expression) -> Value:
        """The value of an integer expression; Mismatch if it is none, or may overflow."""
        match node:
            case syntax.Number(text=text) if text.isdigit():
                return _checked(node, Expr.const(int(text)), (int(text), int(text)), False)
            case syntax.Name(text=name) if name in self.values:
                return self.values[name]
            case syntax.Member(object=syntax.Name(text="w"), name=name) if (
                f"w.{name}" in self.values
            ):
                return self.values[f"w.{name}"]
            case syntax.Unary(operand=operand):
                value = self.read(operand)
                lo, hi = value.range
                return _checked(node, -value.expr, (-hi, -lo), value.wide)
            case syntax.Binary(operator=operator, left=left, right=right):
                return _binary(node, operator, self.read(left), self.read(right))
            case syntax.Call(function=syntax.Name(text="long"), arguments=(operand,)):
                return replace(self.read(operand), wide=True)
            case syntax.Call(function=syntax.Name(text=name), arguments=(left, right)) if (
                name in HELPERS
            ):
                value, divisor = self.read(left), self.read(right)
                return _divided(node, HELPERS[name], value, divisor)
            case _:
                return fail(node, "this is no integer expression over variables of the schedule")


def scalar_values(ranges: Mapping[str, Range], iterations: Range = ITERATIONS) -> dict[str, Value]:
    """The run-time scalars of a worker by their spelling, `w.iteration` and `w.pos`.

    No variable of the program has a dot in its name, so these names are theirs alone.
    """
    spans = {**{f"w.{name}": span for name, span in ranges.items()}, "w.iteration": iterations}
    return {name: Value(Expr.var(name), span) for name, span in spans.items()}


def _least(bound: Bound) -> int:
    return int(np.min(bound))


def _most(bound: Bound) -> int:
    return int(np.max(bound))


def _checked(node: syntax.Node, expr: Expr, span: Range, wide: bool) -> Value:
    lowest, highest = LONG if wide else INT
    lo, hi = _least(span[0]), _most(span[1])
    if lo < lowest or hi > highest:
        fail(node, f"this may not fit: its values lie in {lo} to {hi}")
    return Value(expr, span, wide)


def _binary(node: syntax.Node, operator: str, left: Value, right: Value) -> Value:
    wide = left.wide or right.wide
    (a, b), (c, d) = left.range, right.range
    if operator == "+":
        return _checked(node, left.expr + right.expr, (a + c, b + d), wide)
    if operator == "-":
        return _checked(node, left.expr - right.expr, (a - d, b - c), wide)
    if operator == "*":
        return _product(node, left, right, wide)
    if operator in ("/", "%"):
        if _least(a) < 0:
            fail(node, f"'{operator}' of a number that may be negative rounds towards zero")
        return replace(_divided(node, operator, left, right), wide=wide)
    return fail(node, f"'{operator}' does not give an integer")


def _product(node: syntax.Node, left: Value, right: Value, wide: bool) -> Value:
    if not (left.expr.is_const or right.expr.is_const):
        fail(node, "a product of two variables")
    largest = [max(abs(_least(lo)), abs(_most(hi))) for lo, hi in (left.range, right.range)]
    if largest[0] * largest[1] > LONG[1]:
        fail(node, f"this may not fit: its values go up to {largest[0] * largest[1]}")
    (a, b), (c, d) = left.range, right.range
    ends = [np.multiply(x, y) for x in (a, b) for y in (c, d)]
    span = functools.reduce(np.minimum, ends), functools.reduce(np.maximum, ends)
    return _checked(node, left.expr * right.expr, span, wide)


def _divided(node: syntax.Node, operator: str, left: Value, right: Value) -> Value:
    """Division towards minus infinity, by a positive constant."""
    if not right.expr.is_const or right.expr.value <= 0:
        fail(node, "a division by something other than a positive constant")
    divisor = right.expr.value
    lo, hi = left.range
    if operator == "/":
        return Value(left.expr // divisor, (lo // divisor, hi // divisor), left.wide)
    within = (lo, hi) if _least(lo) >= 0 and _most(hi) < divisor else (0, divisor - 1)
    return Value(left.expr % divisor, within, left.wide)
