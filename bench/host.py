"""Speed of the host target on SmolLM2-135M beside Hugging Face eager and llama.cpp, in one run.

Run: python bench/host.py [--tokens N] [--rounds N] [--threads N]

Prints the read bandwidth of the machine, then for each engine the median tokens/s over the rounds
(engines take turns, so that a busy machine slows all of them), CPU seconds a token, bytes of
weights a token, the share of the read bandwidth, and how many tokens equal those of Hugging Face
in float32 with the same (float32, or bf16-rounded) weights. llama.cpp runs if `xllamacpp` is
installed (pip install --no-deps xllamacpp), with one thread and with all of them: its threads spin
at barriers and suffer most from other work on the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from llama_cpp import LlamaCpp, expand, installed  # noqa: E402

import amk  # noqa: E402
from amk.cli.demo import find_model  # noqa: E402
from amk.cli.huggingface import (  # noqa: E402
    load_reference,
    round_matrices,
    teacher_forced_logits,
)
from amk.frontend.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from amk.frontend.tokenizer import Tokenizer  # noqa: E402
from amk.runtime.host import build_library  # noqa: E402
from amk.runtime.model import CompiledModel, Dtype  # noqa: E402

PROMPT = "A compiler is a program that"
PAUSE = 0.3
"""Seconds before each run, in which the idle threads of the engine before go to sleep."""
PROBE = r"""
#include <cstdint>
#include <thread>
#include <vector>
typedef uint64_t Words __attribute__((vector_size(64)));
extern "C" uint64_t amk_read(const char* memory, long bytes, int threads) {
  std::vector<uint64_t> sums(threads * 16L);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([=, &sums] {
      const long share = bytes / threads / 256;
      const Words* p = reinterpret_cast<const Words*>(memory + t * share * 256);
      Words a = {}, b = {}, c = {}, d = {};
      for (long i = 0; i < share; ++i, p += 4) {
        __builtin_prefetch(p + 64);
        a += p[0], b += p[1], c += p[2], d += p[3];
      }
      a += b + c + d;
      for (int i = 0; i < 8; ++i) sums[t * 16L] += a[i];
    });
  }
  for (auto& thread : running) thread.join();
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}
"""


@dataclass(frozen=True)
class Work:
    """What every engine does: `count` tokens after `ids`, with so many threads."""

    path: Path
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    ids: list[int]
    count: int
    threads: int


@dataclass
class Row:
    """One engine: how it generates, and what was measured."""

    name: str
    dtype: str
    generate: Callable[[], tuple[list[int] | str, float]]
    """Runs once; gives the tokens (or their text) and tokens/s."""
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    output: list[int] | str = ""

    def run(self, tokens: int) -> None:
        time.sleep(PAUSE)
        before = os.times()
        self.output, rate = self.generate()
        after = os.times()
        self.rates.append(rate)
        self.cpu.append((after.user + after.system - before.user - before.system) / tokens)


@dataclass
class Contest:
    """The engines with weights of one type."""

    dtype: Dtype
    models: list[CompiledModel]
    """AMK's, with all threads first."""
    load: float
    """Seconds until the first of them was ready."""
    rows: list[Row]
    """In the order of the report, AMK with all threads first."""
    expected: list[int]
    """The tokens of Hugging Face in float32, with the same weights."""
    reads: list[float] = field(default_factory=list)
    """GB/s of reading as much as the weights."""

    @property
    def size(self) -> int:
        """Bytes of weights a token."""
        return self.models[0].program.stream_bytes


def read_bandwidth(size: int, threads: int) -> Callable[[], float]:
    """A function that reads `size` bytes with some threads and returns GB/s."""
    read = ctypes.CDLL(str(build_library(PROBE))).amk_read
    read.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_int)
    memory = np.ones(size + 64, np.uint8)
    first = memory[-memory.ctypes.data % 64 :]

    def once() -> float:
        started = time.perf_counter()
        read(first.ctypes.data, size, threads)
        return size / (time.perf_counter() - started) / 1e9

    return once


def timed(tokens: Iterator[int]) -> tuple[list[int], float]:
    """The tokens, and tokens/s after the first."""
    got, times = [], []
    for token in tokens:
        got.append(token)
        times.append(time.perf_counter())
    return got, (len(got) - 1) / (times[-1] - times[0])


def huggingface_tokens(model: Any, ids: list[int], count: int) -> Iterator[int]:
    """The greedy continuation, token by token with a cache of keys and values."""
    import torch

    fed, cache = torch.tensor([ids]), None
    with torch.inference_mode():
        for _ in range(count):
            output = model(fed, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = int(output.logits[0, -1].argmax())
            yield token
            fed = torch.tensor([[token]])


def logits_errors(ids: list[int], compiled: Any, reference: Any, rounded: Any) -> str:
    """Relative L2 distances of bf16 logits to float32 with the same weights, over `ids`."""
    wanted = teacher_forced_logits(reference, ids)

    def error(logits: Any) -> float:
        return float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))

    ours, theirs = error(compiled.logits(ids)), error(teacher_forced_logits(rounded, ids))
    return f"bf16 logits, relative distance to float32: AMK {ours:.2e}, Hugging Face {theirs:.2e}"


def enter(work: Work, dtype: Dtype, theirs: Any, expected: list[int]) -> Contest:
    """Load every engine with weights of one type; `theirs` is the model of Hugging Face."""
    started = time.perf_counter()
    model = amk.compile(work.checkpoint, "host", dtype, workers=work.threads)
    load = time.perf_counter() - started
    models = {"AMK": model}
    if work.threads > 1:
        models["AMK, 1 worker"] = amk.compile(work.checkpoint, "host", dtype, workers=1)
    rows = [
        Row(name, dtype, lambda m=made: timed(m.generate(work.ids, work.count)))
        for name, made in models.items()
    ]
    rows.append(
        Row("HF eager", dtype, lambda: timed(huggingface_tokens(theirs, work.ids, work.count)))
    )
    rows += llama_cpp_rows(work, dtype)
    return Contest(dtype, [*models.values()], load, rows, expected)


def llama_cpp_rows(work: Work, dtype: Dtype) -> list[Row]:
    """llama.cpp with one thread and with all of them, if it is installed."""
    if not installed():
        return []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{work.path.stem}.gguf"
        expand(work.path, file, dtype)
        llamas = {number: LlamaCpp(file, number) for number in sorted({1, work.threads})}
    return [
        Row(f"llama.cpp, {number} thr.", dtype, partial(llama.generate, work.ids, work.count))
        for number, llama in llamas.items()
    ]


def measure(work: Work, contests: list[Contest], rounds: int) -> None:
    """Let all engines take turns, each time after looking at what the memory gives."""
    probes = [read_bandwidth(contest.size, work.threads) for contest in contests]
    for _ in range(rounds):
        for contest, probe in zip(contests, probes, strict=True):
            contest.reads += [probe() for _ in range(4)]
        for contest in contests:
            for row in contest.rows:
                row.run(work.count)


def report(work: Work, contests: list[Contest], rounds: int) -> None:
    """Print what was measured: the memory, then a line for each engine."""
    print(
        f"{work.path.stem}, {work.threads} threads, {work.count} tokens, {rounds} rounds; medians"
    )
    for contest in contests:
        print(
            f"read bandwidth over {contest.size / 1e6:.0f} MB: "
            f"{statistics.median(contest.reads):.1f} GB/s (best {max(contest.reads):.1f}); "
            f"AMK loads {contest.dtype} in {contest.load:.1f} s"
        )
    print(f"{'engine':20}{'dtype':6}{'tok/s':>8}{'best':>8}{'CPU ms/tok':>12}", end="")
    print(f"{'GB/s':>7}{'of read':>9}{'AMK is':>8}  tokens equal to float32")
    for contest in contests:
        ours = statistics.median(contest.rows[0].rates)
        for row in contest.rows:
            rate = statistics.median(row.rates)
            stream = contest.size * rate / 1e9
            share = stream / statistics.median(contest.reads)
            print(
                f"{row.name:20}{row.dtype:6}{rate:8.1f}{max(row.rates):8.1f}"
                f"{statistics.median(row.cpu) * 1e3:12.1f}{stream:7.1f}{share:9.0%}"
                f"{ours / rate:7.2f}x  {_equal(row.output, contest.expected, work.tokenizer)}"
            )


def _equal(output: list[int] | str, expected: list[int], tokenizer: Tokenizer) -> str:
    if isinstance(output, str):
        return "text equal" if output == tokenizer.decode(expected) else "text differs"
    same = next(
        (i for i, (a, b) in enumerate(zip(output, expected, strict=False)) if a != b), len(output)
    )
    return f"{sum(a == b for a, b in zip(output, expected, strict=False))}/{len(expected)}" + (
        "" if same == len(expected) else f" (first {same})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="host target, Hugging Face and llama.cpp")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    path = find_model()
    checkpoint = open_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    ids = tokenizer.encode(PROMPT)
    work = Work(path, checkpoint, tokenizer, ids, arguments.tokens, arguments.threads)
    float32 = load_reference(path, checkpoint)
    rounded = load_reference(path, checkpoint)
    round_matrices(rounded)
    bf16 = load_reference(path, checkpoint).to(torch.bfloat16)
    references = {"f32": float32, "bf16": rounded}
    expected = {d: list(huggingface_tokens(m, ids, work.count)) for d, m in references.items()}

    contests = [
        enter(work, "f32", float32, expected["f32"]),
        enter(work, "bf16", bf16, expected["bf16"]),
    ]
    measure(work, contests, arguments.rounds)
    report(work, contests, arguments.rounds)
    text = (ids + expected["bf16"])[:128]
    print(logits_errors(text, contests[1].models[0], rounded, bf16))
    for contest in contests:
        for model in contest.models:
            model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
