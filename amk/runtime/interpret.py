"""Running a schedule in the numpy interpreter of the task level: slow, but it needs no compiler."""

from __future__ import annotations

import threading
import time
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends.program import BufferInfo, Program
from amk.interpreters.memory import load_constants
from amk.interpreters.task import TaskMachine
from amk.runtime.abi import Launch, StatusValues
from amk.runtime.constants import Weights
from amk.runtime.device import HOST_SPACES, Device

_INPUTS = ("forced",)
"""Beside what the host reads and writes during a launch, the buffers that have memory here."""


class InterpreterDevice(Device):
    """The schedule in a thread of this process; a program is needed for its description only."""

    name: ClassVar[str] = "cpu"

    def __init__(self, program: Program, module: ModuleOp, weights: Weights) -> None:
        """Load the constants of `module`, which is at task level."""
        super().__init__(program)
        self._machine = TaskMachine(module, load_constants(module, weights).__getitem__)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._seconds = 0.0

    def start(self, *launches: Launch) -> None:
        """Begin launches in a thread of its own."""
        self._error = None
        self._thread = threading.Thread(target=self._run, args=launches, daemon=True)
        self._thread.start()

    def _run(self, *launches: Launch) -> None:
        started = time.perf_counter()
        for launch in launches:
            self._run_one(launch)
        self._seconds = time.perf_counter() - started

    def _run_one(self, launch: Launch) -> None:
        forced = self.array("forced")[launch.pos :]
        count = int(np.argmax(forced < 0))  # the last element is never forced
        stop, tokens = self.array("stop"), self.array("tokens")
        uses = self.program.buffer("tokens").uses or 1
        chosen = self._machine.run(
            launch.pos, forced[:count].tolist(), launch.steps, lambda: bool(stop[0])
        )
        try:
            for iteration, token in enumerate(chosen):
                epoch = (launch.base + iteration) * uses + 1
                tokens[launch.pos + iteration] = epoch << 32 | token
        except Exception as error:  # it belongs to the thread that waits for the launch
            self._error = error

    def running(self) -> bool:
        """Whether a launch has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self, seconds: float) -> StatusValues | None:
        """Wait for the end of the launches and return their status; None if they take longer.

        Raises what the interpreter raised, such as a deadlock.
        """
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return None
        if self._error is not None:
            raise self._error
        return StatusValues()

    def seconds(self) -> float:
        """How long the launches that were started last have run, by the clock of the system."""
        return self._seconds

    def read(self, name: str, rows: int) -> np.ndarray:
        """A copy of the first `rows` rows of a buffer."""
        return self._machine.array(name)[:rows].copy()

    def clear_packets(self) -> None:
        """Forget all packets."""
        self._machine.reset()
        self.array("tokens")[...] = 0

    def _allocate(self, info: BufferInfo) -> np.ndarray:
        # The interpreter has buffers of its own; these are what the host exchanges with it.
        exchanged = info.space in HOST_SPACES or info.name in _INPUTS
        return np.zeros(info.nbytes if exchanged else 0, np.uint8)
