"""amk-translate: prints a verified schedule as a program for a target, and reads programs back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from xdsl.dialects.builtin import ModuleOp, StringAttr

from amk.cli.common import did_you_mean, read_input, run_tool, write_output
from amk.cli.pipeline import wrong_level
from amk.errors import AmkError
from amk.ir.levels import Level, level_of
from amk.ir.location import location_of
from amk.ir.module import parse_module, verify_module
from amk.passes import lowering_path

TARGET_ATTRIBUTE = "amk.target"
"""Module attribute that names the architecture to print for, e.g. "sm_90"."""

DEFAULT_ARCH = "sm_90"
HOST_TARGET = "host"
"""What `amk.backends.emit` calls the C++ program that runs on threads."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise AmkError(f"{message} (see amk-translate --help)")


def _parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="amk-translate",
        description="Prints a task-level module as one self-contained program, after verifying it; "
        "or proves that a printed program is the schedule of a module.",
        allow_abbrev=False,
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to-cuda", action="store_true", help="print a CUDA file")
    target.add_argument("--to-cpp", action="store_true", help="print a C++ file for the host")
    target.add_argument(
        "--check-cuda",
        metavar="CU",
        help="prove that the CUDA file CU is the verified schedule; one line says what was proved",
    )
    parser.add_argument(
        "--arch",
        metavar="ARCH",
        help=f"e.g. sm_80; default: the module's {TARGET_ATTRIBUTE}, or {DEFAULT_ARCH}",
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="print an instrumented program, which records what its workers do (see amk trace)",
    )
    parser.add_argument(
        "--stress-delays",
        metavar="SEED",
        type=int,
        help="delay the threads of the C++ file at random where they wait, send and signal",
    )
    parser.add_argument("-o", "--output-file", metavar="FILE", help="write to FILE, else to stdout")
    parser.add_argument("input_file", metavar="FILE", nargs="?", help="input, else stdin")
    arguments = parser.parse_args(argv)
    if arguments.to_cpp and arguments.arch is not None:
        parser.error("--arch is for CUDA files; the C++ file runs on any host")
    if arguments.stress_delays is not None and not arguments.to_cpp:
        parser.error("--stress-delays is for --to-cpp")
    if arguments.check_cuda is not None and arguments.trace:
        parser.error("--trace is for printing; instrumented files are not checked")
    if arguments.check_cuda == "-" and arguments.input_file in (None, "-"):
        parser.error("--check-cuda needs a file, if the module comes from standard input")
    return arguments


def choose_arch(module: ModuleOp, requested: str | None) -> str:
    """The architecture as requested, else of the module, else sm_90; AmkError if unknown."""
    from amk.backends.arch import ARCHS

    declared = module.attributes.get(TARGET_ATTRIBUTE)
    location: str | None = None
    if requested is not None:
        arch = requested
    elif isinstance(declared, StringAttr):
        arch, location = declared.data, location_of(module)
    elif declared is not None:
        message = f'{TARGET_ATTRIBUTE} must be a string, such as "{DEFAULT_ARCH}"'
        raise AmkError(message, location=location_of(module))
    else:
        arch = DEFAULT_ARCH
    if arch not in ARCHS:
        hint = did_you_mean(arch, ARCHS)
        message = f"unknown architecture '{arch}'{hint}; known: {', '.join(ARCHS)}"
        raise AmkError(message, location=location)
    return arch


def require_task_level(module: ModuleOp) -> None:
    """Raise an AmkError that names the passes to run if `module` is not at task level."""
    level = level_of(module)
    if level is Level.TASK:
        return
    path = None if level is None else lowering_path(level, Level.TASK)
    message = wrong_level("amk-translate", level, Level.TASK, path)
    raise AmkError(message, location=location_of(module))


def translate(
    module: ModuleOp, target: str, *, trace: bool = False, stress: int | None = None
) -> str:
    """The program for `target` (an architecture, or `host`) that `module` describes.

    With `trace`, it records what its workers do; with `stress`, a seed, the threads of the host are
    delayed at random. Raises AmkError where the module is not at task level, or where its schedule
    does not verify.
    """
    from amk import backends

    _verify(module, target)
    window = None
    if trace:
        from amk.backends.trace_layout import TraceWindow

        window = TraceWindow()
    return backends.emit_program(module, target, trace=window, stress=stress).source


def check_cuda(module: ModuleOp, target: str, path: str) -> str:
    """One line that says what of the CUDA file at `path` was proved to be the schedule of `module`.

    Raises AmkError where `translate` does, and at the first difference.
    """
    text, name = read_input(path)
    _verify(module, target)
    from amk.backends.readback import check_program

    return f"{name}: {check_program(module, target, text, name)}\n"


def _verify(module: ModuleOp, target: str) -> None:
    require_task_level(module)
    from amk.passes import verify_schedule

    verify_schedule.check(module, None if target == HOST_TARGET else target)


def _run(argv: Sequence[str]) -> int:
    arguments = _parse_arguments(argv)
    text, name = read_input(arguments.input_file)
    module = parse_module(text, name)
    verify_module(module)
    require_task_level(module)
    target = HOST_TARGET if arguments.to_cpp else choose_arch(module, arguments.arch)
    if arguments.check_cuda is not None:
        result = check_cuda(module, target, arguments.check_cuda)
    else:
        result = translate(module, target, trace=arguments.trace, stress=arguments.stress_delays)
    write_output(arguments.output_file, result)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line tool; returns the exit status."""
    return run_tool(lambda: _run(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
