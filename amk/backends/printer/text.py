"""Lines of C++ with indentation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_KEYWORDS = frozenset(
    word
    for line in (
        "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl",
        "concept const consteval constexpr constinit continue decltype default delete do double",
        "else enum explicit export extern false float for friend goto if inline int long mutable",
        "namespace new noexcept not not_eq nullptr operator or or_eq private protected public",
        "register requires return short signed sizeof static struct switch template this throw",
        "true try typedef typeid typename union unsigned using virtual void volatile while xor",
        "xor_eq amk",
    )
    for word in line.split()
)
LOCALS = frozenset(("w", "b", "c", "r", "k", "x", "y", "stat", "best"))
"""Names that the text of a task uses itself."""


def spell(name: str, used: Collection[str] = LOCALS) -> str:
    """A C++ identifier close to `name` that is not `used` and has no meaning of its own."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    if re.fullmatch(r"|\d.*|v\d+|out_.*|__.*|_[A-Z].*", text):
        text = f"n{text}"
    while text in _KEYWORDS or text in used:
        text += "_"
    return text


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
