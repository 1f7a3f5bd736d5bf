"""The compilers, GPUs and folders of this machine."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path


def find_nvcc() -> Path | None:
    """nvcc from PATH, a CUDA installation or the PyPI wheels of this environment; else None."""
    on_path = shutil.which("nvcc")
    if on_path:
        return Path(on_path)
    candidates = [
        Path(os.environ[name]) / "bin" / "nvcc"
        for name in ("CUDA_HOME", "CUDA_PATH")
        if os.environ.get(name)
    ]
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    candidates.extend(sorted(wheels.glob("cu*/bin/nvcc"), reverse=True))
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


_COMPILERS = ("c++", "g++", "clang++")


def find_cxx() -> Path | None:
    """A compiler for C++20 with threads: $CXX, else c++, g++ or clang++; None without one."""
    return _find_cxx(os.environ.get("CXX", ""))


@functools.cache
def _find_cxx(wanted: str) -> Path | None:
    for name in (wanted,) if wanted else _COMPILERS:
        path = shutil.which(name)
        if path and _compiles_cxx20(path):
            return Path(path)
    return None


def missing_cxx() -> str:
    """Why `find_cxx` finds nothing, and what to do."""
    wanted = os.environ.get("CXX", "")
    if wanted and shutil.which(wanted) is None:
        return f"CXX={wanted} is not a program (unset it, or name a C++ compiler)"
    found = wanted or next((path for path in map(shutil.which, _COMPILERS) if path), None)
    if found:
        return f"no C++20: {found} does not compile it (g++ from 11 on does, clang++ from 14 on)"
    return "no C++ compiler found (install g++ or clang++, or set CXX)"


def _compiles_cxx20(compiler: str) -> bool:
    source = (
        "#include <atomic>\n#include <thread>\nint main() { std::atomic<int> a{0}; return a; }\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "probe.cpp"
        file.write_text(source, encoding="utf-8")
        command = [compiler, "-std=c++20", "-fsyntax-only", str(file)]
        try:
            result = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
    return result.returncode == 0


def find_nvrtc() -> Path | None:
    """The run-time compiler library, from the PyPI wheels, a CUDA toolkit or the linker's path."""
    folders = [
        *sorted((Path(sysconfig.get_path("purelib")) / "nvidia").glob("cu*/lib"), reverse=True),
        *(
            Path(os.environ[name]) / "lib64"
            for name in ("CUDA_HOME", "CUDA_PATH")
            if name in os.environ
        ),
        Path("/usr/local/cuda/lib64"),
    ]
    for folder in folders:
        for file in sorted(folder.glob("libnvrtc.so*"), reverse=True):
            return file
    name = ctypes.util.find_library("nvrtc")
    return None if name is None else Path(name)


@dataclass(frozen=True)
class Gpu:
    """What the CUDA driver says of one GPU."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    bandwidth: float
    """Of its memory, in GB/s, by its clock and width; 0 where the driver does not say."""

    def describe(self) -> str:
        """One line."""
        major, minor = self.capability
        memory = self.memory_bytes / 2**30
        return f"{self.name}, sm_{major}{minor}, {self.multiprocessors} SMs, {memory:.0f} GiB"


# From cuda.h: CUdevice_attribute.
_MULTIPROCESSOR_COUNT = 16
_MEMORY_CLOCK_KHZ = 36
_MEMORY_WIDTH_BITS = 37
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76


@functools.cache
def read_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that the CUDA driver shows, or none and the reason, in words."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), "no CUDA driver (libcuda.so.1) on this machine"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return (), f"the CUDA driver finds no usable GPU (cuInit returned {status})"
    if count.value == 0:
        return (), "the CUDA driver finds no GPU (is CUDA_VISIBLE_DEVICES set?)"
    return tuple(_read_gpu(driver, index) for index in range(count.value)), ""


def _read_gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    memory = ctypes.c_size_t(0)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(attribute(_CAPABILITY_MAJOR), attribute(_CAPABILITY_MINOR)),
        multiprocessors=attribute(_MULTIPROCESSOR_COUNT),
        memory_bytes=memory.value,
        bandwidth=2e-6 * attribute(_MEMORY_CLOCK_KHZ) * attribute(_MEMORY_WIDTH_BITS) / 8,
    )


def has_gpu() -> bool:
    """Whether there is a GPU and CuPy to use it."""
    gpus, _ = read_gpus()
    return bool(gpus) and importlib.util.find_spec("cupy") is not None
