"""Errors, warnings and remarks about IR, one line each: `file:line:col: error: message`.

`fail` ends the current step; `emit_error` lets it go on to report more; `warn` and `remark` only
tell. Where they go is up to the driver (`capture`): standard error by default, or a list that is
compared with the `expected-error` comments of the input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from xdsl.ir import Operation

from amk.errors import AmkError
from amk.ir.location import location_of


class Severity(Enum):
    """How bad it is; the value is the word that is printed."""

    ERROR = "error"
    WARNING = "warning"
    REMARK = "remark"


@dataclass(frozen=True)
class Note:
    """A line that explains a diagnostic, e.g. a step of a witness."""

    message: str
    location: str | None = None

    def line(self) -> str:
        """The printed line."""
        prefix = f"{self.location}: " if self.location else ""
        return f"{prefix}note: {self.message}"


class Diagnostic(AmkError):  # noqa: N818  (remarks are no errors)
    """A message about one op; an error when raised. `diagnostic()` gives the printed lines."""

    def __init__(
        self,
        message: str,
        *,
        location: str | None = None,
        severity: Severity = Severity.ERROR,
        notes: Sequence[Note | str] = (),
    ) -> None:
        """Create it; a note given as a string has no location of its own."""
        super().__init__(message, location=location)
        self.severity = severity
        self.notes = tuple(n if isinstance(n, Note) else Note(n) for n in notes)

    def diagnostic(self) -> str:
        """`file:line:col: severity: message`, then one line per note; no trailing newline."""
        prefix = f"{self.location}: " if self.location else ""
        lines = [f"{prefix}{self.severity.value}: {self}"]
        return "\n".join([*lines, *(note.line() for note in self.notes)])


Handler = Callable[[Diagnostic], None]


def _print_to_stderr(diagnostic: Diagnostic) -> None:
    print(diagnostic.diagnostic(), file=sys.stderr)


_handler: ContextVar[Handler] = ContextVar("amk_diagnostic_handler", default=_print_to_stderr)


@contextmanager
def capture(handler: Handler) -> Iterator[None]:
    """Send what is emitted inside the `with` block to `handler` instead of standard error."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


def emit(diagnostic: Diagnostic) -> None:
    """Report `diagnostic` without ending the current step."""
    _handler.get()(diagnostic)


def fail(op: Operation, message: str, notes: Sequence[Note | str] = ()) -> NoReturn:
    """Raise the error `message` at the location of `op`."""
    raise Diagnostic(message, location=location_of(op), notes=notes)


def emit_error(op: Operation, message: str, notes: Sequence[Note | str] = ()) -> None:
    """Report an error at `op` and go on; the driver exits with status 1 after the current pass."""
    emit(Diagnostic(message, location=location_of(op), notes=notes))


def warn(op: Operation | None, message: str) -> None:
    """Report a warning at `op` (or without a location)."""
    emit(Diagnostic(message, location=_locate(op), severity=Severity.WARNING))


def remark(op: Operation | None, message: str) -> None:
    """Report a remark at `op` (or without a location)."""
    emit(Diagnostic(message, location=_locate(op), severity=Severity.REMARK))


def _locate(op: Operation | None) -> str | None:
    return None if op is None else location_of(op)
