"""Compiling printed CUDA: with NVRTC through CuPy, or with nvcc."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amk.errors import AmkError
from amk.runtime.cache import cached_file
from amk.runtime.toolchain import find_nvcc

_STANDARD = "--std=c++17"
_NVRTC_OPTIONS = (
    _STANDARD,
    "--ptxas-options=-v",
    "--generate-line-info",  # for compute-sanitizer and ncu
    "--device-as-default-execution-space",
)
"""NVRTC up to 13.0 takes generic lambdas for host functions, which it refuses."""


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel."""

    image: bytes
    log: str
    """What ptxas says about registers and shared memory, and warnings."""
    compiler: str
    """Name and version."""

    @property
    def registers(self) -> int | None:
        """Registers of a thread of the kernel, where the log says so."""
        return _number(r"Used (\d+) registers", self.log)

    @property
    def spilled_bytes(self) -> int | None:
        """Bytes of spill stores of a thread, where the log says so."""
        return _number(r"(\d+) bytes spill stores", self.log)


def _number(pattern: str, text: str) -> int | None:
    found = [int(number) for number in re.findall(pattern, text)]
    return max(found) if found else None


def device_arch(major: int, minor: int) -> str:
    """The architecture to compile for on a device of this compute capability."""
    # From 9.0 on, instructions of one generation only need the suffix.
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


def compile_cuda(source: str, arch: str, *, prefer_nvcc: bool = False) -> Cubin | None:
    """Compile CUDA `source` for `arch` (such as sm_90a); None where this machine has no compiler.

    Raises AmkError where the compiler refuses the source.
    """
    compilers = [_with_nvrtc, _with_nvcc]
    for compiler in reversed(compilers) if prefer_nvcc else compilers:
        cubin = compiler(source, arch)
        if cubin is not None:
            return cubin
    return None


def cached_cubin(source: str, arch: str) -> Path:
    """The file of the compiled kernel, compiled now or before.

    Raises AmkError where there is no compiler or it refuses the source.
    """

    def build(path: Path) -> None:
        cubin = compile_cuda(source, arch)
        if cubin is None:
            raise AmkError(
                "no CUDA compiler found: install NVRTC (pip install 'amk[cuda]') or nvcc"
                " (pip install 'amk[nvcc]')"
            )
        path.write_bytes(cubin.image)

    return cached_file([source, arch, _STANDARD, _compiler_versions()], ".cubin", build)


@functools.cache
def _compiler_versions() -> str:
    nvrtc = _nvrtc()
    if nvrtc is not None:
        return _nvrtc_version(nvrtc)
    nvcc = find_nvcc()
    return _nvcc_version(nvcc) if nvcc else ""


@functools.cache
def _nvrtc() -> Any:
    """CuPy's NVRTC module; None where either is missing."""
    if importlib.util.find_spec("cupy") is None:
        return None
    try:
        from cupy.cuda import nvrtc  # pyright: ignore[reportMissingImports]

        nvrtc.getVersion()
    except Exception:  # CuPy raises what its loader raises when the library is missing
        return None
    return nvrtc


def _nvrtc_version(nvrtc: Any) -> str:
    return "NVRTC " + ".".join(map(str, nvrtc.getVersion()))


def _with_nvrtc(source: str, arch: str) -> Cubin | None:
    nvrtc = _nvrtc()
    if nvrtc is None:
        return None
    program = nvrtc.createProgram(source, "amk.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"-arch={arch}", *_NVRTC_OPTIONS))
        image, log = nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise _refused(_nvrtc_version(nvrtc), arch, log or str(error)) from error
    finally:
        nvrtc.destroyProgram(program)
    return Cubin(image, log, _nvrtc_version(nvrtc))


def _nvcc_version(nvcc: Path) -> str:
    command = [str(nvcc), "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"release [\d.]+, V([\d.]+)", result.stdout)
    return f"nvcc {found.group(1) if found else '(unknown version)'}"


def _with_nvcc(source: str, arch: str) -> Cubin | None:
    nvcc = find_nvcc()
    if nvcc is None:
        return None
    with tempfile.TemporaryDirectory(prefix="amk-") as folder:
        file, out = Path(folder) / "amk.cu", Path(folder) / "amk.cubin"
        file.write_text(source, encoding="utf-8")
        command = [str(nvcc), f"-arch={arch}", _STANDARD, "-cubin", "-Xptxas", "-v", "-o", str(out)]
        result = subprocess.run(
            [*command, str(file)], capture_output=True, text=True, check=False, cwd=folder
        )
        log = result.stdout + result.stderr
        if result.returncode != 0:
            raise _refused(_nvcc_version(nvcc), arch, log)
        return Cubin(out.read_bytes(), log, _nvcc_version(nvcc))


def _refused(compiler: str, arch: str, log: str) -> AmkError:
    lines = [line for line in log.splitlines() if "error" in line] or log.splitlines()[:1]
    return AmkError(f"{compiler} does not compile the printed kernel for {arch}: {lines[0]}")
