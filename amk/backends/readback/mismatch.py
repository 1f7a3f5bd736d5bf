"""The one exception inside the reader; `check` gives it the name of the file."""

from __future__ import annotations

from typing import NoReturn

from amk.backends.readback.syntax import Node


class Mismatch(Exception):  # noqa: N818  (what is wrong is the printed file)
    """The printed program does not say what the verified IR says; `node` is where."""

    def __init__(self, node: Node, message: str) -> None:
        super().__init__(message)
        self.node = node


def fail(node: Node, message: str) -> NoReturn:
    """Raise a `Mismatch` at a node."""
    raise Mismatch(node, message)


def require(holds: bool, node: Node, message: str) -> None:
    """Raise a `Mismatch` unless `holds`."""
    if not holds:
        raise Mismatch(node, message)
