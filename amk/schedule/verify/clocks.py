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
"everything".  A wait whose value a later producer could lower is then computed over all producers
(weighted t-th smallest) in further passes, until nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from amk.schedule.verify.arrays import Rows, spans, starts
from amk.schedule.verify.flow import Flow


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


@dataclass(frozen=True, eq=False)
class Plan:
    """The order in which clocks are computed: levels of instances and of conditions.

    `ready` numbers of conditions: packet groups first, then waits.  A wait that needs all signals
    of the suppliers before it (in plan order) is joined by maximum; `partial` are the others.
    """

    levels: Rows
    level: np.ndarray
    joined: Rows
    joins: Rows
    conditions: Rows
    partial: list[list[int]]
    early: Rows
    late: Rows


def plan(flow: Flow, level: np.ndarray, use_groups: bool = True) -> Plan:
    """Prepare the clocks of `flow`; `level` [n] is a run order (the round of each instance).

    Without `use_groups` packet groups are left out: the clocks of release/acquire visibility.
    """
    n_levels = int(level.max(initial=-1)) + 1
    groups = len(flow.possible) if use_groups else 0
    waits = len(flow.wait_need)
    every = np.arange(flow.count)
    levels = Rows.of(level, every, n_levels)
    suppliers = flow.suppliers
    sizes = suppliers.sizes(flow.wait_counter)
    wait = np.repeat(np.arange(waits), sizes)
    at = spans(suppliers.start[flow.wait_counter], sizes)
    supplier, amount = suppliers.items[at], flow.supply[at]
    first_use = np.full(groups + waits, n_levels, np.int64)
    if groups:
        consumer_group = np.repeat(np.arange(groups), np.diff(flow.consumers.start))
        np.minimum.at(first_use, consumer_group, level[flow.consumers.items])
    waiter_wait = np.repeat(np.arange(waits), np.diff(flow.waiters.start))
    np.minimum.at(first_use, groups + waiter_wait, level[flow.waiters.items])
    on_time = level[supplier] < first_use[groups + wait]
    early_sum = np.zeros(waits, np.int64)
    np.add.at(early_sum, wait[on_time], amount[on_time])
    whole = early_sum == flow.wait_need
    members = on_time & whole[wait]
    joined_of = [wait[members] + groups]
    joined_items = [supplier[members]]
    if groups:
        used = np.repeat(np.arange(groups), np.diff(flow.producers.start))
        joined_of.insert(0, used)
        joined_items.insert(0, flow.producers.items)
    owner, items = _last_per_queue(flow, np.concatenate(joined_of), np.concatenate(joined_items))
    joined = Rows.of(owner, items, groups + waits)
    is_join = np.ones(groups + waits, bool)
    is_join[groups:] = whole
    live = first_use < n_levels
    joins = Rows.of(first_use[is_join & live], np.flatnonzero(is_join & live), n_levels)
    partial: list[list[int]] = [[] for _ in range(n_levels)]
    for condition in np.flatnonzero(~is_join & live):
        partial[first_use[condition]].append(int(condition))
    consumer = [flow.waiters.items]
    condition = [waiter_wait + groups]
    if groups:
        consumer.append(flow.consumers.items)
        condition.append(np.repeat(np.arange(groups), np.diff(flow.consumers.start)))
    conditions = Rows.of(np.concatenate(consumer), np.concatenate(condition), flow.count)
    index = np.arange(len(wait))
    return Plan(
        levels, level, joined, joins, conditions, partial,
        Rows.of(wait[on_time], at[on_time], waits),
        Rows.of(wait[~on_time], at[index[~on_time]], waits),
    )  # fmt: skip


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
        self.groups = len(prepared.joined.start) - 1 - self.waits
        self.values = np.zeros((self.groups + self.waits, self.rows.shape[1]), self.rows.dtype)
        self.column_of = clocks.column_of
        self.whole = np.ones(self.waits, bool)
        for level in prepared.partial:
            self.whole[np.array(level, np.int64) - self.groups] = False

    def first(self) -> None:
        """Visit instances in plan order; suppliers that come later count as everything."""
        for number in range(len(self.plan.partial)):
            self._join(self.plan.joins.row(number))
            for condition in self.plan.partial[number]:
                wait = condition - self.groups
                self.values[condition] = self._smallest(wait, self.plan.early.row(wait))
            self._tasks(self.plan.levels.row(number))

    def lower(self) -> bool:
        """One more pass over waits that a late supplier can lower; False if nothing changed."""
        affected = [w for w in range(self.waits) if self._can_lower(w)]
        if not affected:
            return False
        self.whole[affected] = False
        changed = False
        for number in range(len(self.plan.partial)):
            joins = self.plan.joins.row(number)
            waits = joins[joins >= self.groups] - self.groups
            self._join(
                np.concatenate(
                    [joins[joins < self.groups], joins[joins >= self.groups][self.whole[waits]]]
                )
            )
            for wait in [
                *waits[~self.whole[waits]],
                *(c - self.groups for c in self.plan.partial[number]),
            ]:
                every = np.concatenate([self.plan.early.row(wait), self.plan.late.row(wait)])
                self.values[self.groups + wait] = self._smallest(int(wait), every)
            changed |= self._tasks(self.plan.levels.row(number))
        return changed

    def _can_lower(self, wait: int) -> bool:
        late = self.plan.late.row(wait)
        if not len(late):
            return False
        value = self.values[self.groups + wait]
        clocks = self.rows[self.flow.suppliers.items[late]]
        return bool((clocks < value).any())

    def _join(self, conditions: np.ndarray) -> None:
        joined = self.plan.joined
        sizes = joined.sizes(conditions)
        some = conditions[sizes > 0]
        if len(some):
            members = self.rows[joined.take(some)]
            begin = starts(joined.sizes(some))[:-1]
            self.values[some] = np.maximum.reduceat(members, begin, axis=0)

    def _smallest(self, wait: int, at: np.ndarray) -> np.ndarray:
        """The weighted t-th smallest clock of suppliers `at` (indices into the supply)."""
        need = int(self.flow.wait_need[wait])
        amounts = self.flow.supply[at]
        clocks = self.rows[self.flow.suppliers.items[at]]
        if (amounts == amounts[0]).all():
            kth = -(-need // int(amounts[0])) - 1
            return np.partition(clocks, kth, axis=0)[kth]
        order = np.argsort(clocks, axis=0, kind="stable")
        reached = np.cumsum(amounts[order], axis=0) >= need
        row = reached.argmax(axis=0)
        return np.take_along_axis(clocks, np.take_along_axis(order, row[None], 0), 0)[0]

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
