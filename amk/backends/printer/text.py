"""Lines of C++ with indentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Writer:
    """Collects lines; nested blocks are indented by two spaces."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str = "") -> None:
        self.lines.append("  " * self.depth + text if text else "")

    def comment(self, text: str) -> None:
        """One or several `//` lines."""
        for part in text.splitlines():
            self.line(f"// {part}".rstrip())

    @contextmanager
    def block(self, head: str, tail: str = "}") -> Iterator[None]:
        """`head {` (a bare `{` without a head), an indented body, `tail`."""
        self.line(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line(tail)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
