"""Whether an integer of the printed program is an integer of the table, in every case there is.

The table gives a number for each task: a constant and at most some expressions of run-time scalars.
The program gives an expression over the columns of its lanes and the scalars. Lanes are compared
one by one. In the scalars both are quasi-affine: over a period P (the least common multiple of the
periods of the terms; a division by d multiplies the period of what it divides by d) such an
expression changes by a constant. So if two of them agree on 2 P values of each scalar, they agree
on all values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from types import MappingProxyType

import numpy as np

from amk.backends.readback.integers import Value
from amk.errors import AmkError
from amk.schedule.expr import Expr
from amk.schedule.table import ITERATION

MOST_POINTS = 2**24
"""Values of the scalars that are looked at, for one expression."""


@dataclass(frozen=True)
class Column:
    """A number for each of n tasks: `constant` [n] plus the sum of `factor * expressions[ids]`.

    `ids` [n] number the expressions of the table, -1 for none.
    """

    constant: np.ndarray
    parts: tuple[tuple[int, np.ndarray], ...] = ()

    @staticmethod
    def of(value: int | np.ndarray, count: int) -> Column:
        """The same number for `count` tasks, or one number for each."""
        return Column(np.broadcast_to(np.asarray(value, np.int64), (count,)))

    def __add__(self, other: Column | int) -> Column:
        if isinstance(other, int):
            return Column(self.constant + other, self.parts)
        return Column(self.constant + other.constant, (*self.parts, *other.parts))

    def __sub__(self, other: Column | int) -> Column:
        return self + -other if isinstance(other, int) else self + other * -1

    def __mul__(self, factor: int) -> Column:
        parts = tuple((f * factor, ids) for f, ids in self.parts)
        return Column(self.constant * factor, parts)

    @property
    def is_constant(self) -> bool:
        """Whether no run-time scalar changes it."""
        return all(bool((ids < 0).all()) for _, ids in self.parts)

    def equals(self, value: int | np.ndarray) -> bool:
        """Whether it is this number, or these [n], whatever the scalars are."""
        return self.is_constant and bool((self.constant == value).all())


def tabulated(
    expr: Expr, indices: Mapping[str, np.ndarray], count: int
) -> tuple[Column, list[Expr]]:
    """An expression of the IR for each of `count` tasks, and the expressions that it refers to."""
    own, rest = expr.split(frozenset(indices))
    constant = Column.of(np.asarray(own.evaluate(indices)), count)
    names = sorted(rest.variables & indices.keys())
    keys = np.stack([np.zeros(count, np.int64), *(indices[name] for name in names)])
    cases, which = np.unique(keys, axis=1, return_inverse=True)
    expressions = [
        rest.substitute(dict(zip(names, values, strict=True))) for _, *values in cases.T.tolist()
    ]
    return constant + Column(np.zeros(count, np.int64), ((1, which.reshape(-1)),)), expressions


@dataclass(frozen=True)
class Comparer:
    """Compares with the numbers of one table, whose scalars take the values in `ranges`.

    `ranges` has the last value included; the number of the iteration has no last value.
    """

    expressions: Sequence[Expr]
    ranges: Mapping[str, tuple[int, int]]

    def differing(
        self,
        value: Value,
        columns: Mapping[str, np.ndarray],
        reference: Column,
        moving: Mapping[str, Column] = MappingProxyType({}),
    ) -> int | None:
        """The first lane [n] in which the program's value is not the table's; None if all agree.

        `columns` are the variables of the program that no scalar changes, `moving` the others.
        """
        own, rest = value.expr.split(frozenset(columns))
        delta = np.asarray(own.evaluate(columns)) - reference.constant
        keys = [columns[name] for name in sorted(rest.variables & columns.keys())]
        for name in sorted(rest.variables & moving.keys()):
            keys += [moving[name].constant, *(ids for _, ids in moving[name].parts)]
        keys += [ids for _, ids in reference.parts]
        if not keys:
            keys = [np.zeros(len(delta), np.int64)]
        cases, first, which = np.unique(
            np.stack(keys), axis=1, return_index=True, return_inverse=True
        )
        which = which.reshape(-1)
        offsets = np.zeros(cases.shape[1], np.int64)
        for case, lane in enumerate(first):
            here: dict[str, int | Expr] = {
                name: int(columns[name][lane]) for name in rest.variables & columns.keys()
            }
            for name in rest.variables & moving.keys():
                here[name] = self._at(moving[name], int(lane))
            offset = self._difference(rest.substitute(here) - self._at(reference, int(lane), 0))
            if offset is None:
                return int(lane)
            offsets[case] = offset
        wrong = np.flatnonzero(delta + offsets[which])
        return int(wrong[0]) if len(wrong) else None

    def _at(self, column: Column, lane: int, constant: int | None = None) -> Expr:
        """The number of one task, with the scalars as the program spells them.

        Its constant is left out where another is given.
        """
        total = Expr.const(int(column.constant[lane]) if constant is None else constant)
        for factor, ids in column.parts:
            if ids[lane] >= 0:
                expr = self.expressions[int(ids[lane])]
                total = total + expr.substitute(_spelled(expr)) * factor
        return total

    def _difference(self, difference: Expr) -> int | None:
        """The value of an expression of the scalars that is constant; None if it varies."""
        if difference.is_const:
            return difference.value
        values = np.asarray(difference.evaluate(self._grid([difference]))).reshape(-1)
        return int(values[0]) if bool((values == values[0]).all()) else None

    def simplified(self, column: Column) -> Column:
        """The same numbers without the expressions, if they cancel in every task."""
        if column.is_constant:
            return Column(column.constant)
        ids = np.stack([ids for _, ids in column.parts])
        cases, which = np.unique(ids, axis=1, return_inverse=True)
        offsets = np.zeros(cases.shape[1], np.int64)
        for case in range(cases.shape[1]):
            total = Expr.const(0)
            for (factor, _), number in zip(column.parts, cases[:, case], strict=True):
                total = total + (self.expressions[int(number)] * factor if number >= 0 else 0)
            if not total.is_const:
                return column
            offsets[case] = total.value
        return Column(column.constant + offsets[which.reshape(-1)])

    def equal_where(self, column: Column, guard: np.ndarray) -> bool:
        """Whether numbers are 0 wherever their guard (an expression's number, -1: none) is 0."""
        keys = np.stack([column.constant, *(ids for _, ids in column.parts), guard])
        for constant, *ids, number in np.unique(keys, axis=1).T.tolist():
            total = Expr.const(constant)
            for (factor, _), part in zip(column.parts, ids, strict=True):
                total = total + (self.expressions[part] * factor if part >= 0 else 0)
            condition = self.expressions[number] if number >= 0 else Expr.const(0)
            value, guarded = self._sampled(total, condition, periodic=[condition])
            if ((value != 0) & (guarded == 0)).any():
                return False
        return True

    def same_zeros(self, expr: Expr, columns: Mapping[str, np.ndarray], guard: np.ndarray) -> bool:
        """Whether an expression over columns is 0 exactly where the guards of the tasks are."""
        names = sorted(expr.variables & columns.keys())
        keys = np.stack([*(columns[name] for name in names), guard])
        for *here, number in np.unique(keys, axis=1).T.tolist():
            one = expr.substitute(dict(zip(names, here, strict=True)))
            other = self.expressions[number] if number >= 0 else Expr.const(0)
            if one == other:
                continue
            first, second = self._sampled(one, other, periodic=[one, other])
            if ((first == 0) != (second == 0)).any():
                return False
        return True

    def _sampled(
        self, one: Expr, other: Expr, periodic: Sequence[Expr]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both expressions at enough values of the scalars.

        Two periods are enough where `periodic` repeat in each; otherwise all values are needed.
        """
        grid = self._grid([one, other])
        if not all(_repeats(np.asarray(expr.evaluate(grid))) for expr in periodic):
            grid = self._grid([one, other], whole=True)
        return np.asarray(one.evaluate(grid)), np.asarray(other.evaluate(grid))

    def _grid(self, exprs: Sequence[Expr], *, whole: bool = False) -> dict[str, np.ndarray]:
        """Values of the scalars of `exprs` to look at, as arrays that broadcast to all cases.

        Two periods of each, or what there is; with `whole`, all values. AmkError for too many.
        """
        names = sorted({name for expr in exprs for name in expr.variables})
        period = 2 * lcm(*(period_of(expr) for expr in exprs))
        axes: dict[str, np.ndarray] = {}
        total = 1
        for axis, name in enumerate(names):
            lo, last = self.ranges.get(name.removeprefix("w."), (0, MOST_POINTS))
            count = last + 1 - lo if whole else min(last + 1 - lo, period)
            total *= count
            if total > MOST_POINTS:
                raise AmkError(f"an expression of {' and '.join(names)} has too many cases")
            shape = [1] * len(names)
            shape[axis] = count
            axes[name] = np.arange(lo, lo + count).reshape(shape)
        return axes


def _repeats(values: np.ndarray) -> bool:
    """Whether the second half along each axis is the first again."""
    for axis, count in enumerate(values.shape):
        if count == 1:
            continue  # it does not depend on this scalar, or there is one value only
        if count % 2:
            return False
        first, second = np.split(values, 2, axis=axis)
        if not np.array_equal(first, second):
            return False
    return True


def _spelled(expr: Expr) -> dict[str, Expr]:
    """The scalars of a table's expression under the names that they have in the program."""
    return {
        name: Expr.var("w.iteration" if name == ITERATION else f"w.{name}")
        for name in expr.variables
    }


def period_of(expr: Expr) -> int:
    """P such that every variable may grow by P, and the expression changes by a constant."""
    return lcm(
        *(
            1 if atom.operand is None else atom.divisor * period_of(atom.operand)
            for atom, _ in expr.terms
        )
    )
