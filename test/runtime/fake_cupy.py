"""As much of CuPy as AMK uses, on host memory, and as strict where CuPy is.

A "kernel" is a shared object with the launch ABI of the host target, which runs in a thread.
"""

from __future__ import annotations

import ctypes
import threading
import time
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np

FREE_BYTES = 10**9
MULTIPROCESSORS = 4
SHARED_BYTES = 100_000


class DeviceArray:
    """An array in "device" memory: numpy arrays do not mix with it.

    `live` counts the bytes of all such memory, `peak` is the most since it was set.
    """

    live = peak = 0

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        if values.flags.owndata:
            DeviceArray.live += values.nbytes
            DeviceArray.peak = max(DeviceArray.peak, DeviceArray.live)
            weakref.finalize(values, DeviceArray._free, values.nbytes)

    @classmethod
    def _free(cls, size: int) -> None:
        cls.live -= size

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.values.ctypes.data)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self.values[_on_host(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.values[_on_host(key)] = _on_host(value)

    def __add__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values + _on_host(other))

    def __mul__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values * _on_host(other))

    def __sub__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values - _on_host(other))

    def __xor__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values ^ _on_host(other))

    def __and__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values & _on_host(other))

    def __or__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values | _on_host(other))

    def __lshift__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values << _on_host(other))

    def __rshift__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values >> _on_host(other))

    def __gt__(self, other: Any) -> DeviceArray:
        return DeviceArray(self.values > _on_host(other))

    def any(self) -> bool:
        return bool(self.values.any())

    def astype(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self.values.astype(dtype))

    def view(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self.values.view(dtype))

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def reshape(self, *shape: Any) -> DeviceArray:
        return DeviceArray(self.values.reshape(*shape))

    def set(self, values: np.ndarray, stream: Any = None) -> None:
        assert values.shape == self.shape
        assert values.dtype == self.values.dtype
        assert self.values.flags.c_contiguous
        self.values[...] = values


def _on_host(value: Any) -> Any:
    """The values of a device array; a number, a slice or None as it is."""
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value.values if isinstance(value, DeviceArray) else value


def _asarray(values: Any, dtype: Any = None) -> DeviceArray:
    """Device arrays of the type as they are, others copied."""
    if isinstance(values, DeviceArray) and dtype in (None, values.dtype):
        return values
    return DeviceArray(np.array(getattr(values, "values", values), dtype))


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "the default stream would wait for the kernel"

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def synchronize(self) -> None:
        if RawKernel.running is not None:
            RawKernel.running.join()


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        self.ptr = self
        self.timed = not disable_timing

    def record(self, stream: Stream) -> None:
        self.thread = RawKernel.running
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


def _elapsed_time(begin: Event, end: Event) -> float:
    """Milliseconds; an event behind a kernel has the time at which this is called."""
    assert begin.timed
    assert end.timed
    assert end.thread is None or not end.thread.is_alive()
    return (time.perf_counter() - begin.time) * 1e3


def _event_query(event: Event) -> int:
    """0 or cudaErrorNotReady."""
    return 600 if event.thread is not None and event.thread.is_alive() else 0


class RawKernel:
    """`running` is the thread of the launch that is under way."""

    running: threading.Thread | None = None
    launches: list[tuple[Any, Any, int]] = []  # noqa: RUF012

    def __init__(self, entry: Any, cooperative: bool) -> None:
        self._entry, self._cooperative = entry, cooperative
        self.kernel = types.SimpleNamespace(ptr=1)
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
        assert self._cooperative
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        assert {type(argument) for argument in arguments} == {np.uint64}
        *buffers, launch, status = (int(argument) for argument in arguments)
        pointers = (ctypes.c_void_p * len(buffers))(*buffers)
        before = RawKernel.running

        def run() -> None:
            if before is not None:
                before.join()
            self._entry(pointers, ctypes.c_void_p(launch), ctypes.c_void_p(status))

        RawKernel.launches.append((grid, block, shared_mem))
        RawKernel.running = threading.Thread(target=run, daemon=True)
        RawKernel.running.start()


class RawModule:
    def __init__(self, *, path: str, enable_cooperative_groups: bool) -> None:
        assert Path(path).exists()
        self._library = ctypes.CDLL(path)
        self._cooperative = enable_cooperative_groups

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(getattr(self._library, name), self._cooperative)


class PinnedMemory:
    def __init__(self, size: int, flags: int) -> None:
        assert flags == 3
        self._memory = np.full(size, 0xEE, np.uint8)
        self.ptr = self._memory.ctypes.data


class _Pool:
    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        pass


class _Device:
    compute_capability = "90"

    @property
    def attributes(self) -> dict[str, int]:
        return {
            "MultiProcessorCount": MULTIPROCESSORS,
            "MaxSharedMemoryPerBlockOptin": SHARED_BYTES,
        }


class _Error(RuntimeError):
    pass


class _OutOfMemoryError(MemoryError):
    pass


def _blocks_per_multiprocessor(_kernel: int, threads: int, shared: int) -> int:
    return 0 if shared > SHARED_BYTES or threads > 1024 else 1


def module() -> types.ModuleType:
    """What `import cupy` gives."""
    cupy: Any = types.ModuleType("cupy")
    cupy.zeros = lambda shape, dtype: DeviceArray(np.zeros(shape, dtype))
    cupy.asarray = _asarray
    cupy.arange = lambda first, last, dtype: DeviceArray(np.arange(first, last, dtype=dtype))
    cupy.where = lambda *arrays: DeviceArray(np.where(*map(_on_host, arrays)))
    cupy.asnumpy = lambda array, stream=None: array.values.copy()
    cupy.empty = lambda shape, dtype: DeviceArray(np.full(shape, 0x5A, dtype))
    cupy.ascontiguousarray = lambda array, dtype=None: DeviceArray(
        np.ascontiguousarray(array.values, dtype)
    )
    cupy.get_default_memory_pool = _Pool
    cupy.RawModule = RawModule
    cupy.cuda = types.SimpleNamespace(
        Stream=Stream,
        Event=Event,
        get_elapsed_time=_elapsed_time,
        Device=_Device,
        PinnedMemory=PinnedMemory,
        memory=types.SimpleNamespace(OutOfMemoryError=_OutOfMemoryError),
        runtime=types.SimpleNamespace(
            hostAllocPortable=1,
            hostAllocMapped=2,
            memGetInfo=lambda: (FREE_BYTES, 2 * FREE_BYTES),
            eventQuery=_event_query,
            CUDARuntimeError=_Error,
        ),
        driver=types.SimpleNamespace(
            occupancyMaxActiveBlocksPerMultiprocessor=_blocks_per_multiprocessor,
            CUDADriverError=_Error,
        ),
    )
    return cupy
