"""Import a checkpoint as nn IR. The weights stay where they are: the IR names them by key."""

from __future__ import annotations

import argparse

from amk.cli.options import add_model

SUMMARY = "import a checkpoint as nn IR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser)
    parser.add_argument(
        "-o", "--output-file", metavar="FILE", help="write to FILE (default: standard output)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the module."""
    from amk.cli.common import write_output
    from amk.cli.progress import show_progress
    from amk.frontend.checkpoint import open_checkpoint
    from amk.frontend.import_model import import_model
    from amk.runtime.build import ir_text

    with show_progress(f"importing {arguments.model}"):
        checkpoint = open_checkpoint(arguments.model)
        module = import_model(checkpoint, dtype=arguments.dtype, context=arguments.context)
        write_output(arguments.output_file, ir_text(module))
    return 0
