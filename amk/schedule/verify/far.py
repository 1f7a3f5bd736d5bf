"""How many iterations apart two queues can still touch the same bytes of memory that moves.

Statement.  Let a write of one queue and an access of another one be quasi-affine in the scalars.
That they overlap when the second comes k >= d iterations later is a condition on the scalars and
on k, made of comparisons.  By the theorem of `breakpoints` it can be met iff it is met at one of
the points that `meet` lists.  If no such pair can meet d iterations apart or further, no race and
no missing visibility lies that far, and windows need not reach there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.bounds import hull
from amk.schedule.verify.breakpoints import Comparisons, Term, meet
from amk.schedule.verify.cases import changeable, varying
from amk.schedule.verify.memory import overlapping_arenas
from amk.schedule.verify.scalars import used_variables, variable_ranges

MOST_PAIRS = 256
"""With more pairs than this in question, no bound is looked for."""
_LATER = "iterations later"
"""The variable for the distance; no scalar has spaces in its name."""


def distance(table: ScheduleTable, most: int) -> int | None:
    """A number of iterations, at most `most`, from which on no two queues can touch the same bytes
    of memory that moves, one of them writing first; None if there is none, or it is not known.

    Raises `TooLargeError` where the scalars have too many cases.
    """
    pairs = list(_pairs(table, MOST_PAIRS + 1))
    if len(pairs) > MOST_PAIRS or overlapping_arenas(table):
        return None
    if ITERATION in used_variables(table, np.array(pairs, np.int64).reshape(-1)):
        return None
    found = 1
    for pair in pairs:
        while _meet(table, *pair, found):
            found *= 2
            if found > most:
                return None
    return found


def _pairs(table: ScheduleTable, most: int) -> Iterator[tuple[int, int]]:
    """Writes, and accesses of other queues whose hulls overlap theirs; one of them moves."""
    packet = np.array([b.packet for b in table.buffers], bool)
    lo, hi = hull(table)
    rows = np.flatnonzero(changeable(table) & ~packet[table.access_buffer])
    queue, moving = table.task_queue[table.access_task[rows]], varying(table, rows) == 1
    count = 0
    for at in np.flatnonzero(table.access_write[rows]):
        row = rows[at]
        other = (table.access_buffer[rows] == table.access_buffer[row]) & (queue != queue[at])
        other &= (lo[rows] < hi[row]).all(axis=1) & (lo[row] < hi[rows]).all(axis=1)
        other &= moving | moving[at]
        for number in rows[other]:
            yield int(row), int(number)
            count += 1
            if count == most:
                return


def _meet(table: ScheduleTable, first: int, second: int, least: int) -> bool:
    """Whether access `second`, `least` iterations later or more, can touch bytes of `first`."""
    ranges = variable_ranges(table)
    steps = {s.name: s.step for s in table.scalars}
    used = sorted(used_variables(table, np.array([first, second])))
    moved = {n: Expr.var(n) + steps[n] * Expr.var(_LATER) for n in used}
    lives = [(hi - lo) // abs(steps[n]) for n in used for lo, hi in [ranges[n]] if steps[n]]
    last = min([ranges[ITERATION][1], *lives])
    if last < least:
        return False
    if not lives:
        last = least  # nothing moves: it is the same at every distance
    legal = [e for n in used for e in (moved[n] - ranges[n][0], ranges[n][1] - moved[n])]
    boxes = [_bounds(table, first, {}), _bounds(table, second, moved)]
    conditions = [*_guards(table, first), *(e.substitute(moved) for e in _guards(table, second))]
    groups: list[list[Term]] = [[*one, *two] for one, two in zip(*boxes, strict=True)]
    groups += [[(guard, 0), (Expr(0), 0)] for guard in conditions]
    points = meet(
        {n: ranges[n] for n in used} | {_LATER: (least, last)}, Comparisons(groups, legal)
    )
    size = len(points[_LATER])
    happens = np.ones(size, bool)
    for guard in conditions:
        happens &= np.broadcast_to(guard.evaluate(points), size) == 0
    for (lo, hi), (other_lo, other_hi) in zip(*boxes, strict=True):
        low = np.maximum(_value(lo, points), _value(other_lo, points))
        high = np.minimum(_value(hi, points), _value(other_hi, points))
        happens &= np.broadcast_to(low < high, size)
    return bool(happens.any())


def _bounds(table: ScheduleTable, access: int, by: dict[str, Expr]) -> list[tuple[Term, Term]]:
    """Lower and upper bound in each dimension of the buffer."""

    def term(number: int, constant: int) -> Term:
        expression = table.expressions[number] if number >= 0 else Expr(0)
        return expression.substitute(by), int(constant)

    dims = len(table.buffers[table.access_buffer[access]].shape)
    low = zip(table.access_lo_expr[access], table.access_lo[access], strict=True)
    high = zip(table.access_hi_expr[access], table.access_hi[access], strict=True)
    return [(term(*a), term(*b)) for a, b in zip(low, high, strict=True)][:dims]


def _guards(table: ScheduleTable, access: int) -> Iterator[Expr]:
    for number in (table.access_guard[access], table.task_guard[table.access_task[access]]):
        if number >= 0:
            yield table.expressions[number]


def _value(term: Term, points: dict[str, np.ndarray]) -> int | np.ndarray:
    return term[0].evaluate(points) + term[1]
