"""SmolLM2-135M in float32: the task interpreter and the host program give the same bits.

Run: python bench/host_bits.py [--tokens N] [--interpreted N]

The host runs with 1, 2, 7 and 132 workers, twice each, and once with random delays; the interpreter
of the task level, which is slow, runs the first positions.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PROMPT = "A compiler is a program that"
WORKERS = (1, 2, 7, 132)
SLOTS = 16
"""Positions whose logits one launch leaves."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--interpreted", type=int, default=3)
    arguments = parser.parse_args()

    from amk.backends import emit_program
    from amk.cli.demo import find_model
    from amk.frontend.checkpoint import open_checkpoint
    from amk.frontend.import_model import import_model
    from amk.interpreters.memory import load_constants as interpreted_constants
    from amk.interpreters.task import TaskMachine
    from amk.runtime.build import load_constants, lower
    from amk.runtime.host import HostDevice
    from amk.runtime.session import Session

    checkpoint = open_checkpoint(find_model())
    ids = checkpoint.tokenizer().encode(PROMPT)

    def module(workers: int) -> Any:
        made = import_model(checkpoint, dtype="f32", context=256)
        lower(made, workers, "host")
        return made

    def run(made: Any, stress: int | None = None) -> tuple[list[int], np.ndarray]:
        device = HostDevice(emit_program(made, "host", stress=stress))
        load_constants(made, checkpoint, device)
        session = Session(device, 120.0)
        tokens, logits = list(ids), []
        for start in range(0, arguments.tokens, SLOTS):
            steps = min(SLOTS, arguments.tokens - start)
            chosen = list(session.run(tokens, start, steps))
            tokens += chosen[len(tokens) - 1 - start :]
            logits.append(device.read("logits", steps).copy())
        device.close()
        return tokens, np.concatenate(logits)

    expected: tuple[list[int], np.ndarray] | None = None
    for workers in WORKERS:
        made = module(workers)
        for stress in (None, None, 1) if workers == 2 else (None, None):
            started = time.monotonic()
            tokens, logits = run(made, stress)
            if expected is None:
                expected = tokens, logits
            same = np.array_equal(logits.view(np.uint32), expected[1].view(np.uint32))
            same = same and tokens == expected[0]
            print(
                f"host, {workers:3} workers{', random delays' if stress else '':16}"
                f" {len(logits)} positions, {'equal' if same else 'DIFFERENT'}"
                f" ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            if not same:
                return 1
    assert expected is not None
    made = module(2)
    machine = TaskMachine(made, interpreted_constants(made, checkpoint).__getitem__)
    count = arguments.interpreted
    list(machine.run(0, ids, count))
    same = np.array_equal(
        machine.logits[:count].view(np.uint32), expected[1][:count].view(np.uint32)
    )
    print(f"task interpreter, {count} positions, {'equal' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
