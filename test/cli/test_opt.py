"""amk-opt: flags, levels, outputs and one-line errors, on a toy pipeline."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amk.cli.opt import main

CONSTANTS = """\
%0 = arith.constant 1 : i32
%1 = arith.constant 1 : i32
%2 = arith.addi %0, %1 : i32
func.func @f() {
  func.return
}
"""

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def constants(tmp_path: Path) -> str:
    """A file with two equal constants."""
    return write(tmp_path, CONSTANTS)


def write(folder: Path, text: str, name: str = "in.mlir") -> str:
    """Write a file and return its path as a string."""
    path = folder / name
    path.write_text(text)
    return str(path)


def test_prints_the_module(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([constants]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("builtin.module {")
    assert out.endswith("}\n")
    assert not err


def test_reads_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in ([], ["-"]):
        stdin = io.TextIOWrapper(io.BytesIO(b"%0 = arith.constant x"))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(arguments) == 1
        assert capsys.readouterr().err.startswith("<stdin>:1:21: error: ")


def test_flags_run_in_order_with_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, '"nn.toy"() : () -> ()')
    assert main(["--to-tile", '--to-task=workers=132  arch="sm_80"', file, "--check-task"]) == 0
    out, err = capsys.readouterr()
    assert '"task.toy"() : () -> ()' in out
    assert err == "remark: workers=132 arch=sm_80\n"


@pytest.mark.parametrize("flag", [["-p"], ["--passes"], None])
def test_pipelines_mix_with_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: list[str] | None
) -> None:
    file = write(tmp_path, '"nn.toy"() : () -> ()')
    pipeline = "to-tile,to-task{workers=7}"
    arguments = [f"--passes={pipeline}"] if flag is None else [*flag, pipeline]
    assert main([file, *arguments, "--check-task"]) == 0
    assert capsys.readouterr().err == "remark: workers=7 arch=sm_90\n"


def test_inserts_one_missing_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, '"nn.toy"() : () -> ()')
    assert main(["--to-task", "--check-task", file]) == 0
    out, err = capsys.readouterr()
    assert '"task.toy"' in out
    assert err.splitlines()[0] == "remark: inserted --to-tile before --to-task"


def test_names_the_passes_where_several_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passes_of_the_toys = "--to-tile --to-task"
    file = write(tmp_path, '"nn.toy"() : () -> ()')
    assert main(["--check-task", file]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err == (
        f"{file}:1:1: error: --check-task takes task IR, but the module is nn IR: "
        f"run amk-opt {passes_of_the_toys} first\n"
    )


def test_no_way_back_to_a_more_abstract_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, '"task.toy"() : () -> ()\n"tile.toy"() : () -> ()')
    assert main(["--to-tile", file]) == 1
    assert capsys.readouterr().err == (
        f"{file}:1:1: error: --to-tile takes nn IR, but the module is task IR: "
        "no pass leads back from task to nn\n"
    )


def test_a_module_of_no_level(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--to-tile", constants]) == 1
    assert "holds no nn, tile or task operation" in capsys.readouterr().err


def test_help_lists_every_pass_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--help"])
    assert exit_info.value.code == 0
    out = capsys.readouterr().out
    assert "  --to-tile     Turn toys of nn into toys of tile.\n" in out
    assert "  --cse         Merge.\n" in out
    assert "--gone        (cannot be loaded: No module named 'amk.passes.no_such_module')" in out
    assert "not part of the help" not in out


def test_version_and_dialects(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("amk-opt 0.")
    assert main(["--show-dialects"]) == 0
    assert {"nn", "tile", "task", "arith"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to-tiles"], "unknown option or pass '--to-tiles'; did you mean '--to-tile'?"),
        (["--split-input"], "unknown option or pass '--split-input'; did you mean"),
        (["--qqqqq=3"], "unknown option or pass '--qqqqq'\n"),
        (["-p", "to-tile,to-tsk"], "unknown pass 'to-tsk'; did you mean 'to-task'?"),
        (["-p", "to-tile to-task"], "cannot read the pipeline 'to-tile to-task'; write -p"),
        (["-p"], "-p needs a pipeline"),
        (["--to-task=worker=3"], "--to-task has no option 'worker'; did you mean 'workers'?"),
        (["--to-task=qqqq=3"], "--to-task has no option 'qqqq'; its options are: workers, arch"),
        (["--to-task=workers=many"], "--to-task: Incompatible types: given ('many',)"),
        (["--to-task=workers=1,,"], "cannot read the options 'workers=1,,'; write --to-task="),
        (["--complain"], '--complain: complain requires argument "how"'),
        (["--gone"], "pass 'gone' cannot be loaded: No module named"),
        (["no-such-file.mlir"], "cannot read 'no-such-file.mlir': No such file or directory"),
        (["a.mlir", "b.mlir"], "more than one input file: 'b.mlir'"),
        (["-o"], "argument -o/--output-file: expected one argument (see amk-opt --help)"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n  %0 = arith.constant zz", "2:23: error: "),
        ('"foo.bar"() : () -> ()', "1:1: error: Operation foo.bar is not registered"),
        ('\n\n  "arith.addi"() : () -> ()', "3:3: error: 'arith.addi' op Expected 2 operands"),
        (
            '%0 = "arith.constant"() <{value = 300 : i8}> : () -> i8',
            "1:1: error: Integer value 300 is out of range",
        ),
        ("func.func @f(%x: !foo.t) {\n}", "1:24: error: 'foo.t' is not registered"),
        ("func.func @f() {\n^a:\n}", "1:1: error: 'func.func' op the region is empty"),
        ("", "1:1: error: Could not parse entire input!"),
    ],
)
def test_wrong_modules(
    tmp_path: Path, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, text)
    assert main([file]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"{file}:{expected}")
    assert err.count("\n") == 1


def test_all_invalid_ops_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = '"arith.addi"() : () -> ()\n'
    assert main([write(tmp_path, bad + bad)]) == 1
    assert capsys.readouterr().err.count(": error: 'arith.addi' op Expected 2 operands") == 2


def test_no_verify(tmp_path: Path) -> None:
    file = write(tmp_path, '"arith.addi"() : () -> ()')
    assert main(["--no-verify", file]) == 0


@pytest.mark.parametrize(
    ("how", "lines"),
    [
        ("fail", ["1:1: error: deadlock: no task can run", "note: task a waits for b"]),
        ("error", ["1:1: error: bad constant", "2:1: error: bad constant"]),
        ("xdsl", ["error: --complain: cannot do it"]),
        ("crash", ["error: --complain: internal error: KeyError: 'oops' (set AMK_DEBUG=1"]),
    ],
)
def test_errors_of_passes(
    constants: str, how: str, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--complain=how={how}", constants]) == 1
    out, err = capsys.readouterr()
    assert not out
    found = err.splitlines()
    assert len(found) == len(lines)
    for line, expected in zip(found, lines, strict=True):
        assert line.removeprefix(f"{constants}:").startswith(expected)


def test_warnings_do_not_fail(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--complain=how=warn", constants]) == 0
    out, err = capsys.readouterr()
    assert "builtin.module" in out
    assert err.splitlines()[0] == f"{constants}:1:1: warning: odd constant"


def test_debug_shows_the_traceback(constants: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMK_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["--complain=how=crash", constants])


def test_a_pass_that_breaks_the_module(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--break", constants]) == 1
    err = capsys.readouterr().err
    assert "value" in err
    assert "note: the module was valid before --break: this is a bug of that pass" in err


def test_print_ir_after_all(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cse", "--complain=how=remark", "--print-ir-after-all", constants]) == 0
    err = capsys.readouterr().err
    first = err.index("// -----// IR Dump After cse //----- //\nbuiltin.module {")
    second = err.index("// -----// IR Dump After complain //----- //\nbuiltin.module {")
    assert first < second
    assert err[first:second].count("arith.constant") == 1


def test_time_passes(constants: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cse", "--time-passes", constants]) == 0
    assert " s  cse" in capsys.readouterr().err


def test_output_file(constants: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.mlir"
    assert main(["--cse", constants, "-o", str(target)]) == 0
    assert target.read_text().count("arith.constant") == 1
    assert capsys.readouterr().out == ""
    assert main([str(target), "-o", str(target)]) == 0


def test_an_error_leaves_the_output_alone(constants: str, tmp_path: Path) -> None:
    target = tmp_path / "out.mlir"
    target.write_text("before")
    assert main(["--complain=how=fail", constants, "-o", str(target)]) == 1
    assert target.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mlir", "out.mlir"]


def test_output_folder_is_missing(
    constants: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "none" / "out.mlir"
    assert main([constants, "-o", str(target)]) == 1
    assert capsys.readouterr().err == f"error: cannot write '{target}': No such file or directory\n"


def test_input_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "in.mlir"
    file.write_bytes(b"abc\xff")
    assert main([str(file)]) == 1
    assert "is not a text file: byte 3 is not UTF-8" in capsys.readouterr().err


def test_split_input_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "%0 = arith.constant 1 : i32\n// -----\n// ------ no split\nbad\n// -----\n" + CONSTANTS
    file = write(tmp_path, text)
    assert main(["--split-input-file", "--cse", file]) == 1
    out, err = capsys.readouterr()
    assert out.count("builtin.module") == 2
    assert out.count("// -----\n") == 1
    assert err == f"{file}:4:1: error: Operation bad is not registered\n"


def test_locations_survive_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, '\n"nn.toy"() : () -> ()\n"nn.toy"() : () -> () loc("model.py":7:9)')
    assert main(["--to-tile", "--print-debuginfo", file]) == 0
    out = capsys.readouterr().out
    assert f'"tile.toy"() : () -> () loc("{file}":2:1)' in out
    assert '"tile.toy"() : () -> () loc("model.py":7:9)' in out


def test_the_command_line_tool(constants: str) -> None:
    """The installed entry point: exit status, streams, and how long it takes to start."""
    command = [sys.executable, "-m", "amk.cli.opt"]
    start = time.perf_counter()
    good = subprocess.run([*command, "--cse", constants], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("arith.constant") == 1
    assert seconds < 5  # a generous bound for a busy machine; about 0.3 s otherwise
    bad = subprocess.run([*command, "--lower-to-tasked"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stderr == (
        "error: unknown option or pass '--lower-to-tasked'; did you mean '--lower-to-tasks'?\n"
    )


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    file = write(tmp_path, "".join(f"%{i} = arith.constant {i} : i32\n" for i in range(5000)))
    command = f"{sys.executable} -m amk.cli.opt {file} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stdout == "builtin.module {\n"
    assert result.stderr == ""
