"""Visibility, decided exactly for one pair.

Statement.  An execution is a run together with, for each wait, the suppliers with which it has
synchronised: some of those that ran before, reaching the count, and nothing more may be assumed.
What a task has synchronised with is closed under queue order and these choices; packets add
nothing.  Write q is visible to b iff q is in that past of b in every execution.  Let R be the
greedy run with b blocked and U the least set of tasks of R, without q, such that a task is in U if
its queue predecessor is (or it has none) and each of its waits is met by suppliers in U that do not
themselves follow it in `order`.  If U does not meet the waits of b and hold its predecessor, q is
visible to b.  Otherwise the tasks of U can run having synchronised only with U, and q is not.
"""

from __future__ import annotations

import numpy as np

from amk.schedule.verify.flow import Flow, greedy


def escapes(flow: Flow, first: int, second: int) -> bool:
    """Whether `second` can run without having synchronised with `first`, which precedes it."""
    ran = greedy(flow, np.array([second])) >= 0
    past = _Past(flow, ran, first)
    past.grow()
    return past.reaches(second)


class _Past:
    """The set U for one blocked task, grown until nothing changes."""

    def __init__(self, flow: Flow, ran: np.ndarray, without: int) -> None:
        self.flow = flow
        self.ran = ran
        self.without = without
        self.inside = np.zeros(flow.count, bool)
        self.follows: dict[int, np.ndarray] = {}

    def grow(self) -> None:
        """Add tasks until nothing changes."""
        flow = self.flow
        heads = np.flatnonzero((flow.previous < 0) & self.ran)
        pending = [int(t) for t in heads]
        while True:
            stuck: list[int] = []
            before = int(self.inside.sum())
            for task in pending:
                at = task
                while at >= 0 and self.ran[at] and at != self.without:
                    if not self._met(at, True):
                        stuck.append(at)
                        break
                    self.inside[at] = True
                    at = int(flow.following[at])
            pending = stuck
            if not stuck or int(self.inside.sum()) == before:
                return

    def reaches(self, task: int) -> bool:
        """Whether the tasks inside let `task` run."""
        previous = int(self.flow.previous[task])
        return (previous < 0 or bool(self.inside[previous])) and self._met(task, False)

    def _met(self, task: int, check_order: bool) -> bool:
        flow = self.flow
        for wait in flow.waits_of.row(task):
            counter = flow.wait_counter[wait]
            low, high = flow.suppliers.start[counter], flow.suppliers.start[counter + 1]
            suppliers = flow.suppliers.items[low:high]
            usable = self.inside[suppliers]
            if check_order:
                usable = usable & ~self._after(task)[suppliers]
            if int(flow.supply[low:high][usable].sum()) < flow.wait_need[wait]:
                return False
        return True

    def _after(self, task: int) -> np.ndarray:
        """Which instances must follow `task`."""
        if task not in self.follows:
            self.follows[task] = greedy(self.flow, np.array([task])) < 0
        return self.follows[task]
