"""`TableBuilder` fills a `ScheduleTable` in vectorised blocks, a family at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from amk.schedule.expr import Expr
from amk.schedule.table import (
    COMPUTE,
    SINGLE,
    Buffer,
    Origin,
    Queue,
    Scalar,
    ScheduleTable,
)

Bound = int | np.ndarray | Expr | Sequence[Expr | int]
"""A bound or guard of n instances: one value for all, an integer array [n], one expression over
run-time scalars and family indices (see `index` of `access`), or n expressions."""

Ids = int | np.ndarray


class TableBuilder:
    """Appends to the columns of a table; nothing is checked here, the verifier judges the result.

    A queue runs its tasks in the order in which they were appended.
    """

    def __init__(self, workers: int, iterations: int | None = None, name: str = "schedule") -> None:
        """An empty schedule for `workers` workers; `iterations` None means any number."""
        self.name = name
        self.workers = workers
        self.iterations = iterations
        self._queues: list[Queue] = []
        self._queue_ids: dict[Queue, int] = {}
        self._scalars: list[Scalar] = []
        self._buffers: list[Buffer] = []
        self._counters: list[Origin] = []
        self._origins: list[Origin] = []
        self._expressions: list[Expr] = []
        self._expression_ids: dict[Expr, int] = {}
        self._columns: dict[str, list[np.ndarray]] = {}
        self._n_tasks = 0

    def queue(self, worker: int, agent: str = COMPUTE) -> int:
        """The id of a worker's compute or stream queue."""
        queue = Queue(worker, agent)
        if queue not in self._queue_ids:
            self._queue_ids[queue] = len(self._queues)
            self._queues.append(queue)
        return self._queue_ids[queue]

    def queues(self, workers: np.ndarray, agent: str = COMPUTE) -> np.ndarray:
        """The queue ids [n] of `workers` [n]."""
        distinct, inverse = np.unique(workers, return_inverse=True)
        ids = np.array([self.queue(int(w), agent) for w in distinct], np.int32)
        return ids[inverse.reshape(-1)] if len(ids) else np.zeros(0, np.int32)

    def single_queues(self, count: int) -> np.ndarray:
        """Ids [count] of fresh queues that belong to no worker (for `worker=None`)."""
        first = len(self._queues)
        self._queues.extend([Queue(-1, SINGLE)] * count)
        return np.arange(first, first + count, dtype=np.int32)

    def scalar(self, name: str, lo: int, hi: int, step: int = 1) -> Expr:
        """Declare a run-time scalar (see `Scalar`) and return it as an expression."""
        self._scalars.append(Scalar(name, lo, hi, step))
        return Expr.var(name)

    def buffer(
        self,
        name: str,
        shape: Sequence[int],
        item_bytes: int,
        kind: str = "scratch",
        *,
        arena: str | None = None,
        offset: int = 0,
        initial: bool = False,
        space: str = "global",
        packet: bool = False,
        uses: int = 1,
        location: str = "",
    ) -> int:
        """Declare a buffer (see `Buffer`) and return its id."""
        made = Buffer(
            name, tuple(int(n) for n in shape), item_bytes, kind, arena, offset, initial, space,
            packet, uses, location,
        )  # fmt: skip
        self._buffers.append(made)
        return len(self._buffers) - 1

    def counter(self, name: str, location: str = "") -> int:
        """Declare a counter, 0 at launch, and return its id."""
        self._counters.append(Origin(name, location))
        return len(self._counters) - 1

    def origin(self, name: str, location: str = "") -> int:
        """Declare where tasks come from: a family or task name and `file:line:col`."""
        self._origins.append(Origin(name, location))
        return len(self._origins) - 1

    def tasks(
        self,
        origin: Ids,
        queue: Ids,
        index: np.ndarray | Sequence[Ids] | None = None,
        guard: Bound | None = None,
        names: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Append n tasks and return their ids [n].

        `origin` and `queue` are one id or ids [n].  `index` names the instances in messages: an
        array [n, k] or k columns.  A task with a `guard` is empty unless the guard is 0; `names`
        gives the family indices that occur in it, each [n].
        """
        columns = _index_columns(index)
        size = max([np.size(queue)] + [np.size(c) for c in columns])
        ids = np.arange(self._n_tasks, self._n_tasks + size, dtype=np.int32)
        self._n_tasks += size
        self._put("task_queue", _filled(queue, size, np.int32))
        self._put("task_origin", _filled(origin, size, np.int32))
        rows = [_filled(c, size, np.int32) for c in columns]
        self._put("task_index", np.stack(rows, 1) if rows else np.zeros((size, 0), np.int32))
        self._put("task_guard", self._guards(guard, names, size)[0])
        return ids

    def waits(self, tasks: Ids, counter: Ids, threshold: Ids) -> None:
        """Append `wait counter >= threshold` to tasks; the three broadcast to one length."""
        rows = np.broadcast_arrays(tasks, counter, threshold)
        self._put("wait_task", np.ravel(rows[0]).astype(np.int32))
        self._put("wait_counter", np.ravel(rows[1]).astype(np.int32))
        self._put("wait_threshold", np.ravel(rows[2]).astype(np.int64))

    def signals(self, tasks: Ids, counter: Ids, amount: Ids = 1) -> None:
        """Append `signal counter, amount` to tasks; the three broadcast to one length."""
        rows = np.broadcast_arrays(tasks, counter, amount)
        self._put("signal_task", np.ravel(rows[0]).astype(np.int32))
        self._put("signal_counter", np.ravel(rows[1]).astype(np.int32))
        self._put("signal_amount", np.ravel(rows[2]).astype(np.int64))

    def access(
        self,
        tasks: Ids,
        buffer: Ids,
        write: bool | np.ndarray,
        lo: Sequence[Bound],
        hi: Sequence[Bound],
        *,
        guard: Bound | None = None,
        use: Ids = -1,
        index: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Append one access to each of `tasks` [n] (a task may occur more than once).

        `lo` and `hi` have one `Bound` per dimension of the buffer.  `index` gives the values [n]
        of the family indices that occur in expressions; what remains may use run-time scalars
        and `iter`.  The access happens iff `guard` is 0.  `write` may be [n] too.  `use` is the
        packet use, -1 for plain.
        """
        ids = np.ravel(np.asarray(tasks, np.int32))
        size = len(ids)
        guards, happens = self._guards(guard, index, size)
        bounds = [[self._bound(b, index, size) for b in side] for side in (lo, hi)]
        keep = slice(None) if happens is None else happens
        self._put("access_task", ids[keep])
        self._put("access_buffer", _filled(buffer, size, np.int32)[keep])
        self._put("access_write", np.full(size, write)[keep])
        for side, name in zip(bounds, ("lo", "hi"), strict=True):
            constants = np.zeros((size, len(side)), np.int64)
            numbers = np.full((size, len(side)), -1, np.int32)
            for dim, (constant, number) in enumerate(side):
                constants[:, dim] = constant
                numbers[:, dim] = number
            self._put(f"access_{name}", constants[keep])
            self._put(f"access_{name}_expr", numbers[keep])
        self._put("access_guard", guards[keep])
        self._put("access_use", _filled(use, size, np.int32)[keep])
        self._put("access_rank", np.full(size, len(lo), np.int32)[keep])

    def expression(self, expr: Expr) -> int:
        """The number of an expression, for `boxes`."""
        return self._intern(expr)

    def boxes(
        self,
        tasks: np.ndarray,
        buffer: np.ndarray,
        write: np.ndarray,
        lo: tuple[np.ndarray, np.ndarray],
        hi: tuple[np.ndarray, np.ndarray],
        guard: np.ndarray,
        use: np.ndarray,
        rank: np.ndarray,
    ) -> None:
        """Append accesses [n] as columns of the table: `lo` and `hi` are constants and numbers of
        expressions (-1: none) [n, r], `guard` numbers of expressions (-1: always)."""
        self._put("access_task", tasks.astype(np.int32))
        self._put("access_buffer", buffer.astype(np.int32))
        self._put("access_write", write.astype(bool))
        for name, (constants, numbers) in (("lo", lo), ("hi", hi)):
            self._put(f"access_{name}", constants.astype(np.int64))
            self._put(f"access_{name}_expr", numbers.astype(np.int32))
        self._put("access_guard", guard.astype(np.int32))
        self._put("access_use", use.astype(np.int32))
        self._put("access_rank", rank.astype(np.int32))

    def read(
        self, tasks: Ids, buffer: Ids, lo: Sequence[Bound], hi: Sequence[Bound], **more
    ) -> None:
        """`access` with `write=False`."""
        self.access(tasks, buffer, False, lo, hi, **more)

    def write(
        self, tasks: Ids, buffer: Ids, lo: Sequence[Bound], hi: Sequence[Bound], **more
    ) -> None:
        """`access` with `write=True`."""
        self.access(tasks, buffer, True, lo, hi, **more)

    def build(self) -> ScheduleTable:
        """The finished table."""
        rank = max([len(b.shape) for b in self._buffers] + self._widths("access_lo"), default=0)
        width = max(self._widths("task_index"), default=0)
        columns = {
            name: self._column(name, *pad)
            for name, pad in {
                "task_queue": (), "task_origin": (), "task_index": (width, -1), "task_guard": (),
                "wait_task": (), "wait_counter": (), "wait_threshold": (),
                "signal_task": (), "signal_counter": (), "signal_amount": (),
                "access_task": (), "access_buffer": (), "access_write": (),
                "access_lo": (rank, 0), "access_hi": (rank, 1),
                "access_lo_expr": (rank, -1), "access_hi_expr": (rank, -1),
                "access_guard": (), "access_use": (), "access_rank": (),
            }.items()
        }  # fmt: skip
        return ScheduleTable(
            name=self.name,
            workers=self.workers,
            iterations=self.iterations,
            queues=tuple(self._queues),
            scalars=tuple(self._scalars),
            buffers=tuple(self._buffers),
            counters=tuple(self._counters),
            origins=tuple(self._origins),
            expressions=tuple(self._expressions),
            **columns,
        )

    def _put(self, column: str, values: np.ndarray) -> None:
        self._columns.setdefault(column, []).append(values)

    def _widths(self, column: str) -> list[int]:
        return [block.shape[1] for block in self._columns.get(column, [])]

    def _column(self, name: str, width: int | None = None, fill: int = 0) -> np.ndarray:
        blocks = self._columns.get(name, [])
        if width is None:
            kind = np.int64 if name in ("wait_threshold", "signal_amount") else np.int32
            empty = np.zeros(0, bool if name == "access_write" else kind)
            return np.concatenate(blocks) if blocks else empty
        total = sum(len(block) for block in blocks)
        wide = name in ("access_lo", "access_hi")
        result = np.full((total, width), fill, np.int64 if wide else np.int32)
        at = 0
        for block in blocks:
            result[at : at + len(block), : block.shape[1]] = block
            at += len(block)
        return result

    def _intern(self, expr: Expr) -> int:
        number = self._expression_ids.get(expr)
        if number is None:
            number = self._expression_ids[expr] = len(self._expressions)
            self._expressions.append(expr)
        return number

    def _guards(
        self, guard: Bound | None, index: Mapping[str, np.ndarray] | None, size: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Expression numbers [size] (-1: always), and which rows can happen (None: all)."""
        if guard is None:
            return np.full(size, -1, np.int32), None
        constant, number = self._bound(guard, index, size)
        constants, numbers = _filled(constant, size, np.int64), _filled(number, size, np.int32)
        result = np.full(size, -1, np.int32)
        for row in np.flatnonzero((numbers >= 0) | (constants != 0)):
            base = Expr(0) if numbers[row] < 0 else self._expressions[numbers[row]]
            result[row] = self._intern(base + int(constants[row]))
        never = (numbers < 0) & (constants != 0)
        return result, ~never if never.any() else None

    def _bound(
        self, bound: Bound, index: Mapping[str, np.ndarray] | None, size: int
    ) -> tuple[Ids, Ids]:
        """Constant part and expression number (-1: none) of one bound, scalars or arrays."""
        if isinstance(bound, Expr):
            return self._expression_bound(bound, index or {}, size)
        if isinstance(bound, (int, np.integer, np.ndarray)):
            return (int(bound) if np.ndim(bound) == 0 else np.asarray(bound, np.int64)), -1
        constants = np.zeros(len(bound), np.int64)
        numbers = np.full(len(bound), -1, np.int32)
        for row, value in enumerate(bound):
            own = {k: v[row] for k, v in index.items()} if index else {}
            expr = Expr.of(value).substitute({k: int(v) for k, v in own.items()})
            constants[row], rest = expr.constant, expr - expr.constant
            if not rest.is_const:
                numbers[row] = self._intern(rest)
        return constants, numbers

    def _expression_bound(
        self, bound: Expr, index: Mapping[str, np.ndarray], size: int
    ) -> tuple[Ids, Ids]:
        own, rest = bound.split(index.keys())
        constant = own.evaluate(index)
        if rest.is_const:
            return constant, -1
        mixed = sorted(rest.variables & index.keys())
        if not mixed:
            return constant, self._intern(rest)
        rows = np.stack([_filled(index[name], size, np.int64) for name in mixed], 1)
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
        added = np.zeros(len(distinct), np.int64)
        numbers = np.full(len(distinct), -1, np.int32)
        for at, values in enumerate(distinct):
            expr = rest.substitute({n: int(v) for n, v in zip(mixed, values, strict=True)})
            added[at] = expr.constant
            if not expr.is_const:
                numbers[at] = self._intern(expr - expr.constant)
        inverse = inverse.reshape(-1)
        return constant + added[inverse], numbers[inverse]


def _filled(values: Ids, size: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, dtype), (size,)).copy()


def _index_columns(index: np.ndarray | Sequence[Ids] | None) -> list[Ids]:
    if index is None:
        return []
    if isinstance(index, np.ndarray) and index.ndim == 2:
        return [index[:, k] for k in range(index.shape[1])]
    return list(index)
