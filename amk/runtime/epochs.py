"""The base that packet epochs of a launch start from, and when packet memory must be cleared."""

from __future__ import annotations

from amk.errors import AmkError

LIMIT = 2**32 - 1
"""Epochs stay below this, so that they never wrap."""


class Epochs:
    """Counts the iterations that the packet memory of a program has seen.

    Use u of a slot in iteration i of a launch carries the epoch (base + i) * uses + u + 1. No epoch
    may come twice, so the base grows with every launch; before it would pass 32 bits, and after a
    launch that failed halfway, the memory is cleared and the base starts at 0.
    """

    def __init__(self, max_uses: int, base: int = 0) -> None:
        """`max_uses` is the most uses of a slot in one iteration, over all packet buffers."""
        self._max_uses = max_uses
        self._dirty = False
        self.base = base

    def begin(self, steps: int) -> bool:
        """Prepare a launch of up to `steps` iterations; True: clear the packet memory first.

        Until `end`, the launch counts as failed.
        """
        if steps * self._max_uses >= LIMIT:
            raise AmkError(f"a launch of {steps} iterations is too long: packet epochs would wrap")
        clear = self._dirty or (self.base + steps) * self._max_uses >= LIMIT
        if clear:
            self.base = 0
        self._dirty = True
        return clear

    def end(self, iterations: int) -> None:
        """The launch ended well, after so many iterations."""
        self.base += iterations
        self._dirty = False
