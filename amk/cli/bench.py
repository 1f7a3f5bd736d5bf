"""Measure a model: its ceiling, AMK, and what else is installed, after checking the logits."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from amk.cli.options import add_device, add_passes, passes_of, positive, target_of
from amk.errors import AmkError

if TYPE_CHECKING:
    from amk.bench.report import Report, Row
    from amk.bench.subject import Subject
    from amk.bench.torch_llama import TorchLlama
    from amk.frontend.checkpoint import Checkpoint

SUMMARY = "measure time per token beside the ceiling and the alternatives"
DEFAULT_CONTEXTS = (64, 1024, 8192)
ALTERNATIVES = ("eager", "graph", "hf", "compile")
_QUICK_ALTERNATIVES = ("graph",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_subject(parser)
    parser.add_argument(
        "--contexts",
        type=contexts_of,
        metavar="N,N,…",
        help="contexts at which launches end (default: 64,1024,8192, as far as the model goes)",
    )
    parser.add_argument(
        "--alternatives",
        type=alternatives_of,
        metavar="NAME,…",
        help=f"of {', '.join(ALTERNATIVES)}, or none (default: all; needs torch)",
    )
    parser.add_argument(
        "--check-long", action="store_true", help="check the logits at each context too"
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions, CUDA graphs as only alternatives"
    )
    parser.add_argument("-o", "--output-file", metavar="FILE", help="write the results as JSON")
    parser.add_argument("--plot", metavar="FILE", help="write a plot as SVG")
    add_device(parser)
    add_passes(parser)


def add_subject(parser: argparse.ArgumentParser) -> None:
    """--model or --shape, and --dtype."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--model", metavar="MODEL", help="Hugging Face directory or .gguf file")
    subject.add_argument(
        "--shape", metavar="NAME", help="random weights of a known shape, such as llama-3.2-1b"
    )
    parser.add_argument(
        "--dtype", choices=("f32", "bf16"), help="storage type of the matrices (default: bf16)"
    )


def open_subject(arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint that --model or --shape names, which never ends a text."""
    if arguments.shape is not None:
        from amk.bench.random_weights import RandomCheckpoint
        from amk.bench.shapes import shape_config

        return RandomCheckpoint(shape_config(arguments.shape), f"shape {arguments.shape}")
    from amk.frontend.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(arguments.model)
    if not checkpoint.tensors():
        raise AmkError(f"{checkpoint.name} holds no weights, only a config: it cannot run")
    checkpoint.config["eos_token_id"] = None
    return checkpoint


def contexts_of(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, in ascending order, for argparse."""
    return tuple(sorted({positive(part) for part in text.split(",")}))


def alternatives_of(text: str) -> tuple[str, ...]:
    """Names of alternatives, for argparse."""
    names = tuple(text.split(",")) if text != "none" else ()
    for name in names:
        if name not in ALTERNATIVES:
            known = ", ".join(ALTERNATIVES)
            raise argparse.ArgumentTypeError(f"unknown alternative '{name}'; known: {known}, none")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Print rows as they are known, then the table; status 1 where the logits are wrong."""
    from amk.bench.subject import Subject
    from amk.cli.progress import show_progress
    from amk.frontend.config import parse_config

    checkpoint = open_subject(arguments)
    longest = parse_config(checkpoint.config, checkpoint.name).max_context
    default = tuple(context for context in DEFAULT_CONTEXTS if context <= longest)
    contexts = arguments.contexts or default or (longest,)
    subject = Subject(
        checkpoint,
        target_of(arguments),
        dtype=arguments.dtype or "bf16",
        context=max(contexts),
        workers=arguments.workers,
        options=passes_of(arguments),
        progress=show_progress,
    )
    try:
        return _measure(arguments, checkpoint, subject, contexts)
    finally:
        subject.close()


def _measure(
    arguments: argparse.Namespace,
    checkpoint: Checkpoint,
    subject: Subject,
    contexts: tuple[int, ...],
) -> int:
    from amk.bench import correctness, report
    from amk.bench.subject import fill_caches
    from amk.cli.progress import show_progress

    found = report.describe(subject)
    _say(
        f"{checkpoint.name}, {found['dtype']}, on {found['device']}: {found['workers']} workers for"
        f" {found['target']}"
    )
    with show_progress("loading the model into torch"):
        torch_model = correctness.load_torch_model(subject, checkpoint)
    with show_progress("checking the logits"):
        checks = [correctness.check_short(subject, checkpoint, torch_model)]
        if arguments.check_long:
            checks += [
                correctness.check_long(subject, checkpoint, torch_model, context)
                for context in contexts
            ]
    for check in checks:
        _say(str(check))
    if not all(check.good for check in checks):
        raise AmkError(f"{checkpoint.name}: the logits are wrong, so no times are given")
    repeats = 5 if arguments.quick else 15
    fill_caches(subject.device)
    subject.time_stream(2)  # warm
    results = report.Report(
        model=checkpoint.name,
        subject=found,
        copy_gb_s=subject.copy_bandwidth(repeats),
        stream=subject.time_stream(repeats),
        stream_bytes=subject.device.program.stream_bytes,
        checks=checks,
    )
    _say(
        f"copy {results.copy_gb_s:.0f} GB/s; ring without consumers {results.stream_gb_s:.0f} GB/s,"
        f" {results.stream} us for {results.stream_bytes / 1e6:.1f} MB of weights"
    )
    for context in contexts:
        results.rows.append(_row(subject, results, context, repeats, arguments.quick))
        _say(str(results.rows[-1]))
    _add_alternatives(arguments, torch_model, results, repeats)
    _write(arguments, results)
    return 0


def _row(subject: Subject, results: Report, context: int, repeats: int, quick: bool) -> Row:
    from amk.bench.report import Row

    read = subject.read_bytes(context)
    return Row(
        context=context,
        tokens=subject.tokens_before(context),
        read_bytes=read,
        ceiling_us=results.stream.median * read / results.stream_bytes,
        amk=subject.time_tokens(context, repeats),
        launch=subject.time_launches(context, 50 if quick else 200, 3),
    )


def _add_alternatives(
    arguments: argparse.Namespace, torch_model: TorchLlama | str, results: Report, repeats: int
) -> None:
    if isinstance(torch_model, str):
        results.skipped["alternatives"] = torch_model
        _say(f"no alternatives: {torch_model}")
        return
    from amk.bench.alternatives import Skipped, alternatives, measure

    names = arguments.alternatives
    if names is None:
        names = _QUICK_ALTERNATIVES if arguments.quick else ALTERNATIVES
    for title, make in alternatives(torch_model.device, names).items():
        for row in results.rows:
            found: Any = measure(make, torch_model, row.context, min(repeats, 5))
            if isinstance(found, Skipped):
                results.skipped[title] = found.reason
                _say(f"{title}: skipped: {found.reason}")
                break
            row.others[title] = found
            _say(f"context {row.context}: {title}: {found} us a token")


def _write(arguments: argparse.Namespace, results: Report) -> None:
    import json

    from amk.bench.plot import svg_plot
    from amk.cli.common import write_output

    print("\n" + results.table())
    if arguments.output_file is not None:
        write_output(arguments.output_file, json.dumps(results.record(), indent=2) + "\n")
    if arguments.plot is None:
        return
    lines: dict[str, list[tuple[float, float]]] = {"ceiling": [], "AMK": []}
    for row in results.rows:
        lines["ceiling"].append((row.context, row.ceiling_us))
        lines["AMK"].append((row.context, row.amk.median))
        for name, times in row.others.items():
            lines.setdefault(name, []).append((row.context, times.median))
    title = f"{results.model}, {results.subject['dtype']}, {results.subject['device']}"
    write_output(arguments.plot, svg_plot(title, lines, dashed=["ceiling"]))


def _say(text: str) -> None:
    print(text, flush=True)
