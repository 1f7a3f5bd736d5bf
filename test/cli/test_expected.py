"""`--verify-diagnostics`: what matches, and what is reported where nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from amk.cli.opt import main

pytestmark = pytest.mark.usefixtures("toys")

BAD = '"arith.addi"() : () -> ()'


def check(folder: Path, text: str, *flags: str) -> tuple[int, Path]:
    """Run amk-opt on `text`; the exit status and the file."""
    file = folder / "in.mlir"
    file.write_text(text)
    return main(["--verify-diagnostics", "--split-input-file", *flags, str(file)]), file


@pytest.mark.parametrize(
    "text",
    [
        f"{BAD} // expected-error {{{{Expected 2 operands}}}}",
        f"// expected-error@+1 {{{{Expected 2 operands}}}}\n{BAD}",
        f"// expected-error @below {{{{Expected 2 operands}}}}\n{BAD}",
        f"{BAD}\n// expected-error@-1{{{{Expected 2 operands}}}}",
        f"{BAD}\n// expected-error@above {{{{Expected 2 operands}}}}",
        f"// expected-error@+1 {{{{'arith.addi' op}}}}\n"
        f"{BAD} {BAD} // expected-error {{{{Expected 2}}}}",
        "// expected-error@below {{arith}}\n// expected-error@below {{op Expected}}\n"
        f"{BAD} {BAD}",
        f"%0 = arith.constant 1 : i32\n// -----\n\n{BAD} // expected-error {{{{Expected 2}}}}",
        "foo // expected-error {{Operation foo is not registered}}",
    ],
)
def test_expected_errors(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = check(tmp_path, text)
    assert capsys.readouterr().err == ""
    assert status == 0


@pytest.mark.parametrize("kind", ["error", "warn", "remark"])
def test_every_kind_of_diagnostic(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    word = {"warn": "warning"}.get(kind, kind)
    text = f"%0 = arith.constant 1 : i32 // expected-{word} {{{{constant}}}}"
    assert check(tmp_path, text, f"--complain=how={kind}")[0] == 0
    assert capsys.readouterr().err == ""


def test_notes_are_optional(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "%0 = arith.constant 1 : i32 // expected-error {{deadlock: no task}}\n"
    assert check(tmp_path, text, "--complain=how=fail")[0] == 0
    text += "// expected-note@unknown {{task a waits}}\n"
    assert check(tmp_path, text, "--complain=how=fail")[0] == 0
    text += "// expected-note@unknown {{task b waits}}\n"
    status, file = check(tmp_path, text, "--complain=how=fail")
    assert status == 1
    expected = f'{file}:3:4: error: expected note "task b waits" was not produced\n'
    assert capsys.readouterr().err == expected


def test_errors_without_a_location(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "// expected-error@unknown {{--complain: cannot do it}}\n%0 = arith.constant 1 : i32\n"
    assert check(tmp_path, text, "--complain=how=xdsl")[0] == 0
    assert capsys.readouterr().err == ""


def test_an_error_that_does_not_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "%0 = arith.constant 1 : i32\n// -----\n  // expected-error {{nope}}\n"
    status, file = check(tmp_path, text + "%0 = arith.constant 1 : i32\n")
    assert status == 1
    expected = f'{file}:3:6: error: expected error "nope" was not produced\n'
    assert capsys.readouterr().err == expected


def test_an_error_that_is_not_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, file = check(tmp_path, f"\n{BAD}")
    assert status == 1
    assert capsys.readouterr().err.startswith(f"{file}:2:1: error: unexpected error: 'arith.addi'")


@pytest.mark.parametrize(
    "wrong", ["expected-warning {{Expected}}", "expected-error@+1 {{Expected}}"]
)
def test_kind_and_line_must_match(
    tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, f"{BAD} // {wrong}\n")[0] == 1
    err = capsys.readouterr().err
    assert "unexpected error" in err
    assert "was not produced" in err


def test_one_comment_stands_for_one_error(tmp_path: Path) -> None:
    assert check(tmp_path, f"{BAD} {BAD} // expected-error {{{{Expected}}}}\n")[0] == 1
