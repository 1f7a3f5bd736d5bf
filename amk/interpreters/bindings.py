"""What the tasks of a schedule touch: regions of families, for all instances at once.

A *round* is a family (or explicit task) in one round of the repeats around it. Its regions are
integer arrays over the instances; those that depend on run-time scalars or on the iteration are
computed again for each iteration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import MemRefType

from amk.dialects import task
from amk.dialects.access import Access, AccessAttr, Argument
from amk.dialects.memory import is_packet
from amk.errors import AmkError
from amk.interpreters.memory import Box
from amk.ir.expand import TaskLike
from amk.ir.location import location_of
from amk.schedule.expr import Expr

_KEPT_ITERATIONS = 4
"""Iterations whose regions are remembered; workers are rarely further apart."""

Values = Mapping[str, "int | np.ndarray"]


@dataclass(frozen=True)
class Regions:
    """The regions of one argument: bounds [instances, rank], and where the access happens."""

    lo: np.ndarray
    hi: np.ndarray
    happens: np.ndarray
    use: np.ndarray
    single: tuple[bool, ...]
    """The dimensions with a single index, which a kernel does not see."""

    def slices(self, instance: int) -> tuple[slice, ...]:
        """The region with all dimensions."""
        lo, hi = self.lo[instance].tolist(), self.hi[instance].tolist()
        return tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))

    def box(self, instance: int) -> Box:
        """The region as the kernel sees it: without the dimensions of a single index."""
        parts = zip(self.slices(instance), self.single, strict=True)
        return (*(part.start if single else part for part, single in parts), ...)


class Binding:
    """One argument of a round."""

    def __init__(self, owner: Round, argument: Argument, type_: MemRefType | None) -> None:
        self._owner = owner
        self.access = argument.data if isinstance(argument, AccessAttr) else None
        self.index = None if isinstance(argument, AccessAttr) else argument.data
        self._type = type_
        names = owner.names.keys()
        expressions = [] if self.access is None else list(self.access.expressions())
        if owner.op.guard is not None:
            expressions.append(owner.op.guard.data)
        self.fixed = all(e.variables <= names for e in expressions)
        self._kept: dict[tuple[object, ...], Regions] = {}

    @property
    def buffer(self) -> str:
        """The name of the buffer; "" for an index."""
        return self.access.buffer if self.access is not None else ""

    @property
    def packet(self) -> bool:
        """Whether the region holds packets."""
        return self._type is not None and is_packet(self._type)

    def number(self, instance: int, values: Values) -> int:
        """The value of an index argument."""
        assert self.index is not None
        return int(self._owner.evaluate(self.index, values)[instance])

    def regions(self, values: Values) -> Regions:
        """The regions of all instances for these run-time scalars; AmkError if out of bounds."""
        key = () if self.fixed else tuple(values.values())
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _KEPT_ITERATIONS:
                del self._kept[next(iter(self._kept))]
            found = self._kept[key] = self._compute(values)
        return found

    def _compute(self, values: Values) -> Regions:
        owner, access = self._owner, self.access
        assert access is not None
        assert self._type is not None
        shape = self._type.get_shape()
        if len(access.dims) != len(shape):
            raise owner.error(
                f"an access of @{access.buffer} has {len(access.dims)} dimensions, the buffer "
                f"{len(shape)}"
            )
        happens = owner.enabled(values)
        if access.guard is not None:
            happens = happens & (owner.evaluate(access.guard, values) == 0)
        use = np.full(owner.count, -1)
        if access.use is not None:
            use = owner.evaluate(access.use, values)
        lo = np.stack([owner.evaluate(dim.lo, values) for dim in access.dims], 1)
        hi = np.stack([owner.evaluate(dim.end, values) for dim in access.dims], 1)
        hi = np.maximum(lo, hi)
        result = Regions(lo, hi, happens, use, tuple(dim.hi is None for dim in access.dims))
        self._check(result, access, shape)
        return result

    def _check(self, regions: Regions, access: Access, shape: tuple[int, ...]) -> None:
        inside = (regions.lo >= 0) & (regions.hi <= shape)
        # A region that is empty in some dimension touches nothing, wherever it is.
        empty = (regions.lo == regions.hi).any(1)
        wrong = np.flatnonzero(~inside.all(1) & ~empty & regions.happens)
        if len(wrong):
            box = ", ".join(f"{s.start} : {s.stop}" for s in regions.slices(wrong[0]))
            raise self._owner.error(
                f"instance {wrong[0]} touches [{box}] of @{access.buffer}, which is "
                f"{'x'.join(map(str, shape))}"
            )


@dataclass
class Round:
    """The tasks `first` to `first + count - 1` of the table, which come from one op."""

    op: TaskLike
    repeats: dict[str, int]
    first: int
    names: dict[str, np.ndarray] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = self.op.instances
        self.names = {key: np.full(self.count, value) for key, value in self.repeats.items()}
        if self.op.index_name:
            self.names[self.op.index_name] = np.arange(self.count)

    def error(self, message: str) -> AmkError:
        """An error at the op."""
        return AmkError(f"@{self.op.sym_name.data}: {message}", location=location_of(self.op))

    def evaluate(self, expr: Expr, values: Values) -> np.ndarray:
        """An expression for each instance."""
        known = {**values, **self.names}
        missing = expr.variables - known.keys()
        if missing:
            raise self.error(
                f"'{expr}' uses {', '.join(sorted(missing))}, which is no index or scalar here"
            )
        return np.broadcast_to(np.asarray(expr.evaluate(known)), (self.count,))

    def enabled(self, values: Values) -> np.ndarray:
        """Which instances touch anything: those whose guard is 0."""
        if self.op.guard is None:
            return np.ones(self.count, bool)
        return self.evaluate(self.op.guard.data, values) == 0


def rounds_of(schedule: task.ScheduleOp, buffers: Mapping[str, task.BufferOp]) -> list[Round]:
    """All rounds in execution order, which is the order of the tasks in the table."""
    result: list[Round] = []
    first = 0

    def visit(op: TaskLike, repeats: dict[str, int]) -> None:
        nonlocal first
        made = Round(op, repeats, first)
        for argument in op.args:
            type_ = None
            if isinstance(argument, AccessAttr):
                type_ = buffers[argument.data.buffer].type
            made.bindings.append(Binding(made, argument, type_))
        first += made.count
        result.append(made)

    task.for_each_task(schedule, visit)
    return result


def count_boxes(
    shape: Sequence[int], lo: np.ndarray, hi: np.ndarray, into: np.ndarray | None = None
) -> np.ndarray:
    """How many of the boxes [n, rank] cover each element."""
    counts = np.zeros(tuple(shape), np.int32) if into is None else into
    boxes, times = np.unique(np.concatenate([lo, hi], 1), axis=0, return_counts=True)
    rank = len(tuple(shape))
    for box, number in zip(boxes.tolist(), times.tolist(), strict=True):
        counts[tuple(slice(box[d], box[rank + d]) for d in range(rank))] += number
    return counts
