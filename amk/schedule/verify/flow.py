"""The precedence conditions of unrolled iterations, and the greedy run.

Statement (monotone).  A task that can run stays able to run, whatever else runs: counters only
grow, and a packet that was written stays written (that no slot is overwritten too early is proved
separately).  So every maximal run executes the same set of tasks, and the greedy run finds it.
The schedule is free of deadlock iff the greedy run of one iteration executes everything, because
N complete iterations can be run one after the other: `wait c >= e * S + t` with t <= S needs only
the signals of iterations before e and of e itself.

Corollary (order).  Task q must precede task b iff b does not run in the greedy run in which q is
blocked.  Two tasks can be enabled together iff neither must precede the other: block both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.arrays import Rows, combine, starts
from amk.schedule.verify.packets import Packets


@dataclass(frozen=True, eq=False)
class Body:
    """What is equal in all iterations: queues, waits and signals of the table."""

    queue: np.ndarray
    position: np.ndarray
    length: np.ndarray
    wait_task: np.ndarray
    wait_counter: np.ndarray
    wait_threshold: np.ndarray
    signal_task: np.ndarray
    signal_counter: np.ndarray
    signal_amount: np.ndarray
    total: np.ndarray

    @staticmethod
    def of(table: ScheduleTable) -> Body:
        """The body of `table`; several signals of a task to one counter are added up."""
        queue = table.task_queue.astype(np.int64)
        length = np.bincount(queue, minlength=len(table.queues))
        order = np.argsort(queue, kind="stable")
        position = np.empty(len(queue), np.int64)
        position[order] = np.arange(len(queue)) - np.repeat(starts(length)[:-1], length)
        total = np.zeros(len(table.counters), np.int64)
        np.add.at(total, table.signal_counter, table.signal_amount)
        key = combine(table.signal_task, table.signal_counter)
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        amount = np.zeros(len(first), np.int64)
        np.add.at(amount, inverse.reshape(-1), table.signal_amount)
        return Body(
            queue, position, length,
            table.wait_task.astype(np.int64), table.wait_counter.astype(np.int64),
            table.wait_threshold.astype(np.int64),
            table.signal_task[first].astype(np.int64),
            table.signal_counter[first].astype(np.int64),
            amount, total,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Flow:
    """Conditions of `iterations` unrolled iterations of `tasks` tasks; instance e * tasks + t.

    A *group* is complete when all its producers have run (packets).  A *wait* is a distinct pair
    of a counter and an absolute count that somebody waits for.
    """

    tasks: int
    iterations: int
    queue: np.ndarray
    position: np.ndarray
    previous: np.ndarray
    following: np.ndarray
    producers: Rows
    possible: np.ndarray
    consumers: Rows
    wait_counter: np.ndarray
    wait_need: np.ndarray
    waiters: Rows
    suppliers: Rows
    supply: np.ndarray
    n_queues: int
    n_counters: int

    @property
    def count(self) -> int:
        """The number of instances."""
        return self.tasks * self.iterations

    @cached_property
    def feeds(self) -> Rows:
        """The groups that each instance is a producer of."""
        groups = np.repeat(np.arange(len(self.possible)), np.diff(self.producers.start))
        return Rows.of(self.producers.items, groups, self.count)

    @cached_property
    def signals(self) -> tuple[Rows, Rows]:
        """The counters and the amounts that each instance signals."""
        counters = np.repeat(np.arange(self.n_counters), np.diff(self.suppliers.start))
        order = np.argsort(self.suppliers.items, kind="stable")
        start = starts(np.bincount(self.suppliers.items, minlength=self.count))
        return Rows(start, counters[order]), Rows(start, self.supply[order])

    @cached_property
    def waits_of(self) -> Rows:
        """The waits of each instance."""
        waits = np.repeat(np.arange(len(self.wait_need)), np.diff(self.waiters.start))
        return Rows.of(self.waiters.items, waits, self.count)

    @cached_property
    def groups_of(self) -> Rows:
        """The groups that each instance waits for."""
        groups = np.repeat(np.arange(len(self.possible)), np.diff(self.consumers.start))
        return Rows.of(self.consumers.items, groups, self.count)

    @cached_property
    def need(self) -> np.ndarray:
        """How many conditions each instance has, its queue predecessor included."""
        return (
            (self.previous >= 0).astype(np.int64)
            + np.bincount(self.waiters.items, minlength=self.count)
            + np.bincount(self.consumers.items, minlength=self.count)
        )

    @cached_property
    def first_wait(self) -> np.ndarray:
        """First wait of each counter; waits are sorted by counter and count."""
        return starts(np.bincount(self.wait_counter, minlength=self.n_counters))


def unroll(body: Body, packets: list[Packets], certain_only: bool) -> Flow:
    """The conditions of `len(packets)` iterations.

    With `certain_only`, packet reads that do not happen in every state put no condition.
    """
    tasks, iterations = len(body.queue), len(packets)
    base = np.arange(iterations) * tasks
    queue = np.tile(body.queue, iterations)
    position = np.concatenate(
        [body.position + e * body.length[body.queue] for e in range(iterations)]
    )
    previous, following = _chains(queue, position)
    producers, possible, consumers = _groups(packets, tasks, certain_only)
    threshold = (
        body.wait_threshold[None, :]
        + np.arange(iterations)[:, None] * body.total[body.wait_counter][None, :]
    ).ravel()
    waiter = (body.wait_task[None, :] + base[:, None]).ravel()
    counter = np.tile(body.wait_counter, iterations)
    real = threshold > 0
    key = combine(counter[real], threshold[real])
    _, first, wait = np.unique(key, return_index=True, return_inverse=True)
    pair = np.unique(combine(wait.reshape(-1), waiter[real]), return_index=True)[1]
    supplier = (body.signal_task[None, :] + base[:, None]).ravel()
    supplied = np.tile(body.signal_counter, iterations)
    by_counter = np.argsort(supplied, kind="stable")
    return Flow(
        tasks=tasks,
        iterations=iterations,
        queue=queue,
        position=position,
        previous=previous,
        following=following,
        producers=producers,
        possible=possible,
        consumers=consumers,
        wait_counter=counter[real][first],
        wait_need=threshold[real][first],
        waiters=Rows.of(wait.reshape(-1)[pair], waiter[real][pair], len(first)),
        suppliers=Rows(
            starts(np.bincount(supplied, minlength=len(body.total))), supplier[by_counter]
        ),
        supply=np.tile(body.signal_amount, iterations)[by_counter],
        n_queues=len(body.length),
        n_counters=len(body.total),
    )


def _chains(queue: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(combine(queue, position), kind="stable")
    previous = np.full(len(queue), -1, np.int64)
    following = np.full(len(queue), -1, np.int64)
    linked = np.flatnonzero(queue[order][1:] == queue[order][:-1])
    previous[order[linked + 1]] = order[linked]
    following[order[linked]] = order[linked + 1]
    return previous, following


def _groups(
    packets: list[Packets], tasks: int, certain_only: bool
) -> tuple[Rows, np.ndarray, Rows]:
    """Producers, possibility and consumers of the packet groups of all iterations."""
    sizes, items, possible, owners, readers = [], [], [], [], []
    count = 0
    for iteration, found in enumerate(packets):
        base = iteration * tasks
        sizes.append(np.diff(found.producers.start))
        items.append(found.producers.items + base)
        possible.append(found.complete)
        chosen = found.certain if certain_only else np.ones(len(found.reader), bool)
        owners.append(found.group[chosen] + count)
        readers.append(found.reader[chosen] + base)
        count += len(found.complete)
    owner, reader = np.concatenate(owners), np.concatenate(readers)
    once = np.unique(combine(owner, reader), return_index=True)[1]
    return (
        Rows(starts(np.concatenate(sizes)), np.concatenate(items)),
        np.concatenate(possible),
        Rows.of(owner[once], reader[once], count),
    )


def greedy(flow: Flow, blocked: np.ndarray | None = None) -> np.ndarray:
    """Runs everything that can run; the round [n] in which each instance runs, -1 if never.

    `blocked` are instances that must not run.
    """
    need = flow.need.copy()
    if blocked is not None:
        need[blocked] += 1 << 40
    left = np.diff(flow.producers.start) + ~flow.possible
    counts = np.zeros(flow.n_counters, np.int64)
    next_wait = flow.first_wait[:-1].copy()
    level = np.full(flow.count, -1, np.int64)
    empty = np.flatnonzero(left == 0)
    if len(empty):
        np.subtract.at(need, flow.consumers.take(empty), 1)
    ready = np.flatnonzero(need == 0)
    number = 0
    while len(ready):
        level[ready] = number
        number += 1
        successors = flow.following[ready]
        touched = [successors[successors >= 0]]
        if len(flow.possible):
            groups = flow.feeds.take(ready)
            np.subtract.at(left, groups, 1)
            full = np.unique(groups[left[groups] == 0])
            touched.append(flow.consumers.take(full))
        if len(flow.wait_need):
            touched += _signal(flow, ready, counts, next_wait)
        every = np.concatenate(touched)
        np.subtract.at(need, every, 1)
        ready = np.unique(every[need[every] == 0])
    return level


def _signal(
    flow: Flow, ready: np.ndarray, counts: np.ndarray, next_wait: np.ndarray
) -> list[np.ndarray]:
    """Adds the signals of `ready` to `counts`; the waiters of every wait that this meets."""
    counters, amounts = flow.signals
    hit = counters.take(ready)
    np.add.at(counts, hit, amounts.take(ready))
    met: list[np.ndarray] = []
    for counter in np.unique(hit):
        first, end = int(next_wait[counter]), int(flow.first_wait[counter + 1])
        upto = first + int(
            np.searchsorted(flow.wait_need[first:end], counts[counter], side="right")
        )
        if upto > first:
            met.append(flow.waiters.take(np.arange(first, upto)))
            next_wait[counter] = upto
    return met
