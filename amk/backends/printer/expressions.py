"""Integer expressions of the IR as C++.

C++ divides towards zero, the IR towards minus infinity; they agree for operands that are not
negative, which the ranges of the variables show. Elsewhere the helpers `amk::floordiv` and
`amk::floormod` are printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from amk.errors import AmkError
from amk.schedule.expr import Expr

Range = tuple[int, int]
"""Smallest and largest value, both included."""
INT_MAX = 2**31 - 1


@dataclass(frozen=True)
class Variables:
    """How the variables of expressions are spelled in C++, and their ranges."""

    names: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def with_variable(self, name: str, spelling: str, last: int) -> Variables:
        """The same, and `name` in 0..last."""
        return Variables({**self.names, name: spelling}, {**self.ranges, name: (0, last)})

    def range(self, expr: Expr) -> Range:
        """Bounds of an expression by interval arithmetic."""
        lo = hi = expr.constant
        for atom, factor in expr.terms:
            if atom.operand is None:
                ends = self._variable_range(atom.name)
            else:
                inner = self.range(atom.operand)
                ends = _divided(inner, atom.kind, atom.divisor)
            low, high = sorted(end * factor for end in ends)
            lo, hi = lo + low, hi + high
        return lo, hi

    def _variable_range(self, name: str) -> Range:
        if name not in self.ranges:
            raise AmkError(f"the printer does not know the variable '{name}'")
        return self.ranges[name]

    def print(self, expr: Expr) -> str:
        """The expression in C++, as an `int` where it fits and else as a `long`."""
        lo, hi = self.range(expr)
        wide = lo < -INT_MAX or hi > INT_MAX
        text = ""
        for atom, factor in expr.terms:
            text = _joined(text, factor, self._atom(atom, wide))
        if expr.constant or not text:
            text = _joined(text, expr.constant, "")
        return text

    def _atom(self, atom, wide: bool) -> str:
        if atom.operand is None:
            name = self.names[atom.name]
            return f"long({name})" if wide else name
        inner = self.print(atom.operand)
        symbol, helper = ("/", "floordiv") if atom.kind == "floordiv" else ("%", "floormod")
        if self.range(atom.operand)[0] < 0:
            return f"amk::{helper}({inner}, {atom.divisor})"
        wrapped = inner if inner.replace(".", "").isidentifier() else f"({inner})"
        return f"({wrapped} {symbol} {atom.divisor})"


def _divided(inner: Range, kind: str, divisor: int) -> Range:
    if kind == "floordiv":
        return inner[0] // divisor, inner[1] // divisor
    if inner[0] >= 0 and inner[1] < divisor:
        return inner
    return 0, divisor - 1


def _joined(text: str, factor: int, atom: str) -> str:
    size = abs(factor)
    term = str(size) if not atom else atom if size == 1 else f"{atom} * {size}"
    if not text:
        return term if factor >= 0 else f"-{term}"
    return f"{text} {'+' if factor >= 0 else '-'} {term}"
