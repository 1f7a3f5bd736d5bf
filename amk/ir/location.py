"""Source locations of operations.

xDSL operations have a location attribute, but its parser leaves it unknown unless the text says
`loc(...)`. `LocatedParser` fills it in, so that every later error can say `file:line:col`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from xdsl.context import Context
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr, UnknownLoc
from xdsl.ir import Attribute, Operation
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.lexer import Span


def location_of(op: Operation) -> str | None:
    """`file:line:col` of `op`, or of the closest enclosing op that has a location, or None.

    The fallback serves ops that a pass created without a location of their own: the enclosing op is
    still the right neighbourhood.
    """
    current: Operation | None = op
    while current is not None:
        found = _file_location(current.location)
        if found is not None:
            return f"{found.filename.data}:{found.line.data}:{found.column.data}"
        current = current.parent_op()
    return None


def inherit_location(source: Operation, created: Iterable[Operation]) -> None:
    """Give the location of `source` to the ops in `created`, nested ones too, that have none."""
    if isinstance(source.location, UnknownLoc):
        return
    for root in created:
        for op in root.walk():
            if isinstance(op.location, UnknownLoc):
                op.location = source.location


def _file_location(location: Attribute) -> FileLineColLoc | None:
    """The first file location in `location`, which may be a fused, named or call-site location."""
    if isinstance(location, FileLineColLoc):
        return location
    pending: list[Attribute] = [location]
    while pending:
        attribute = pending.pop(0)
        if isinstance(attribute, FileLineColLoc):
            return attribute
        parameters = getattr(attribute, "parameters", ())
        pending.extend(p for p in parameters if isinstance(p, Attribute))
        data = getattr(attribute, "data", ())
        if isinstance(data, tuple):
            pending.extend(p for p in data if isinstance(p, Attribute))
    return None


class LocatedParser(Parser):
    """xDSL's parser, attaching file, line and column (both from 1) to every operation.

    An explicit `loc(...)` in the text wins. An attribute or op that refuses its parameters while
    it is parsed becomes a `ParseError` at the op, where xDSL would raise one without a position.
    """

    def __init__(self, ctx: Context, text: str, name: str) -> None:
        """Parse `text`; `name` is the file name that locations carry."""
        super().__init__(ctx, text, name)
        self._file_name = StringAttr(name)
        self._operation_span = self._current_token.span
        self._line_starts = [0]
        start = text.find("\n")
        while start >= 0:
            self._line_starts.append(start + 1)
            start = text.find("\n", start + 1)

    def parse_operation(self) -> Operation:
        """Parse one operation and attach the position at which it starts."""
        span = self._operation_span = self._current_token.span
        try:
            op = super().parse_operation()
        except VerifyException as error:
            raise ParseError(Span(span.start, span.end, span.input), str(error)) from error
        if isinstance(op.location, UnknownLoc):
            op.location = self._location_at(span.start)
        return op

    def _get_op_by_name(self, name: str) -> type[Operation]:
        # As in xDSL, whose error points at the token after the name, perhaps lines further down.
        stack = self._parser_state.dialect_stack
        op_type = self.ctx.get_optional_op(name, dialect_stack=stack)
        if op_type is None:
            self.raise_error(f"Operation {name} is not registered", self._operation_span)
        return op_type

    def current_location(self) -> str:
        """`file:line:col` of the token that is parsed next."""
        return str(self._current_token.span.get_location())

    def _location_at(self, position: int) -> FileLineColLoc:
        # Counting newlines from the start for each op, as Span.get_location does, is quadratic.
        line = bisect_right(self._line_starts, position)
        column = position - self._line_starts[line - 1] + 1
        return FileLineColLoc(self._file_name, IntAttr(line), IntAttr(column))
