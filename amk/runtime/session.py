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

    def time(self, token: int, start: int, steps: int, launches: int = 1) -> float:
        """Seconds, by the clock of the device, of launches from position `start` on, in a row.

        Each is fed `token` first and then its own choices, and runs `steps` positions. What the
        caches hold before `start` is taken as it is, and afterwards the session holds no tokens.
        Raises AmkError where a launch fails or ends early.
        """
        self._prepare([token], start, steps, launches)
        self.fed.clear()
        batch = [self._launch(start, steps, number) for number in range(launches)]
        self.device.start(*batch)
        # An iteration is no longer than one of its waits may be.
        patience = self._timeout * steps * launches + _GRACE_SECONDS
        status = self.device.finish(patience)
        if status is None:
            raise AmkError(f"the launches did not end within {patience:g} s")
        if status.code != 0:
            raise launch_error(self.device.program, batch[-1], status)
        if len(self._arrived(batch[-1], 0)) != steps:
            raise AmkError("a launch that was to be timed ended early, at an end-of-text token")
        self.epochs.end(steps * launches)
        return self.device.seconds()

    def _begin(self, tokens: Sequence[int], start: int, steps: int) -> Launch:
        assert start <= len(self.fed)
        assert start < len(tokens)
        self._prepare(tokens[start:], start, steps, 1)
        del self.fed[start:]
        return self._launch(start, steps, 0)

    def _prepare(self, tokens: Sequence[int], start: int, steps: int, launches: int) -> None:
        """Wait for the last launch to end, and feed `tokens` from position `start` on."""
        context = self.device.program.context
        assert start + steps <= context
        if self.device.running() and self.device.finish(self._timeout + _GRACE_SECONDS) is None:
            raise AmkError("the launch before this one is still running")
        if self.epochs.begin(steps * launches):
            self.device.clear_packets()
        forced = np.full(context + 1, _FREE, np.int32)
        forced[start : start + len(tokens)] = tokens
        self.device.write("forced", forced)
        self._stop[0] = 0

    def _launch(self, start: int, steps: int, number: int) -> Launch:
        """Launch `number` of those that `_prepare` made ready."""
        base = self.epochs.base + number * steps
        return Launch(start, steps, base, round(self._timeout * 1000), 0)

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
