"""SmolLM2-135M in float32: the task interpreter and the host program give the same bits.

Run: python bench/host_bits.py [--tokens N] [--interpreted N]

The host runs with 1, 2, 7 and 132 workers, twice each, and once with random delays; the interpreter
of the task level, which is slow, runs the first positions.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ModuleOp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from amk.backends import emit_program  # noqa: E402
from amk.cli.demo import find_model  # noqa: E402
from amk.frontend.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from amk.frontend.import_model import import_model  # noqa: E402
from amk.interpreters.memory import load_constants as interpreted_constants  # noqa: E402
from amk.interpreters.task import TaskMachine  # noqa: E402
from amk.runtime.build import load_constants, lower  # noqa: E402
from amk.runtime.host import HostDevice  # noqa: E402
from amk.runtime.session import Session  # noqa: E402

PROMPT = "A compiler is a program that"
WORKERS = (1, 2, 7, 132)
SLOTS = 16
"""Positions whose logits one launch leaves."""


@dataclass(frozen=True)
class Run:
    """What a program generates: the tokens, those of the prompt first, and the logits."""

    tokens: list[int]
    logits: np.ndarray

    def equals(self, other: Run) -> bool:
        """Whether every token and every bit is the same."""
        return self.tokens == other.tokens and same_bits(self.logits, other.logits)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def lowered(checkpoint: Checkpoint, workers: int) -> ModuleOp:
    """The model at task level."""
    module = import_model(checkpoint, dtype="f32", context=256)
    lower(module, workers, "host")
    return module


def run(
    checkpoint: Checkpoint, module: ModuleOp, ids: list[int], count: int, stress: int | None
) -> Run:
    """The host program of a module, for `count` positions; with random delays by a seed."""
    device = HostDevice(emit_program(module, "host", stress=stress))
    load_constants(module, checkpoint, device)
    session = Session(device, 120.0)
    tokens, logits = list(ids), []
    for start in range(0, count, SLOTS):
        steps = min(SLOTS, count - start)
        chosen = list(session.run(tokens, start, steps))
        tokens += chosen[len(tokens) - 1 - start :]
        logits.append(device.read("logits", steps).copy())
    device.close()
    return Run(tokens, np.concatenate(logits))


def compare_workers(checkpoint: Checkpoint, ids: list[int], count: int) -> Run | None:
    """What the host generates with any number of workers; None as soon as a run differs."""
    first: Run | None = None
    for workers in WORKERS:
        module = lowered(checkpoint, workers)
        for stress in (None, None, 1) if workers == 2 else (None, None):
            started = time.monotonic()
            found = run(checkpoint, module, ids, count, stress)
            first = first or found
            same = found.equals(first)
            print(
                f"host, {workers:3} workers{', random delays' if stress else '':16}"
                f" {len(found.logits)} positions, {'equal' if same else 'DIFFERENT'}"
                f" ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            if not same:
                return None
    return first


def interpreter_agrees(checkpoint: Checkpoint, ids: list[int], count: int, host: Run) -> bool:
    """Whether the interpreter has the logits of the host at the first `count` positions."""
    module = lowered(checkpoint, 2)
    machine = TaskMachine(module, interpreted_constants(module, checkpoint).__getitem__)
    list(machine.run(0, ids, count))
    same = same_bits(machine.logits[:count], host.logits[:count])
    print(f"task interpreter, {count} positions, {'equal' if same else 'DIFFERENT'}")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--interpreted", type=int, default=3)
    arguments = parser.parse_args()
    checkpoint = open_checkpoint(find_model())
    ids = checkpoint.tokenizer().encode(PROMPT)
    host = compare_workers(checkpoint, ids, arguments.tokens)
    if host is None:
        return 1
    return 0 if interpreter_agrees(checkpoint, ids, arguments.interpreted, host) else 1


if __name__ == "__main__":
    sys.exit(main())
