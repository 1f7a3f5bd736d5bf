"""amk: from a checkpoint to text through one verified kernel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from amk.cli import bench, check, compile_model, demo, generate, import_model, trace
from amk.cli.common import run_tool
from amk.cli.options import Parser

_COMMANDS = {
    "import": import_model,
    "compile": compile_model,
    "generate": generate,
    "check": check,
    "bench": bench,
    "trace": trace,
    "demo": demo,
}
"""Modules with SUMMARY, `add_arguments(parser)` and `run(arguments) -> exit status`.

They import what they need when they run, so that `amk --help` is quick.
"""
_DOCTOR = "doctor"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="amk",
        description="Compiles Llama-family models into one persistent CUDA kernel, and runs them.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(
            name, help=module.SUMMARY, description=module.__doc__, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    commands.add_parser(_DOCTOR, help="show what this machine has and what is missing for what")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line tool; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [_DOCTOR]:
        from amk.cli import doctor

        return doctor.main(arguments[1:])

    def body() -> int:
        parsed = _parse(arguments)
        return parsed.run(parsed)

    return run_tool(body)


if __name__ == "__main__":
    sys.exit(main())
