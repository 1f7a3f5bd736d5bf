"""Which agent runs free: bounded skew, decided exactly in a launch without end.

Statement.  Draw an edge from queue w to queue p if a task of w waits for a counter that p signals
to, or polls a packet that p writes (in iterations that come again and again).  In a launch without
end that is free of deadlock, the skew is bounded iff this graph is strongly connected.

Proof.  Block a task of queue u for ever.  *Not connected*: let w not reach u.  The queues that w
reaches wait for nobody outside of their set, so they do not notice, and since nothing deadlocks
they run for ever: w runs free.  *Connected*: let n_p be the number of iterations that queue p gets
through.  A wait for c >= e * S + t of queue w gives n_w <= sum(a_p * n_p) / S + constant, where p
signals a_p to c in an iteration, S = sum(a_p); a packet gives n_w <= n_p + constant.  The mean of
these bounds over all conditions of w is n_w <= sum(P[w][p] * n_p) + constant with a stochastic
matrix P that has an entry for every edge.  A random walk by P reaches u from everywhere with
probability 1, so the bounds add up to a finite one: the expected number of steps is finite.

The bound itself can be as large as the amounts allow, so it is still found by unrolling.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from amk.schedule.verify.arrays import Rows
from amk.schedule.verify.flow import Body
from amk.schedule.verify.packets import Packets


def free_queue(
    body: Body, packets: Iterable[Packets], certain_only: bool
) -> tuple[int, int] | None:
    """A queue that runs free and one that it does not depend on; None if the skew is bounded.

    `packets` are those of all iterations that come again and again.  With `certain_only`, packet
    reads that do not happen in every state do not count.
    """
    queues = np.flatnonzero(body.length > 0)
    if len(queues) < 2:
        return None
    edges = _edges(body, packets, certain_only)
    start = int(queues[0])
    for forward in (False, True):
        one, two = edges if forward else edges[::-1]
        reached = _reach(one, two, start, int(queues[-1]))
        left = queues[~reached[queues]]
        if len(left):
            return (start, int(left[0])) if forward else (int(left[0]), start)
    return None


def _edges(
    body: Body, packets: Iterable[Packets], certain_only: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of queues, counters and packet groups, which are numbered in this order."""
    nodes = len(body.length)
    one = [body.queue[body.wait_task], body.signal_counter + nodes]
    two = [body.wait_counter + nodes, body.queue[body.signal_task]]
    nodes += len(body.total)
    for found in packets:
        chosen = found.certain if certain_only else np.ones(len(found.reader), bool)
        groups = len(found.complete)
        one += [
            body.queue[found.reader[chosen]],
            np.repeat(np.arange(groups), np.diff(found.producers.start)) + nodes,
        ]
        two += [found.group[chosen] + nodes, body.queue[found.producers.items]]
        nodes += groups
    key = np.unique(np.stack([np.concatenate(one), np.concatenate(two)]), axis=1)
    return key[0], key[1]


def _reach(one: np.ndarray, two: np.ndarray, start: int, last: int) -> np.ndarray:
    """Which nodes (`last` at least is one) a walk along the edges one -> two reaches."""
    count = max(last, int(one.max(initial=0)), int(two.max(initial=0))) + 1
    after = Rows.of(one, two, count)
    reached = np.zeros(count, bool)
    reached[start] = True
    front = np.array([start])
    while len(front):
        front = np.unique(after.take(front))
        front = front[~reached[front]]
        reached[front] = True
    return reached
