"""Decides pairs: must the first precede the second, and is the first visible to the second?

Statement (bounded skew).  Let D be the least number such that every task of iteration 0 must
precede every task of iteration D + 1.  With D + 2 iterations unrolled, order from tasks of
iteration 0 is exact for every number of iterations: a run that blocks a task of iteration 0 never
enters iteration D + 1, so no later iteration can supply a signal.  The first task of each queue in
iteration D + 1 decides, since a queue is a chain.

Statement (visibility filter).  Release/acquire and program order carry visibility, packets do not.
The clocks over queue order and waits alone, where a wait has synchronised only with some suppliers
that reach its count, are a sound proof of visibility: a supplier that must follow every waiter of a
wait is no candidate.  What the filter does not prove is decided by `visibility`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from amk.schedule.verify.arrays import distinct
from amk.schedule.verify.clocks import Clocks, Plan, compute, plan
from amk.schedule.verify.flow import Flow
from amk.schedule.verify.links import Links

MEMORY = 400 << 20
"""Clocks are computed for blocks of queues so that one block takes at most this many bytes."""

LISTED = 40
"""At most this many bad pairs of a sort are kept."""


@dataclass(frozen=True)
class Pair:
    """Instances that are not ordered (or whose visibility is not proved), and their accesses."""

    first: int
    second: int
    first_access: int
    second_access: int


@dataclass(frozen=True)
class Outcome:
    """`skew` (None: no bound within the unrolled iterations), unordered and unproved pairs."""

    skew: int | None
    runaway: int
    unordered: list[Pair]
    unproved: list[Pair]


def analyse(flow: Flow, level: np.ndarray, links: list[Links], every: bool) -> Outcome:
    """Clocks of `flow` (`level`: a run order), its skew, and all bad pairs of `links`.

    Without `every` the search ends with the first block that has a bad pair.
    """
    used = np.flatnonzero(np.bincount(flow.queue, minlength=flow.n_queues))
    size = 4 if int(flow.position.max(initial=0)) >= 2**15 - 2 else 2
    width = max(1, MEMORY // max(1, flow.count * size))
    blocks = [used[at : at + width] for at in range(0, len(used), width)] or [used]
    prepared = plan(flow, level)
    packets = len(flow.consumers.items) > 0
    waits = len(flow.wait_need) > 0
    later = plan(flow, level, use_groups=False) if packets and waits else None
    skew: int | None = 0
    runaway = -1
    unordered: list[Pair] = []
    unproved: list[Pair] = []
    for block in blocks:
        clocks = compute(flow, prepared, block)
        bound, free = _skew(clocks)
        if bound is None and skew is not None:
            runaway = free
        skew = None if skew is None or bound is None else max(skew, bound)
        seen: Clocks | None = clocks if not packets else None
        if later is not None:
            narrowed = _without_followers(flow, later, clocks) if len(blocks) == 1 else later
            seen = compute(flow, narrowed, block)
        unordered += _bad_order(clocks, links, len(blocks) > 1)
        unproved += _bad_sight(clocks, seen, links, len(blocks) > 1)
        if not every and (unordered or unproved):
            break
    return Outcome(skew, runaway, unordered[:LISTED], unproved)


def _skew(clocks: Clocks) -> tuple[int | None, int]:
    """The bound on the skew over the columns, and an instance that runs ahead if there is none."""
    flow = clocks.flow
    if flow.iterations == 1:
        return None, -1
    length = np.bincount(flow.queue[: flow.tasks], minlength=flow.n_queues)
    heads = np.flatnonzero(flow.position[: flow.tasks] == 0)
    free = -1
    for bound in range(flow.iterations - 1):
        rows = clocks.rows[heads + (bound + 1) * flow.tasks]
        late = (rows < length[clocks.columns]).any(axis=1)
        if not late.any():
            return bound, -1
        free = int(heads[np.flatnonzero(late)[0]])
    return None, free


def _inside(clocks: Clocks, first: np.ndarray, blocked: bool) -> np.ndarray | slice:
    return clocks.column_of[clocks.flow.queue[first]] >= 0 if blocked else slice(None)


def _chunks(
    clocks: Clocks, links: Links, which: np.ndarray, blocked: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for first, second, accesses in links.pairs(which):
        keep = _inside(clocks, first, blocked)
        yield first[keep], second[keep], accesses[keep]


def _pairs(
    bad: np.ndarray, first: np.ndarray, second: np.ndarray, accesses: np.ndarray
) -> list[Pair]:
    return [
        Pair(int(first[i]), int(second[i]), int(accesses[i, 0]), int(accesses[i, 1])) for i in bad
    ]


def _bad_order(clocks: Clocks, links: list[Links], blocked: bool) -> list[Pair]:
    found: list[Pair] = []
    for item in links:
        for which in (item.ordered, item.visible):
            for first, second, accesses in _chunks(clocks, item, which, blocked):
                bad = np.flatnonzero(~clocks.covers(first, second))[:LISTED]
                found += _pairs(bad, first, second, accesses)
                if len(found) >= LISTED:
                    return found
    return found


def _bad_sight(
    clocks: Clocks, seen: Clocks | None, links: list[Links], blocked: bool
) -> list[Pair]:
    """Pairs that are ordered but not proved visible; `seen` None: only program order is."""
    found: list[Pair] = []
    queue = clocks.flow.queue
    for item in links:
        for first, second, accesses in _chunks(clocks, item, item.visible, blocked):
            sure = queue[first] == queue[second] if seen is None else seen.covers(first, second)
            bad = np.flatnonzero(~sure & clocks.covers(first, second))
            once, _ = distinct(first[bad], second[bad])
            found += _pairs(bad[once], first, second, accesses)
    return found


def _without_followers(flow: Flow, prepared: Plan, clocks: Clocks) -> Plan:
    """Leaves out suppliers that must follow every waiter of their wait."""

    def follows(wait: int, suppliers: np.ndarray) -> np.ndarray:
        waiters = flow.waiters.row(wait)
        column = clocks.column_of[flow.queue[waiters]]
        after = clocks.rows[suppliers[:, None], column] > flow.position[waiters]
        return (after | (suppliers[:, None] == waiters)).all(axis=1)

    return replace(prepared, follows=follows)
