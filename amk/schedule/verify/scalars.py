"""Run-time scalars: every state of the loop that some launch can reach, and ranges of expressions.

Statement (states).  The program of the iterations from some point of a launch on depends only on
the scalars and, where an expression uses it, `iter` at that point, and on how many iterations
remain.  `States.of` enumerates all of these, so a property that is decided for each state is
decided for every start and every iteration.  A launch with fewer remaining iterations runs a prefix
of a longer one, and a prefix has no order that the whole lacks; so without `iter` in expressions
the state that starts a launch covers the same scalars later in a launch.

Statement (ranges).  `interval` returns bounds that hold for every value of the variables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION, ScheduleTable

HUGE = 2**60
"""Stands for no bound in ranges."""

MAX_STATES = 2**22
"""More states than this are refused (`TooManyStatesError`)."""


class TooManyStatesError(Exception):
    """The run-time scalars have more states than can be enumerated."""


def used_variables(table: ScheduleTable) -> frozenset[str]:
    """The variables of all expressions that an access or a guard uses."""
    numbers = np.unique(
        np.concatenate(
            [
                table.access_lo_expr.ravel(),
                table.access_hi_expr.ravel(),
                table.access_guard,
                table.task_guard,
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

    @staticmethod
    def of(table: ScheduleTable) -> States:
        """All states of `table`; raises `TooManyStatesError`."""
        used = used_variables(table)
        relevant = [s for s in table.scalars if s.name in used]
        total = math.prod(s.hi - s.lo for s in relevant)
        counts = _iteration_values(table) if ITERATION in used else np.zeros(1, np.int64)
        if total * len(counts) > MAX_STATES:
            raise TooManyStatesError(
                f"the run-time scalars have {total * len(counts)} states, more than {MAX_STATES}"
            )
        grids = np.meshgrid(
            *(np.arange(s.lo, s.hi, dtype=np.int64) for s in relevant), counts, indexing="ij"
        )
        values = {s.name: g.ravel() for s, g in zip(relevant, grids, strict=False)}
        iteration = grids[-1].ravel()
        legal = np.ones(len(iteration), bool)
        for scalar in relevant:
            start = values[scalar.name] - scalar.step * iteration
            legal &= (start >= scalar.lo) & (start < scalar.hi)
        values[ITERATION] = iteration
        values = {n: v[legal] for n, v in values.items()}
        return States(values, _remaining(table, values))


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


def _iteration_values(table: ScheduleTable) -> np.ndarray:
    """Values of `iter` that stand for all: up to its last, or to where everything is periodic.

    An expression of `iter` is, on each residue of the least common multiple m of all divisors, an
    affine function of the quotient by m.  Two such functions, or one and a constant, compare the
    same way from the quotient on at which their difference has its final sign: with integer slopes
    that is at most the largest difference of their values at quotient 0.
    """
    low, high = variable_ranges(table)[ITERATION]
    used = [e for e in table.expressions if ITERATION in e.variables]
    period = math.lcm(1, *(d for e in used for d in e.divisors))
    ranges = variable_ranges(table) | {ITERATION: (0, period)}
    sizes = [n for b in table.buffers for n in b.shape]
    largest = max((max(map(abs, interval(e, ranges))) for e in used), default=0)
    extra = int(
        np.abs(np.concatenate([table.access_lo.ravel(), table.access_hi.ravel(), [0]])).max()
    )
    sloped = any(_sloped(e, period) for e in used)
    quotients = 2 + (2 * (largest + extra) + max(sizes, default=0) if sloped else 0)
    high = min(high, period * quotients + 64)
    if high - low + 1 > MAX_STATES:
        raise TooManyStatesError(f"expressions of '{ITERATION}' have more than {MAX_STATES} cases")
    return np.arange(low, high + 1, dtype=np.int64)


def _sloped(expr: Expr, period: int) -> bool:
    zero = dict.fromkeys(expr.variables, 0)
    return expr.evaluate(zero | {ITERATION: period}) != expr.evaluate(zero)
