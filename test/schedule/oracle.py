"""A slow judge of tables that applies the definitions one pair at a time.

Nothing here is shared with the verifier.  One start of the run-time scalar is unrolled; that q must
precede b is found by blocking q and running greedily; there are no clocks, no cells and no cases.

It judges tables with at most one run-time scalar, without arenas and without `iter`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from itertools import combinations

import numpy as np
from regions import Regions, Touch, malformed
from system import Packet, System

from amk.schedule import ScheduleTable

Slot = tuple[tuple[int, frozenset[int]], ...]
"""What happens to a packet: its writes (instance, readers of what it wrote)."""


class Launch(System):
    """Some iterations of a table from one start of its scalar."""

    def __init__(self, table: ScheduleTable, start: int | None, iterations: int) -> None:
        super().__init__(table, iterations)
        self.kinds = [b.kind for b in table.buffers]
        self.touches: list[Touch] = []
        self._access(Regions(table), start)
        packets = (t for t in self.touches if t.use >= 0)
        self.twice = self.link(
            Packet(t.instance, t.iteration, t.buffer, t.use, t.write, t.box) for t in packets
        )
        """Whether a use of a packet is written twice."""

    def _access(self, regions: Regions, start: int | None) -> None:
        table = self.table
        tasks, buffers = table.access_task.tolist(), table.access_buffer.tolist()
        writes, uses = table.access_write.tolist(), table.access_use.tolist()
        for iteration in range(self.iterations):
            lo, hi, happens = regions.boxes(start, iteration)
            for row in np.flatnonzero(happens).tolist():
                rank = regions.rank[buffers[row]]
                box = tuple(zip(lo[row, :rank].tolist(), hi[row, :rank].tolist(), strict=True))
                instance = iteration * self.tasks + tasks[row]
                self.touches.append(
                    Touch(instance, iteration, row, buffers[row], writes[row], uses[row], box)
                )

    def outside(self) -> bool:
        """Whether an access leaves its buffer."""
        shapes = [b.shape for b in self.table.buffers]
        return any(
            not all(a >= 0 and b <= n for (a, b), n in zip(t.box, shapes[t.buffer], strict=True))
            for t in self.touches
        )

    def constant_write(self) -> bool:
        """Whether something that is read-only is written."""
        return any(t.write and self.kinds[t.buffer] in ("input", "constant") for t in self.touches)

    def pairs(self) -> Iterator[tuple[Touch, Touch]]:
        """All conflicting accesses of different instances to plain memory."""
        of: dict[int, list[Touch]] = defaultdict(list)
        for touch in self.touches:
            if touch.use < 0 and self.kinds[touch.buffer] not in ("input", "constant"):
                of[touch.buffer].append(touch)
        for members in of.values():
            for one, two in combinations(members, 2):
                if one.instance != two.instance and (one.write or two.write) and one.meets(two):
                    yield one, two

    def races(self, pairs: Iterable[tuple[Touch, Touch]]) -> bool:
        """Whether one of the conflicting `pairs` can overlap, or its first write be unseen."""
        suspects: set[tuple[int, int]] = set()
        for one, two in pairs:
            if self.unordered(one.instance, two.instance):
                return True
            first, second = (one, two) if self.precedes(one.instance, two.instance) else (two, one)
            if first.write:
                suspects.add((first.instance, second.instance))
        return any(self.unseen(a, b) for a, b in sorted(suspects))

    def slots(self, buffer: int, keep: int | None = None) -> set[Slot]:
        """What happens to the packets of a buffer.

        Elements to which the same happens are listed once; `keep` asks for one element only.
        """
        shape = self.table.buffers[buffer].shape
        mine = [t for t in self.touches if t.buffer == buffer]
        found: set[Slot] = set()
        chosen = list(np.ndindex(*shape))
        if keep is not None:
            chosen = [tuple(int(i) for i in np.unravel_index(keep, shape))]
        for element in chosen:
            here = [t for t in mine if t.has(element)]
            found.add(
                tuple(
                    (
                        w.instance,
                        frozenset(
                            r.instance
                            for r in here
                            if not r.write and (r.use, r.iteration) == (w.use, w.iteration)
                        ),
                    )
                    for w in here
                    if w.write
                )
            )
        return found

    def lost(self, slot: Slot) -> bool:
        """Whether a packet of a slot can be overwritten before everybody has read it."""
        for (one, readers), (two, others) in combinations(slot, 2):
            if one == two:
                # A task that writes two uses gives nobody the time to read the first.
                if readers or others:
                    return True
                continue
            if self.unordered(one, two):
                return True
            late, polled, before = (two, readers, one)
            if self.precedes(two, one):
                late, polled, before = (one, others, two)
            if any(r != late and not self.precedes(r, late) for r in polled):
                return True
            between = any(
                w not in (one, two) and self.precedes(before, w) and self.precedes(w, late)
                for w, _ in slot
            )
            if not polled and not between and self.unseen(before, late):
                return True
        return False

    def undefined(self, first: int, reads: Set[int] | None = None) -> bool:
        """Whether a read (of tasks `reads`) of a launch that starts at iteration `first` finds
        bytes that nobody wrote."""
        of: dict[int, list[Touch]] = defaultdict(list)
        for touch in self.touches:
            if touch.use < 0 and touch.write and touch.iteration >= first:
                of[touch.buffer].append(touch)
        for touch in self.touches:
            kind = self.kinds[touch.buffer]
            if touch.use >= 0 or touch.write or touch.iteration < first:
                continue
            if kind in ("input", "constant"):
                continue
            if reads is not None and touch.instance % self.tasks not in reads:
                continue
            buffer = self.table.buffers[touch.buffer]
            at_start = kind != "scratch" or touch.iteration == first
            if buffer.initial and at_start:
                continue
            known = np.zeros(buffer.shape, bool)
            for other in of[touch.buffer]:
                if kind == "scratch" and other.iteration != touch.iteration:
                    continue
                if other.meets(touch) and self.precedes(other.instance, touch.instance):
                    known[other.region] = True
            if not known[touch.region].all():
                return True
        return False


def judge(table: ScheduleTable) -> str:
    """The kind of the verdict on a table whose launches are short, "" if it is sound.

    The longest launch is unrolled: a later start runs its last iterations, and these are ordered
    alike, since all iterations before can always be completed first.
    """
    if malformed(table):
        return "malformed"
    (scalar,) = table.scalars
    launch = Launch(table, scalar.lo, scalar.hi - scalar.lo)
    if launch.twice:
        return "malformed"
    if launch.outside():
        return "out-of-bounds"
    if launch.constant_write():
        return "constant-write"
    if launch.deadlock():
        return "deadlock"
    packets = [n for n, b in enumerate(table.buffers) if b.packet]
    if launch.races(launch.pairs()) or any(
        launch.lost(slot) for number in packets for slot in launch.slots(number)
    ):
        return "race"
    if any(launch.undefined(first) for first in range(launch.iterations)):
        return "undefined-read"
    return ""
