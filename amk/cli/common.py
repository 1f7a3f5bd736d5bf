"""What the command line tools share: input, output, one-line errors, suggestions."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from amk.errors import AmkError

DEBUG_VARIABLE = "AMK_DEBUG"
"""Environment variable that makes a tool show the traceback of an internal error."""


def run_tool(body: Callable[[], int]) -> int:
    """Run the body of a tool and return its exit status; an error becomes one line on stderr.

    An unexpected exception is an internal error, with a traceback only if AMK_DEBUG is set.
    """
    try:
        status = body()
        sys.stdout.flush()
    except AmkError as error:
        print(error.diagnostic(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone: give the interpreter's last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(f"error: {internal_error(error)}", file=sys.stderr)
        return 1
    return status


def internal_error(error: Exception) -> str:
    """One line for an exception that no user should see."""
    text = " ".join(str(error).split())
    return (
        f"internal error: {type(error).__name__}: {text} (set {DEBUG_VARIABLE}=1 for the traceback)"
    )


def read_input(path: str | None) -> tuple[str, str]:
    """Text and display name of an input file; standard input for None and `-`."""
    name = "<stdin>" if path in (None, "-") else str(path)
    try:
        data = sys.stdin.buffer.read() if path in (None, "-") else Path(path).read_bytes()
    except OSError as error:
        raise AmkError(f"cannot read '{name}': {error.strerror or error}") from error
    try:
        return data.decode("utf-8"), name
    except UnicodeDecodeError as error:
        raise AmkError(f"'{name}' is not a text file: byte {error.start} is not UTF-8") from error


def write_output(path: str | None, text: str) -> None:
    """Write `text` to stdout (None and `-`) or to a file that appears complete or not at all."""
    if path is None or path == "-":
        sys.stdout.write(text)
        return
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")  # a device or a pipe cannot be replaced
            return
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise AmkError(f"cannot write '{path}': {error.strerror or error}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
