"""Integer points that meet every case of affine comparisons: residues and breakpoints.

Statement.  Let some integer variables have finite ranges, and let terms be quasi-affine expressions
of them.  A *case* is the outcome of all comparisons between terms (less, equal, greater).  `meet`
returns points in the ranges such that every case that some point of the ranges has is the case of
a returned point.

Proof.  Expressions repeat up to a constant slope with the period P of each variable, so for fixed
residues they are affine in the quotients.  A comparison is then two predicates `a . k >= t`, and
the ranges are such predicates too.  For fixed other quotients, every predicate changes once along
the last quotient, at its *breakpoint*, so each set of points with equal outcomes is an interval
that begins at a breakpoint (that of the lower end of the range, at least), and the breakpoints of
all predicates meet every case.  The breakpoint of a predicate with coefficient m is affine in the
other quotients once their residues modulo m are fixed; it is substituted, and what remains are
predicates of one variable less.  (This is Cooper's elimination, D. C. Cooper, Theorem proving in
arithmetic without multiplication, 1972, used to list points.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.verify.report import TooLargeError

SMALL = 2**10
"""Ranges with at most this many points are listed as a whole."""

MAX_POINTS = 2**22
"""More points than this are refused (`TooLargeError`)."""

Term = tuple[Expr, int]
"""An expression and a constant that is added to it."""


@dataclass(frozen=True)
class Comparisons:
    """`groups` of terms that are compared with each other; `legal` are terms that must be >= 0;
    the values of the variables in `listed` all count as different cases."""

    groups: Sequence[Sequence[Term]]
    legal: Sequence[Expr] = ()
    listed: frozenset[str] = frozenset()


def period(expr: Expr, name: str) -> int:
    """The least number we know after which `expr` repeats, up to a constant, in a variable."""
    found = 1
    for atom, _ in expr.terms:
        if atom.operand is not None and name in atom.operand.variables:
            found = math.lcm(found, atom.divisor * period(atom.operand, name))
    return found


def meet(ranges: Mapping[str, tuple[int, int]], wanted: Comparisons) -> dict[str, np.ndarray]:
    """Points [n] of the variables in `ranges` (inclusive) that meet every case of `wanted`.

    Raises `TooLargeError` if they are too many.
    """
    parts = _components(ranges, wanted)
    points = [_component(part, ranges, wanted) for part in parts]
    total = math.prod(len(p) for p in points)
    if total > MAX_POINTS:
        raise TooLargeError(
            f"the run-time scalars have more than {MAX_POINTS} cases that differ in what the tasks "
            "touch"
        )
    grid = np.meshgrid(*(np.arange(len(p)) for p in points), indexing="ij")
    found: dict[str, np.ndarray] = {}
    for part, values, index in zip(parts, points, grid, strict=True):
        for column, name in enumerate(part):
            found[name] = values[index.ravel(), column]
    return found


def _components(ranges: Mapping[str, tuple[int, int]], wanted: Comparisons) -> list[list[str]]:
    """Variables in sets that no comparison and no condition connects."""
    parts = [{name} for name in ranges]
    together = [frozenset[str]().union(*(e.variables for e, _ in group)) for group in wanted.groups]
    for names in [*together, *(e.variables for e in wanted.legal)]:
        joined = [p for p in parts if p & names]
        if len(joined) > 1:
            parts = [p for p in parts if not p & names] + [set().union(*joined)]
    return [sorted(p) for p in parts]


def _component(
    names: list[str], ranges: Mapping[str, tuple[int, int]], wanted: Comparisons
) -> np.ndarray:
    """Points [n, len(names)], sorted."""
    inside = frozenset(names)
    groups = [g for g in wanted.groups if any(e.variables & inside for e, _ in g)]
    legal = [e for e in wanted.legal if e.variables & inside]
    spans = [ranges[n] for n in names]
    if math.prod(hi - lo + 1 for lo, hi in spans) <= SMALL:
        found = _grid([range(lo, hi + 1) for lo, hi in spans])
    else:
        periods = _periods(names, spans, groups, wanted.listed)
        found = _by_residues(names, spans, groups, legal, periods)
    values = {n: found[:, i] for i, n in enumerate(names)}
    keep = np.ones(len(found), bool)
    for column, (lo, hi) in enumerate(spans):
        keep &= (found[:, column] >= lo) & (found[:, column] <= hi)
    for condition in legal:
        keep &= np.asarray(condition.evaluate(values)) >= 0
    return np.unique(found[keep], axis=0)


def _periods(
    names: list[str],
    spans: list[tuple[int, int]],
    groups: list[Sequence[Term]],
    listed: frozenset[str],
) -> list[int]:
    result: list[int] = []
    for name, (lo, hi) in zip(names, spans, strict=True):
        every = {e for g in groups for e, _ in g}
        step = math.lcm(1, *(period(e, name) for e in every))
        whole = hi - lo + 1
        # One quotient per residue lists all values.
        result.append(-(-whole // step) * step if name in listed else step)
    return result


def _by_residues(
    names: list[str],
    spans: list[tuple[int, int]],
    groups: list[Sequence[Term]],
    legal: Sequence[Expr],
    periods: list[int],
) -> np.ndarray:
    pairs = zip(spans, periods, strict=True)
    first = [range(lo, lo + min(p, hi - lo + 1)) for (lo, hi), p in pairs]
    _check(math.prod(len(r) for r in first))
    bases = _grid(first)
    at = {n: bases[:, i] for i, n in enumerate(names)}
    columns = [_columns(g, names, at, periods) for g in groups]
    conditions = _columns([(e, 0) for e in legal], names, at, periods)
    found: list[np.ndarray] = []
    count = 0
    step = np.array(periods, np.int64)
    for row, base in enumerate(bases):
        rows = [_differences(slopes, constants[:, row]) for slopes, constants in columns]
        rows.append(np.column_stack([conditions[0], -conditions[1][:, row]]))
        last = [(hi - int(x)) // p for (_, hi), x, p in zip(spans, base, periods, strict=True)]
        box = np.stack([np.zeros(len(names), np.int64), np.array(last, np.int64)])
        points = _points(np.concatenate(rows), box) * step + base
        count += len(points)
        _check(count)
        found.append(points)
    return np.concatenate(found)


def _columns(
    terms: Iterable[Term], names: list[str], at: Mapping[str, np.ndarray], periods: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [terms, names] by quotient, and the values [terms, residues] at quotient 0."""
    slopes, constants = [], []
    count = len(next(iter(at.values())))
    for expr, constant in terms:
        zero = np.asarray(expr.evaluate(at))
        constants.append(np.broadcast_to(zero + constant, (count,)))
        moved = [expr.evaluate({**at, n: at[n] + p}) for n, p in zip(names, periods, strict=True)]
        slopes.append([int(np.ravel(m - zero)[0]) for m in moved])
    return (
        np.array(slopes, np.int64).reshape(len(slopes), len(names)),
        np.array(constants, np.int64).reshape(len(constants), count),
    )


def _differences(slopes: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """The predicates x - y >= 0 and x - y >= 1 for all pairs of terms with different slopes."""
    terms = np.unique(np.column_stack([slopes, constants]), axis=0)
    _check(len(terms) * (len(terms) - 1) // 2)
    one, two = np.triu_indices(len(terms), 1)
    apart = (terms[one, :-1] != terms[two, :-1]).any(axis=1)
    rows = terms[one[apart]] - terms[two[apart]]
    rows[:, -1] *= -1
    above = rows.copy()
    above[:, -1] += 1
    return np.concatenate([rows, above])


def _points(predicates: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Points [n, count] of a box (least, greatest) that meet every outcome of the predicates
    `a . k >= t`, which are rows (a, t)."""
    count = box.shape[1]
    if (box[0] > box[1]).any():
        return np.zeros((0, count), np.int64)
    if count == 0:
        return np.zeros((1, 0), np.int64)
    predicates = _open(predicates, box)
    _check(len(predicates))
    first = np.zeros((1, count + 1), np.int64)
    first[0, -2:] = 1, box[0, -1]
    if count == 1:  # the coefficients are 1 and -1
        edges = np.where(predicates[:, 0] > 0, predicates[:, 1], 1 - predicates[:, 1])
        return np.unique(np.append(edges, box[0, 0]))[:, None]
    last = -first
    last[0, -1] = -box[1, -1]
    every = np.concatenate([predicates, first, last])
    found: list[np.ndarray] = []
    total = 0
    for row in [*predicates[predicates[:, -2] != 0], first[0]]:
        points = _at_breakpoint(every, row, box)
        total += len(points)
        _check(total)
        found.append(points)
    return np.unique(np.concatenate(found), axis=0)


def _at_breakpoint(predicates: np.ndarray, row: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Points of the box at which the last variable is the breakpoint of the predicate `row`."""
    lead, rest, threshold = int(row[-2]), row[:-2], int(row[-1])
    size = abs(lead)
    by = size // math.gcd(size, *(int(c) for c in rest))
    if by > 1:
        _check(by ** len(rest))
    found: list[np.ndarray] = []
    for residues in product(range(by), repeat=len(rest)):
        shift = np.array(residues, np.int64)
        left = threshold - int(rest @ shift)
        # a . k + lead * x >= t changes at x = ceil((t - a . k) / lead), or just after the floor.
        constant = -(-left // lead) if lead > 0 else (-left) // size + 1
        slope = rest * by * (-1 if lead > 0 else 1) // size
        _check_sums(predicates, by, slope, constant)
        inner = np.empty((len(predicates), len(rest) + 1), np.int64)
        inner[:, :-1] = predicates[:, :-2] * by + np.outer(predicates[:, -2], slope)
        inner[:, -1] = predicates[:, -1] - predicates[:, :-2] @ shift - predicates[:, -2] * constant
        sides = np.stack([-((shift - box[0, :-1]) // by), (box[1, :-1] - shift) // by])
        others = _points(inner, sides)
        found.append(np.column_stack([others * by + shift, others @ slope + constant]))
    points = np.concatenate(found)
    return points[(points[:, -1] >= box[0, -1]) & (points[:, -1] <= box[1, -1])]


def _open(predicates: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Distinct predicates that the box does not decide, without common divisors."""
    common = np.gcd.reduce(predicates[:, :-1], axis=1) if len(predicates) else np.zeros(0, np.int64)
    rows = predicates[common > 0]
    common = common[common > 0]
    rows = np.column_stack([rows[:, :-1] // common[:, None], -(-rows[:, -1] // common)])
    if float(np.abs(rows).max(initial=0)) * float(np.abs(box).max(initial=0)) > 2**61:
        raise TooLargeError("the expressions of run-time scalars have too large values")
    ends = rows[:, :-1, None] * box.T[None, :, :]
    decided = (rows[:, -1] <= ends.min(axis=2).sum(axis=1)) | (
        rows[:, -1] > ends.max(axis=2).sum(axis=1)
    )
    return np.unique(rows[~decided], axis=0)


def _check_sums(predicates: np.ndarray, by: int, slope: np.ndarray, constant: int) -> None:
    """No number of the next step may leave 64 bits."""
    largest = float(np.abs(predicates).max(initial=0))
    if largest * (by + float(np.abs(slope).max(initial=0)) + abs(constant)) > 2**61:
        raise TooLargeError("the expressions of run-time scalars have too large coefficients")


def _grid(sides: Sequence[range]) -> np.ndarray:
    arrays = np.meshgrid(*(np.arange(s.start, s.stop) for s in sides), indexing="ij")
    return np.stack([a.ravel() for a in arrays], 1).astype(np.int64)


def _check(count: int) -> None:
    if count > MAX_POINTS:
        raise TooLargeError(
            f"the expressions of run-time scalars have more than {MAX_POINTS} residues and "
            "breakpoints"
        )
