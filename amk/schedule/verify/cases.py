"""Cases of run-time scalars: from all states to concrete iterations.

Statement.  What the verifier decides about some iterations depends only on which accesses happen,
on how the bounds of their boxes compare with each other along each dimension of a buffer (with
their values where buffers overlap in an arena), and on how many iterations remain.  States that
agree in all of this are one case, and one state of each case is examined.

Statement (parts).  Plain accesses put no condition on the execution, so memory that shares no byte
is decided apart, each part with all packets.  Then only the scalars of one part are combined.

`outline` is the fast way out: every access with the hull of its boxes, none but the accesses
without expressions taken as certain.  What is proved for the outline holds in every state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.arrays import combine
from amk.schedule.verify.bounds import evaluate, extents, hull
from amk.schedule.verify.memory import Boxes, cut, overlapping_arenas
from amk.schedule.verify.packets import rewritten
from amk.schedule.verify.scalars import (
    HUGE,
    States,
    StateSpace,
    cycle,
    moving_bounds,
    still_bounds,
    variable_ranges,
)


@dataclass(frozen=True, eq=False)
class Case:
    """Iterations to examine: `boxes(e)` are the accesses of iteration e, `remaining` iterations
    are left; `at_start`: a launch can begin here; `exact`: all accesses are certain; `constant`:
    all iterations have the same boxes; `values`: the state."""

    table: ScheduleTable
    remaining: int
    at_start: bool
    exact: bool
    constant: bool
    values: dict[str, int]
    fixed: Boxes | None

    @property
    def start(self) -> dict[str, int]:
        """The state; for the outline one that starts a launch of the greatest length."""
        if self.values:
            return self.values
        ends = {s.name: s.lo if s.step >= 0 else s.hi - 1 for s in self.table.scalars}
        return ends | {ITERATION: 0}

    def boxes(self, iteration: int) -> Boxes:
        """The accesses to changeable memory in an iteration (0: the state itself)."""
        if self.fixed is not None:
            return self.fixed
        steps = {s.name: s.step for s in self.table.scalars} | {ITERATION: 1}
        at = {n: v + steps[n] * iteration for n, v in self.values.items()}
        return concrete(self.table, at)


def written_twice(
    table: ScheduleTable, space: StateSpace
) -> tuple[tuple[int, int], dict[str, int]] | None:
    """Two accesses that write the same use of a packet element, and a state in which they do.

    States are looked at only if the hulls of the boxes overlap and do not decide.
    """
    packet = np.array([b.packet for b in table.buffers], bool)
    if not packet.any():
        return None
    rows = np.flatnonzero(packet[table.access_buffer] & table.access_write)
    lo, hi = hull(table)
    whole = _nonempty(rows, lo[rows], hi[rows], varying(table, rows) == 0)
    pairs = rewritten(table, whole)
    sure = set(whole.rows[whole.certain].tolist())
    for pair in pairs:
        if sure.issuperset(pair):
            return pair, {}
    if not pairs:
        return None
    every = space.cases(rows, 1)
    known: set[bytes] = set()
    for state in range(every.count):
        values = every.at(state)
        boxes = concrete(table, values, rows)
        key = boxes.rows.tobytes() + boxes.lo.tobytes() + boxes.hi.tobytes()
        if key in known:
            continue
        known.add(key)
        pairs = rewritten(table, boxes)
        if pairs:
            return pairs[0], values
    return None


def _nonempty(rows: np.ndarray, lo: np.ndarray, hi: np.ndarray, certain: np.ndarray) -> Boxes:
    keep = (lo < hi).all(axis=1)
    return Boxes(rows[keep], lo[keep], hi[keep], certain[keep])


def changeable(table: ScheduleTable) -> np.ndarray:
    """Which accesses [A] touch memory that can change (not inputs, not constants)."""
    fixed = np.array(
        [b.kind in ("input", "constant") and not b.packet for b in table.buffers], bool
    )
    return ~fixed[table.access_buffer] if len(fixed) else np.zeros(0, bool)


def outline(table: ScheduleTable, varies: bool) -> Case:
    """All states at once; exact if no access uses an expression."""
    lo, hi = hull(table)
    rows = np.flatnonzero(changeable(table))
    extent = extents(table)[table.access_buffer[rows]]
    lo, hi = np.maximum(lo[rows], 0), np.minimum(hi[rows], extent)
    boxes = _nonempty(rows, lo, hi, varying(table, rows) == 0)
    remaining = variable_ranges(table)[ITERATION][1] + 1
    return Case(table, remaining, True, not varies, True, {}, boxes)


def reach(table: ScheduleTable, remaining: int) -> int:
    """How many iterations ahead a pair may lie whose order alone does not settle it.

    After the bound on the skew everything is ordered, but packets order without making plain
    writes visible, so a write and an access of another queue that meets it many iterations later
    have to be looked at.  0 if no memory is shared in that way: no packets, or every cell that an
    access with an expression may touch belongs to one queue.
    """
    packet = np.array([b.packet for b in table.buffers], bool)
    rows = np.flatnonzero(changeable(table))
    if not packet.any() or not len(rows):
        return 0
    whole = outline(table, True).boxes(0)
    memory = cut(table, [whole])
    sizes = memory.cells.sizes(memory.classes[0])
    cell = memory.cells.take(memory.classes[0])
    row = np.repeat(whole.rows, sizes)
    plain = ~packet[table.access_buffer[row]]
    cell, row = cell[plain], row[plain]
    queue = table.task_queue[table.access_task[row]]
    lowest = np.full(memory.n_cells, len(table.queues), np.int64)
    highest = np.full(memory.n_cells, -1, np.int64)
    np.minimum.at(lowest, cell, queue)
    np.maximum.at(highest, cell, queue)
    moving = varying(table, row) == 1
    written = np.zeros(memory.n_cells, bool)
    written[cell[table.access_write[row]]] = True
    if not (moving & written[cell] & (lowest < highest)[cell]).any():
        return 0
    return min(remaining, 2 * cycle(table) + 1) if remaining >= HUGE // 2 else remaining


def varying(table: ScheduleTable, rows: np.ndarray) -> np.ndarray:
    """1 for each access of `rows` whose box or guards use an expression, else 0."""
    uses = (table.access_lo_expr[rows] >= 0).any(axis=1)
    uses |= (table.access_hi_expr[rows] >= 0).any(axis=1)
    uses |= (table.access_guard[rows] >= 0) | (table.task_guard[table.access_task[rows]] >= 0)
    return uses.astype(np.int64)


def concrete(
    table: ScheduleTable, values: dict[str, int], chosen: np.ndarray | None = None
) -> Boxes:
    """The accesses in one state, or those of `chosen` access numbers."""
    rows = np.flatnonzero(changeable(table)) if chosen is None else chosen
    known = [e.evaluate(values) if e.variables <= values.keys() else 0 for e in table.expressions]
    value = np.array([*known, 0], np.int64)
    lo = table.access_lo[rows] + value[table.access_lo_expr[rows]]
    hi = table.access_hi[rows] + value[table.access_hi_expr[rows]]
    if chosen is None:  # what leaves a buffer is an error of its own
        lo, hi = np.maximum(lo, 0), np.minimum(hi, extents(table)[table.access_buffer[rows]])
    happens = value[table.access_guard[rows]] == 0
    happens &= value[table.task_guard[table.access_task[rows]]] == 0
    sure = np.ones(len(rows), bool)
    return _nonempty(rows[happens], lo[happens], hi[happens], sure[happens])


def cases(table: ScheduleTable, space: StateSpace, window: int) -> Iterator[Case]:
    """One case for each class of states that agree over `window` iterations."""
    states = space.cases(np.flatnonzero(changeable(table)), window)
    key = case_keys(table, states, window)
    _, first = np.unique(key, return_index=True)
    for state in np.sort(first):
        yield Case(
            table,
            int(states.remaining[state]),
            bool(states.values[ITERATION][state] == 0),
            True,
            False,
            states.at(int(state)),
            None,
        )


def case_keys(table: ScheduleTable, states: States, window: int) -> np.ndarray:
    """Numbers [states]: equal for states that are one case over `window` iterations.

    States with just `window` iterations left are told apart from those with more, since a longer
    window may be needed for the latter.
    """
    keys = [
        np.minimum(states.remaining, window + 1),
        (states.values[ITERATION] == 0).astype(np.int64),
    ]
    key = np.zeros(states.count, np.int64)
    for column in [*keys, *_signature(table, states, window)]:
        key = np.unique(combine(key, column), return_inverse=True)[1].reshape(-1)
    return key


def _signature(table: ScheduleTable, states: States, window: int) -> Iterator[np.ndarray]:
    """Integer columns [states] that tell states of different cases apart."""
    changed = np.flatnonzero(changeable(table))
    rows = changed[varying(table, changed) == 1]
    guards = np.unique(
        np.concatenate([table.access_guard[rows], table.task_guard[table.access_task[rows]]])
    )
    mixed = {n for members in overlapping_arenas(table).values() for n in members}
    moving = moving_bounds(table, rows)
    coordinates: dict[tuple[int, int], list[np.ndarray]] = {key: [] for key in moving}
    for offset in range(window):
        values = states.advanced(table, offset)
        alive = states.remaining > offset
        known = {
            int(n): evaluate(table.expressions[n], values, states.count) * alive
            for n in np.unique([*guards, *(n for b in moving.values() for _, n in b)])
            if n >= 0
        }
        yield from (known[int(g)] == 0 for g in guards if g >= 0)
        for key, bounds in moving.items():
            coordinates[key] += [np.where(alive, known[n] + c, 0) for c, n in bounds]
    for (buffer, dim), columns in coordinates.items():
        every = np.unique(np.stack(columns), axis=0)
        if buffer in mixed:
            yield from every
            continue
        fixed = np.array(still_bounds(table, changed, buffer, dim), np.int64)
        yield from (np.searchsorted(fixed, c) + np.searchsorted(fixed, c, "right") for c in every)
        order = np.sort(every, axis=0)
        ranks = np.zeros_like(order)
        ranks[1:] = np.cumsum(order[1:] != order[:-1], axis=0)
        for column in every:
            place = (order < column[None, :]).sum(axis=0)
            yield np.take_along_axis(ranks, place[None, :], 0)[0]


def parts(table: ScheduleTable) -> list[ScheduleTable]:
    """Tables that are sound iff `table` is: all packets, with one memory that moves in each.

    The first has all memory that no expression addresses.
    """
    packet = np.array([b.packet for b in table.buffers], bool)
    arena = {n: members[0] for members in overlapping_arenas(table).values() for n in members}
    domain = np.array([arena.get(n, n) for n in range(len(table.buffers))], np.int64)
    of = domain[table.access_buffer]
    rows = np.flatnonzero(changeable(table))
    plain = ~packet[table.access_buffer]
    moving = np.unique(of[rows[(varying(table, rows) == 1) & plain[rows]]])
    still = changeable(table) & (~plain | ~np.isin(of, moving))
    return [_with_accesses(table, still)] + [
        _with_accesses(table, changeable(table) & (~plain | (of == d))) for d in moving
    ]


def _with_accesses(table: ScheduleTable, keep: np.ndarray) -> ScheduleTable:
    columns = [
        "task", "buffer", "write", "lo", "hi", "lo_expr", "hi_expr", "guard", "use", "rank",
    ]  # fmt: skip
    return replace(table, **{f"access_{c}": getattr(table, f"access_{c}")[keep] for c in columns})
