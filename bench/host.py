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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

PROMPT = "A compiler is a program that"
OURS = "AMK"
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


def read_bandwidth(size: int, threads: int) -> Callable[[], float]:
    """A function that reads `size` bytes with some threads and returns GB/s."""
    import numpy as np

    from amk.runtime.host import build_library

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
    import numpy as np

    from amk.cli.huggingface import teacher_forced_logits

    wanted = teacher_forced_logits(reference, ids)

    def error(logits: Any) -> float:
        return float(np.linalg.norm(logits - wanted) / np.linalg.norm(wanted))

    ours, theirs = error(compiled.logits(ids)), error(teacher_forced_logits(rounded, ids))
    return f"bf16 logits, relative distance to float32: AMK {ours:.2e}, Hugging Face {theirs:.2e}"


def main() -> int:
    parser = argparse.ArgumentParser(description="host target, Hugging Face and llama.cpp")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    count, threads = arguments.tokens, arguments.threads

    import torch
    from llama_cpp import LlamaCpp, expand, installed

    import amk
    from amk.cli.demo import find_model
    from amk.cli.huggingface import load_reference, round_matrices
    from amk.frontend.checkpoint import open_checkpoint

    torch.set_num_threads(threads)
    path = find_model()
    checkpoint = open_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    ids = tokenizer.encode(PROMPT)
    float32 = load_reference(path, checkpoint)
    rounded = load_reference(path, checkpoint)
    round_matrices(rounded)
    bf16 = load_reference(path, checkpoint).to(torch.bfloat16)
    references = {"f32": float32, "bf16": rounded}
    expected = {d: list(huggingface_tokens(m, ids, count)) for d, m in references.items()}

    compiled: dict[str, Any] = {}
    alone: list[Any] = []
    rows: list[Row] = []
    load: dict[str, float] = {}
    for dtype, theirs in (("f32", float32), ("bf16", bf16)):
        started = time.perf_counter()
        model = amk.compile(checkpoint, "host", dtype, workers=threads)
        load[dtype] = time.perf_counter() - started
        compiled[dtype] = model
        rows.append(Row(OURS, dtype, lambda m=model: timed(m.generate(ids, count))))
        if threads > 1:
            single = amk.compile(checkpoint, "host", dtype, workers=1)
            alone.append(single)
            rows.append(Row("AMK, 1 worker", dtype, lambda m=single: timed(m.generate(ids, count))))
        rows.append(
            Row("HF eager", dtype, lambda m=theirs: timed(huggingface_tokens(m, ids, count)))
        )
        if not installed():
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{path.stem}.gguf"
            expand(path, file, dtype)
            for number in sorted({1, threads}):
                llama = LlamaCpp(file, number)
                rows.append(
                    Row(f"llama.cpp, {number} thr.", dtype, lambda m=llama: m.generate(ids, count))
                )
    sizes = {dtype: model.program.stream_bytes for dtype, model in compiled.items()}
    probes = {dtype: read_bandwidth(size, threads) for dtype, size in sizes.items()}
    speeds: dict[str, list[float]] = {dtype: [] for dtype in sizes}
    for _ in range(arguments.rounds):
        for dtype, probe in probes.items():
            speeds[dtype] += [probe() for _ in range(4)]
        for row in rows:
            row.run(count)

    print(f"{path.stem}, {threads} threads, {count} tokens, {arguments.rounds} rounds; medians")
    for dtype, found in speeds.items():
        print(
            f"read bandwidth over {sizes[dtype] / 1e6:.0f} MB: {statistics.median(found):.1f} GB/s"
            f" (best {max(found):.1f}); AMK loads {dtype} in {load[dtype]:.1f} s"
        )
    print(f"{'engine':20}{'dtype':6}{'tok/s':>8}{'best':>8}{'CPU ms/tok':>12}", end="")
    print(f"{'GB/s':>7}{'of read':>9}{'AMK is':>8}  tokens equal to float32")
    ours = {row.dtype: statistics.median(row.rates) for row in rows if row.name == OURS}
    for row in rows:
        rate = statistics.median(row.rates)
        stream = sizes[row.dtype] * rate / 1e9
        share = stream / statistics.median(speeds[row.dtype])
        print(
            f"{row.name:20}{row.dtype:6}{rate:8.1f}{max(row.rates):8.1f}"
            f"{statistics.median(row.cpu) * 1e3:12.1f}{stream:7.1f}{share:9.0%}"
            f"{ours[row.dtype] / rate:7.2f}x  {_equal(row.output, expected[row.dtype], tokenizer)}"
        )
    text = (ids + expected["bf16"])[:128]
    print(logits_errors(text, compiled["bf16"], rounded, bf16))
    for model in (*compiled.values(), *alone):
        model.close()
    return 0


def _equal(output: list[int] | str, expected: list[int], tokenizer: Any) -> str:
    if isinstance(output, str):
        return "text equal" if output == tokenizer.decode(expected) else "text differs"
    same = next(
        (i for i, (a, b) in enumerate(zip(output, expected, strict=False)) if a != b), len(output)
    )
    return f"{sum(a == b for a, b in zip(output, expected, strict=False))}/{len(expected)}" + (
        "" if same == len(expected) else f" (first {same})"
    )


if __name__ == "__main__":
    sys.exit(main())
