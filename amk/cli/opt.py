"""amk-opt: reads a module, runs passes over it, prints the result."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.utils.arg_spec import ArgSpec
from xdsl.utils.exceptions import DiagnosticException
from xdsl.xdsl_opt_main import xDSLOptMain

from amk.cli.common import (
    DEBUG_VARIABLE,
    did_you_mean,
    internal_error,
    read_input,
    run_tool,
    write_output,
)
from amk.cli.expected import check_expectations, parse_expectations
from amk.cli.pipeline import build_pass, missing_pass, take_passes
from amk.dialects import dialect_names, register_all
from amk.errors import AmkError
from amk.ir.diagnostics import Diagnostic, Handler, Severity, capture
from amk.ir.module import parse_module, verify_errors
from amk.passes import PassEntry, all_passes

_SPLIT = re.compile(r"^[ \t]*// -----[ \t]*\r?$", re.MULTILINE)

_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-o", "--output-file"), {"metavar": "FILE", "help": "write to FILE, only if all goes well"}),
    (
        ("-p", "--passes"),
        {"metavar": "PIPELINE", "help": "passes as 'first{key=value key=value},second'"},
    ),
    (
        ("--print-ir-after-all",),
        {"action": "store_true", "help": "print the module after each pass, to standard error"},
    ),
    (
        ("--split-input-file",),
        {"action": "store_true", "help": "process the parts between lines '// -----' one by one"},
    ),
    (
        ("--verify-diagnostics",),
        {
            "action": "store_true",
            "help": "check errors against '// expected-error {{...}}' comments",
        },
    ),
    (
        ("--print-op-generic",),
        {"action": "store_true", "help": "print operations in the generic format"},
    ),
    (("--print-debuginfo",), {"action": "store_true", "help": "print locations"}),
    (("--time-passes",), {"action": "store_true", "help": "print how long each pass takes"}),
    (
        ("--no-verify",),
        {"action": "store_true", "help": "do not verify the module before and after each pass"},
    ),
    (
        ("--allow-unregistered-dialect",),
        {"action": "store_true", "help": "accept operations of unknown dialects"},
    ),
    (
        ("--no-implicit-module",),
        {"action": "store_true", "help": "do not wrap the operations of a file in a module"},
    ),
    (("--show-dialects",), {"action": "store_true", "help": "list the dialects and exit"}),
)


class AmkOptMain(xDSLOptMain):
    """xDSL's driver with MLIR-style pass flags, located one-line errors, and levels."""

    def __init__(self, argv: Sequence[str], passes: Mapping[str, PassEntry] | None = None) -> None:
        """Parse the command line; `passes` replaces the registry, for tests."""
        self.pass_entries = dict(all_passes() if passes is None else passes)
        command_line = take_passes(argv, self.pass_entries)
        self.specs: tuple[ArgSpec, ...] = command_line.specs
        # The list of passes imports every one of them, so it is made only when it is shown.
        self._wants_help = any(a in ("-h", "--help") for a in command_line.arguments)
        super().__init__("Runs passes over a module of AMK.", command_line.arguments)
        # The custom format of an op may not be able to print one that is invalid.
        self.args.print_op_generic |= self.args.no_verify

    # xDSLOptMain calls these while it is constructed.

    def register_all_dialects(self) -> None:
        """Register the dialects of AMK, not all that xDSL has."""
        register_all(self.ctx)

    def register_all_frontends(self) -> None:
        """Nothing: every input is MLIR text, whatever its file is called."""

    def register_all_passes(self) -> None:
        """Register the passes of AMK, not all that xDSL has."""
        for name, entry in self.pass_entries.items():
            self.register_pass(name, entry)

    def register_all_targets(self) -> None:
        """MLIR text only; amk-translate prints everything else."""
        from xdsl.targets.mlir import MLIRTarget

        self.available_targets["mlir"] = lambda: MLIRTarget

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        """The options, without those of xDSL that have another meaning here."""
        arg_parser.prog = "amk-opt"
        arg_parser.allow_abbrev = False
        arg_parser.formatter_class = argparse.RawDescriptionHelpFormatter
        arg_parser.usage = '%(prog)s [--PASS[="key=value ..."] ...] [options] [FILE]'
        if self._wants_help:
            arg_parser.epilog = _describe_passes(self.pass_entries)
        arg_parser.error = self._usage_error
        arg_parser.add_argument("input_file", metavar="FILE", nargs="?", help="input, else stdin")
        for flags, settings in _OPTIONS:
            arg_parser.add_argument(*flags, **settings)
        arg_parser.add_argument("--version", action="version", version=_version())
        arg_parser.set_defaults(
            target="mlir",
            disable_verify=False,
            syntax_highlight=False,
            print_no_properties=False,
        )

    def _usage_error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if not message.startswith(prefix):
            raise AmkError(f"{message} (see amk-opt --help)")
        argument = message.removeprefix(prefix).split()[0]
        if not argument.startswith("-"):
            raise AmkError(f"more than one input file: '{argument}'")
        name = argument.partition("=")[0]
        known = [flag for flags, _ in _OPTIONS for flag in flags]
        known += [f"--{entry}" for entry in self.pass_entries]
        raise AmkError(f"unknown option or pass '{name}'{did_you_mean(name, known)}")

    def setup_pipeline(self) -> None:
        """Build the passes, so that a wrong option is an error before any input is read."""
        self.pipeline = PassPipeline(
            tuple(build_pass(self.pass_entries[spec.name], spec) for spec in self.specs)
        )

    def run_tool(self) -> int:
        """Process the input; the exit status."""
        if self.args.show_dialects:
            print("\n".join(dialect_names()))
            return 0
        text, name = read_input(self.args.input_file)
        outputs: list[str] = []
        failed = False
        for chunk, first_line in self._chunks(text):
            if self.args.verify_diagnostics:
                output, good = self._check_chunk(chunk, name, first_line)
            else:
                output, good = self._process_or_none(chunk, name, first_line)
            outputs.extend([] if output is None else [output])
            failed = failed or not good
        if failed and self.args.output_file is not None:
            return 1
        write_output(self.args.output_file, "// -----\n".join(outputs))
        return 1 if failed else 0

    def _chunks(self, text: str) -> Iterator[tuple[str, int]]:
        """The parts of the input with the number of their first line."""
        if not self.args.split_input_file:
            yield text, 1
            return
        start, line = 0, 1
        for match in _SPLIT.finditer(text):
            yield text[start : match.start()], line
            line += text.count("\n", start, match.end())
            start = match.end()
        yield text[start:], line

    def _process_or_none(self, chunk: str, name: str, first_line: int) -> tuple[str | None, bool]:
        """The result of a chunk, or None after errors (on stderr); and whether it is good."""
        errors = 0

        def tell(diagnostic: Diagnostic) -> None:
            nonlocal errors
            errors += diagnostic.severity is Severity.ERROR
            print(diagnostic.diagnostic(), file=sys.stderr)

        with capture(tell):
            output = self._process(chunk, name, first_line, tell)
        return (output, True) if errors == 0 else (None, False)

    def _check_chunk(self, chunk: str, name: str, first_line: int) -> tuple[str | None, bool]:
        """As `_process_or_none`, where good means that exactly the expected diagnostics came."""
        diagnostics: list[Diagnostic] = []
        with capture(diagnostics.append):
            output = self._process(chunk, name, first_line, diagnostics.append)
        problems = check_expectations(parse_expectations(chunk, first_line), diagnostics, name)
        for problem in problems:
            print(problem.diagnostic(), file=sys.stderr)
        return output, not problems

    def _process(self, chunk: str, name: str, first_line: int, report: Handler) -> str | None:
        """Parse, verify, run the passes and print; None after an error, which goes to `report`."""
        where = ""
        try:
            # Empty lines in front keep the line numbers of every error those of the file.
            module = parse_module(
                "\n" * (first_line - 1) + chunk,
                name,
                self.ctx.clone(),
                implicit_module=not self.args.no_implicit_module,
            )
            if not self._verify(module, report, ()):
                return None
            for requested in self.pipeline.passes:
                for step in self._with_missing(requested, module):
                    where = f"--{step.name}: "
                    if not self._run_pass(step, module, report):
                        return None
            return self.output_resulting_program(module).rstrip("\n") + "\n"
        except Diagnostic as error:
            report(error)
        except AmkError as error:
            report(Diagnostic(str(error), location=error.location))
        except DiagnosticException as error:
            report(Diagnostic(where + str(error)))
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            report(Diagnostic(where + internal_error(error)))
        return None

    def _verify(self, module: ModuleOp, report: Handler, notes: Sequence[str]) -> bool:
        if self.args.no_verify:
            return True
        errors = verify_errors(module)
        for error in errors:
            report(Diagnostic(str(error), location=error.location, notes=notes))
        return not errors

    def _with_missing(self, step: ModulePass, module: ModuleOp) -> Iterator[ModulePass]:
        """`step`, after the pass that leads to the level that it takes if that pass is missing."""
        entry = missing_pass(step, module, self.pass_entries)
        if entry is not None:
            # Not a diagnostic about the module: `--verify-diagnostics` has no say in it.
            print(f"remark: inserted --{entry.name} before --{step.name}", file=sys.stderr)
            yield build_pass(entry, ArgSpec(entry.name, {}))
        yield step

    def _run_pass(self, step: ModulePass, module: ModuleOp, report: Handler) -> bool:
        """Run one pass and verify its result; False if it reported an error."""
        errors = 0

        def count(diagnostic: Diagnostic) -> None:
            nonlocal errors
            errors += diagnostic.severity is Severity.ERROR
            report(diagnostic)

        start = time.perf_counter()
        with capture(count):
            step.apply(self.ctx, module)
        if self.args.time_passes:
            print(f"{time.perf_counter() - start:8.3f} s  {step.name}", file=sys.stderr)
        if self.args.print_ir_after_all:
            print(f"// -----// IR Dump After {step.name} //----- //", file=sys.stderr)
            print(self.output_resulting_program(module).rstrip("\n"), file=sys.stderr)
        note = f"the module was valid before --{step.name}: this is a bug of that pass"
        return errors == 0 and self._verify(module, report, (note,))


def _describe_passes(passes: Mapping[str, PassEntry]) -> str:
    width = max(map(len, passes), default=0)
    lines = [f"  --{name:<{width}}  {_describe(entry)}" for name, entry in passes.items()]
    return "\n".join(["passes, run in the order given:", *lines])


def _describe(entry: PassEntry) -> str:
    try:
        return entry.describe()
    except ImportError as error:
        return f"(cannot be loaded: {error})"


def _version() -> str:
    try:
        own = version("amk")
    except PackageNotFoundError:
        own = "(not installed)"
    return f"amk-opt {own}, xDSL {version('xdsl')}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line tool; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    return run_tool(lambda: AmkOptMain(arguments).run_tool())


if __name__ == "__main__":
    sys.exit(main())
