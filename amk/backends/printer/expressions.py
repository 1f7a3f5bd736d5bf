"""Integer expressions of the IR as C++.

C++ divides towards zero, the IR towards minus infinity; they agree for operands that are not
negative, which the ranges of the variables show. Elsewhere the helpers `amk::floordiv` and
`amk::floormod` are printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        for low, high in self._term_ranges(expr):
            lo, hi = lo + low, hi + high
        return lo, hi

    def _term_ranges(self, expr: Expr) -> Iterator[Range]:
        for atom, factor in expr.terms:
            if atom.operand is None:
                ends = self._variable_range(atom.name)
            else:
                inner = self.range(atom.operand)
                ends = _divided(inner, atom.kind, atom.divisor)
            low, high = sorted(end * factor for end in ends)
            yield low, high

    def _is_wide(self, expr: Expr) -> bool:
        """Whether a term, or the sum of the first terms, may not fit into an `int`."""
        lo = hi = 0
        for low, high in (*self._term_ranges(expr), (expr.constant, expr.constant)):
            lo, hi = lo + low, hi + high
            if min(lo, low) < -INT_MAX or max(hi, high) > INT_MAX:
                return True
        return False

    def _variable_range(self, name: str) -> Range:
        if name not in self.ranges:
            raise AmkError(f"the printer does not know the variable '{name}'")
        return self.ranges[name]

    def print(self, expr: Expr) -> str:
        """The expression in C++, as an `int` where it fits and else as a `long`."""
        wide = self._is_wide(expr)
        text = ""
        for atom, factor in expr.terms:
            spelled = self._atom(atom)
            text = _joined(text, factor, f"long({spelled})" if wide else spelled)
        if expr.constant or not text:
            text = _joined(text, expr.constant, "")
        return text

    def _atom(self, atom) -> str:
        if atom.operand is None:
            return self.names[atom.name]
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
