"""Parsing and verification of whole modules, with located one-line errors."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, UnknownLoc
from xdsl.ir import Operation
from xdsl.traits import NoTerminator
from xdsl.utils.exceptions import (
    MultipleSpansParseError,
    ParseError,
    UnregisteredConstructException,
    VerifyException,
)

from amk.errors import AmkError
from amk.ir.diagnostics import Diagnostic, Note
from amk.ir.location import LocatedParser, location_of


def parse_module(
    text: str, name: str, ctx: Context | None = None, *, implicit_module: bool = True
) -> ModuleOp:
    """Parse `text` into a module whose ops carry `name:line:col`; raise `Diagnostic` if wrong.

    `ctx` defaults to one with all dialects of AMK. The module is not verified.
    """
    if ctx is None:
        # Imported here since the dialects themselves use this package for their errors.
        from amk.dialects import new_context

        ctx = new_context()
    try:
        parser = LocatedParser(ctx, text, name)  # reads the first token
    except ParseError as error:
        raise _parse_diagnostic(error) from error
    try:
        module = parser.parse_module(implicit_module)
    except ParseError as error:
        raise _parse_diagnostic(error) from error
    except (UnregisteredConstructException, ValueError) as error:
        # Raised without a position by xDSL's attribute constructors: the current token is close.
        raise Diagnostic(str(error), location=parser.current_location()) from error
    except RecursionError as error:
        location = parser.current_location()
        raise Diagnostic("this is nested too deeply", location=location) from error
    first = module.body.block.first_op
    if isinstance(module.location, UnknownLoc) and first is not None:
        module.location = first.location  # a module that the text does not spell out
    return module


def _parse_diagnostic(error: ParseError) -> Diagnostic:
    notes: list[Note] = []
    if isinstance(error, MultipleSpansParseError):
        notes = [
            Note(message or error.ref_text or "see here", str(span.get_location()))
            for span, message in error.refs
        ]
    return Diagnostic(error.msg, location=str(error.span.get_location()), notes=notes)


def verify_errors(module: ModuleOp) -> list[Diagnostic]:
    """One error for each op that does not verify, inner ones first, but none around another.

    xDSL's own `verify` stops at the first and attaches a print of the whole module.
    """
    errors: list[tuple[Operation, Diagnostic]] = []
    blamed: set[Operation] = set()
    for op in module.walk(region_first=True):
        if op in blamed:
            continue
        message = _verify_one(op)
        if message is None:
            continue
        errors.append((op, Diagnostic(_name_op(op, message), location=location_of(op))))
        parent = op.parent_op()
        while parent is not None:
            blamed.add(parent)
            parent = parent.parent_op()
    return [diagnostic for _, diagnostic in errors]


def verify_module(module: ModuleOp) -> None:
    """Raise the first error of `verify_errors`, if there is one."""
    errors = verify_errors(module)
    if errors:
        raise errors[0]


def _verify_one(op: Operation) -> str | None:
    """What is wrong with `op` itself, leaving out the ops inside it."""
    for region in op.regions:
        blocks = tuple(region.blocks)
        if len(blocks) == 1 and blocks[0].first_op is None and not op.has_trait(NoTerminator):
            return "the region is empty, but it needs at least a terminator"
    try:
        op.verify(verify_nested_ops=False)
    except (VerifyException, AmkError) as error:
        return str(error)
    except ValueError as error:
        return str(error) or "invalid operation"
    return None


def _name_op(op: Operation, message: str) -> str:
    """Make `message` say which op it is about."""
    return message if op.name in message else f"'{op.name}' op {message}"
