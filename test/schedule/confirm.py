"""Judges a mutant of true size: the definitions on the pairs that it touches and on random ones.

A verdict of the verifier is confirmed at the place that it names; an accepted mutant is searched
for a fault around the tasks that the mutation concerns, and at random.
"""

from __future__ import annotations

import random

import numpy as np
from mutants import Mutant
from oracle import Launch
from regions import Regions, Touch, malformed

from amk.schedule import ScheduleTable
from amk.schedule.verify import Verdict

BLOCKS = 4
"""This many instances of touched tasks are blocked, and as many at random."""


def confirm(mutant: Mutant, verdict: Verdict, rng: random.Random) -> str:
    """What speaks against `verdict`, "" if nothing does."""
    table = mutant.table
    if malformed(table):
        return "" if verdict.kind == "malformed" else "it is malformed"
    (scalar,) = table.scalars
    static = _static(table)
    if verdict.kind in ("out-of-bounds", "constant-write"):
        return "" if verdict.kind == static else f"the regions show {static!r}"
    given = dict(verdict.witness.start).get(scalar.name)
    start = rng.randrange(scalar.lo, scalar.hi - 3) if given is None else given
    last = max((e for e, _ in verdict.witness.pair), default=0)
    launch = Launch(table, start, min(max(2, last + 1), scalar.hi - start))
    twice = launch.link()
    if verdict.kind == "malformed" or twice:
        return "" if verdict.kind == "malformed" and twice else f"written twice is {twice}"
    if static:
        return f"the regions show {static!r}"
    if verdict.kind == "deadlock" or launch.deadlock():
        return "" if verdict.kind == "deadlock" and launch.deadlock() else "deadlock differs"
    if verdict.kind == "race":
        return _race(launch, verdict)
    if verdict.kind == "undefined-read":
        # The launch starts at the state of the witness, or where every start shows it.
        task = verdict.errors[0].task
        found = any(launch.undefined(e, {task}) for e in range(launch.iterations))
        return "" if found else "the bytes are defined"
    return f"{verdict.kind} is not expected" if not verdict.ok else _fault(mutant, launch, rng)


def _static(table: ScheduleTable) -> str:
    """The kind of error of a region that is wrong at some value of the scalar."""
    (scalar,) = table.scalars
    regions = Regions(table)
    kinds = set()
    rows = np.flatnonzero(
        (table.access_lo_expr >= 0).any(axis=1)
        | (table.access_hi_expr >= 0).any(axis=1)
        | (table.access_guard >= 0)
        | (table.task_guard[table.access_task] >= 0)
    )
    every = {scalar.lo: range(len(table.access_task))}
    shapes = [b.shape for b in table.buffers]
    # Ends, and every residue of what the expressions divide by.
    middle = range(scalar.lo, scalar.hi, max(1, (scalar.hi - scalar.lo) // 97))
    for start in dict.fromkeys((*middle, scalar.hi - 2, scalar.hi - 1)):
        values = regions.values(start, 0)
        for row in every.get(start, rows):
            box = regions.box(int(row), values)
            buffer = int(table.access_buffer[row])
            if box is None:
                continue
            if any(a < 0 or b > n for (a, b), n in zip(box, shapes[buffer], strict=True)):
                kinds.add("out-of-bounds")
            if table.access_write[row] and table.buffers[buffer].kind in ("input", "constant"):
                kinds.add("constant-write")
    return max(kinds, default="")


def _race(launch: Launch, verdict: Verdict) -> str:
    (one, first), (two, second) = verdict.witness.pair
    a, b = one * launch.tasks + first, two * launch.tasks + second
    if a == b or launch.unordered(a, b):
        return ""
    if launch.precedes(b, a):
        a, b = b, a
    return "" if launch.unseen(a, b) else "the pair is ordered and visible"


def _fault(mutant: Mutant, launch: Launch, rng: random.Random) -> str:
    tasks = launch.tasks
    touched = sorted(mutant.tasks)
    some = [t + e * tasks for t in touched for e in range(launch.iterations)]
    chosen = rng.sample(some, min(BLOCKS, len(some)))
    plain = [t for t in launch.touches if t.use < 0 and t.write]
    chosen += [rng.choice(plain).instance for _ in range(BLOCKS)] if plain else []
    if launch.races(_partners(launch, set(chosen), rng)):
        return "a race"
    for touch in _packets(launch, chosen, rng):
        element = np.ravel_multi_index(
            [rng.randrange(a, b) for a, b in touch.box], launch.table.buffers[touch.buffer].shape
        )
        if _lost(launch, touch, int(element), rng):
            return f"a lost packet of {launch.table.box_text(touch.row)}"
    return "an undefined read" if launch.undefined(0, mutant.tasks) else ""


def _partners(launch: Launch, chosen: set[int], rng: random.Random) -> list[tuple[Touch, Touch]]:
    """Conflicting pairs of the chosen instances, a few of each."""
    pairs = []
    fixed = ("input", "constant")
    plain = [t for t in launch.touches if t.use < 0 and launch.kinds[t.buffer] not in fixed]
    for one in plain:
        if one.instance not in chosen:
            continue
        met = [
            two
            for two in plain
            if two.instance != one.instance and (one.write or two.write) and one.meets(two)
        ]
        pairs += [(one, two) for two in rng.sample(met, min(2, len(met)))]
    return rng.sample(pairs, min(6, len(pairs)))


def _packets(launch: Launch, chosen: list[int], rng: random.Random) -> list[Touch]:
    found = [t for t in launch.touches if t.use >= 0 and t.instance in chosen]
    return rng.sample(found, min(2, len(found)))


def _lost(launch: Launch, touch: Touch, element: int, rng: random.Random) -> bool:
    """Whether a packet around `touch` is lost; of the readers of a packet a few are looked at."""
    (slot,) = launch.slots(touch.buffer, element)
    at = [k for k, (w, r) in enumerate(slot) if touch.instance == w or touch.instance in r]
    near = slot[max(at[0] - 1, 0) : at[0] + 2] if at else ()
    part = []
    for writer, readers in near:
        keep = {touch.instance} & readers
        others = sorted(readers - keep)
        part.append((writer, frozenset({*keep, *rng.sample(others, min(1, len(others)))})))
    # Without readers the order of all writes of the slot would be needed.
    return all(readers for _, readers in part) and launch.lost(tuple(part))
