"""Definedness: every byte that is read was written before, or holds data from the start.

Statement.  In a schedule without races every write that touches a byte of a read either is ordered
before the read (and visible to it) or must follow it, so a byte of a read is defined iff one run
has written it before the read: the run L of `links`.  `scratch` needs a write of the same iteration
(at launch, an initial buffer will do); other buffers need any earlier write or an initial buffer.
Any state of the scalars can start a launch, so iteration 0 decides; only reads whose box or guard
depends on `iter` need the history of the launch (`history`).
"""

from __future__ import annotations

import numpy as np

from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.links import Sweep
from amk.schedule.verify.memory import Memory


def undefined(
    table: ScheduleTable, swept: Sweep, memory: Memory, at_start: bool, surely: bool = False
) -> list[tuple[int, int]]:
    """Access numbers of reads with an undefined cell, and the iteration in the window.

    `at_start`: iteration 0 of the window may be the first of a launch (initial data is there).
    `surely`: count every possible write as one that happens.
    """
    kinds = np.array([b.kind for b in table.buffers])
    rows = swept.members.items[swept.members.start[swept.event]]
    kind = kinds[table.access_buffer[rows]] if len(rows) else np.zeros(0, "U8")
    scratch = kind == "scratch"
    fixed = (kind == "input") | (kind == "constant")
    initial = memory.initial[swept.cell] & (swept.when == 0) & at_start
    last = swept.last_write if surely else swept.last_certain
    before = last >= 0
    before[before] &= ~scratch[before] | (swept.when[last[before]] == swept.when[before])
    relevant = (swept.when == 0) | (scratch & (swept.when == 1))
    bad = ~swept.write & ~fixed & relevant & ~before & ~initial
    if not at_start:
        bad &= scratch
    found: list[tuple[int, int]] = []
    for place in np.flatnonzero(bad)[:200]:
        pair = (int(rows[place]), int(swept.when[place]))
        if pair not in found:
            found.append(pair)
    return found


def depends_on_iteration(table: ScheduleTable, row: int) -> bool:
    """Whether the box or a guard of an access depends on `iter`."""
    numbers = [
        *table.access_lo_expr[row],
        *table.access_hi_expr[row],
        table.access_guard[row],
        table.task_guard[table.access_task[row]],
    ]
    return any(n >= 0 and ITERATION in table.expressions[n].variables for n in numbers)
