"""Running a printed C++ program on the CPU, in a thread, so that tokens can be read meanwhile."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import subprocess
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from amk.backends.program import BufferInfo, Program
from amk.errors import AmkError
from amk.runtime.abi import Launch, Status, StatusValues, copy_status
from amk.runtime.cache import cached_file
from amk.runtime.device import Device
from amk.runtime.toolchain import find_cxx, missing_cxx

FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++20",
    "-ffp-contract=off",  # products and sums are rounded one by one
    "-fno-math-errno",
    "-pthread",
    "-shared",
    "-fPIC",
)
_ALIGNMENT = 64


def build_library(source: str, compiler: Path | None = None) -> Path:
    """Compile the C++ `source` into a shared object, or find it in the cache.

    Raises AmkError where there is no compiler or it refuses the source.
    """
    compiler = compiler or find_cxx()
    if compiler is None:
        raise AmkError(missing_cxx())
    command = [str(compiler), *FLAGS]

    def build(path: Path) -> None:
        result = subprocess.run(
            [*command, "-x", "c++", "-", "-o", str(path)],
            input=source,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            first = next((x for x in result.stderr.splitlines() if "error" in x), result.stderr)
            raise AmkError(f"{compiler} does not compile the printed program: {first}")

    return cached_file([source, *command, _version(compiler), _processor()], ".so", build)


def _version(compiler: Path) -> str:
    result = subprocess.run(
        [str(compiler), "--version"], capture_output=True, text=True, check=False
    )
    return result.stdout


def _processor() -> str:
    """What -march=native depends on: a cache may be shared by machines that differ in it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    flags = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    return platform.machine() + hashlib.sha256(flags.encode()).hexdigest()


def _available_bytes() -> int | None:
    """Memory that can be used without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(number) * 1024 for number in kilobytes), None)


def _check_memory(program: Program) -> None:
    """One line that says how much is needed and free, before anything is allocated."""
    needed = sum(info.nbytes for info in program.buffers)
    available = _available_bytes()
    if available is not None and needed > available:
        raise AmkError(
            f"out of memory: the model needs {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are"
            " free: use a smaller context, or dtype bf16"
        )


class HostDevice(Device):
    """The program as threads of this process: one for each worker."""

    name: ClassVar[str] = "cpu"

    def __init__(self, program: Program, shared: Device | None = None) -> None:
        """Compile and load the program, and allocate its buffers."""
        library = ctypes.CDLL(str(build_library(program.source)))
        self._entry = getattr(library, Program.ENTRY)
        self._entry.restype = ctypes.c_int
        if shared is None:
            _check_memory(program)
        super().__init__(program, shared)
        pointers = [self.memory[info.name].ctypes.data for info in program.buffers]
        self._pointers = (ctypes.c_void_p * len(pointers))(*pointers)
        self._status = Status()
        self._thread: threading.Thread | None = None
        self._seconds = 0.0

    def start(self, *launches: Launch) -> None:
        """Begin launches in a thread of its own; ctypes releases the interpreter lock."""
        self._clear_status()
        self._thread = threading.Thread(target=self._run, args=launches, daemon=True)
        self._thread.start()

    def _run(self, *launches: Launch) -> None:
        started = time.perf_counter()
        for launch in launches:
            code = self._entry(self._pointers, ctypes.byref(launch), ctypes.byref(self._status))
            if code != 0 and self._status.code == 0:
                self._status.code = code
        self._seconds = time.perf_counter() - started

    def running(self) -> bool:
        """Whether a launch has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self, seconds: float) -> StatusValues | None:
        """Wait for the end of the launches and return their status; None if they take longer."""
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return None
        return copy_status(self._status)

    def seconds(self) -> float:
        """How long the launches that were started last have run, by the clock of the system."""
        return self._seconds

    def _allocate(self, info: BufferInfo) -> np.ndarray:
        memory = np.zeros(info.nbytes + _ALIGNMENT, np.uint8)
        skip = -memory.ctypes.data % _ALIGNMENT
        return memory[skip : skip + info.nbytes]
