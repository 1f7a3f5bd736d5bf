"""Generate text, streaming from the running launch; Ctrl-C ends it and keeps what is there."""

from __future__ import annotations

import argparse

from amk.cli.options import add_device, add_model, positive, target_of

SUMMARY = "generate text for a prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_model(parser)
    parser.add_argument(
        "--prompt", required=True, metavar="TEXT", help="what to continue; - reads standard input"
    )
    parser.add_argument(
        "--max-tokens",
        type=positive,
        default=128,
        metavar="N",
        help="tokens to generate at most (default: 128)",
    )
    parser.add_argument(
        "--chat", action="store_true", help="wrap the prompt in the model's chat template"
    )
    add_device(parser)


def run(arguments: argparse.Namespace) -> int:
    """Stream the continuation to standard output, and its speed to standard error."""
    import sys
    import time

    from amk.cli.common import read_input
    from amk.cli.progress import show_progress
    from amk.frontend.checkpoint import open_checkpoint
    from amk.runtime.model import compile

    prompt = read_input("-")[0] if arguments.prompt == "-" else arguments.prompt
    target = target_of(arguments)
    checkpoint = open_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    if arguments.chat:
        ids = tokenizer.encode_chat([{"role": "user", "content": prompt}])
    else:
        ids = tokenizer.encode(prompt)
    with compile(
        checkpoint,
        target,
        arguments.dtype,
        arguments.context,
        arguments.workers,
        progress=show_progress,
    ) as model:
        tokens = model.generate(ids, arguments.max_tokens)
        started = time.monotonic()
        count = stream_text(tokenizer, tokens)
        seconds = time.monotonic() - started
    print(f"{count} tokens in {seconds:.2f} s, {count / seconds:.1f} tokens/s", file=sys.stderr)
    return 0


def stream_text(tokenizer, tokens) -> int:
    """Print `tokens` as text while they come; returns how many. Ends the line, also on Ctrl-C."""
    import sys

    decoder = tokenizer.stream()
    count = 0
    try:
        for token in tokens:
            count += 1
            sys.stdout.write(decoder.push(token))
            sys.stdout.flush()
    finally:
        sys.stdout.write(decoder.finish() + "\n")
        sys.stdout.flush()
    return count
