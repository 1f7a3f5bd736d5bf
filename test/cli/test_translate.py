"""amk-translate: targets, levels and errors, in front of a backend that records its calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from xdsl.dialects.builtin import ModuleOp

from amk.cli.translate import main
from amk.errors import AmkError
from amk.ir.diagnostics import Diagnostic

TASK = '"task.toy"() : () -> ()'


@pytest.fixture
def calls(toys: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the driver asked for: `check ARCH` and `emit TARGET`, in order."""
    calls: list[str] = []

    def check(module: ModuleOp, arch: str | None) -> None:
        calls.append(f"check {arch}")
        if "amk.bad" in module.attributes:
            raise Diagnostic("deadlock: nothing runs", location="s.mlir:1:1", notes=["a waits"])

    def emit_program(module: ModuleOp, target: str, **options: None) -> SimpleNamespace:
        assert options == {"trace": None, "stress": None}
        calls.append(f"emit {target}")
        if "amk.unprintable" in module.attributes:
            raise AmkError("no device primitive for tile.strange")
        return SimpleNamespace(source=f"// for {target}\n")

    modules = {
        "amk.backends": {"emit_program": emit_program, "__path__": []},
        "amk.backends.arch": {"ARCHS": {"sm_80": 0, "sm_90": 0, "sm_120": 0}},
        "amk.passes.verify_schedule": {"check": check},
    }
    for name, contents in modules.items():
        fake = ModuleType(name)
        fake.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, fake)
        monkeypatch.setattr(name, fake, raising=False)
    return calls


def write(folder: Path, text: str) -> str:
    """Write a file and return its path as a string."""
    path = folder / "in.mlir"
    path.write_text(text)
    return str(path)


def module(attribute: str) -> str:
    """A task module with an attribute."""
    return f"builtin.module attributes {{{attribute}}} {{\n  {TASK}\n}}"


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (["--to-cuda"], TASK, ["check sm_90", "emit sm_90"]),
        (["--to-cuda", "--arch=sm_120"], TASK, ["check sm_120", "emit sm_120"]),
        (["--to-cuda"], module('amk.target = "sm_80"'), ["check sm_80", "emit sm_80"]),
        (
            ["--to-cuda", "--arch", "sm_120"],
            module('amk.target = "sm_80"'),
            ["check sm_120", "emit sm_120"],
        ),
        (["--to-cpp"], TASK, ["check None", "emit host"]),
    ],
)
def test_targets(
    tmp_path: Path,
    calls: list[str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
    expected: list[str],
) -> None:
    assert main([*arguments, write(tmp_path, text)]) == 0
    assert calls == expected
    assert capsys.readouterr() == (f"// for {expected[1].removeprefix('emit ')}\n", "")


def test_output_file(tmp_path: Path, calls: list[str]) -> None:
    target = tmp_path / "out.cu"
    assert main(["--to-cuda", write(tmp_path, TASK), "-o", str(target)]) == 0
    assert target.read_text() == "// for sm_90\n"


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["--to-cuda", "--arch=sm_9"], TASK, "unknown architecture 'sm_9'; did you mean 'sm_90'?"),
        (["--to-cuda", "--arch=gfx"], TASK, "unknown architecture 'gfx'; known: sm_80, sm_90, sm"),
        (["--to-cuda"], module('amk.target = "sm_1"'), "FILE:1:1: unknown architecture 'sm_1'"),
        (["--to-cuda"], module("amk.target = 9"), "FILE:1:1: amk.target must be a string"),
        (["--to-cuda"], '"nn.toy"() : () -> ()', "FILE:1:1: amk-translate takes task IR, but the"),
        (["--to-cuda"], "", "FILE:1:1: Could not parse"),
        (["--to-cuda"], '"arith.addi"() : () -> ()', "FILE:1:1: 'arith.addi' op Expected 2"),
        (["--to-cuda"], module("amk.unprintable"), "no device primitive for tile.strange"),
        (["--to-cpp", "--arch=sm_90"], TASK, "--arch is for CUDA files"),
        ([], TASK, "one of the arguments --to-cuda --to-cpp --check-cuda is required"),
        (["--to-ptx"], TASK, "one of the arguments --to-cuda --to-cpp --check-cuda is required"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
    message: str,
) -> None:
    file = write(tmp_path, text)
    target = tmp_path / "out.cu"
    assert main([*arguments, file, "-o", str(target)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert not target.exists()
    assert err.count("\n") == 1
    located = message.startswith("FILE:1:1: ")
    start = f"{file}:1:1: error: " if located else "error: "
    assert err.startswith(start + message.removeprefix("FILE:1:1: "))


def test_another_level_names_the_pass_to_run(
    tmp_path: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--to-cuda", write(tmp_path, '"tile.toy"() : () -> ()')]) == 1
    assert "run amk-opt --to-task first" in capsys.readouterr().err
    assert main(["--to-cuda", write(tmp_path, "func.func @f() -> ()")]) == 1
    assert "holds no nn, tile or task operation" in capsys.readouterr().err
    assert calls == []


def test_a_schedule_that_does_not_verify(
    tmp_path: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--to-cuda", write(tmp_path, module("amk.bad"))]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err == "s.mlir:1:1: error: deadlock: nothing runs\nnote: a waits\n"
    assert calls == ["check sm_90"]
