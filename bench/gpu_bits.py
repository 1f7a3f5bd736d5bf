"""Runs a model on this GPU again and again and compares every bit with the first time.

Run: python bench/gpu_bits.py --shape llama-3.2-1b [--repeats 300] [--tokens 60] [--total 100000]

First `repeats` times the same `tokens` tokens, with every logit; then `total` tokens in launches
that fill the context, twice, with every token and the logits at the end of each launch. Weights are
random. The exit status is 1 if anything changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from amk.bench.random_weights import RandomCheckpoint
from amk.bench.shapes import shape_config
from amk.bench.subject import Subject


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="llama-3.2-1b")
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--total", type=int, default=100_000)
    parser.add_argument("--context", type=int, default=4096)
    arguments = parser.parse_args()
    checkpoint = RandomCheckpoint(shape_config(arguments.shape), arguments.shape)
    subject = Subject(checkpoint, "cuda", dtype=arguments.dtype, context=arguments.context)
    try:
        changed = repeat(subject, arguments.repeats, arguments.tokens)
        changed += generate_twice(subject, arguments.total, arguments.context)
    finally:
        subject.close()
    return int(changed > 0)


def repeat(subject: Subject, repeats: int, tokens: int) -> int:
    """How many of `repeats` runs of the first `tokens` tokens differ in a token or a logit."""
    started = time.perf_counter()
    first = run(subject, tokens)
    changed = sum(not same(first, run(subject, tokens)) for _ in range(repeats - 1))
    seconds = time.perf_counter() - started
    print(
        f"{repeats} runs of {tokens} tokens, every logit: {changed} differ ({seconds:.0f} s)",
        flush=True,
    )
    return changed


def run(subject: Subject, tokens: int) -> tuple[list[int], list[Any]]:
    """The tokens that follow token 1, and all logits, which stay on the GPU."""
    session, device = subject.model.session, subject.device
    slots = device.program.buffer("logits").shape[0]
    fed, logits = [1], []
    for start in range(0, tokens, slots):
        steps = min(slots, tokens - start)
        chosen = list(session.run(fed, start, steps))
        fed += chosen[len(fed) - 1 - start :]
        logits.append(device.array("logits")[:steps].copy())
    return fed, logits


def same(a: tuple[list[int], list[Any]], b: tuple[list[int], list[Any]]) -> bool:
    """Whether two runs have the same tokens, and logits with the same bits."""
    parts = zip(a[1], b[1], strict=True)
    return a[0] == b[0] and all(bool((x.view("u4") == y.view("u4")).all()) for x, y in parts)


def generate_twice(subject: Subject, total: int, context: int) -> int:
    """How many of the texts, `total` tokens together, differ when they are generated again."""
    changed = done = 0
    started = time.perf_counter()
    for token in range(1, subject.config.vocabulary):
        steps = min(context, total - done)
        first, again = (launch(subject, token, steps) for _ in range(2))
        changed += not same(first, again)
        done += steps
        if done == total:
            break
    seconds = time.perf_counter() - started
    print(f"{done} tokens twice: {changed} texts differ ({seconds:.0f} s)", flush=True)
    return changed


def launch(subject: Subject, token: int, steps: int) -> tuple[list[int], list[Any]]:
    """The `steps` tokens that follow `token` in one launch, and the last logits of it."""
    chosen = list(subject.model.session.run([token], 0, steps))
    return chosen, [subject.device.array("logits").copy()]


if __name__ == "__main__":
    sys.exit(main())
