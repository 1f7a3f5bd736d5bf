"""Vector clocks over queues: what must precede every task, all at once.

Statement.  Queues are chains, so the instances that must precede b are a prefix of each queue.
Entry w of `VC[b]` is the length of the prefix of queue w that must have run when b has run (b
itself counted in its own queue).  With a blocked instance at position k of queue w, b runs iff its
entry is <= k.  The entries are the greatest solution of

    VC[b][w] = max( VC[p][w]                                  p the queue predecessor of b,
                    VC[p][w]                                  p a producer of a packet group of b,
                    least v with sum{amount of p : VC[p][w] <= v} >= t    for a wait c >= t of b )

and position(b) + 1 in b's own queue.  A producer that itself depends on b is thereby counted only
where it does not, which is why the *greatest* solution is the order: start from "everything" and
lower entries until nothing changes.  Proof in docs/verifier.md.

The first pass visits instances in the order of a run and takes producers that run later for
"everything".  So the producers of a counter that a wait can use at first are a prefix of them in
that order, and all waits of a counter that are first used in the same round share one sort of their
clocks.  Waits whose value a later producer could lower are computed over all producers (weighted
t-th smallest) in further passes, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from amk.schedule.verify.arrays import Rows, starts
from amk.schedule.verify.flow import Flow

STRIP = 32
"""Rows of a strip when clocks are transposed."""

FEW = 3
"""Up to so many waits of one counter are answered by selection, more by sorting."""


@dataclass(eq=False)
class Clocks:
    """Clocks [instances, columns] of the queues in `columns`; see the module's statement."""

    flow: Flow
    columns: np.ndarray
    rows: np.ndarray
    column_of: np.ndarray = field(repr=False)

    def covers(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether `first[i]` is in the prefix that precedes `second[i]`, for first != second.

        The queues of `first` must be among the columns.
        """
        column = self.column_of[self.flow.queue[first]]
        return self.rows[second, column] > self.flow.position[first]


@dataclass(frozen=True)
class Batch:
    """Waits of one counter that are first used in the same round.

    Their suppliers are `Plan.supplier[first:end]`, of which those before `upto` run in earlier
    rounds.  `whole` is the wait that needs all of these (-1: none), `partial` are the others.
    """

    counter: int
    first: int
    upto: int
    end: int
    whole: int
    partial: np.ndarray


@dataclass(frozen=True, eq=False)
class Plan:
    """The order in which clocks are computed: rounds of instances, packet groups and waits.

    `ready` numbers of conditions: packet groups first, then waits.  `joins` are the groups by
    round, `joined` their producers, `batches[r]` the waits of round r.  `supplier` and `amount`
    list the suppliers of each counter in the order of the run.  `follows(wait, suppliers)`, if
    given, says which of them must follow every waiter and so never supply it.
    """

    levels: Rows
    joined: Rows
    joins: Rows
    conditions: Rows
    supplier: np.ndarray
    amount: np.ndarray
    batches: list[list[Batch]]
    follows: Callable[[int, np.ndarray], np.ndarray] | None = None


def plan(flow: Flow, level: np.ndarray, use_groups: bool = True) -> Plan:
    """Prepare the clocks of `flow`; `level` [n] is a run order (the round of each instance).

    Without `use_groups` packet groups are left out: the clocks of release/acquire visibility.
    """
    n_levels = int(level.max(initial=-1)) + 1
    groups = len(flow.possible) if use_groups else 0
    waits = len(flow.wait_need)
    first_use = np.full(groups + waits, n_levels, np.int64)
    consumer, condition = [flow.waiters.items], []
    waiter_wait = np.repeat(np.arange(waits), np.diff(flow.waiters.start))
    np.minimum.at(first_use, groups + waiter_wait, level[flow.waiters.items])
    condition.append(waiter_wait + groups)
    joined = Rows(np.zeros(1, np.int64), np.zeros(0, np.int64))
    if groups:
        group = np.repeat(np.arange(groups), np.diff(flow.consumers.start))
        np.minimum.at(first_use, group, level[flow.consumers.items])
        consumer.append(flow.consumers.items)
        condition.append(group)
        used = np.repeat(np.arange(groups), np.diff(flow.producers.start))
        joined = Rows.of(*_last_per_queue(flow, used, flow.producers.items), groups)
    live = np.flatnonzero(first_use[:groups] < n_levels)
    supplier, amount, batches = _batches(flow, level, first_use[groups:], n_levels)
    return Plan(
        Rows.of(level, np.arange(flow.count), n_levels), joined,
        Rows.of(first_use[live], live, n_levels),
        Rows.of(np.concatenate(consumer), np.concatenate(condition), flow.count),
        supplier, amount, batches,
    )  # fmt: skip


def _batches(
    flow: Flow, level: np.ndarray, first_use: np.ndarray, n_levels: int
) -> tuple[np.ndarray, np.ndarray, list[list[Batch]]]:
    counter = np.repeat(np.arange(flow.n_counters), np.diff(flow.suppliers.start))
    key = counter * (n_levels + 1) + level[flow.suppliers.items]
    order = np.argsort(key, kind="stable")
    key = key[order]
    supplier, amount = flow.suppliers.items[order], flow.supply[order]
    signalled = starts(amount)
    found: list[list[Batch]] = [[] for _ in range(n_levels)]
    live = np.flatnonzero(first_use < n_levels)
    own = flow.wait_counter[live] * (n_levels + 1) + first_use[live]
    place = np.argsort(own, kind="stable")
    live, own = live[place], own[place]
    for part in np.split(np.arange(len(live)), np.flatnonzero(np.diff(own)) + 1):
        if not len(part):
            continue
        waits = live[part]
        number = int(flow.wait_counter[waits[0]])
        first, end = int(flow.suppliers.start[number]), int(flow.suppliers.start[number + 1])
        upto = int(np.searchsorted(key, own[part[0]]))
        whole = flow.wait_need[waits] == signalled[upto] - signalled[first]
        found[int(first_use[waits[0]])].append(
            Batch(
                number, first, upto, end, int(waits[whole][0]) if whole.any() else -1, waits[~whole]
            )
        )
    return supplier, amount, found


def _last_per_queue(
    flow: Flow, owner: np.ndarray, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Drop members whose queue has a later member of the same owner: their clocks are smaller."""
    key = owner * flow.n_queues + flow.queue[items]
    order = np.lexsort((flow.position[items], key))
    last = np.ones(len(order), bool)
    last[:-1] = key[order][1:] != key[order][:-1]
    return owner[order[last]], items[order[last]]


def compute(flow: Flow, prepared: Plan, columns: np.ndarray) -> Clocks:
    """The clocks of `columns` (queue numbers)."""
    longest = int(flow.position.max(initial=0)) + 2
    kind = np.int16 if longest < 2**15 else np.int32
    column_of = np.full(flow.n_queues, -1, np.int64)
    column_of[columns] = np.arange(len(columns))
    rows = np.full((flow.count, len(columns)), longest, kind)
    result = Clocks(flow, columns, rows, column_of)
    changed = _Pass(result, prepared)
    changed.first()
    while changed.lower():
        pass
    return result


class _Pass:
    """The fixpoint iteration over one set of columns."""

    def __init__(self, clocks: Clocks, prepared: Plan) -> None:
        self.flow = clocks.flow
        self.rows = clocks.rows
        self.plan = prepared
        self.waits = len(self.flow.wait_need)
        self.groups = len(prepared.joined.start) - 1
        self.values = np.zeros((self.groups + self.waits, self.rows.shape[1]), self.rows.dtype)
        self.column_of = clocks.column_of
        self.lowered = np.zeros(self.waits, bool)
        self.highest: dict[int, tuple[int, np.ndarray]] = {}
        self.allowed: dict[int, np.ndarray] = {}

    def first(self) -> None:
        """Visit instances in plan order; suppliers that come later count as everything."""
        self._sweep()

    def lower(self) -> bool:
        """One more pass over waits that a late supplier can lower; False if nothing changed."""
        affected = self._candidates()
        if not affected:
            return False
        self.lowered[affected] = True
        return self._sweep()

    def _sweep(self) -> bool:
        changed = False
        self.highest.clear()
        for number, batches in enumerate(self.plan.batches):
            self._join(self.plan.joins.row(number))
            for batch in batches:
                self._batch(batch)
            changed |= self._tasks(self.plan.levels.row(number))
        return changed

    def _candidates(self) -> list[int]:
        """Waits with a late supplier whose clock is below their value in some column."""
        last: dict[int, list[Batch]] = {}
        for batches in self.plan.batches:
            for batch in batches:
                if batch.upto < batch.end:
                    last.setdefault(batch.counter, []).append(batch)
        found: list[int] = []
        for batches in last.values():
            least: np.ndarray | None = None
            end = batches[0].end
            for batch in reversed(batches):  # batches of a counter stand in the order of `upto`
                if batch.upto < end:
                    part = self.rows[self.plan.supplier[batch.upto : end]].min(axis=0)
                    least = part if least is None else np.minimum(least, part)
                    end = batch.upto
                waits = np.append(batch.partial, batch.whole) if batch.whole >= 0 else batch.partial
                some = (least < self.values[self.groups + waits]).any(axis=1)
                found += [w for w in waits[some].tolist() if self._can_lower(w, batch)]
        return found

    def _late(self, wait: int, batch: Batch) -> np.ndarray:
        """The late suppliers (places in the plan) of a wait that need not follow it."""
        if wait not in self.allowed:
            late = np.arange(batch.upto, batch.end)
            if self.plan.follows is not None:
                late = late[~self.plan.follows(wait, self.plan.supplier[late])]
            self.allowed[wait] = late
        return self.allowed[wait]

    def _can_lower(self, wait: int, batch: Batch) -> bool:
        if self.plan.follows is None:
            return True
        clocks = self.rows[self.plan.supplier[self._late(wait, batch)]]
        return bool((clocks < self.values[self.groups + wait]).any())

    def _join(self, conditions: np.ndarray) -> None:
        joined = self.plan.joined
        sizes = joined.sizes(conditions)
        some = conditions[sizes > 0]
        if len(some):
            members = self.rows[joined.take(some)]
            begin = starts(joined.sizes(some))[:-1]
            self.values[some] = np.maximum.reduceat(members, begin, axis=0)

    def _batch(self, batch: Batch) -> None:
        """The values of the waits of one counter that are first used in one round."""
        if batch.whole >= 0 and not self.lowered[batch.whole]:
            self.values[self.groups + batch.whole] = self._highest(batch)
        waits = batch.partial
        if len(waits):
            some = waits[~self.lowered[waits]]
            self._smallest(some, np.arange(batch.first, batch.upto))
        if batch.whole >= 0:
            waits = np.append(waits, batch.whole)
        late = waits[self.lowered[waits]]
        if self.plan.follows is None:
            self._smallest(late, np.arange(batch.first, batch.end))
            return
        for wait in late.tolist():
            early = np.arange(batch.first, batch.upto)
            self._smallest(np.array([wait]), np.concatenate([early, self._late(wait, batch)]))

    def _highest(self, batch: Batch) -> np.ndarray:
        """The largest clocks of the suppliers before `upto`; grows from batch to batch."""
        at, highest = self.highest.get(batch.counter, (batch.first, None))
        if at < batch.upto:
            part = self.rows[self.plan.supplier[at : batch.upto]].max(axis=0)
            highest = part if highest is None else np.maximum(highest, part)
            self.highest[batch.counter] = (batch.upto, highest)
        assert highest is not None
        return highest

    def _smallest(self, waits: np.ndarray, at: np.ndarray) -> None:
        """The weighted t-th smallest clocks of suppliers `at` (places in the plan)."""
        if not len(waits):
            return
        needs = self.flow.wait_need[waits]
        amounts = self.plan.amount[at]
        clocks = _turned(self.rows[self.plan.supplier[at]])
        if (amounts == amounts[0]).all():
            kth = -(-needs // int(amounts[0])) - 1
            if len(waits) <= FEW:
                clocks.partition(np.unique(kth), axis=1)
            else:
                clocks.sort(axis=1)
            self.values[self.groups + waits] = _turned(clocks.take(kth, axis=1))
            return
        order = np.argsort(clocks, axis=1, kind="stable")
        reached = np.cumsum(amounts[order], axis=1)
        for wait, need in zip(waits.tolist(), needs.tolist(), strict=True):
            row = (reached < need).sum(axis=1)
            place = np.take_along_axis(order, row[:, None], 1)
            self.values[self.groups + wait] = np.take_along_axis(clocks, place, 1)[:, 0]

    def _tasks(self, tasks: np.ndarray) -> bool:
        """Recompute the clocks of `tasks`; whether one of them changed."""
        previous = self.flow.previous[tasks]
        fresh = self.rows[previous]
        fresh[previous < 0] = 0
        conditions = self.plan.conditions
        sizes = conditions.sizes(tasks)
        for number in range(int(sizes.max(initial=0))):
            some = np.flatnonzero(sizes > number)
            values = self.values[conditions.items[conditions.start[tasks[some]] + number]]
            fresh[some] = np.maximum(fresh[some], values)
        column = self.column_of[self.flow.queue[tasks]]
        own = np.flatnonzero(column >= 0)
        fresh[own, column[own]] = self.flow.position[tasks[own]] + 1
        changed = not np.array_equal(self.rows[tasks], fresh)
        if changed:
            self.rows[tasks] = fresh
        return changed


def _turned(array: np.ndarray) -> np.ndarray:
    """The transpose, copied in strips that fit into the cache."""
    result = np.empty(array.shape[::-1], array.dtype)
    for first in range(0, len(array), STRIP):
        result[:, first : first + STRIP] = array[first : first + STRIP].T
    return result
