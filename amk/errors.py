"""The one exception that AMK raises on purpose."""

from __future__ import annotations


class AmkError(Exception):
    """A mistake that the user can act on.

    The message is one line: what is wrong, where, and what to do about it. Command line tools print
    it as ``error: <message>`` (or ``file:line:col: error: <message>`` where `location` is known) to
    standard error and exit with status 1, without a traceback.
    """

    def __init__(self, message: str, *, location: str | None = None) -> None:
        """Create the error; `location` is ``file:line:col`` of the IR at fault, where known."""
        super().__init__(" ".join(message.split()))
        self.location = location

    def diagnostic(self) -> str:
        """The line that a command line tool prints, without a trailing newline."""
        prefix = f"{self.location}: " if self.location else ""
        return f"{prefix}error: {self}"
