"""Integer expressions of run-time scalars: quasi-affine, immutable, hashable, in canonical form.

An `Expr` is `constant + sum(coefficient * atom)`.  An atom is a variable, `e floordiv c` or
`e mod c` with an expression `e` and a positive constant `c` (floor division; the remainder is
never negative).  Equal canonical forms compare equal; the simplification is sound but does not
promise that any two equivalent expressions meet in one form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import cached_property, total_ordering
from typing import Union, overload

import numpy as np

IntLike = Union[int, "Expr"]


class ExprError(ValueError):
    """An expression that is not quasi-affine, or text that is not an expression."""


@total_ordering
class _Atom:
    """A variable (`kind == "var"`) or a floor division or remainder of an expression."""

    __slots__ = ("_hash", "divisor", "key", "kind", "name", "operand")

    def __init__(self, kind: str, name: str, operand: Expr | None, divisor: int) -> None:
        self.kind = kind
        self.name = name
        self.operand = operand
        self.divisor = divisor
        inner = () if operand is None else operand.key
        self.key: tuple[object, ...] = (kind != "var", kind, name, divisor, inner)
        self._hash = hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Atom) and self.key == other.key

    def __lt__(self, other: _Atom) -> bool:
        return repr(self.key) < repr(other.key)

    def __repr__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The atom in MLIR affine spelling, without outer parentheses."""
        if self.operand is None:
            return self.name
        return f"{_wrapped(self.operand)} {self.kind} {self.divisor}"


class Expr:
    """A canonical quasi-affine expression; build it with `Expr.var`, `Expr.const` or `parse`.

    Operators `+`, `-`, `*` (one side constant), `//` and `%` (by a positive constant) take `Expr`
    and `int` operands and raise `ExprError` where the result would not be quasi-affine.
    """

    __slots__ = ("__dict__", "_hash", "constant", "key", "terms")

    def __init__(self, constant: int, terms: tuple[tuple[_Atom, int], ...] = ()) -> None:
        self.constant = int(constant)
        self.terms = terms
        self.key: tuple[object, ...] = (self.constant, tuple((a.key, c) for a, c in terms))
        self._hash = hash(self.key)

    @staticmethod
    def const(value: int) -> Expr:
        """The constant `value`."""
        return Expr(value)

    @staticmethod
    def var(name: str) -> Expr:
        """The variable `name`."""
        return Expr(0, ((_Atom("var", name, None, 0), 1),))

    @staticmethod
    def of(value: IntLike) -> Expr:
        """`value` itself if it is an expression, else the constant of that value."""
        return value if isinstance(value, Expr) else Expr(int(value))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (int, np.integer)):
            return self.is_const and self.constant == int(other)
        return isinstance(other, Expr) and self._hash == other._hash and self.key == other.key

    def __repr__(self) -> str:
        return f"Expr({self})"

    @property
    def is_const(self) -> bool:
        """Whether no variable occurs."""
        return not self.terms

    @property
    def value(self) -> int:
        """The value of a constant expression; raises `ExprError` on any other."""
        if self.terms:
            raise ExprError(f"'{self}' is not a constant")
        return self.constant

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names of all variables that occur."""
        names: set[str] = set()
        for atom, _ in self.terms:
            names |= {atom.name} if atom.operand is None else atom.operand.variables
        return frozenset(names)

    @cached_property
    def divisors(self) -> frozenset[int]:
        """The constants of all floor divisions and remainders, nested ones included."""
        found: set[int] = set()
        for atom, _ in self.terms:
            if atom.operand is not None:
                found |= {atom.divisor} | atom.operand.divisors
        return frozenset(found)

    def __add__(self, other: IntLike) -> Expr:
        if not isinstance(other, Expr):
            return Expr(self.constant + int(other), self.terms)
        return _sum(self.constant + other.constant, (*self.terms, *other.terms))

    def __radd__(self, other: int) -> Expr:
        return self + other

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: IntLike) -> Expr:
        return self + (-Expr.of(other))

    def __rsub__(self, other: int) -> Expr:
        return -self + other

    def __mul__(self, other: IntLike) -> Expr:
        factor = Expr.of(other)
        if not factor.is_const:
            if not self.is_const:
                raise ExprError(f"'({self}) * ({factor})' is a product of two variables")
            return factor * self.constant
        if factor.constant == 0:
            return Expr(0)
        scaled = tuple((atom, count * factor.constant) for atom, count in self.terms)
        return Expr(self.constant * factor.constant, scaled)

    def __rmul__(self, other: int) -> Expr:
        return self * other

    def __floordiv__(self, divisor: IntLike) -> Expr:
        by = _divisor(self, "floordiv", divisor)
        whole = Expr(self.constant // by, tuple((a, c // by) for a, c in self.terms if c % by == 0))
        rest = Expr(self.constant % by, tuple((a, c) for a, c in self.terms if c % by))
        if rest.is_const:
            return whole
        only = rest.terms[0][0] if len(rest.terms) == 1 and rest.constant == 0 else None
        if only is not None and rest.terms[0][1] == 1 and only.operand is not None:
            if only.kind == "floordiv":
                return whole + only.operand // (only.divisor * by)
            if only.divisor <= by:  # 0 <= (e mod d) < d <= by
                return whole
        return whole + Expr(0, ((_Atom("floordiv", "", rest, by), 1),))

    def __mod__(self, divisor: IntLike) -> Expr:
        by = _divisor(self, "mod", divisor)
        terms: list[tuple[_Atom, int]] = []
        flattened = False
        for atom, count in self.terms:
            if count % by == 0:
                continue
            if atom.kind == "mod" and atom.operand is not None and atom.divisor % by == 0:
                terms.extend((a, c * count) for a, c in atom.operand.terms)
                terms.append((_CONSTANT, atom.operand.constant * count))
                flattened = True
            else:
                terms.append((atom, count))
        if flattened:
            offset = sum(c for a, c in terms if a is _CONSTANT)
            return _sum(self.constant + offset, [t for t in terms if t[0] is not _CONSTANT]) % by
        rest = Expr(self.constant % by, tuple(terms))
        if rest.is_const:
            return rest
        return Expr(0, ((_Atom("mod", "", rest, by), 1),))

    def substitute(self, values: Mapping[str, IntLike]) -> Expr:
        """The expression with each variable that is a key of `values` replaced by its value."""
        if self.variables.isdisjoint(values):
            return self
        result = Expr(self.constant)
        for atom, count in self.terms:
            result = result + _substituted(atom, values) * count
        return result

    @overload
    def evaluate(self, values: Mapping[str, int]) -> int: ...
    @overload
    def evaluate(self, values: Mapping[str, int | np.ndarray]) -> int | np.ndarray: ...
    def evaluate(
        self, values: Mapping[str, int | np.ndarray] | Mapping[str, int]
    ) -> int | np.ndarray:
        """The value at `values`; integer arrays broadcast.  Raises `KeyError` on a missing name."""
        total: int | np.ndarray = self.constant
        for atom, count in self.terms:
            if atom.operand is None:
                term = values[atom.name]
            elif atom.kind == "floordiv":
                term = atom.operand.evaluate(values) // atom.divisor
            else:
                term = atom.operand.evaluate(values) % atom.divisor
            total = total + (term if count == 1 else term * count)
        return total

    def split(self, names: Set[str]) -> tuple[Expr, Expr]:
        """Two summands: the terms (and the constant) over `names` alone, and all other terms."""
        own: list[tuple[_Atom, int]] = []
        rest: list[tuple[_Atom, int]] = []
        for atom, count in self.terms:
            used = {atom.name} if atom.operand is None else atom.operand.variables
            (own if used <= names else rest).append((atom, count))
        return Expr(self.constant, tuple(own)), Expr(0, tuple(rest))

    def __str__(self) -> str:
        positive = [_term_text(a, c) for a, c in self.terms if c > 0]
        negative = [(a, -c) for a, c in self.terms if c < 0]
        if self.constant > 0 or not self.terms:
            positive.append(str(self.constant))
        text = " + ".join(positive)
        for atom, count in negative:
            if text:
                text += f" - {_term_text(atom, count)}"
            elif count == 1:
                text = f"-{atom.text()}" if atom.operand is None else f"-({atom.text()})"
            else:
                text = _term_text(atom, -count)
        if self.constant < 0 and self.terms:
            text += f" - {-self.constant}"
        return text


_CONSTANT = _Atom("const", "", None, 0)


def _wrapped(expr: Expr) -> str:
    simple = expr.is_const and expr.constant >= 0
    if len(expr.terms) == 1 and expr.constant == 0:
        atom, count = expr.terms[0]
        simple = atom.operand is None and count == 1
    return str(expr) if simple else f"({expr})"


def _term_text(atom: _Atom, count: int) -> str:
    if count == 1:
        return atom.text()
    return f"{atom.text() if atom.operand is None else f'({atom.text()})'} * {count}"


def _sum(constant: int, terms: tuple[tuple[_Atom, int], ...] | list[tuple[_Atom, int]]) -> Expr:
    counts: dict[_Atom, int] = {}
    for atom, count in terms:
        counts[atom] = counts.get(atom, 0) + count
    return Expr(constant, tuple(sorted((a, c) for a, c in counts.items() if c)))


def _divisor(expr: Expr, operator: str, divisor: IntLike) -> int:
    by = Expr.of(divisor)
    if not by.is_const or by.constant <= 0:
        raise ExprError(f"'({expr}) {operator} ({by})' does not divide by a positive constant")
    return by.constant


def _substituted(atom: _Atom, values: Mapping[str, IntLike]) -> Expr:
    if atom.operand is None:
        found = values.get(atom.name)
        return Expr(0, ((atom, 1),)) if found is None else Expr.of(found)
    inner = atom.operand.substitute(values)
    return inner // atom.divisor if atom.kind == "floordiv" else inner % atom.divisor


_TOKEN = re.compile(r"\s*(?:(\d+)|(%?[A-Za-z_$][\w.$]*)|(//|[-+*()%]))")


class _Parser:
    """Recursive descent over `sum := product (('+'|'-') product)*` and so on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at = 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise ExprError(f"unexpected '{text[at:].strip()[0]}' in expression '{text}'")
            self.tokens.append(match.group(match.lastindex or 0))
            at = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Expr:
        result = self.product()
        while self.peek() in ("+", "-"):
            result = result + self.product() if self.next() == "+" else result - self.product()
        return result

    def product(self) -> Expr:
        result = self.unary()
        while self.peek() in ("*", "floordiv", "ceildiv", "mod", "//", "%"):
            operator = self.next()
            right = self.unary()
            if operator == "*":
                result = result * right
            elif operator in ("floordiv", "//"):
                result = result // right
            elif operator == "ceildiv":
                result = -(-result // right)
            else:
                result = result % right
        return result

    def unary(self) -> Expr:
        token = self.next()
        if token == "-":
            return -self.unary()
        if token == "(":
            inner = self.sum()
            if self.next() != ")":
                raise ExprError(f"missing ')' in expression '{self.text}'")
            return inner
        if token.isdigit():
            return Expr(int(token))
        if not token or token in ("floordiv", "ceildiv", "mod") or not _is_name(token):
            raise ExprError(f"expected an operand in expression '{self.text}'")
        return Expr.var(token)


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] in "_$" or (token[0] == "%" and len(token) > 1)


def parse(text: str) -> Expr:
    """The expression that `text` spells in MLIR affine syntax (`//` and `%` are taken as well).

    Raises `ExprError` with one line that names what is wrong.
    """
    parser = _Parser(text)
    result = parser.sum()
    if parser.peek():
        raise ExprError(f"unexpected '{parser.peek()}' in expression '{text}'")
    return result
