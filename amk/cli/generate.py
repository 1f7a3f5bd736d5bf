"""Generate text, streaming from the running launch; Ctrl-C ends it and keeps what is there."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amk.cli.options import add_device, add_model, positive, target_of

if TYPE_CHECKING:
    from amk.frontend.tokenizer import Tokenizer

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

    from amk.cli.common import read_input
    from amk.cli.progress import show_progress
    from amk.frontend.checkpoint import open_checkpoint
    from amk.frontend.config import parse_config
    from amk.frontend.import_model import DEFAULT_CONTEXT
    from amk.runtime.model import check_length, compile

    prompt = read_input("-")[0] if arguments.prompt == "-" else arguments.prompt
    target = target_of(arguments)
    checkpoint = open_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    if arguments.chat:
        ids = tokenizer.encode_chat([{"role": "user", "content": prompt}])
    else:
        ids = tokenizer.encode(prompt)
    # Before the weights are loaded, which takes long.
    longest = parse_config(checkpoint.config, checkpoint.name).max_context
    check_length(len(ids), arguments.context or min(longest, DEFAULT_CONTEXT))
    with compile(
        checkpoint,
        target,
        arguments.dtype,
        arguments.context,
        arguments.workers,
        progress=show_progress,
    ) as model:
        tokens = model.generate(ids, arguments.max_tokens)
        speed = stream_text(tokenizer, tokens)
    print(f"{len(ids)} tokens of prompt; {speed}", file=sys.stderr)
    return 0


@dataclass
class Speed:
    """When tokens came, in seconds from the start."""

    tokens: int = 0
    first: float = 0.0
    last: float = 0.0

    @property
    def per_second(self) -> float:
        """Tokens per second after the first one; 0 where there is none."""
        return (self.tokens - 1) / (self.last - self.first) if self.tokens > 1 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.tokens} tokens: the first after {self.first:.2f} s,"
            f" then {self.per_second:.1f} tokens/s"
        )


def stream_text(tokenizer: Tokenizer, tokens: Iterable[int], lead: str = "") -> Speed:
    """Print `lead`, then `tokens` as text while they come. Ends the line, also on Ctrl-C."""
    import sys
    import time
    from itertools import chain, islice

    from amk.cli.progress import show_progress

    decoder = tokenizer.stream()
    speed = Speed()
    started = time.monotonic()
    try:
        rest = iter(tokens)
        with show_progress("reading the prompt"):
            first = list(islice(rest, 1))
        sys.stdout.write(lead)
        for token in chain(first, rest):
            speed.last = time.monotonic() - started
            speed.first = speed.first or speed.last
            speed.tokens += 1
            sys.stdout.write(decoder.push(token))
            sys.stdout.flush()
    finally:
        sys.stdout.write(decoder.finish() + "\n")
        sys.stdout.flush()
    return speed
