"""Judges many seeds in forked processes, with progress and a bound on the time.

Workers are forked, so whatever the caller has built before (tables of models) is shared with them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

EVERY = 10.0
"""Seconds between two lines of progress."""

Judge = Callable[[int], tuple[str, str, int]]
"""What is seen of a seed: a label to count, a mismatch in words ("": none), a number to add up."""


@dataclass
class Tally:
    """Labels counted, and the mismatches, of the seeds below `done_to` (and some after it)."""

    counts: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)
    total: int = 0
    seconds: float = 0.0
    done_to: int = 0
    """All seeds before this one were judged: where to go on."""


Part = tuple[range, Counter[str], list[str], int]

_judge: Judge | None = None


def _chunk(seeds: range) -> Part:
    assert _judge is not None
    counts: Counter[str] = Counter()
    mismatches: list[str] = []
    total = 0
    for seed in seeds:
        try:
            label, mismatch, number = _judge(seed)
        except Exception as error:
            label, mismatch, number = "error", f"{type(error).__name__}: {error}", 0
        counts[label] += 1
        total += number
        if mismatch:
            mismatches.append(f"seed {seed}: {mismatch}")
    return seeds, counts, mismatches, total


def run(judge: Judge, seeds: range, jobs: int, minutes: float, chunk: int) -> Tally:
    """Judge `seeds` in `jobs` processes, `chunk` at a time, until done or out of time.

    Prints progress and every mismatch to stderr.
    """
    global _judge
    _judge = judge
    tally = Tally(done_to=seeds.start)
    begin = told = time.perf_counter()
    finished: dict[int, int] = {}
    for part, counts, mismatches, total in _results(seeds, jobs, begin + 60 * minutes, chunk):
        tally.counts += counts
        tally.mismatches += mismatches
        tally.total += total
        for line in mismatches:
            print(line, file=sys.stderr, flush=True)
        finished[part.start] = part.stop
        while tally.done_to in finished:
            tally.done_to = finished.pop(tally.done_to)
        now = time.perf_counter()
        tally.seconds = now - begin
        if now - told >= EVERY:
            told = now
            judged = tally.counts.total()
            print(
                f"{judged} of {len(seeds)} judged, {judged / tally.seconds:.1f} a second, "
                f"{len(tally.mismatches)} mismatches",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return tally


def _results(seeds: range, jobs: int, deadline: float, chunk: int) -> Iterator[Part]:
    def parts() -> Iterator[range]:
        for first in range(seeds.start, seeds.stop, chunk):
            if time.perf_counter() >= deadline:
                return
            yield range(first, min(first + chunk, seeds.stop))

    if jobs == 1:
        yield from map(_chunk, parts())
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        # A few chunks a process are handed out ahead, so that the deadline is kept.
        waiting = []
        for part in parts():
            waiting.append(pool.apply_async(_chunk, (part,)))
            while len(waiting) >= 3 * jobs:
                ready = [result for result in waiting if result.ready()]
                waiting = [result for result in waiting if not result.ready()]
                yield from (result.get() for result in ready)
                if not ready:
                    waiting[0].wait(0.05)
        yield from (result.get() for result in waiting)


def report(title: str, seeds: range, jobs: int, tally: Tally, total: str = "") -> int:
    """Print one table; the exit status: 1 if something differs or nothing was judged.

    `total` names the number that was added up, if it means anything.
    """
    judged = tally.counts.total()
    kinds = sorted(tally.counts.items(), key=lambda item: -item[1])
    head = ["judged", *(kind for kind, _ in kinds), "mismatches", "seconds", "processes", "CPUs"]
    row = [judged, *(n for _, n in kinds), len(tally.mismatches), f"{tally.seconds:.0f}", jobs,
           os.cpu_count()]  # fmt: skip
    print(f"{title}, seeds {seeds.start} to {seeds.stop - 1}\n")
    if total:
        head.insert(1, total)
        row.insert(1, tally.total)
    for cells in (head, ["---"] * len(head), row):
        print("| " + " | ".join(map(str, cells)) + " |")
    if tally.done_to < seeds.stop:
        print(f"\nout of time; go on with --seed {tally.done_to}")
    for line in tally.mismatches:
        print(line)
    return int(bool(tally.mismatches) or not judged)
