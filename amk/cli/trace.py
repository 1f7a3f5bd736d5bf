"""Record when each task of each worker begins, waits and ends: a trace for Perfetto, a summary."""

from __future__ import annotations

import argparse

from amk.cli.options import add_device, add_passes, passes_of, positive, target_of
from amk.errors import AmkError

SUMMARY = "record what every worker does, task by task"
_CONTEXT = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="Hugging Face directory or .gguf file"
    )
    parser.add_argument(
        "--shape", metavar="NAME", help="random weights of a known shape, such as llama-3.2-1b"
    )
    parser.add_argument(
        "--dtype", choices=("f32", "bf16"), help="storage type of the matrices (default: bf16)"
    )
    parser.add_argument(
        "--context",
        type=positive,
        metavar="N",
        help=f"context at which the launch ends (default: {_CONTEXT}, as far as the model goes)",
    )
    parser.add_argument(
        "--tokens", type=positive, default=2, metavar="N", help="tokens to record (default: 2)"
    )
    parser.add_argument(
        "--all-warps", action="store_true", help="show every warp, not the first of each worker"
    )
    parser.add_argument(
        "-o", "--output-file", metavar="FILE", help="write the trace as JSON (Perfetto, Chrome)"
    )
    add_device(parser)
    add_passes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the summary and write the trace."""
    import json

    from amk.cli.bench import open_subject
    from amk.cli.common import write_output
    from amk.cli.progress import show_progress
    from amk.frontend.config import parse_config
    from amk.trace.chrome import chrome_trace
    from amk.trace.run import run_traced
    from amk.trace.summary import summary

    if (arguments.model is None) == (arguments.shape is None):
        raise AmkError("give either MODEL or --shape (see amk trace --help)")
    checkpoint = open_subject(arguments)
    longest = parse_config(checkpoint.config, checkpoint.name).max_context
    traced = run_traced(
        checkpoint,
        target_of(arguments),
        dtype=arguments.dtype or "bf16",
        context=arguments.context or min(_CONTEXT, longest),
        workers=arguments.workers,
        options=passes_of(arguments),
        tokens=arguments.tokens,
        progress=show_progress,
    )
    print(summary(traced.timeline, traced.traced_us, traced.normal_us), end="")
    if arguments.output_file is not None:
        trace = chrome_trace(traced.timeline, all_warps=arguments.all_warps)
        write_output(arguments.output_file, json.dumps(trace, separators=(",", ":")) + "\n")
    return 0
