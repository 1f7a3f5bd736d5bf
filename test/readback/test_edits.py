"""No token of a printed program can be changed unnoticed."""

from __future__ import annotations

import subprocess
from functools import cache
from itertools import islice

import pytest
from edits import edits
from programs import COUNTED, Model, module_of, parse, printed
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit
from amk.backends.arch import ARCHS
from amk.backends.readback import check_program
from amk.errors import AmkError
from amk.runtime.toolchain import find_nvcc

TARGET = "sm_90"


def is_reported(module: ModuleOp, text: str) -> bool:
    """Whether the reader refuses a file, with a place in it."""
    try:
        check_program(module, TARGET, text, "edited.cu")
    except AmkError as error:
        return (error.location or "").startswith("edited.cu:")
    return False


@cache
def machine_code(text: str) -> bytes:
    """The cubin of a file, or what the compiler says against it."""
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("an edit was not reported, and there is no nvcc to compare machine code")
    command = [str(nvcc), "-x", "cu", "-cubin", "-std=c++17", f"-arch={ARCHS[TARGET].nvcc}"]
    result = subprocess.run(
        [*command, "-o", "/dev/stdout", "-"],
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=300,
    )
    return result.stdout or result.stderr


def unnoticed(module: ModuleOp, text: str, seed: int, count: int, *, device: bool) -> list[str]:
    """What edits were neither reported nor left the machine code as it was."""
    return [
        edit.what
        for edit in islice(edits(text, TARGET, seed, device=device), count)
        if not is_reported(module, edit.text) and machine_code(edit.text) != machine_code(text)
    ]


def test_edits_of_a_model() -> None:
    assert unnoticed(module_of(Model()), printed(Model()), seed=1, count=200, device=False) == []


def test_edits_of_a_schedule_with_counters() -> None:
    module = parse(COUNTED)
    assert unnoticed(module, emit(module, TARGET), seed=2, count=100, device=False) == []


def test_edits_of_the_device_layer() -> None:
    assert unnoticed(module_of(Model()), printed(Model()), seed=3, count=20, device=True) == []
