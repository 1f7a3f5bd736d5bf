"""Expands a `task.table`: its arrays become columns of the schedule's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amk.dialects import task
from amk.dialects.memory import is_packet
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.schedule.builder import TableBuilder
from amk.schedule.expr import Expr
from amk.schedule.table import STREAM

HEAD = 6
"""Columns of an access before its bounds."""


@dataclass(frozen=True)
class Names:
    """What a table refers to: numbers of buffers with their ops, and numbers of counters."""

    buffers: Mapping[str, tuple[int, task.BufferOp]]
    counters: Mapping[str, int]


def expand_table(
    op: task.TableOp, builder: TableBuilder, names: Names, repeats: Mapping[str, int]
) -> list[int]:
    """Append the tasks of `op`; the origins that they have. `AmkError` on unknown names."""
    return _Expansion(op, builder, names, repeats).run()


class _Expansion:
    def __init__(
        self, op: task.TableOp, builder: TableBuilder, names: Names, repeats: Mapping[str, int]
    ) -> None:
        self.op = op
        self.builder = builder
        self.names = names
        self.repeats = repeats
        self.exprs = [e.substitute(dict(repeats)) for e in op.expressions]
        constants = [e.constant for e in self.exprs]
        self.constant = np.array([*constants, 0], np.int64)
        moving = [builder.expression(e - e.constant) if e.terms else -1 for e in self.exprs]
        self.number = np.array([*moving, -1], np.int64)

    def run(self) -> list[int]:
        rows = self.op.rows("tasks")
        origins, of = self._origins(rows[:, 4])
        guards = None
        if (rows[:, 3] >= 0).any():
            guards = [self.exprs[g] if g >= 0 else Expr(0) for g in rows[:, 3].tolist()]
        index = [self.op.rows("index")] if self.op.index is not None else []
        index += [np.full((len(rows), 1), value) for value in self.repeats.values()]
        if (rows[:, 4] < 0).any():  # tasks without a name are numbered
            index.insert(0, np.where(rows[:, 4] < 0, np.arange(len(rows)), -1)[:, None])
        ids = self.builder.tasks(
            of, self._queues(rows), np.concatenate(index, 1) if index else None, guards
        )
        counters = np.array([self._counter(c) for c in self.op.symbols("counters")], np.int64)
        for key, add in (("waits", self.builder.waits), ("signals", self.builder.signals)):
            found = self.op.rows(key)
            if len(found):
                add(ids[found[:, 0]], counters[found[:, 1]], found[:, 2])
        if self.op.accesses is not None:
            self._accesses(ids)
        return origins

    def _origins(self, words: np.ndarray) -> tuple[list[int], np.ndarray]:
        """The origins that are used, and the one of each task."""
        where = location_of(self.op) or ""
        used = np.unique(words)
        known = self.op.words
        made = [
            self.builder.origin(known[w] if w >= 0 else self.op.sym_name.data, where)
            for w in used.tolist()
        ]
        return made, np.array(made)[np.searchsorted(used, words)]

    def _queues(self, rows: np.ndarray) -> np.ndarray:
        queues = np.empty(len(rows), np.int32)
        own = rows[:, 0] < 0
        queues[own] = self.builder.single_queues(int(own.sum()))
        for agent, name in enumerate(("compute", STREAM)):
            some = ~own & (rows[:, 1] == agent)
            queues[some] = self.builder.queues(rows[some, 0], name)
        return queues

    def _counter(self, name: str) -> int:
        if name not in self.names.counters:
            raise self._error(f"there is no counter @{name}")
        return self.names.counters[name]

    def _accesses(self, ids: np.ndarray) -> None:
        rows = self.op.rows("accesses")
        width = (rows.shape[1] - HEAD) // 2
        constants = rows[:, HEAD:].copy()
        numbers = np.full_like(constants, -1)
        self._move(constants, numbers)
        lo, lo_expr = constants[:, ::2], numbers[:, ::2]
        hi, hi_expr = constants[:, 1::2], numbers[:, 1::2]
        real = rows[:, 1] >= 0
        buffer, rank, packet = self._buffers(width)
        of, ranks = buffer[rows[:, 1]], rank[rows[:, 1]]
        self._check(rows, real, ranks, packet[rows[:, 1]], width)
        for dim in range(width):
            single = rows[:, 5] >> dim & 1 == 1
            hi[single, dim], hi_expr[single, dim] = lo[single, dim] + 1, lo_expr[single, dim]
            beyond = dim >= ranks
            lo[beyond, dim], hi[beyond, dim] = 0, 1
            lo_expr[beyond, dim] = hi_expr[beyond, dim] = -1
        guard, happens = self._guards(rows[:, 4])
        mode = rows[:, 2]
        times = np.where(real & happens, 1 + (mode == 2), 0)
        row = np.repeat(np.arange(len(rows)), times)
        second = np.zeros(len(row), bool)
        second[1:] = row[1:] == row[:-1]
        write = (mode[row] == 1) | second
        self.builder.boxes(
            ids[rows[row, 0]], of[row], write, (lo[row], lo_expr[row]), (hi[row], hi_expr[row]),
            guard[row], rows[row, 3], ranks[row],
        )  # fmt: skip

    def _move(self, constants: np.ndarray, numbers: np.ndarray) -> None:
        """Adds the expressions of `moving` to the bounds."""
        rows = self.op.rows("moving")
        at, bound, expr = rows[:, 0], rows[:, 1], rows[:, 2]
        if len(np.unique(rows[:, :2], axis=0)) < len(rows):
            raise self._error("a bound moves by two expressions; give their sum")
        constants[at, bound] += self.constant[expr]
        numbers[at, bound] = self.number[expr]

    def _buffers(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number, rank and whether it holds packets of each buffer in the list; the last entry
        stands for none."""
        found = []
        for name in self.op.symbols("buffers"):
            if name not in self.names.buffers:
                raise self._error(f"there is no buffer @{name}")
            number, buffer = self.names.buffers[name]
            found.append((number, buffer.type.get_num_dims(), is_packet(buffer.type)))
        columns = np.array([*found, (-1, width, False)], np.int64).T
        return columns[0], columns[1], columns[2].astype(bool)

    def _check(
        self, rows: np.ndarray, real: np.ndarray, ranks: np.ndarray, packet: np.ndarray, width: int
    ) -> None:
        names = [f"@{name}" for name in [*self.op.symbols("buffers"), ""]]
        of = [names[number] for number in rows[:, 1].tolist()]
        for row in np.flatnonzero(real & (ranks > width))[:1]:
            raise self._error(
                f"access {row} gives {width} dimensions, but {of[row]} has {ranks[row]}"
            )
        dims = np.arange(rows.shape[1] - HEAD) // 2
        beyond = (dims[None, :] >= ranks[:, None]) & (rows[:, HEAD:] != 0)
        for row in np.flatnonzero(real & beyond.any(axis=1))[:1]:
            raise self._error(
                f"access {row} of {of[row]} has bounds beyond its {ranks[row]} dimensions"
            )
        for row in np.flatnonzero(real & (packet != (rows[:, 3] >= 0)))[:1]:
            raise self._error(
                f"access {row} of {of[row]} must "
                + ("give its use" if packet[row] else "not give a use")
            )

    def _guards(self, guards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of expressions (-1: always), and which accesses can happen touched at all."""
        known = [-1] * (len(self.exprs) + 1)
        for number in np.unique(guards[guards >= 0]).tolist():
            expr = self.exprs[number]
            known[number] = self.builder.expression(expr) if expr.terms else -1
        never = np.array([not e.terms and e.constant != 0 for e in [*self.exprs, Expr(0)]], bool)
        return np.array(known, np.int64)[guards], ~never[guards]

    def _error(self, message: str) -> AmkError:
        return AmkError(f"@{self.op.sym_name.data}: {message}", location=location_of(self.op))
