"""Where the compilers of this machine are."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
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


@functools.cache
def find_cxx() -> Path | None:
    """A compiler for C++20 with threads ($CXX, then c++, g++, clang++); None without one."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        path = shutil.which(name) if name else None
        if path and _compiles_cxx20(path):
            return Path(path)
    return None


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


@functools.cache
def gpu_count() -> int:
    """How many GPUs the CUDA driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def has_gpu() -> bool:
    """Whether there is a GPU and CuPy to use it."""
    if gpu_count() == 0:
        return False
    import importlib.util

    return importlib.util.find_spec("cupy") is not None
