"""Running a printed kernel on an NVIDIA GPU through CuPy: one cooperative launch, many tokens."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from amk.backends.program import BufferInfo, Program
from amk.errors import AmkError
from amk.runtime.abi import Launch, Status, StatusValues, copy_status
from amk.runtime.cubin import cached_cubin, device_arch
from amk.runtime.device import HOST_SPACES, Device
from amk.runtime.staging import CHUNK_BYTES, LOADING_CHUNKS, Staging, Upload, pinned

_POLL_SECONDS = 50e-6
_NOT_READY = 600
"""cudaErrorNotReady."""


def _cupy() -> Any:
    import cupy  # pyright: ignore[reportMissingImports]

    return cupy


def compute_capability() -> tuple[int, int]:
    """Major and minor number of the current GPU."""
    digits = str(_cupy().cuda.Device().compute_capability)
    return int(digits[:-1]), int(digits[-1])


def multiprocessors() -> int:
    """Multiprocessors of the current GPU: how many workers can be resident."""
    return int(_cupy().cuda.Device().attributes["MultiProcessorCount"])


@contextmanager
def _gpu_errors(what: str) -> Iterator[None]:
    """Turn CuPy's errors into one line that says `what` failed."""
    cupy = _cupy()
    runtime, driver = cupy.cuda.runtime, cupy.cuda.driver
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise AmkError(f"{what}: {error}") from error
    except (runtime.CUDARuntimeError, driver.CUDADriverError) as error:
        raise AmkError(f"{what}: the GPU reports {error}") from error


class CudaDevice(Device):
    """The kernel on the current GPU: one resident thread block for each worker."""

    name: ClassVar[str] = "cuda"

    def __init__(self, program: Program, shared: Device | None = None) -> None:
        """Compile and load the kernel, check that it can be resident, and allocate its buffers."""
        cupy = _cupy()
        self.xp = cupy
        with _gpu_errors("loading the kernel"):
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._kernel = self._load(program)
            self._check_residency(program)
        if shared is None:
            _check_memory(program)
        with _gpu_errors("allocating the buffers"), self._stream:
            super().__init__(program, shared)
            self._launch_memory = cupy.zeros(ctypes.sizeof(Launch), np.uint8)
        status = self._pin(ctypes.sizeof(Status))
        self._status = Status.from_address(status.ctypes.data)
        self._arguments = tuple(np.uint64(_address(array)) for array in self._ordered())
        self._status_address = np.uint64(_address(status))
        self._begin, self._end = cupy.cuda.Event(), cupy.cuda.Event()
        self._started = False

    def start(self, *launches: Launch) -> None:
        """Begin launches on a stream of its own; the call returns while the kernel runs."""
        self._clear_status()
        content = np.frombuffer(b"".join(map(bytes, launches)), np.uint8)
        with _gpu_errors("launching the kernel"), self._stream:
            if content.nbytes != self._launch_memory.nbytes:
                self._launch_memory = self.xp.zeros(content.nbytes, np.uint8)
            self._launch_memory.set(content, stream=self._stream)
            self._begin.record(self._stream)
            for number in range(len(launches)):
                launch = _address(self._launch_memory) + number * ctypes.sizeof(Launch)
                self._kernel(
                    (self.program.workers,),
                    (self.program.threads,),
                    (*self._arguments, np.uint64(launch), self._status_address),
                    shared_mem=self.program.shared_bytes,
                )
            self._end.record(self._stream)
        self._started = True

    def running(self) -> bool:
        """Whether a launch has not ended yet."""
        if not self._started:
            return False
        with _gpu_errors("running the kernel"):
            # `Event.done` would take a failed kernel for one that still runs.
            code = self.xp.cuda.runtime.eventQuery(self._end.ptr)
            if code not in (0, _NOT_READY):
                raise self.xp.cuda.runtime.CUDARuntimeError(code)
            return code == _NOT_READY

    def finish(self, seconds: float) -> StatusValues | None:
        """Wait for the end of the launches and return their status; None if they take longer."""
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)
        if self._started:
            with _gpu_errors("running the kernel"):
                self._stream.synchronize()  # reports an error of the kernel itself
        return copy_status(self._status)

    def seconds(self) -> float:
        """How long the launches that were started last have run, by the events around them."""
        with _gpu_errors("running the kernel"):
            return self.xp.cuda.get_elapsed_time(self._begin, self._end) / 1e3

    def write(self, name: str, values: np.ndarray) -> None:
        """Fill a buffer that is no stream with `values` of its shape."""
        with _gpu_errors(f"writing buffer '{name}'"), self._stream:
            super().write(name, values)
            self._stream.synchronize()

    def read(self, name: str, rows: int) -> np.ndarray:
        """A copy of the first `rows` rows of a buffer."""
        array = self.array(name)[:rows]
        if isinstance(array, np.ndarray):
            return array.copy()
        with _gpu_errors(f"reading buffer '{name}'"):
            return self.xp.asnumpy(array, stream=self._stream)

    def clear_packets(self) -> None:
        """Zero everything that launches synchronise through."""
        with _gpu_errors("clearing the packets"), self._stream:
            super().clear_packets()
            self._stream.synchronize()

    @contextmanager
    def loading(self) -> Iterator[Upload]:
        """Surrounds the filling of buffers through `array`, which is complete at the end."""
        with _gpu_errors("loading the weights"), self._stream:
            staging = Staging(self.xp, self._stream)
            try:
                yield staging.upload
                self._stream.synchronize()
            finally:
                staging.close()
        pool = self.xp.get_default_memory_pool()
        self.peak_bytes = pool.total_bytes()  # it has given nothing back so far
        pool.free_all_blocks()

    def close(self) -> None:
        """Free the memory of the GPU; the device cannot be used afterwards."""
        super().close()
        self._launch_memory = self.xp.zeros(0, np.uint8)
        self.xp.get_default_memory_pool().free_all_blocks()

    def _load(self, program: Program) -> Any:
        path = cached_cubin(program.source, device_arch(*compute_capability()))
        module = self.xp.RawModule(path=str(path), enable_cooperative_groups=True)
        kernel = module.get_function(Program.ENTRY)
        limit = int(self.xp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])
        if program.shared_bytes > limit:
            raise AmkError(
                f"the kernel needs {program.shared_bytes} bytes of shared memory a block, this GPU"
                f" has {limit}: print it for the architecture of this GPU"
            )
        kernel.max_dynamic_shared_size_bytes = program.shared_bytes
        return kernel

    def _check_residency(self, program: Program) -> None:
        # CuPy would quietly launch fewer blocks, which would wait for the missing ones.
        blocks = self.xp.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
            self._kernel.kernel.ptr, program.threads, program.shared_bytes
        )
        resident = blocks * multiprocessors()
        if resident < program.workers:
            raise AmkError(
                f"the schedule has {program.workers} workers, but this GPU keeps only {resident}"
                f" resident: lower with workers={resident}"
            )

    def _allocate(self, info: BufferInfo) -> Any:
        if info.space in HOST_SPACES:
            return self._pin(info.nbytes)
        return self.xp.zeros(info.nbytes, np.uint8)

    def _pin(self, size: int) -> np.ndarray:
        """Zeroed host memory that the GPU reads and writes; its address is the same on both."""
        with _gpu_errors("allocating pinned memory"):
            array = pinned(self.xp, size)
        array[...] = 0
        return array

    def _ordered(self) -> Iterator[Any]:
        return (self.memory[info.name] for info in self.program.buffers)


def _address(array: Any) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def _check_memory(program: Program) -> None:
    """One line that says how much is needed and free, before anything is allocated."""
    cupy = _cupy()
    needed = sum(info.nbytes for info in program.buffers if info.space not in HOST_SPACES)
    constants = [info.nbytes for info in program.buffers if info.kind == "constant"]
    needed += LOADING_CHUNKS * min(CHUNK_BYTES, max(constants, default=0))
    free, total = cupy.cuda.runtime.memGetInfo()
    free += cupy.get_default_memory_pool().free_bytes()
    if needed > free:
        raise AmkError(
            f"out of GPU memory: the model needs {_gigabytes(needed)}, {_gigabytes(free)} of"
            f" {_gigabytes(total)} are free: use a smaller context, dtype bf16, or another GPU"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
