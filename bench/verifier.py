"""Times the schedule verifier on schedules with the structure of lowered models.

Run: python bench/verifier.py [names…]; prints tasks, build and verification times, peak memory.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "schedule")]

from synthetic import LLAMA_1B, LLAMA_70B, SMOLLM2, TINY, lowering  # noqa: E402

from amk.schedule.verify import verify  # noqa: E402

SHAPES = {
    "tiny": (TINY, False),
    "smollm2": (SMOLLM2, False),
    "llama-1b": (LLAMA_1B, False),
    "70b": (LLAMA_70B, False),
    "smollm2-counters": (SMOLLM2, True),
    "70b-counters": (LLAMA_70B, True),
}


def main(names: list[str]) -> None:
    """Print one line for each of `names` (all if empty)."""
    for name in names or SHAPES:
        shape, counters = SHAPES[name]
        begin = time.perf_counter()
        table = lowering(shape, counters)
        built = time.perf_counter()
        verdict = verify(table)
        done = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{name}: {table.n_tasks} tasks, {len(table.access_task)} accesses, build "
            f"{built - begin:.2f} s, verify {done - built:.2f} s, peak {peak} MiB, "
            f"ok={verdict.ok} skew={verdict.skew} {verdict.kind} {verdict.message}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
