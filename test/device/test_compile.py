"""The device layer through nvcc and NVRTC: every target compiles, within its registers."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from small_model import Shape

from amk.backends.device import HEADERS, attention_bytes, device_text, operand_bytes, shared_bytes

# Ring slots that leave room within the shared memory of the target.
TARGETS = {"sm_80": ("80", 16), "sm_90": ("90a", 32), "sm_120": ("120a", 16)}
LARGE = {
    "1b": Shape(128, "bf16", False, 16, 2048, 32, 8, 64, 8192, 128256, 16, 2, 2048),
    "8b": Shape(128, "bf16", False, 32, 4096, 32, 8, 128, 14336, 128256, 16, 2, 2048),
    "small": Shape(132, "f32", False, 30, 576, 9, 3, 64, 1536, 49152, 44, 2, 2048),
    "wide": Shape(128, "f32", False, 16, 2048, 32, 8, 64, 8192, 128256, 16, 2, 2048),
}


def wheel_file(pattern: str) -> Path | None:
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).glob(pattern)):
            return path
    return None


def nvcc() -> str:
    found = shutil.which("nvcc") or wheel_file("cu13/bin/nvcc")
    if found is None:
        pytest.skip("no nvcc here: install the `nvcc` extra")
    return str(found)


def compile_cubin(shape: Shape, target: str, folder: Path) -> tuple[int, int, int]:
    """Registers, bytes of spilled stores and loads of the kernel."""
    arch, slots = TARGETS[target]
    source = folder / "program.cu"
    source.write_text(shape.text(target, slots))
    command = [nvcc(), "-cubin", "-std=c++17", f"-gencode=arch=compute_{arch},code=sm_{arch}"]
    command += ["-Xptxas", "-v", "-Werror", "all-warnings", "-o", str(folder / "program.cubin")]
    result = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    report = result.stdout + result.stderr
    assert result.returncode == 0, report
    numbers = [
        re.search(pattern, report)
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill st", r"(\d+) bytes spill lo")
    ]
    registers, stores, loads = (int(m[1]) if m else -1 for m in numbers)
    return registers, stores, loads


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("target", list(TARGETS))
def test_nvcc_compiles_every_target_without_spills(target: str, dtype: str, tmp_path: Path) -> None:
    registers, stores, loads = compile_cubin(Shape(dtype=dtype), target, tmp_path)
    assert (stores, loads) == (0, 0)
    assert registers <= 168


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LARGE))
def test_large_models_do_not_spill(name: str, tmp_path: Path) -> None:
    registers, stores, loads = compile_cubin(LARGE[name], "sm_90", tmp_path)
    assert (stores, loads) == (0, 0)
    assert registers <= 168


@pytest.mark.slow
def test_nvrtc_compiles_the_text_alone() -> None:
    library = wheel_file("cu13/lib/libnvrtc.so.*")
    if library is None:
        pytest.skip("no NVRTC here: install nvidia-cuda-nvrtc")
    nvrtc = ctypes.CDLL(str(library))
    program = ctypes.c_void_p()
    text = Shape().text("sm_90").encode()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"p.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 2)(b"--gpu-architecture=sm_90a", b"-std=c++17")
    code = nvrtc.nvrtcCompileProgram(program, 2, options)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert code == 0, log.value.decode()


def test_texts_stand_alone() -> None:
    for target in HEADERS:
        text = device_text(target)
        assert text.isascii()
        assert '#include "' not in text
    assert "cp.async.bulk" not in device_text("sm_80")
    assert "cp.async.bulk" in device_text("sm_120")


def test_sizes() -> None:
    # 36 steps in eight chunks of at most five; 448 in 56 chunks of eight.
    assert operand_bytes(576, "f32") == 5 * 64
    assert operand_bytes(14336, "bf16") == 7 * 8 * 64
    assert attention_bytes("bf16", 128, 4, 2, 2) == 4 * 512 + 2 * 256 + 64 * (272 + 256)  # tiles
    assert attention_bytes("bf16", 64, 4, 1, 3) == 4 * 256 + 2 * 128 + 8 * 3 * 8 * 2 * 128  # rows
    assert attention_bytes("bf16", 128, 1, 1, 2) == 512 + 2 * 256 + 8 * 2 * 4 * 2 * 256  # rows
    for shape in LARGE.values():
        assert shared_bytes(shape.config(32)) < 227 * 1024
