"""Compares a model on this GPU with Hugging Face and prints a report in Markdown.

    python tools/gpu_report.py MODEL TEXT [--prompts 4] [--new 256] [--tokens 8192] [--archs …]

In float32: greedy tokens of several prompts, perplexity of the text, equal bits of two runs, of the
files of the other architectures built for this GPU, and of the host program. In bf16: the distance
of the logits from the float32 reference beside that of Hugging Face's own bf16 forward pass. Then
the time per token of a long launch and of one-token launches, with the time that the weights alone
would take at the bandwidth given by --bandwidth (GB/s, measured by a streaming kernel on the same
card).
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import amk
from amk.cli.huggingface import load_reference, round_matrices
from amk.frontend.checkpoint import Checkpoint, open_checkpoint

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a small village by the sea,",
    "The three laws of thermodynamics say that",
    "A recipe for bread needs",
    "In 1969, the first",
)
CONTEXT = 2048


def main() -> None:
    arguments = parse_arguments()
    checkpoint = open_checkpoint(arguments.model)
    checkpoint.config["eos_token_id"] = None  # greedy text goes on past the end of a text
    tokenizer = checkpoint.tokenizer()
    text = tokenizer.encode(Path(arguments.text).read_text(encoding="utf-8"))[: arguments.tokens]
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS[: arguments.prompts]]
    reference = Reference(load_reference(arguments.model, checkpoint))
    report_float32(arguments, checkpoint, reference, prompts, text)
    report_bf16(arguments, checkpoint, reference, prompts, text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--archs", nargs="*", default=["sm_80", "sm_120"])
    parser.add_argument("--bandwidth", type=float, default=0.0)
    return parser.parse_args()


class Reference:
    """Hugging Face's model on the GPU, in whatever type it is converted to."""

    def __init__(self, model: Any) -> None:
        self.model = model.to("cuda")

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            output = self.model(torch.tensor([list(ids)], device="cuda"))
        return output.logits[0].float().cpu().numpy()

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        import torch

        result: list[int] = []
        fed, cache = torch.tensor([list(ids)], device="cuda"), None
        with torch.inference_mode():
            while len(result) < count:
                output = self.model(fed, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                result.append(int(output.logits[0, -1].argmax()))
                fed = torch.tensor([result[-1:]], device="cuda")
        return result


def windows(text: Sequence[int]) -> list[Sequence[int]]:
    """The text in pieces that fit the context."""
    return [text[i : i + CONTEXT] for i in range(0, len(text), CONTEXT)]


def perplexity(logits: Callable[[Sequence[int]], np.ndarray], text: Sequence[int]) -> float:
    """exp of the mean negative log likelihood of each token after those before it in its window."""
    loss, count = 0.0, 0
    for window in windows(text):
        values = logits(window)[:-1].astype(np.float64)
        top = values.max(1)
        log_sum = top + np.log(np.exp(values - top[:, None]).sum(1))
        loss += float((log_sum - values[np.arange(len(values)), window[1:]]).sum())
        count += len(values)
    return float(np.exp(loss / count))


def compile_for(checkpoint: Checkpoint, dtype: Any, arch: str = "cuda"):
    return amk.compile(checkpoint, arch=arch, dtype=dtype, context=CONTEXT)


def generated(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    return list(model.generate(prompt, max_new_tokens=count))


def report_float32(
    arguments: argparse.Namespace,
    checkpoint: Checkpoint,
    reference: Reference,
    prompts: Sequence[Sequence[int]],
    text: Sequence[int],
) -> None:
    model = compile_for(checkpoint, "f32")
    print("| float32 | result |\n|---|---|")
    wanted = [reference.greedy(p, arguments.new) for p in prompts]
    check_tokens(model, prompts, wanted, arguments.new, model.program.target)
    ours, theirs = perplexity(model.logits, text), perplexity(reference.logits, text)
    relative = abs(ours / theirs - 1)
    print(
        f"| perplexity of {len(text)} tokens | {ours:.9g}; Hugging Face {theirs:.9g}; "
        f"relative difference {relative:.2e} |"
    )
    window = text[:CONTEXT]
    ours_again, expected = model.logits(window), reference.logits(window)
    error = np.linalg.norm(ours_again - expected) / np.linalg.norm(expected)
    print(f"| logits, relative L2 over {len(window)} tokens | {error:.2e} |")
    equal = bool((model.logits(window) == ours_again).all())
    print(f"| two runs, every logit's bits | {'equal' if equal else 'DIFFERENT'} |")
    report_time(model, prompts[0], arguments.bandwidth)
    model.close()
    for arch in arguments.archs:
        other = compile_for(checkpoint, "f32", arch)
        check_tokens(other, prompts, wanted, arguments.new, arch)
        same = bool((other.logits(window[:256]) == ours_again[:256]).all())
        print(f"| {arch} file: logits of 256 tokens | bits {'equal' if same else 'differ'} |")
        other.close()
    with compile_for(checkpoint, "f32", "host") as other:
        bits = other.logits(window[:256]).view(np.uint32)
        same = int((bits == ours_again[:256].view(np.uint32)).all(1).sum())
        workers = other.program.workers
        print(f"| host program, {workers} threads: positions with equal bits | {same}/256 |")


def check_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    wanted: Sequence[list[int]],
    count: int,
    name: str,
) -> None:
    got = [generated(model, prompt, count) for prompt in prompts]
    equal = sum(
        x == y for a, b in zip(got, wanted, strict=True) for x, y in zip(a, b, strict=False)
    )
    total = sum(map(len, wanted))
    lengths = "" if [*map(len, got)] == [*map(len, wanted)] else " (LENGTHS DIFFER)"
    print(
        f"| {name} file, {model.program.shared_bytes} B shared memory: greedy tokens equal to "
        f"Hugging Face's, {len(prompts)} prompts | {equal}/{total}{lengths} |"
    )


def report_bf16(
    arguments: argparse.Namespace,
    checkpoint: Checkpoint,
    reference: Reference,
    prompts: Sequence[Sequence[int]],
    text: Sequence[int],
) -> None:
    import torch

    model = compile_for(checkpoint, "bf16")
    round_matrices(reference.model)
    window = text[:CONTEXT]
    expected = reference.logits(window)
    wanted_perplexity = perplexity(reference.logits, text)
    ours = model.logits(window)
    again = model.logits(window)
    half = Reference(reference.model.to(torch.bfloat16))
    theirs = half.logits(window)
    norm = np.linalg.norm(expected)
    ours_error = float(np.linalg.norm(ours - expected) / norm)
    theirs_error = float(np.linalg.norm(theirs - expected) / norm)
    print("\n| bf16 | result |\n|---|---|")
    print(
        f"| logits, relative L2 to float32 with the same weights, {len(window)} tokens | "
        f"{ours_error:.3e}; Hugging Face bf16 {theirs_error:.3e}: "
        f"{'at least as close' if ours_error <= theirs_error else 'FARTHER'} |"
    )
    second, first = np.partition(expected, -2, axis=1)[:, -2:].T
    error = np.abs(ours - expected).max(1)
    clear = first - second > 2 * error
    differ = ours.argmax(1) != expected.argmax(1)
    print(
        f"| greedy tokens, teacher-forced | {int((~differ).sum())}/{len(window)} equal; "
        f"{int((differ & clear).sum())} differ where the margin exceeds the error |"
    )
    print(
        f"| perplexity of {len(text)} tokens | {perplexity(model.logits, text):.6g}; "
        f"float32 reference {wanted_perplexity:.6g}; Hugging Face bf16 "
        f"{perplexity(half.logits, text):.6g} |"
    )
    equal = bool((ours == again).all())
    print(f"| two runs, every logit's bits | {'equal' if equal else 'DIFFERENT'} |")
    report_time(model, prompts[0], arguments.bandwidth)
    model.close()
    gc.collect()


def report_time(model: Any, prompt: Sequence[int], bandwidth: float) -> None:
    """Time per token of launches of 500 tokens (five, the median), and of one token (200)."""
    session, steps = model.session, 500
    tokens = list(prompt)
    for _ in session.run(tokens, 0, len(tokens)):
        pass
    long = statistics.median(timed(session, tokens, len(tokens) - 1, steps) for _ in range(5))
    short = statistics.median(timed(session, tokens, len(tokens) - 1, 1) for _ in range(200))
    floor = model.program.stream_bytes / bandwidth / 1e3 if bandwidth else 0.0
    share = f"; weights alone {floor:.1f} ({floor / long / 1e4:.0f} %)" if floor else ""
    print(f"| us per token, launch of {steps} tokens, median of 5 | {long * 1e6:.1f}{share} |")
    print(
        f"| us per launch of one token, with the host's part, median of 200 | {short * 1e6:.1f} |"
    )


def timed(session: Any, tokens: Sequence[int], start: int, steps: int) -> float:
    """Seconds per token of one launch, by the host's clock, from its start to its last token."""
    begin = time.perf_counter()
    count = sum(1 for _ in session.run(tokens, start, steps))
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
