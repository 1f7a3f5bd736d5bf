"""Times the schedule verifier on schedules with the structure of lowered models.

Run: python bench/verifier.py [names…]; prints tasks, build and verification times, peak memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "test" / "schedule")]

from synthetic import LLAMA_1B, LLAMA_70B, SMOLLM2, TINY, lowering  # noqa: E402

from amk.schedule import ScheduleTable, TableBuilder  # noqa: E402
from amk.schedule.verify import verify  # noqa: E402

SCHEDULES: dict[str, Callable[[], ScheduleTable]] = {
    "tiny": lambda: lowering(TINY),
    "smollm2": lambda: lowering(SMOLLM2),
    "llama-1b": lambda: lowering(LLAMA_1B),
    "70b": lambda: lowering(LLAMA_70B),
    "smollm2-counters": lambda: lowering(SMOLLM2, True),
    "70b-counters": lambda: lowering(LLAMA_70B, True),
    "70b-thresholds": lambda: thresholds(lowering(LLAMA_70B, True)),
    "70b-1024-workers": lambda: lowering(replace(LLAMA_70B, workers=1024, layers=10)),
    "70b-1024-thresholds": lambda: thresholds(
        lowering(replace(LLAMA_70B, workers=1024, layers=10), True)
    ),
    "own-queues-20000": lambda: own_queues(20000),
}


def thresholds(table: ScheduleTable) -> ScheduleTable:
    """The same with one more wait for each wait, with a random threshold below the other's."""
    highest = table.wait_threshold
    lower = np.random.default_rng(0).integers(1, np.maximum(highest, 2))
    return replace(
        table,
        wait_task=np.concatenate([table.wait_task, table.wait_task]),
        wait_counter=np.concatenate([table.wait_counter, table.wait_counter]),
        wait_threshold=np.concatenate([highest, np.minimum(lower, highest)]),
    )


def own_queues(count: int) -> ScheduleTable:
    """`count` tasks in queues of their own: a chain of groups of 100 that meet at counters."""
    b = TableBuilder(1, 1)
    data = b.buffer("data", (count,), 4)
    group = 100
    before = None
    for first in range(0, count, group):
        size = min(group, count - first)
        i = np.arange(first, first + size)
        tasks = b.tasks(b.origin("t"), b.single_queues(size), [i])
        if before is not None:
            b.waits(tasks, before, group)
            b.read(tasks, data, [0 * i + first - group], [0 * i + first])
        b.write(tasks, data, [i], [i + 1])
        before = b.counter(f"c{first}")
        b.signals(tasks, before)
    return b.build()


def main(names: list[str]) -> None:
    """Print one line for each of `names` (all if empty)."""
    for name in names or SCHEDULES:
        begin = time.perf_counter()
        table = SCHEDULES[name]()
        built, used = time.perf_counter(), time.process_time()
        verdict = verify(table)
        done, used = time.perf_counter(), time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{name}: {table.n_tasks} tasks, {len(table.access_task)} accesses, build "
            f"{built - begin:.2f} s, verify {done - built:.2f} s (processor {used:.2f} s), "
            f"peak {peak} MiB, ok={verdict.ok} skew={verdict.skew} {verdict.kind} {verdict.message}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
