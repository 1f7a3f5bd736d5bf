"""What every device has: the memory of one program, and one launch at a time."""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from amk.backends.program import BufferInfo, Program
from amk.runtime.abi import Launch, Status, StatusValues
from amk.runtime.staging import Upload

PACKET_SPACES = ("packet", "host_packet")
HOST_SPACES = ("host", "host_packet")
_DTYPES = {"f32": np.dtype(np.float32), "bf16": np.dtype(np.uint16), "i32": np.dtype(np.int32)}


class Device(ABC):
    """A program with its buffers, ready to be launched.

    Buffers in the spaces "host" and "host_packet" can be read and written while a launch runs.
    """

    name: ClassVar[str]
    """As in `--device`: cpu or cuda."""
    peak_bytes: int = 0
    """The most device memory that was in use while weights were loaded; 0 where it is not known."""
    xp: Any = np
    """The array module of the buffers in device memory: numpy or cupy."""
    _status: Status
    """Where the program writes how a launch ended."""

    def __init__(self, program: Program, shared: Device | None = None) -> None:
        """Allocate every buffer of `program`, zeroed. Raises AmkError where memory is short.

        With `shared`, use the buffers of that device instead: its program must have the same, and
        may have more.
        """
        self.program = program
        self.memory: dict[str, Any] = {}
        for info in program.buffers:
            if shared is None:
                self.memory[info.name] = self._allocate(info)
            elif info in shared.program.buffers:
                self.memory[info.name] = shared.memory[info.name]
            else:
                raise ValueError(f"the other program has no buffer '{info.name}' like this")

    @abstractmethod
    def start(self, *launches: Launch) -> None:
        """Begin launches, one right behind the other, and return while they run."""

    @abstractmethod
    def running(self) -> bool:
        """Whether a launch has not ended yet."""

    @abstractmethod
    def finish(self, seconds: float) -> StatusValues | None:
        """Wait for the end of the launches and return their status; None if they take longer."""

    @abstractmethod
    def seconds(self) -> float:
        """How long the launches that were started last have run, by the clock of the device.

        They must have ended.
        """

    @abstractmethod
    def _allocate(self, info: BufferInfo) -> Any:
        """Zeroed bytes (uint8 [nbytes]) for a buffer."""

    @contextmanager
    def loading(self) -> Iterator[Upload]:
        """Surrounds the filling of buffers through `array`, which is complete at the end.

        Yields a function that brings rows of weights into the memory of the device.
        """
        yield lambda values: values

    def _clear_status(self) -> None:
        """Make the status that of a launch that has not failed."""
        ctypes.memset(ctypes.byref(self._status), 0, ctypes.sizeof(Status))

    def close(self) -> None:
        """Free the memory; the device cannot be used afterwards."""
        self.memory.clear()

    def array(self, name: str) -> Any:
        """A buffer as an array of its shape; packets as uint64, a stream as bytes. No copy."""
        info = self.program.buffer(name)
        data = self.memory[name]
        if info.stream is not None:
            return data
        if info.space in PACKET_SPACES:
            return data.view(np.uint64)
        return data.view(_DTYPES[info.dtype]).reshape(info.shape)

    def write(self, name: str, values: np.ndarray) -> None:
        """Fill a buffer that is no stream with `values` of its shape."""
        array = self.array(name)
        array[...] = values if isinstance(array, np.ndarray) else self.xp.asarray(values)

    def read(self, name: str, rows: int) -> np.ndarray:
        """A copy of the first `rows` rows of a buffer."""
        return np.array(self.array(name)[:rows])

    def clear_packets(self) -> None:
        """Zero what launches synchronise through: packets, counters and other scratch."""
        for info in self.program.buffers:
            if info.space in PACKET_SPACES or info.kind == "scratch":
                self.memory[info.name][...] = 0
