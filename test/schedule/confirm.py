"""Judges a mutant of true size: the definitions on the pairs that it touches and on random ones.

A verdict of the verifier is confirmed at the place that it names; an accepted mutant is searched
for a fault around the tasks that the mutation concerns, and at random.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from mutants import Mutant
from regions import Regions, malformed
from sample import Sample

from amk.schedule import ScheduleTable
from amk.schedule.verify import Verdict

NEAR = 2
"""So many tasks after a touched one in its queue count as touched too."""
ANCHORS, PARTNERS = 250, 4
"""At random: so many accesses, and so many conflicts of each."""
READS = 40
"""So many reads of what touched tasks write are checked for bytes that nobody wrote."""
ITERATIONS = 3
"""Iterations of an accepted mutant that are unrolled: enough for a skew of 1."""


@dataclass(frozen=True)
class Opinion:
    """What speaks against a verdict ("": nothing), and how many conflicting pairs were judged."""

    against: str
    pairs: int = 0


def confirm(base: ScheduleTable, mutant: Mutant, verdict: Verdict, rng: random.Random) -> Opinion:
    """The opinion on `verdict` of a mutant of `base`."""
    table = mutant.table
    if malformed(table):
        return _expect(verdict, "malformed")
    (scalar,) = table.scalars
    given = dict(verdict.witness.start).get(scalar.name)
    static = _static(table, given)
    if verdict.kind in ("out-of-bounds", "constant-write"):
        return Opinion("" if verdict.kind == static else f"the regions show {static!r}")
    start = rng.randrange(scalar.lo, scalar.hi - ITERATIONS) if given is None else given
    seen = [e for e, _ in (*verdict.witness.pair, *verdict.witness.run)]
    iterations = {"": ITERATIONS, "unbounded-skew": 18}.get(verdict.kind, max([1, *seen]) + 1)
    sample = Sample(table, start, min(iterations, scalar.hi - start))
    if verdict.kind == "malformed" or sample.twice:
        return Opinion("" if verdict.kind == "malformed" and sample.twice else "not written twice")
    if static:
        return Opinion(f"the regions show {static!r}")
    if verdict.kind == "deadlock" or sample.deadlock():
        return Opinion(
            "" if sample.deadlock() and verdict.kind == "deadlock" else "deadlock differs"
        )
    if verdict.kind == "unbounded-skew":
        return Opinion("" if sample.runs_free(17) else "no agent runs free")
    if verdict.kind == "race":
        return _race(sample, verdict)
    if verdict.kind == "undefined-read":
        task = verdict.errors[0].task
        reads = np.flatnonzero(sample.plain & ~sample.write & (sample.task == task))
        return Opinion("" if sample.undefined(reads.tolist()) else "the bytes are defined")
    if not verdict.ok:
        return Opinion(f"{verdict.kind} is not expected")
    return _search(base, mutant, verdict, sample, rng)


def _expect(verdict: Verdict, kind: str) -> Opinion:
    return Opinion("" if verdict.kind == kind else f"it is {kind}")


def _static(table: ScheduleTable, given: int | None) -> str:
    """The kind of error of a region that is wrong at some value of the scalar."""
    (scalar,) = table.scalars
    regions = Regions(table)
    shapes = np.ones((len(table.buffers), table.access_lo.shape[1]), np.int64)
    for number, buffer in enumerate(table.buffers):
        shapes[number, : len(buffer.shape)] = buffer.shape
    fixed = np.array([b.kind in ("input", "constant") for b in table.buffers])
    varying = np.flatnonzero(
        (table.access_lo_expr >= 0).any(1)
        | (table.access_hi_expr >= 0).any(1)
        | (table.access_guard >= 0)
        | (table.task_guard[table.access_task] >= 0)
    )
    # Ends, and every residue of what the expressions divide by.
    middle = range(scalar.lo, scalar.hi, max(1, (scalar.hi - scalar.lo) // 97))
    starts = {*middle, scalar.hi - 2, scalar.hi - 1, scalar.lo if given is None else given}
    found = ""
    for number, start in enumerate(sorted(starts)):
        rows = np.arange(len(table.access_task)) if number == 0 else varying
        lo, hi, happens = regions.boxes(start, 0, rows)
        buffer = table.access_buffer[rows]
        if (happens & ((lo < 0) | (hi > shapes[buffer])).any(1)).any():
            return "out-of-bounds"
        if (happens & table.access_write[rows] & fixed[buffer]).any():
            found = "constant-write"
    return found


def _race(sample: Sample, verdict: Verdict) -> Opinion:
    (one, first), (two, second) = verdict.witness.pair
    a, b = one * sample.tasks + first, two * sample.tasks + second
    sample.ask([a, b])
    if a == b or sample.unordered(a, b):
        return Opinion("")
    if sample.precedes(b, a):
        a, b = b, a
    return Opinion("" if sample.unseen(a, b) else "the pair is ordered and visible")


def _search(
    base: ScheduleTable, mutant: Mutant, verdict: Verdict, sample: Sample, rng: random.Random
) -> Opinion:
    """Searches an accepted mutant for a fault."""
    if verdict.skew + 2 <= sample.iterations and sample.runs_free(verdict.skew + 1):
        return Opinion(f"the skew is more than {verdict.skew}")
    touched = _touched(base, mutant)
    mine = np.isin(sample.task, touched) & sample.happens
    near = np.flatnonzero(mine & (sample.iteration <= 1)).tolist()
    anchors = np.flatnonzero(sample.happens & ~sample.fixed)
    some = rng.sample(anchors.tolist(), min(ANCHORS, len(anchors)))
    sample.ask([int(sample.instance[k]) for k in (*near, *some)])
    for k in near:
        if sample.plain[k]:
            sample.demand_plain(k)
        elif sample.use[k] >= 0:
            sample.demand_packets(k, rng, 3)
    for k in some:
        if sample.plain[k]:
            sample.demand_some(k, rng, PARTNERS)
        else:
            sample.demand_packets(k, rng, PARTNERS // 2)
    against = sample.violated()
    if against:
        return Opinion(against, sample.pairs)
    reads = _reads(base, touched, sample, rng)
    wrong = sample.undefined(reads)
    return Opinion(f"an undefined read: {wrong}" if wrong else "", sample.pairs)


def _touched(base: ScheduleTable, mutant: Mutant) -> np.ndarray:
    """The tasks of a mutation and the next ones of their queues, before and after it."""
    found = set(mutant.tasks)
    for table in (base, mutant.table):
        for task in mutant.tasks:
            later = np.flatnonzero(table.task_queue == table.task_queue[task])
            found |= set(later[later > task][:NEAR].tolist())
    return np.array(sorted(found))


def _reads(
    base: ScheduleTable, touched: np.ndarray, sample: Sample, rng: random.Random
) -> list[int]:
    """Reads of touched tasks, reads of what they write or wrote, and a few more."""
    reads = sample.plain & ~sample.write & (sample.iteration == 0)
    own = np.flatnonzero(reads & np.isin(sample.task, touched)).tolist()
    found = np.zeros(len(reads), bool)
    # Where the mutation moved or dropped a write, the readers of the old region matter.
    lo, hi, happens = Regions(base).boxes(sample.start, 0)
    rows = np.flatnonzero(happens & base.access_write & np.isin(base.access_task, touched))
    for row in rows:
        meet = (sample.lo < hi[row]).all(1) & (lo[row] < sample.hi).all(1)
        found |= reads & meet & (sample.buffer == base.access_buffer[row])
    chosen = np.flatnonzero(found).tolist()
    others = np.flatnonzero(reads).tolist()
    chosen = own + rng.sample(chosen, min(READS, len(chosen)))
    return chosen + rng.sample(others, min(READS // 4, len(others)))
