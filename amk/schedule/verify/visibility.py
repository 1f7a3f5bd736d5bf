"""Visibility, decided exactly for one pair.

Statement.  An execution is a run together with, for each wait, the suppliers with which it has
synchronised: some of those that ran before, reaching the count, and nothing more may be assumed.
What a task has synchronised with is closed under queue order and these choices; packets add
nothing.  A task is *clean* in an execution if write q is not in its past, and q is visible to b iff
no execution runs b clean.

1. Let R be the greedy run with b blocked and U the least set of tasks of R, without q, such that a
   task is in U if its queue predecessor is (or it has none) and each of its waits is met by
   suppliers in U that do not themselves follow it in `order`.  Tasks outside of U are never clean.
   So if U does not meet the waits of b and hold its predecessor, q is visible to b.
2. Otherwise build an execution: run whatever can run clean, run tasks outside of U as soon as they
   can run (both never hurt: neither takes anything from another task), until b can run clean.
3. If all that could go on is in U and not clean yet, one of these tasks has to be given up and run
   with q in its past.  Each choice is tried; the search is exponential in the number of tasks given
   up, and it has to be exponential in something: choosing them is NP-hard (docs/verifier.md).  In
   schedules that people write nothing is ever given up.
"""

from __future__ import annotations

import numpy as np

from amk.schedule.verify.flow import Flow, greedy


def escape(flow: Flow, first: int, second: int) -> list[int] | None:
    """A run after which `second` can run without having synchronised with `first`, or None.

    `first` must precede `second`, so it is in the run.
    """
    ran = greedy(flow, np.array([second])) >= 0
    past = _Past(flow, ran, first)
    past.grow()
    if not past.reaches(second):
        return None
    return _Search(flow, ran, past.inside, first, second).run()


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
        pending = [int(t) for t in np.flatnonzero((flow.previous < 0) & self.ran)]
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


class _Search:
    """Builds an execution that runs `target` clean, giving up as few tasks as it has to."""

    def __init__(
        self, flow: Flow, ran: np.ndarray, hopeful: np.ndarray, without: int, target: int
    ) -> None:
        self.flow = flow
        self.ran = ran
        self.hopeful = hopeful
        self.without = without
        self.target = target
        self.heads = [int(t) for t in np.flatnonzero(flow.previous < 0)]
        self.counters, self.amounts = flow.signals

    def run(self) -> list[int] | None:
        """The execution as a list of instances, or None if there is none."""
        tried: set[frozenset[int]] = set()
        choices: list[frozenset[int]] = [frozenset()]
        while choices:
            given_up = choices.pop()
            if given_up in tried:
                continue
            tried.add(given_up)
            found, candidates = self._execute(given_up)
            if found is not None:
                return found
            choices += [given_up | {task} for task in candidates]
        return None

    def _execute(self, given_up: frozenset[int]) -> tuple[list[int] | None, list[int]]:
        """Runs as far as possible: the run if the target can run clean, else what could be given
        up to go on."""
        flow = self.flow
        self.done = np.zeros(flow.count, bool)
        self.clean = np.zeros(flow.count, bool)
        self.reached = np.zeros((2, flow.n_counters), np.int64)
        heads = list(self.heads)
        run: list[int] = []
        while True:
            if self._can_run(self.target, True):
                return run, []
            before = len(run)
            for place, head in enumerate(heads):
                task = head
                while task >= 0 and self._step(task, given_up):
                    run.append(task)
                    task = int(flow.following[task])
                heads[place] = task
            if len(run) == before:
                return None, [
                    t for t in heads if t >= 0 and self.ran[t] and self._can_run(t, False)
                ]

    def _step(self, task: int, given_up: frozenset[int]) -> bool:
        if not self.ran[task]:
            return False
        clean = task != self.without and self._can_run(task, True)
        sacrificed = not self.hopeful[task] or task in given_up
        if not clean and not (sacrificed and self._can_run(task, False)):
            return False
        self.done[task] = True
        self.clean[task] = clean
        counters, amounts = self.counters.row(task), self.amounts.row(task)
        self.reached[0, counters] += amounts
        if clean:
            self.reached[1, counters] += amounts
        return True

    def _can_run(self, task: int, clean: bool) -> bool:
        flow = self.flow
        previous = int(flow.previous[task])
        if previous >= 0 and not (self.clean if clean else self.done)[previous]:
            return False
        waits = flow.waits_of.row(task)
        reached = self.reached[int(clean)][flow.wait_counter[waits]]
        if (reached < flow.wait_need[waits]).any():
            return False
        groups = flow.groups_of.row(task)
        return not len(groups) or bool(
            flow.possible[groups].all() and self.done[flow.producers.take(groups)].all()
        )
