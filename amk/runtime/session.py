"""Launches of one program: positions, forced tokens, epochs, and tokens read while it runs."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import numpy as np

from amk.errors import AmkError
from amk.runtime.abi import Launch, launch_error
from amk.runtime.device import Device
from amk.runtime.epochs import Epochs

_FREE = -1
"""A position that is fed the model's own choice."""
_SHORTEST_PAUSE = 20e-6
_LONGEST_PAUSE = 2e-3
_GRACE_SECONDS = 10.0
"""How much longer than its own bounded waits a launch may take to end."""


class Session:
    """The state of one sequence on a device.

    `fed` are the tokens whose keys and values the caches hold, by position.
    """

    def __init__(self, device: Device, timeout: float) -> None:
        """`timeout` (seconds) bounds each wait inside a launch."""
        self.device = device
        self.fed: list[int] = []
        self.epochs = Epochs(device.program.max_uses)
        self._timeout = timeout
        self._tokens = device.array("tokens")
        self._stop = device.array("stop")
        self._token_uses = device.program.buffer("tokens").uses or 1

    def run(self, tokens: Sequence[int], start: int, steps: int) -> Generator[int]:
        """Run positions `start` to at most `start + steps - 1` in one launch.

        Feeds `tokens[p]` at each position p that it has, then the model's own choices; positions
        before `start` must have been fed already. Yields the choice after each position while the
        launch runs. Closing the iterator, or an exception in it, stops the launch and waits for its
        end. Raises AmkError where the launch fails.
        """
        launch = self._begin(tokens, start, steps)
        seen: list[int] = []
        self.device.start(launch)
        try:
            yield from self._follow(launch, seen)
        finally:
            self._stop[0] = 1
            status = self.device.finish(self._timeout + _GRACE_SECONDS)
            if status is not None and status.code == 0:
                seen.extend(self._arrived(launch, len(seen)))
                self.epochs.end(len(seen))
                # A free position was fed the choice before it.
                self.fed.extend(tokens[start : start + len(seen)])
                self.fed.extend(seen[len(tokens) - start - 1 : -1])
        if status is None:
            raise AmkError(f"the launch did not end within {self._timeout + _GRACE_SECONDS:g} s")
        if status.code != 0:
            raise launch_error(self.device.program, launch, status)

    def _begin(self, tokens: Sequence[int], start: int, steps: int) -> Launch:
        program = self.device.program
        assert start <= len(self.fed)
        assert start < len(tokens)
        assert start + steps <= program.context
        if self.device.running() and self.device.finish(self._timeout + _GRACE_SECONDS) is None:
            raise AmkError("the launch before this one is still running")
        if self.epochs.begin(steps):
            self.device.clear_packets()
        del self.fed[start:]
        forced = np.full(program.context + 1, _FREE, np.int32)
        forced[start : len(tokens)] = tokens[start:]
        self.device.write("forced", forced)
        self._stop[0] = 0
        return Launch(start, steps, self.epochs.base, round(self._timeout * 1000), 0)

    def _follow(self, launch: Launch, seen: list[int]) -> Generator[int]:
        """Yield tokens as they arrive until the launch has ended."""
        pause = _SHORTEST_PAUSE
        while True:
            running = self.device.running()
            arrived = self._arrived(launch, len(seen))
            for token in arrived:
                seen.append(token)
                yield token
            if not running:
                return
            pause = _SHORTEST_PAUSE if arrived else min(pause * 1.5, _LONGEST_PAUSE)
            time.sleep(pause)

    def _arrived(self, launch: Launch, count: int) -> list[int]:
        """The tokens of the launch after the first `count`, as far as they have been written."""
        fresh: list[int] = []
        for iteration in range(count, launch.steps):
            packet = int(self._tokens[launch.pos + iteration])
            if packet >> 32 != (launch.base + iteration) * self._token_uses + 1:
                break
            fresh.append(packet & 0xFFFFFFFF)
        return fresh
