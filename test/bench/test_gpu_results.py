"""tools/gpu_results.py, as far as it needs no GPU."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from amk.bench.shapes import shape_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_results", ROOT / "tools" / "gpu_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_results", module)  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_what_it_runs_is_there(script: ModuleType, tmp_path: Path) -> None:
    for shape in script.SHAPES:
        assert shape_config(shape)
    steps = [*script.benchmarks(tmp_path, "none"), *script.checks()]
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    paths = [part for step in steps for part in step.command if part.endswith(".py")]
    assert {"tools/sanitize.py", "bench/gpu_bits.py", "tools/dram_throughput.py"} <= set(paths)
    assert all((ROOT / path).is_file() for path in paths)


def test_a_step_that_takes_too_long_ends_with_all_it_started(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late"
    slow = script.Step("slow", ("sh", "-c", f"(sleep 3; touch {late}) & echo begun; wait"), 1)
    assert not script.run(slow, tmp_path)
    assert "slow: took too long" in capsys.readouterr().out
    time.sleep(3)
    assert not late.exists()


@pytest.mark.parametrize(("code", "good"), [("print('done')", True), ("1 / 0", False)])
def test_a_step_is_good_if_its_command_is(
    script: ModuleType, tmp_path: Path, code: str, good: bool
) -> None:
    assert script.run(script.Step("step", (sys.executable, "-c", code), 60), tmp_path) == good
    assert ("done" in (tmp_path / "step.log").read_text()) == good


def test_what_is_in_use_here_is_not_in_the_processes_that_compile(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CUDA, once it is in use, fails in a child that is a copy of its parent.
    (tmp_path / "compiling.py").write_text(
        "from pathlib import Path\n"
        "in_use = False\n"
        "def compile_kernel(job):\n"
        "    Path(__file__).with_name('-'.join(map(str, job))).write_text(str(in_use))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    compiling = importlib.import_module("compiling")
    monkeypatch.setattr(compiling, "in_use", True)
    monkeypatch.setattr(script, "compile_kernel", compiling.compile_kernel)
    script.compile_kernels(["shape"])
    assert [(tmp_path / f"shape-{way}").read_text() for way in range(3)] == ["False"] * 3
