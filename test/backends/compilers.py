"""Printed CUDA through the compilers of this machine."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from amk.backends.arch import ARCHS
from amk.runtime.toolchain import find_cxx, find_nvcc, find_nvrtc

GPUS = ("sm_80", "sm_90", "sm_120")
needs_cxx = pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
needs_nvcc = pytest.mark.skipif(find_nvcc() is None, reason="no nvcc: install the `nvcc` extra")


@dataclass(frozen=True)
class Compiled:
    """What ptxas says of a kernel."""

    registers: int
    spilled: int
    """Bytes of spilled stores and loads of a thread."""
    stack: int
    """Bytes of local memory of a thread."""


def nvcc(source: str, target: str, folder: Path, *, strict: bool = True) -> Compiled:
    """Compile `source` for `target`; fails the test where nvcc refuses, or if `strict` warns."""
    found = find_nvcc()
    assert found is not None
    file = folder / "program.cu"
    file.write_text(source)
    command = [str(found), "-cubin", "-std=c++17", f"-arch={ARCHS[target].nvcc}", "-Xptxas", "-v"]
    command += ["-Werror", "all-warnings"] if strict else []
    command += ["-o", str(folder / "program.cubin")]
    result = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    report = result.stdout + result.stderr
    assert result.returncode == 0, report
    assert (folder / "program.cubin").stat().st_size > 0
    registers, stores, loads, stack = (
        [int(number) for number in re.findall(pattern, report)]
        for pattern in (
            *(r"Used (\d+) registers", r"(\d+) bytes spill st", r"(\d+) bytes spill lo"),
            r"(\d+) bytes stack frame",
        )
    )
    return Compiled(max(registers), max(stores) + max(loads), max(stack))


def nvrtc(source: str, target: str) -> bytes:
    """Compile `source` with NVRTC; skips the test where its library cannot be loaded."""
    library = find_nvrtc()
    if library is None:
        pytest.skip("no NVRTC: install nvidia-cuda-nvrtc")
    try:
        lib = ctypes.CDLL(str(library))
    except OSError as error:
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert (
        lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"p.cu", 0, None, None) == 0
    )
    flags = (f"--gpu-architecture={ARCHS[target].nvcc}".encode(), b"-std=c++17")
    code = lib.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetProgramLog(program, log)
    assert code == 0, log.value.decode()
    lib.nvrtcGetCUBINSize(program, ctypes.byref(size))
    image = ctypes.create_string_buffer(size.value)
    assert lib.nvrtcGetCUBIN(program, image) == 0
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return image.raw
