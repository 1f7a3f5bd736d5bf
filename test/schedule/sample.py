"""A launch of true size, of which chosen accesses are judged (see `confirm`).

Accesses of all iterations are columns; access k is row k % A of iteration k // A.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from regions import Regions
from system import Packet, System

from amk.schedule import ScheduleTable


class Sample(System):
    """Some iterations of a table from one start of its scalar, with demands on their order.

    `demand_...` collect what must hold around an access, and `violated` judges it all at once.
    """

    def __init__(self, table: ScheduleTable, start: int, iterations: int) -> None:
        super().__init__(table, iterations)
        self.start = start
        regions = Regions(table)
        boxes = [regions.boxes(start, e) for e in range(iterations)]
        self.lo, self.hi, self.happens = (np.concatenate(c) for c in zip(*boxes, strict=True))
        self.iteration = np.repeat(np.arange(iterations), len(table.access_task))
        self.task, self.buffer, self.write, self.use = (
            np.tile(c, iterations)
            for c in (table.access_task, table.access_buffer, table.access_write, table.access_use)
        )
        self.instance = self.iteration * self.tasks + self.task
        kinds = np.array([b.kind in ("input", "constant") for b in table.buffers])
        self.fixed = kinds[self.buffer]
        self.plain = self.happens & (self.use < 0) & ~self.fixed
        self.twice = self.link(self._packets())
        """Whether a use of a packet is written twice."""
        rows = np.flatnonzero(self.happens & ~self.fixed)
        rows = rows[np.argsort(self.buffer[rows], kind="stable")]
        cuts = np.searchsorted(self.buffer[rows], np.arange(len(table.buffers) + 1))
        self._of = [rows[a:b] for a, b in pairwise(cuts)]
        self.before: set[tuple[int, int]] = set()
        """Pairs of instances whose first must precede the second."""
        self.seen: set[tuple[int, int]] = set()
        """Pairs of which the first, a write, must be visible to the second as well."""
        self._place = np.zeros(0, np.int64)
        """The place of each instance in the order of a run."""
        self.pairs = 0
        """Conflicting pairs on which a demand was made."""

    def _packets(self) -> Iterator[Packet]:
        rows = np.flatnonzero(self.happens & (self.use >= 0))
        ranks = [len(b.shape) for b in self.table.buffers]
        columns = (
            self.instance,
            self.iteration,
            self.buffer,
            self.use,
            self.write,
            self.lo,
            self.hi,
        )
        for *head, lo, hi in zip(*(c[rows].tolist() for c in columns), strict=True):
            rank = ranks[head[2]]
            yield Packet(*head, box=tuple(zip(lo[:rank], hi[:rank], strict=True)))

    def runs_free(self, distance: int) -> bool:
        """Whether a task of iteration `distance` runs before all of iteration 0 has run."""
        if distance >= self.iterations:
            return False
        tails = [[i for i in queue if i < self.tasks] for queue in self.queues]
        last = [queue[-1] for queue in tails if queue]
        self.ask(last)
        masks: dict[int, tuple[list[int], int]] = {}
        for ran, lane in (self._lanes[tail] for tail in last):
            masks[id(ran)] = ran, masks.get(id(ran), (ran, 0))[1] | 1 << lane
        late = range(distance * self.tasks, (distance + 1) * self.tasks)
        return any(ran[i] & mask for ran, mask in masks.values() for i in late)

    # ---- demands ---------------------------------------------------------------------------

    def conflicts(self, k: int) -> np.ndarray:
        """The accesses that conflict with the plain access k, one of the two in iteration 0."""
        rows = self._of[self.buffer[k]]
        meet = (self.lo[rows] < self.hi[k]).all(1) & (self.lo[k] < self.hi[rows]).all(1)
        meet &= (self.write[rows] | self.write[k]) & (self.instance[rows] != self.instance[k])
        if self.iteration[k]:
            meet &= self.iteration[rows] == 0
        return rows[meet]

    def demand_plain(self, k: int) -> None:
        """All conflicts of access k must be in order, and visible where a write comes first.

        The run that blocks the instance of k must have been asked for. If the last task of a queue
        precedes another one or is visible to it, so do and are the tasks before it in that queue;
        and if a task precedes the first task of a queue, then those after it too.
        """
        me = int(self.instance[k])
        rows = self.conflicts(k)
        self.pairs += len(rows)
        after: dict[int, int] = {}
        last: dict[tuple[int, bool], int] = {}
        for other, write in zip(
            self.instance[rows].tolist(), self.write[rows].tolist(), strict=True
        ):
            queue = self.queue_of[other]
            if self.precedes(me, other):
                after[queue] = min(other, after.get(queue, other))
            else:
                last[queue, write] = max(other, last.get((queue, write), other))
        self.before |= {(other, me) for other in last.values()}
        self.seen |= {(other, me) for (_, write), other in last.items() if write}
        if self.write[k]:
            self.seen |= {(me, other) for other in after.values()}

    def demand_some(self, k: int, rng: random.Random, count: int) -> None:
        """A few conflicts of the plain access k, of other queues if there are any."""
        rows = self.conflicts(k)
        queue = self.table.task_queue
        others = rows[queue[self.task[rows]] != queue[self.task[k]]]
        rows = others if len(others) else rows
        for j in rng.sample(rows.tolist(), min(count, len(rows))):
            self.pairs += 1
            one, two = (
                (k, j) if self.precedes(int(self.instance[k]), int(self.instance[j])) else (j, k)
            )
            pair = int(self.instance[one]), int(self.instance[two])
            self.before.add(pair)
            if self.write[one]:
                self.seen.add(pair)

    def demand_packets(self, k: int, rng: random.Random, elements: int) -> None:
        """Some packets that access k touches must not be lost around it."""
        if not len(self._place):
            self.run()
            self._place = np.empty(self.count, np.int64)
            self._place[self.order] = np.arange(self.count)
        rows = self._of[self.buffer[k]]
        chosen = {
            tuple(rng.randrange(a, b) for a, b in zip(self.lo[k], self.hi[k], strict=True))
            for _ in range(elements)
        }
        for element in chosen:
            here = rows[(self.lo[rows] <= element).all(1) & (element < self.hi[rows]).all(1)]
            self._demand_slot(k, here)

    def _demand_slot(self, k: int, here: np.ndarray) -> None:
        """What must hold between the use of a slot by access k and its neighbours in time.

        `here` are all accesses of the slot.
        """
        writes = here[self.write[here]]
        writes = writes[np.argsort(self._place[self.instance[writes]], kind="stable")]
        same = (self.use[writes] == self.use[k]) & (self.iteration[writes] == self.iteration[k])
        at = int(np.flatnonzero(same)[0])
        around = writes[max(at - 1, 0) : at + 2] if self.write[k] else writes[at : at + 2]
        for first, second in pairwise(around):
            one, two = int(self.instance[first]), int(self.instance[second])
            polls = ~self.write[here] & (self.use[here] == self.use[first])
            polls &= self.iteration[here] == self.iteration[first]
            polled = self.instance[here[polls]].tolist()
            readers = polled if self.write[k] else [int(self.instance[k])]
            self.pairs += len(readers) + 1
            if one == two and readers:
                # A task that writes two uses gives nobody the time to read the first.
                self.before.add((one, one))
                continue
            self.before |= {(i, two) for i in (one, *readers) if i != two}
            if not polled and one != two:
                self.seen.add((one, two))

    # ---- judgement -------------------------------------------------------------------------

    def violated(self) -> str:
        """What demand is not met, "" if all are."""
        self.ask(first for first, _ in self.before)
        for first, second in sorted(self.before):
            if not self.precedes(first, second):
                return f"{self._name(first)} need not precede {self._name(second)}"
        unseen = self.unseen_pairs(sorted(self.seen))
        return "".join(f"{self._name(a)} is not visible to {self._name(b)}" for a, b in unseen[:1])

    def _name(self, instance: int) -> str:
        iteration, task = divmod(instance, self.tasks)
        return f"{self.table.task_name(task)} of iteration {iteration}"

    def undefined(self, reads: Sequence[int]) -> str:
        """The first of `reads` that finds bytes that nobody wrote, "" if there is none.

        The launch begins with iteration 0.
        """
        reads = [k for k in reads if not self._at_start(k)]
        self.ask(int(self.instance[k]) for k in reads)
        writers = {k: self._writers(k) for k in reads}
        self.ask(i for rows in writers.values() for i in self._latest(rows).values())
        for k, rows in writers.items():
            if not self._covered(k, rows):
                region = self.table.box_text(k % len(self.table.access_task))
                return f"{self._name(int(self.instance[k]))} reads {region}"
        return ""

    def _at_start(self, k: int) -> bool:
        buffer = self.table.buffers[self.buffer[k]]
        return buffer.initial and (buffer.kind != "scratch" or self.iteration[k] == 0)

    def _writers(self, k: int) -> list[int]:
        """The writes that touch what access k reads, and do not have to follow it."""
        rows = self.conflicts(k) if not self.iteration[k] else self._of[self.buffer[k]]
        rows = rows[self.write[rows]]
        if self.table.buffers[self.buffer[k]].kind == "scratch":
            rows = rows[self.iteration[rows] == self.iteration[k]]
        me = int(self.instance[k])
        return [
            j for j, i in zip(rows.tolist(), self.instance[rows].tolist(), strict=True)
            if i != me and not self.precedes(me, i)
        ]  # fmt: skip

    def _latest(self, rows: list[int]) -> dict[int, int]:
        """The last instance of each queue among those of accesses `rows`."""
        last: dict[int, int] = {}
        for instance in self.instance[rows].tolist():
            queue = self.queue_of[instance]
            last[queue] = max(instance, last.get(queue, instance))
        return last

    def _covered(self, k: int, rows: list[int]) -> bool:
        me = int(self.instance[k])
        lo, hi = self.lo[k], self.hi[k]
        known = np.zeros(hi - lo, bool)
        last = {queue: self.precedes(i, me) for queue, i in self._latest(rows).items()}
        for j in rows:
            instance = int(self.instance[j])
            if not last[self.queue_of[instance]] and not self.precedes(instance, me):
                continue
            known[
                tuple(
                    slice(max(a, 0), max(b, 0))
                    for a, b in zip(self.lo[j] - lo, self.hi[j] - lo, strict=True)
                )
            ] = True
        return bool(known.all())
