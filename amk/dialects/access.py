"""Attributes that say which part of which buffer an instance of a kernel is bound to.

They are shared by the `tile` level (where the index is the tile) and the `task` level (where it is
the instance of a family). Expressions are integer expressions over named variables: the index, the
indices of the enclosing repeats, run-time scalars and `iter`; the operators are `+ - *` and
`floordiv`, `mod` by constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.parser.base_parser import BaseParser
from xdsl.printer import Printer

from amk.schedule.expr import Expr

MODES = ("in", "out", "inout")

_IDENTIFIER = re.compile(r"[A-Za-z_][\w$.]*", re.ASCII)


def symbol(name: str) -> str:
    """`@name`, with the name as a string literal if it is not an identifier."""
    if _IDENTIFIER.fullmatch(name):
        return f"@{name}"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'@"{escaped}"'


def parse_expr(parser: BaseParser) -> Expr:
    """Parse `expr ::= term (('+' | '-') term)*`, with `*`, `floordiv` and `mod` binding tighter."""
    value = _parse_term(parser)
    while True:
        if parser.parse_optional_punctuation("+") is not None:
            value = value + _parse_term(parser)
        elif parser.parse_optional_punctuation("-") is not None:
            value = value - _parse_term(parser)
        else:
            return value


def _parse_term(parser: BaseParser) -> Expr:
    value = _parse_factor(parser)
    while True:
        if parser.parse_optional_punctuation("*") is not None:
            value = _checked(parser, value, _parse_factor(parser), lambda a, b: a * b)
        elif parser.parse_optional_keyword("floordiv") is not None:
            value = _checked(parser, value, _parse_factor(parser), lambda a, b: a // b)
        elif parser.parse_optional_keyword("mod") is not None:
            value = _checked(parser, value, _parse_factor(parser), lambda a, b: a % b)
        else:
            return value


def _checked(
    parser: BaseParser, left: Expr, right: Expr, combine: Callable[[Expr, Expr], Expr]
) -> Expr:
    try:
        return combine(left, right)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        parser.raise_error(str(error))


def _parse_factor(parser: BaseParser) -> Expr:
    if parser.parse_optional_punctuation("(") is not None:
        value = parse_expr(parser)
        parser.parse_punctuation(")")
        return value
    if parser.parse_optional_punctuation("-") is not None:
        return Expr.const(0) - _parse_factor(parser)
    if (number := parser.parse_optional_integer(allow_boolean=False)) is not None:
        return Expr.const(number)
    name = parser.parse_optional_identifier()
    if name is None:
        parser.raise_error("expected an integer expression")
    return Expr.var(name)


def parse_guard(parser: BaseParser) -> Expr:
    """Parse `expr == 0`."""
    guard = parse_expr(parser)
    parser.parse_punctuation("=")
    parser.parse_punctuation("=")
    at = parser.pos
    if parser.parse_integer() != 0:
        parser.raise_error("a guard compares with 0", at)
    return guard


@dataclass(frozen=True)
class Dim:
    """One dimension of a region: the index `lo` (`hi` is None), or the half-open `lo : hi`."""

    lo: Expr
    hi: Expr | None = None

    @property
    def end(self) -> Expr:
        """One past the last index."""
        return self.lo + 1 if self.hi is None else self.hi

    def map(self, function: Callable[[Expr], Expr]) -> Dim:
        return Dim(function(self.lo), None if self.hi is None else function(self.hi))

    def __str__(self) -> str:
        return str(self.lo) if self.hi is None else f"{self.lo} : {self.hi}"


@dataclass(frozen=True)
class Access:
    """`mode @buffer[dims] use u if e == 0`: a region of a buffer that a task reads or writes.

    `use` numbers the uses of a packet buffer within one iteration. With `guard`, the access happens
    only where the guard expression is 0.
    """

    mode: str
    buffer: str
    dims: tuple[Dim, ...]
    use: Expr | None = None
    guard: Expr | None = None

    @property
    def reads(self) -> bool:
        return self.mode != "out"

    @property
    def writes(self) -> bool:
        return self.mode != "in"

    def expressions(self) -> Iterator[Expr]:
        for dim in self.dims:
            yield dim.lo
            if dim.hi is not None:
                yield dim.hi
        if self.use is not None:
            yield self.use
        if self.guard is not None:
            yield self.guard

    def map(self, function: Callable[[Expr], Expr]) -> Access:
        """The same access with every expression replaced by `function` of it."""
        return replace(
            self,
            dims=tuple(dim.map(function) for dim in self.dims),
            use=None if self.use is None else function(self.use),
            guard=None if self.guard is None else function(self.guard),
        )

    def substitute(self, values: Mapping[str, int | Expr]) -> Access:
        return self.map(lambda e: e.substitute(values))

    def __str__(self) -> str:
        text = f"{self.mode} {symbol(self.buffer)}[{', '.join(map(str, self.dims))}]"
        if self.use is not None:
            text += f" use {self.use}"
        if self.guard is not None:
            text += f" if {self.guard} == 0"
        return text


def parse_access(parser: BaseParser) -> Access:
    mode = parser.parse_keyword_in(MODES, ": the mode of an access")
    buffer = parser.expect(
        parser.parse_optional_symbol_name,  # pyright: ignore[reportAttributeAccessIssue]
        "expected the @name of a buffer",
    ).data
    dims = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_dim(parser))
    use = parse_expr(parser) if parser.parse_optional_keyword("use") is not None else None
    guard = None
    if parser.parse_optional_keyword("if") is not None:
        guard = parse_guard(parser)
    return Access(mode, buffer, tuple(dims), use, guard)


def _parse_dim(parser: BaseParser) -> Dim:
    lo = parse_expr(parser)
    hi = parse_expr(parser) if parser.parse_optional_punctuation(":") is not None else None
    return Dim(lo, hi)


@irdl_attr_definition
class AccessAttr(Data[Access]):
    """An argument of a kernel that is bound to a region: `#tile.access<in @x[0 : 576] use l>`."""

    name = "tile.access"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Access:
        with parser.in_angle_brackets():
            return parse_access(parser)

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{self.data}>")


@irdl_attr_definition
class ExprAttr(Data[Expr]):
    """An integer expression; as an argument of a kernel, an index: `#tile.expr<8 * t>`."""

    name = "tile.expr"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Expr:
        with parser.in_angle_brackets():
            return parse_expr(parser)

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{self.data}>")


Argument = AccessAttr | ExprAttr


def parse_argument(parser: AttrParser) -> Argument:
    """`index expr`, or an access."""
    if parser.parse_optional_keyword("index") is not None:
        return ExprAttr(parse_expr(parser))
    return AccessAttr(parse_access(parser))


def argument_text(argument: Argument) -> str:
    """The pretty form that `parse_argument` reads."""
    return str(argument.data) if isinstance(argument, AccessAttr) else f"index {argument.data}"
