"""What is missing on a machine is said in one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from compilers import needs_cxx
from models import model

from amk.backends import emit_program
from amk.errors import AmkError
from amk.runtime.abi import NO_THREAD, Launch, StatusValues, launch_error
from amk.runtime.cache import cache_dir
from amk.runtime.choose import choose_device
from amk.runtime.host import build_library
from amk.runtime.toolchain import missing_cxx

ROOT = Path(__file__).resolve().parents[2]
SOURCE = 'extern "C" int amk_decode() { return 0; }'


def _compiler(folder: Path, script: str) -> str:
    file = folder / "cxx"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def _no_compilers(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("amk.runtime.toolchain._find_cxx", lambda _wanted: None)


def test_without_a_compiler_the_interpreter_runs_and_says_so(monkeypatch, tmp_path, capsys):
    _no_compilers(monkeypatch, tmp_path)
    choice = choose_device("host", None)
    assert choice.workers == 1
    line = "no C++ compiler found (install g++ or clang++, or set CXX)"
    assert capsys.readouterr().err == f"remark: {line}: running in the interpreter, which is slow\n"
    with pytest.raises(AmkError) as error:
        build_library(SOURCE)
    assert str(error.value) == line


def test_a_compiler_without_cxx20_is_named(monkeypatch, tmp_path):
    old = _compiler(tmp_path, "echo \"error: unrecognized option '-std=c++20'\" >&2; exit 1")
    monkeypatch.setenv("CXX", old)
    with pytest.raises(AmkError) as error:
        build_library(SOURCE)
    wanted = f"no C++20: {old} does not compile it (g++ from 11 on does, clang++ from 14 on)"
    assert str(error.value) == wanted
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert missing_cxx() == (
        "CXX=no-such-compiler is not a program (unset it, or name a C++ compiler)"
    )


@needs_cxx
def test_what_the_compiler_refuses_is_one_line(tmp_path):
    with pytest.raises(AmkError) as error:
        build_library("int f( { return 1; }")
    assert "does not compile the printed program: " in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cache_that_cannot_be_written_is_said_once(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    wanted = tmp_path / "file" / "cache"
    monkeypatch.setenv("AMK_CACHE_DIR", str(wanted))
    assert cache_dir() == cache_dir() != wanted
    assert capsys.readouterr().err == (
        f"remark: the cache {wanted} cannot be written, so what is compiled is not kept:"
        " set AMK_CACHE_DIR to another directory\n"
    )


CROWD = """
import resource
from amk.runtime.abi import Launch, launch_error
from models import HostRun, schedule
run = HostRun(schedule('''
  task.counter @all
  task.task @last worker 299 args [] signals [@all += 1]
  task.family @others for i in 299 on i args [] waits [@all >= 1]
''', workers=300))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(launch_error(run.device.program, Launch(), run.launch(1)))
"""


@needs_cxx
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set from /proc")
def test_more_workers_than_threads_are_allowed_is_one_line() -> None:
    # 300 stacks do not fit into the address space that is left, and the first 299 threads wait.
    folders = os.pathsep.join(map(str, (ROOT, ROOT / "test", ROOT / "test" / "backends")))
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": folders}
    ran = subprocess.run(
        [sys.executable, "-c", CROWD],
        capture_output=True, text=True, timeout=120, check=True, env=environment,
    )  # fmt: skip
    first, second = ran.stdout.split(", but the program has 300 workers: ")
    assert first.startswith("the system lets ")
    assert 0 < int(first.split()[3]) < 300
    assert second == "use fewer (--workers), or allow more threads (ulimit -u, ulimit -v)\n"


def test_the_error_names_how_many_threads_started() -> None:
    program = emit_program(model().task_module(3), "host")
    error = launch_error(program, Launch(), StatusValues(code=NO_THREAD, worker=2))
    assert "the system lets 2 threads start, but the program has 3 workers" in str(error)
