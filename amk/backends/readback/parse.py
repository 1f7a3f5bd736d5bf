"""Text of the schedule part of a printed program to its syntax tree, by `grammar.lark`.

Only this package needs lark, so it is imported no sooner than a program is read back.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from amk.backends.readback import syntax
from amk.backends.readback.builder import Builder
from amk.errors import AmkError


def parse(text: str, name: str) -> syntax.Unit:
    """The tree of the file `name`; AmkError at the first thing that the printer never writes."""
    try:
        return _parser().parse(text)
    except UnexpectedToken as error:
        if error.token.type == "$END":
            where = f"{name}:{text.count(chr(10)) + 1}:1"
            raise AmkError("the file ends in the middle of a construct", location=where) from error
        message = f"the printer does not write '{error.token}' here"
        raise AmkError(message, location=f"{name}:{error.line}:{error.column}") from error
    except UnexpectedCharacters as error:
        message = f"the printer does not write {text[error.pos_in_stream]!r} here"
        raise AmkError(message, location=f"{name}:{error.line}:{error.column}") from error


@cache
def _parser() -> Any:
    grammar = files(__package__ or "").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="unit", parser="lalr", transformer=Builder())
