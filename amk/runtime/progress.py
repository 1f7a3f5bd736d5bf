"""How long steps tell that they are under way; who shows it, and how, is up to the caller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[float], None]
"""Called with the part of the step that is done, 0 to 1."""

Progress = Callable[[str], AbstractContextManager[Advance]]
"""Called with what the step does, such as "packing the weights"."""


@contextmanager
def silent(_label: str):
    """Shows nothing."""
    yield lambda _part: None
