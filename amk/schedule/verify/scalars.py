"""Run-time scalars: the states of the loop that some launch can reach, and ranges of expressions.

Statement (states).  The program of the iterations from some point of a launch on depends only on
the scalars and, where an expression uses it, `iter` at that point, and on how many iterations
remain.  A property that holds in each such state holds for every start and every iteration.  A
launch with fewer remaining iterations runs a prefix of a longer one, and a prefix has no order that
the whole lacks; so without `iter` in expressions the state that starts a launch covers the same
scalars later in a launch.

Statement (cases).  What some accesses do over `window` iterations is decided by which guards are 0,
how bounds compare along each dimension, and how many iterations remain.  `StateSpace.cases` returns
states that meet every outcome of these comparisons (`breakpoints`), however large the ranges are.
Where buffers overlap in an arena the bounds' values count, and every value is listed.

Statement (ranges).  `interval` returns bounds that hold for every value of the variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify.breakpoints import Comparisons, Term, meet, period
from amk.schedule.verify.memory import overlapping_arenas
from amk.schedule.verify.report import TooLargeError

HUGE = 2**60
"""Stands for no bound in ranges."""

ENDLESS = 2**50
"""The last iteration that is looked at in a launch without end; no comparison changes that late."""

MAX_STATES = 2**22
"""More states than this are not listed one by one (`TooLargeError`)."""


def used_variables(table: ScheduleTable, rows: np.ndarray) -> frozenset[str]:
    """The variables of all expressions that the accesses `rows` and their guards use."""
    numbers = np.unique(
        np.concatenate(
            [
                table.access_lo_expr[rows].ravel(),
                table.access_hi_expr[rows].ravel(),
                table.access_guard[rows],
                table.task_guard[table.access_task[rows]],
            ]
        )
    )
    names: set[str] = set()
    for number in numbers[numbers >= 0]:
        names |= table.expressions[number].variables
    return frozenset(names)


def variable_ranges(table: ScheduleTable) -> dict[str, tuple[int, int]]:
    """Inclusive range of every variable over all launches."""
    ranges = {s.name: (s.lo, s.hi - 1) for s in table.scalars}
    last = HUGE if table.iterations is None else table.iterations - 1
    for scalar in table.scalars:
        if scalar.step:
            last = min(last, (scalar.hi - scalar.lo - 1) // abs(scalar.step))
    ranges[ITERATION] = (0, last)
    return ranges


def interval(expr: Expr, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Inclusive bounds of the values of `expr`, sound and not always tight."""
    low = high = expr.constant
    for atom, count in expr.terms:
        if atom.operand is None:
            least, most = ranges[atom.name]
        else:
            least, most = interval(atom.operand, ranges)
            whole = (least // atom.divisor, most // atom.divisor)
            if atom.kind == "floordiv":
                least, most = whole
            elif whole[0] == whole[1]:
                least, most = least % atom.divisor, most % atom.divisor
            else:
                least, most = 0, atom.divisor - 1
        low += min(least * count, most * count)
        high += max(least * count, most * count)
    return max(low, -HUGE), min(high, HUGE)


@dataclass(frozen=True, eq=False)
class States:
    """Reachable states: values [n] of each variable, and iterations that remain [n] (>= 1)."""

    values: dict[str, np.ndarray]
    remaining: np.ndarray

    @property
    def count(self) -> int:
        """The number of states."""
        return len(self.remaining)

    def advanced(self, table: ScheduleTable, iterations: int) -> dict[str, np.ndarray]:
        """The values after `iterations` more iterations."""
        steps = {s.name: s.step for s in table.scalars} | {ITERATION: 1}
        return {n: v + steps[n] * iterations for n, v in self.values.items()}

    def at(self, state: int) -> dict[str, int]:
        """One state."""
        return {n: int(v[state]) for n, v in self.values.items()}


class StateSpace:
    """The states of one table."""

    def __init__(self, table: ScheduleTable) -> None:
        self.table = table
        self._known: dict[tuple[bytes, int, bool], States] = {}

    def cases(self, rows: np.ndarray, window: int, *, values: bool = False) -> States:
        """States that meet every case of the accesses `rows` over `window` iterations.

        With `values`, all values of the bounds of `rows` count.  Raises `TooLargeError`.
        """
        key = (np.asarray(rows, np.int64).tobytes(), window, values)
        if key not in self._known:
            self._known[key] = self._meet(np.asarray(rows, np.int64), window, values)
        return self._known[key]

    def every(self) -> States:
        """All states, one by one, up to where everything repeats; raises `TooLargeError`."""
        table = self.table
        used = used_variables(table, np.arange(len(table.access_task)))
        ranges = self._ranges(used)
        if ITERATION in used:
            low, high = ranges[ITERATION]
            ranges[ITERATION] = (low, min(high, _horizon(table)))
        total = math.prod(hi - lo + 1 for lo, hi in ranges.values())
        if total > MAX_STATES:
            raise TooLargeError(
                f"the run-time scalars have {total} states, more than {MAX_STATES}, and reads of "
                f"memory that is written at some values of '{ITERATION}' need them all"
            )
        sides = [np.arange(lo, hi + 1, dtype=np.int64) for lo, hi in ranges.values()]
        grids = np.meshgrid(*sides, indexing="ij") if sides else []
        values = {n: g.ravel() for n, g in zip(ranges, grids, strict=True)}
        legal = np.ones(total, bool)
        for condition in self._legal(used):
            legal &= np.asarray(condition.evaluate(values)) >= 0
        return self._states({n: v[legal] for n, v in values.items()}, int(legal.sum()))

    def _meet(self, rows: np.ndarray, window: int, values: bool) -> States:
        used = used_variables(self.table, rows)
        ranges = self._ranges(used)
        if not ranges:
            return self._states({}, 1)
        groups = [*self._loop_groups(used, window), *self._guards(rows, window)]
        listed: set[str] = set()
        mixed = {n for members in overlapping_arenas(self.table).values() for n in members}
        for (buffer, _), terms in self._bounds(rows, window).items():
            groups.append(terms)
            if values or buffer in mixed:
                listed |= {n for e, _ in terms for n in e.variables if _sloped(e, n)}
        if ITERATION in listed:
            low, high = ranges[ITERATION]
            ranges[ITERATION] = (low, min(high, _horizon(self.table)))
        found = meet(ranges, Comparisons(groups, self._legal(used), frozenset(listed)))
        return self._states(found, len(next(iter(found.values()))))

    def _states(self, values: dict[str, np.ndarray], count: int) -> States:
        if ITERATION not in values:
            values = {**values, ITERATION: np.zeros(count, np.int64)}
        return States(values, _remaining(self.table, values))

    def _ranges(self, used: frozenset[str]) -> dict[str, tuple[int, int]]:
        ranges = {n: r for n, r in variable_ranges(self.table).items() if n in used}
        if ITERATION in ranges:
            ranges[ITERATION] = (0, min(ranges[ITERATION][1], ENDLESS))
        return ranges

    def _legal(self, used: frozenset[str]) -> list[Expr]:
        """What must be >= 0: the start of the launch is in the range of each scalar."""
        if ITERATION not in used:
            return []
        found: list[Expr] = []
        for scalar in self.table.scalars:
            if scalar.name in used:
                start = Expr.var(scalar.name) - Expr.var(ITERATION) * scalar.step
                found += [start - scalar.lo, scalar.hi - 1 - start]
        return found

    def _loop_groups(self, used: frozenset[str], window: int) -> list[list[Term]]:
        """How many iterations remain (up to `window` + 1), and whether this is the first."""
        groups: list[list[Term]] = []
        counts = range(1, window + 2)
        for scalar in self.table.scalars:
            if not scalar.step:
                continue
            last = scalar.hi - 1 if scalar.step > 0 else scalar.lo
            if scalar.name in used:
                terms: list[Term] = [(Expr.var(scalar.name), 0)]
                groups.append([*terms, *((Expr(last - scalar.step * (j - 1)), 0) for j in counts)])
        if ITERATION in used:
            end = variable_ranges(self.table)[ITERATION][1] + 1
            ends = [end - j for j in counts] if end < ENDLESS else []
            groups.append([(Expr.var(ITERATION), 0), *((Expr(c), 0) for c in (0, *ends))])
        return groups

    def _advanced(self, number: int, offset: int) -> Expr:
        steps = {s.name: s.step for s in self.table.scalars} | {ITERATION: 1}
        expr = self.table.expressions[number]
        return expr.substitute({n: Expr.var(n) + steps[n] * offset for n in expr.variables})

    def _guards(self, rows: np.ndarray, window: int) -> list[list[Term]]:
        table = self.table
        guards = [table.access_guard[rows], table.task_guard[table.access_task[rows]]]
        numbers = np.unique(np.concatenate(guards))
        return [
            [(self._advanced(int(n), offset), 0), (Expr(0), 0)]
            for n in numbers[numbers >= 0]
            for offset in range(window)
        ]

    def _bounds(self, rows: np.ndarray, window: int) -> dict[tuple[int, int], list[Term]]:
        """The bounds to be compared, by (buffer, dimension); only where one of them moves."""
        table = self.table
        groups: dict[tuple[int, int], list[Term]] = {}
        for (buffer, dim), bounds in moving_bounds(table, rows).items():
            fixed = {0, table.buffers[buffer].shape[dim]}
            fixed.update(still_bounds(table, rows, buffer, dim))
            groups[buffer, dim] = [
                *((Expr(c), 0) for c in sorted(fixed)),
                *(
                    (self._advanced(number, offset), constant)
                    for constant, number in sorted(bounds)
                    for offset in range(window)
                ),
            ]
        return groups


def moving_bounds(
    table: ScheduleTable, rows: np.ndarray
) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """The bounds with expressions by (buffer, dimension): pairs of constant and expression."""
    found: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for constants, numbers in (
        (table.access_lo, table.access_lo_expr),
        (table.access_hi, table.access_hi_expr),
    ):
        at, dim = np.nonzero(numbers[rows] >= 0)
        row = rows[at]
        columns = np.stack([table.access_buffer[row], dim, constants[row, dim], numbers[row, dim]])
        for buffer, axis, constant, number in np.unique(columns, axis=1).T.tolist():
            found.setdefault((buffer, axis), set()).add((constant, number))
    return found


def still_bounds(table: ScheduleTable, rows: np.ndarray, buffer: int, dim: int) -> list[int]:
    """The bounds without an expression of a dimension, ascending."""
    users = rows[table.access_buffer[rows] == buffer]
    low = table.access_lo[users, dim][table.access_lo_expr[users, dim] < 0]
    high = table.access_hi[users, dim][table.access_hi_expr[users, dim] < 0]
    return np.unique(np.concatenate([low, high])).tolist()


def _remaining(table: ScheduleTable, values: dict[str, np.ndarray]) -> np.ndarray:
    last = HUGE if table.iterations is None else table.iterations
    result = last - values[ITERATION]
    for scalar in table.scalars:
        if scalar.step == 0:
            continue
        if scalar.name in values:
            value = values[scalar.name]
            room = scalar.hi - 1 - value if scalar.step > 0 else value - scalar.lo
        else:
            room = scalar.hi - 1 - scalar.lo - abs(scalar.step) * values[ITERATION]
        result = np.minimum(result, room // abs(scalar.step) + 1)
    return result


def cycle(table: ScheduleTable) -> int:
    """The number of iterations after which all expressions repeat, up to constant slopes."""
    steps = {s.name: s.step for s in table.scalars} | {ITERATION: 1}
    return math.lcm(1, *(period(e, n) for e in table.expressions for n in e.variables if steps[n]))


def _horizon(table: ScheduleTable) -> int:
    """The last value of `iter` to look at: from there on all comparisons stay as they are.

    An expression of `iter` is, on each residue of the cycle m, an affine function of the quotient
    by m.  Two such functions, or one and a constant, compare the same way from the quotient on at
    which their difference has its final sign: with integer slopes that is at most the largest
    difference of their values at quotient 0.
    """
    m = cycle(table)
    used = [e for e in table.expressions if ITERATION in e.variables]
    ranges = variable_ranges(table) | {ITERATION: (0, m)}
    sizes = [n for b in table.buffers for n in b.shape]
    largest = max((max(map(abs, interval(e, ranges))) for e in used), default=0)
    extra = int(
        np.abs(np.concatenate([table.access_lo.ravel(), table.access_hi.ravel(), [0]])).max()
    )
    sloped = any(_sloped(e, ITERATION) for e in used)
    return m * (2 + (2 * (largest + extra) + max(sizes, default=0) if sloped else 0)) + 64


def _sloped(expr: Expr, name: str) -> bool:
    """Whether an expression drifts with a variable and does not only repeat."""
    zero = dict.fromkeys(expr.variables, 0)
    return expr.evaluate(zero | {name: period(expr, name)}) != expr.evaluate(zero)
