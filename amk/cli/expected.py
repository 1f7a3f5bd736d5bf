"""`--verify-diagnostics`: comments in the input that say which diagnostics it must cause.

    // expected-error {{part of the message}}            on this line
    // expected-error@+2 {{...}}   @-1                   that many lines below, above
    // expected-warning@below {{...}}   @above           on the next, last line without a comment
    // expected-remark@unknown {{...}}                   without a location

Every error, warning and remark must be expected, and every expected one must come. `expected-note`
is checked too, but notes that nobody expects are fine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from amk.ir.diagnostics import Diagnostic

_COMMENT = re.compile(
    r"expected-(?P<kind>error|warning|remark|note) *"
    r"(?:@(?P<where>[+-]\d+|above|below|unknown))? *\{\{(?P<text>.*?)\}\}"
)


@dataclass(frozen=True)
class Expectation:
    """One comment; `line` is where the diagnostic must be, None for one without a location."""

    kind: str
    text: str
    line: int | None
    comment_line: int
    comment_column: int

    def matches(self, kind: str, message: str, line: int | None) -> bool:
        """Whether a diagnostic of that kind, message and line is the expected one."""
        return self.kind == kind and self.line == line and self.text in message


def parse_expectations(text: str, first_line: int = 1) -> list[Expectation]:
    """The comments of `text`, whose first line has number `first_line` in its file."""
    lines = text.split("\n")
    commented = [bool(_COMMENT.search(line)) for line in lines]
    found: list[Expectation] = []
    for index, line in enumerate(lines):
        for match in _COMMENT.finditer(line):
            target = _target(index, match["where"], commented)
            found.append(
                Expectation(
                    kind=match["kind"],
                    text=match["text"],
                    line=None if target is None else target + first_line,
                    comment_line=index + first_line,
                    comment_column=match.start() + 1,
                )
            )
    return found


def _target(index: int, where: str | None, commented: Sequence[bool]) -> int | None:
    if where is None:
        return index
    if where == "unknown":
        return None
    if where not in ("above", "below"):
        return index + int(where)
    step = -1 if where == "above" else 1
    index += step
    while 0 <= index < len(commented) and commented[index]:
        index += step
    return index


def check_expectations(
    expectations: Sequence[Expectation], diagnostics: Sequence[Diagnostic], file: str
) -> list[Diagnostic]:
    """Errors for what differs between the comments of `file` and the diagnostics that came."""
    open_expectations = list(expectations)
    problems: list[Diagnostic] = []
    for diagnostic in diagnostics:
        kind = diagnostic.severity.value
        if not _take(open_expectations, kind, str(diagnostic), diagnostic.location, file):
            message = f"unexpected {kind}: {diagnostic}"
            problems.append(Diagnostic(message, location=diagnostic.location))
        for note in diagnostic.notes:
            _take(open_expectations, "note", note.message, note.location, file)
    for expectation in open_expectations:
        location = f"{file}:{expectation.comment_line}:{expectation.comment_column}"
        message = f'expected {expectation.kind} "{expectation.text}" was not produced'
        problems.append(Diagnostic(message, location=location))
    return problems


def _take(
    expectations: list[Expectation], kind: str, message: str, location: str | None, file: str
) -> bool:
    """Remove the first expectation that matches; False if there is none."""
    line: int | None = None
    if location is not None:
        in_file, line_text, _ = location.rsplit(":", 2)
        if in_file != file:
            return False
        line = int(line_text)
    for index, expectation in enumerate(expectations):
        if expectation.matches(kind, message, line):
            del expectations[index]
            return True
    return False
