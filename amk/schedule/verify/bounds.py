"""Bounds and read-only memory.

Statement (bounds).  Every element of every region that some launch touches is inside its buffer.
An empty region touches nothing.  Statement (constant write).  No byte of an `input` or `constant`
buffer is ever written, not through another buffer of its arena either.

A range of each bound over all states decides most accesses; what it does not decide is evaluated
in states that meet every case of that access, guards included.
"""

from __future__ import annotations

import math

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.report import Finding, Witness, at_task
from amk.schedule.verify.scalars import States, StateSpace, interval, variable_ranges

LIMIT = 50


def hull(table: ScheduleTable) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [A, R] that contain each access in every state, not clipped to the buffer."""
    ranges = variable_ranges(table)
    spread = np.array([interval(e, ranges) for e in table.expressions] + [(0, 0)], np.int64)
    return (
        table.access_lo + spread[table.access_lo_expr, 0],
        table.access_hi + spread[table.access_hi_expr, 1],
    )


def extents(table: ScheduleTable) -> np.ndarray:
    """Buffer shapes [B, R], padded with 1."""
    result = np.ones((len(table.buffers), table.access_lo.shape[1]), np.int64)
    for row, buffer in enumerate(table.buffers):
        result[row, : len(buffer.shape)] = buffer.shape[: result.shape[1]]
    return result


def check(table: ScheduleTable, space: StateSpace) -> list[Finding]:
    """All accesses that leave their buffer, and all writes to read-only memory.

    States are only looked at if a range does not decide.
    """
    lo, hi = hull(table)
    extent = extents(table)[table.access_buffer]
    outside = ((lo < 0) | (hi > extent)).any(axis=1)
    constant = (table.access_lo_expr < 0).all(axis=1) & (table.access_hi_expr < 0).all(axis=1)
    constant &= (table.access_guard < 0) & (table.task_guard[table.access_task] < 0)
    empty = constant & (lo >= hi).any(axis=1)
    found: list[Finding] = []
    for row in np.flatnonzero(outside & ~empty):
        found += _outside(table, int(row), extent[row], None if constant[row] else space)
        if len(found) >= LIMIT:
            break
    suspects = _read_only(table, lo, hi) & ~empty
    for row in np.flatnonzero(suspects)[:LIMIT]:
        found += _constant_write(table, int(row), None if constant[row] else space)
    return found


def evaluate(expr: Expr, values: dict[str, np.ndarray], count: int) -> np.ndarray:
    """The values [count] of `expr` in all states."""
    return np.broadcast_to(np.asarray(expr.evaluate(values), np.int64), (count,))


def boxes_in_states(
    table: ScheduleTable, row: int, states: States
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One access in all states: whether it happens [n], and its bounds [n, R]."""
    at = states.values
    count = states.count
    happens = np.ones(count, bool)
    for guard in (table.access_guard[row], table.task_guard[table.access_task[row]]):
        if guard >= 0:
            happens &= evaluate(table.expressions[guard], at, count) == 0
    sides: list[np.ndarray] = []
    for constants, numbers in (
        (table.access_lo[row], table.access_lo_expr[row]),
        (table.access_hi[row], table.access_hi_expr[row]),
    ):
        side = np.repeat(constants[None, :], count, axis=0)
        for dim in np.flatnonzero(numbers >= 0):
            side[:, dim] += evaluate(table.expressions[numbers[dim]], at, count)
        sides.append(side)
    happens &= (sides[0] < sides[1]).all(axis=1)
    return happens, sides[0], sides[1]


def state_text(table: ScheduleTable, state: dict[str, int]) -> str:
    """` at pos = 3`, or an empty string for a state without variables."""
    names = [s.name for s in table.scalars if s.name in state]
    parts = [f"{n} = {state[n]}" for n in names]
    if state.get(ITERATION):
        parts.append(f"{ITERATION} = {state[ITERATION]}")
    return f" at {', '.join(parts)}" if parts else ""


def _outside(
    table: ScheduleTable, row: int, extent: np.ndarray, space: StateSpace | None
) -> list[Finding]:
    task = int(table.access_task[row])
    buffer = table.buffers[table.access_buffer[row]]
    where, start = "", ()
    if space is not None:
        every = space.cases(np.array([row]), 1)
        happens, lo, hi = boxes_in_states(table, row, every)
        bad = np.flatnonzero(happens & ((lo < 0) | (hi > extent)).any(axis=1))
        if not len(bad):
            return []
        state = every.at(int(bad[0]))
        where, start = state_text(table, state), tuple(state.items())
    verb = "writes" if table.access_write[row] else "reads"
    shape = "x".join(map(str, buffer.shape))
    text = (
        f"{table.task_name(task)} {verb} {table.box_text(row)}{where}, outside of its shape {shape}"
    )
    return [at_task(table, "out-of-bounds", task, text, Witness(start=start))]


def _read_only(table: ScheduleTable, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Which writes may touch a byte of a read-only buffer."""
    fixed = np.array([b.kind in ("input", "constant") for b in table.buffers], bool)
    suspect = np.zeros(len(table.buffers), bool)
    for number, buffer in enumerate(table.buffers):
        suspect[number] = bool(_aliases(table, number)) if buffer.arena else fixed[number]
    if not len(suspect):
        return np.zeros(0, bool)
    return table.access_write & suspect[table.access_buffer]


def _aliases(table: ScheduleTable, number: int) -> list[int]:
    """Read-only buffers that share bytes with a buffer (itself, if it is read-only)."""
    mine = table.buffers[number]
    return [
        other
        for other, buffer in enumerate(table.buffers)
        if buffer.kind in ("input", "constant")
        and (
            other == number
            or (
                mine.arena is not None
                and buffer.arena == mine.arena
                and buffer.offset < mine.offset + mine.size
                and mine.offset < buffer.offset + buffer.size
            )
        )
    ]


def _constant_write(table: ScheduleTable, row: int, space: StateSpace | None) -> list[Finding]:
    task = int(table.access_task[row])
    number = int(table.access_buffer[row])
    aliases = _aliases(table, number)
    if space is None:
        boxes = [(table.access_lo[row], table.access_hi[row])]
        at = [{}]
    else:
        every = space.cases(np.array([row]), 1, values=aliases != [number])
        happens, lo, hi = boxes_in_states(table, row, every)
        rows = np.flatnonzero(happens)
        boxes = [(lo[r], hi[r]) for r in rows]
        at = [every.at(int(r)) for r in rows]
    mine = table.buffers[number]
    for other in aliases:
        buffer = table.buffers[other]
        for (lo, hi), state in zip(boxes, at, strict=True):
            if other != number and not _touches(mine, lo, hi, buffer.offset, buffer.size):
                continue
            through = "" if other == number else f" of '{buffer.name}' through"
            kind = "an input" if buffer.kind == "input" else "a constant"
            text = (
                f"{table.task_name(task)} writes{through} {table.box_text(row)}"
                f"{state_text(table, state)}, but '{buffer.name}' is {kind}"
            )
            witness = Witness(start=tuple(state.items()))
            return [at_task(table, "constant-write", task, text, witness)]
    return []


def _touches(mine, lo: np.ndarray, hi: np.ndarray, offset: int, size: int) -> bool:
    """Whether a box of buffer `mine` has a byte in `[offset, offset + size)` of its arena."""
    # The last element of the box that begins before the end, if there is one, decides.
    end = -((mine.offset - offset - size) // mine.item_bytes)
    last = _last_below(mine.shape, lo, hi, end)
    return last is not None and mine.offset + (last + 1) * mine.item_bytes > offset


def _last_below(shape: tuple[int, ...], lo: np.ndarray, hi: np.ndarray, end: int) -> int | None:
    """The greatest row-major number below `end` of an element of a box, None if there is none."""
    first = last = 0
    for extent, low, high in zip(shape, lo.tolist(), hi.tolist(), strict=False):
        low, high = max(low, 0), min(high, extent)
        if low >= high:
            return None
        first, last = first * extent + low, last * extent + high - 1
    if first >= end:
        return None
    if last < end:
        return last
    inner = math.prod(shape[1:])
    at = min((end - 1) // inner, min(int(hi[0]), shape[0]) - 1)
    # In row `at` all elements may lie at `end` or after it; then the row before has the last one.
    for row in (at, at - 1):
        if row < max(int(lo[0]), 0):
            break
        found = _last_below(shape[1:], lo[1:], hi[1:], end - row * inner)
        if found is not None:
            return row * inner + found
    return None
