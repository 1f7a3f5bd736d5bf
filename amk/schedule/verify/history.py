"""Reads whose definedness depends on `iter`: the history of every launch is played through.

Statement.  In a schedule without races the run L of `links` decides definedness.  A read of memory
that keeps its contents is judged by iteration 0 of all states unless it, or a write to the same
memory, depends on `iter`.  For those, L is executed from every start, byte by byte, up to the last
iteration, or up to the iteration from which on everything is periodic.
"""

from __future__ import annotations

import numpy as np

from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.cases import Case, concrete
from amk.schedule.verify.defined import depends_on_iteration
from amk.schedule.verify.extent import merged
from amk.schedule.verify.flow import Body, greedy, unroll
from amk.schedule.verify.memory import Boxes, cut, overlapping_arenas
from amk.schedule.verify.packets import resolve
from amk.schedule.verify.scalars import States


def concerned(table: ScheduleTable) -> np.ndarray:
    """Accesses [A] to memory that needs its history: kept, not initial, and used with `iter`."""
    arena = {n: m[0] for m in overlapping_arenas(table).values() for n in m}
    domain = np.array([arena.get(n, n) for n in range(len(table.buffers))], np.int64)
    dependent = np.array(
        [depends_on_iteration(table, r) for r in range(len(table.access_task))], bool
    )
    touched = np.unique(domain[table.access_buffer[dependent]])
    kept = np.array(
        [b.kind in ("state", "output") and not b.packet and not b.initial for b in table.buffers],
        bool,
    )
    domains = np.intersect1d(touched, domain[kept])
    return np.isin(domain[table.access_buffer], domains)


Undefined = tuple[Case, int, np.ndarray]
"""The case and the access number of an undefined read, and the runs of its bytes."""


def undefined(table: ScheduleTable, states: States) -> Undefined | None:
    """The first undefined read of memory that needs its history."""
    chosen = concerned(table)
    if not chosen.any():
        return None
    starts = np.flatnonzero(states.values[ITERATION] == 0)
    horizon = int(states.values[ITERATION].max()) + 1
    for start in starts:
        found = _launch(table, states.at(int(start)), chosen, horizon, int(states.remaining[start]))
        if found is not None:
            return found
    return None


def _launch(
    table: ScheduleTable, values: dict[str, int], chosen: np.ndarray, horizon: int, remaining: int
) -> Undefined | None:
    steps = {s.name: s.step for s in table.scalars} | {ITERATION: 1}
    body = Body.of(table)
    written: dict[object, np.ndarray] = {}
    for iteration in range(min(horizon, remaining)):
        at = {n: v + steps[n] * iteration for n, v in values.items()}
        boxes = concrete(table, at)
        memory = cut(table, [boxes])
        level = greedy(
            unroll(body, [resolve(table, boxes, memory.classes[0], memory.cells)], False)
        )
        order = np.lexsort((table.access_write[boxes.rows], level[table.access_task[boxes.rows]]))
        for place in order:
            row = int(boxes.rows[place])
            missing = _step(table, boxes, int(place), written) if chosen[row] else None
            if missing is not None:
                return Case(table, remaining, iteration == 0, True, False, at, None), row, missing
    return None


def _step(
    table: ScheduleTable, boxes: Boxes, place: int, written: dict[object, np.ndarray]
) -> np.ndarray | None:
    """Executes one access; of a read of undefined bytes their runs."""
    row = int(boxes.rows[place])
    buffer = table.buffers[table.access_buffer[row]]
    key: object = buffer.arena if buffer.arena is not None else buffer.name
    if key not in written:
        members = [b for b in table.buffers if b is buffer or (b.arena and b.arena == buffer.arena)]
        written[key] = np.zeros(max(b.offset + b.size for b in members), bool)
        for member in members:
            if member.initial or member.kind in ("input", "constant"):
                written[key][member.offset : member.offset + member.size] = True
    memory = written[key][buffer.offset : buffer.offset + buffer.size]
    view = memory.reshape(*buffer.shape, buffer.item_bytes)
    box = tuple(
        slice(int(a), int(b)) for a, b in zip(boxes.lo[place], boxes.hi[place], strict=True)
    )
    box = box[: len(buffer.shape)]
    if table.access_write[row]:
        view[box] = True
        return None
    if buffer.kind not in ("state", "output") or bool(view[box].all()):
        return None
    asked = np.zeros_like(memory)
    asked.reshape(view.shape)[box] = True
    bad = np.flatnonzero(asked & ~memory) + (buffer.offset if buffer.arena is not None else 0)
    return merged(np.stack([bad, bad + 1], 1))
