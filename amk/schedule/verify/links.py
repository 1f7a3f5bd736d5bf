"""Conflicts by an interval sweep: which pairs of accesses must be ordered, and how.

Statement.  Let L be the run that executes one iteration after the other, each in the order of its
greedy run; L is a legal run, so q before b in L whenever q must precede b.  Sort the accesses to
each cell by L.  All conflicting pairs of accesses are ordered, and their order is one of
visibility where it has to be, iff that holds for *neighbours*: a write and the next write, a write
and the reads before the next write, a read and the next write; for packets a use, its readers and
the next use of the slot.  Order and visibility are transitive, and a neighbour pair is a
conflicting pair.  Only pairs whose first member is in iteration 0 are kept: every later iteration
is iteration 0 of some state.

Reads of equal boxes between the same two writes of their memory form one event, and so do packet
reads of one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.arrays import Rows, combine, distinct, spans, starts
from amk.schedule.verify.memory import Boxes, Memory, overlapping_arenas

CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of events; event i stands for the access numbers `members` of iteration `when[i]`.

    `ordered` and `visible` are [n, 2] event pairs: every member of the first must precede, or be
    visible to, every member of the second (members of the same task aside).
    """

    table: ScheduleTable
    members: Rows
    when: np.ndarray
    ordered: np.ndarray
    visible: np.ndarray

    def pairs(self, which: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Member pairs in chunks: first instances, second instances, access numbers [n, 2]."""
        tasks = self.table.n_tasks
        left, right = self.members.sizes(which[:, 0]), self.members.sizes(which[:, 1])
        sizes = left * right
        bounds = np.searchsorted(np.cumsum(sizes), np.arange(0, int(sizes.sum()), CHUNK)[1:])
        for part in np.split(np.arange(len(which)), np.unique(bounds)):
            if not len(part):
                continue
            owner = np.repeat(part, sizes[part])
            index = spans(np.zeros(len(part), np.int64), sizes[part])
            first, second = which[owner, 0], which[owner, 1]
            one = self.members.items[self.members.start[first] + index // right[owner]]
            two = self.members.items[self.members.start[second] + index % right[owner]]
            task = self.table.access_task
            q = self.when[first] * tasks + task[one]
            b = self.when[second] * tasks + task[two]
            other = q != b
            yield q[other], b[other], np.stack([one, two], 1)[other]


@dataclass(frozen=True, eq=False)
class Accesses:
    """All accesses of a window of iterations, one row each, flattened."""

    row: np.ndarray
    when: np.ndarray
    task: np.ndarray
    cls: np.ndarray
    write: np.ndarray
    packet: np.ndarray
    use: np.ndarray
    certain: np.ndarray
    time: np.ndarray
    domain: np.ndarray

    @staticmethod
    def of(
        table: ScheduleTable, boxes: list[Boxes], memory: Memory, ranks: list[np.ndarray]
    ) -> Accesses:
        """`ranks[e]` [T] is the place of each task in the run of iteration e."""
        row = np.concatenate([b.rows for b in boxes])
        when = np.repeat(np.arange(len(boxes)), [len(b.rows) for b in boxes])
        task = table.access_task[row].astype(np.int64)
        rank = np.concatenate(
            [r[table.access_task[b.rows]] for r, b in zip(ranks, boxes, strict=True)]
        )
        arena = {n: members[0] for members in overlapping_arenas(table).values() for n in members}
        domain = np.array([arena.get(n, n) for n in range(len(table.buffers))], np.int64)
        buffer = table.access_buffer[row]
        packet = np.array([b.packet for b in table.buffers], bool)
        return Accesses(
            row, when, task, np.concatenate(memory.classes[: len(boxes)]),
            table.access_write[row], packet[buffer], table.access_use[row],
            np.concatenate([b.certain for b in boxes]), when * table.n_tasks + rank, domain[buffer],
        )  # fmt: skip

    def take(self, chosen: np.ndarray) -> Accesses:
        """The chosen rows."""
        return Accesses(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Sweep:
    """Plain events sorted by cell and time; `last_write` and `next_write` are places or -1.

    One entry is one event on one cell.
    """

    event: np.ndarray
    cell: np.ndarray
    write: np.ndarray
    when: np.ndarray
    last_write: np.ndarray
    next_write: np.ndarray
    last_certain: np.ndarray
    members: Rows


def sweep(accesses: Accesses, memory: Memory) -> Sweep:
    """Sort the plain accesses (no packets) by cell and time."""
    writes, reads = np.flatnonzero(accesses.write), np.flatnonzero(~accesses.write)
    span = int(accesses.time.max(initial=0)) + 1
    write_keys = np.sort(accesses.domain[writes] * span + accesses.time[writes])
    phase = np.searchsorted(write_keys, accesses.domain[reads] * span + accesses.time[reads])
    head, group = distinct(accesses.cls[reads], phase, accesses.when[reads])
    count = len(writes) + len(head)
    leader = np.concatenate([writes, reads[head]])
    # A group is placed at its first member; no write of its memory lies between its members.
    earliest = np.full(len(head), np.iinfo(np.int64).max)
    np.minimum.at(earliest, group, accesses.time[reads])
    time = np.concatenate([accesses.time[writes] * 2 + 1, earliest * 2])
    members = Rows.of(
        np.concatenate([np.arange(len(writes)), len(writes) + group]),
        np.concatenate([accesses.row[writes], accesses.row[reads]]),
        count,
    )
    sizes = memory.cells.sizes(accesses.cls[leader])
    event = np.repeat(np.arange(count), sizes)
    cell = memory.cells.take(accesses.cls[leader])
    order = np.argsort(combine(cell, time[event]), kind="stable")
    event, cell = event[order], cell[order]
    write = event < len(writes)
    certain = np.zeros(len(event), bool)
    certain[write] = accesses.certain[writes[event[write]]]
    return Sweep(
        event, cell, write, accesses.when[leader][event],
        _last(write, cell), _next(write, cell), _last(certain, cell), members,
    )  # fmt: skip


def _last(mark: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """The place of the last marked entry before each entry of the same cell, or -1."""
    place = np.where(mark, np.arange(len(mark)), -1)
    before = np.full(len(mark), -1, np.int64)
    np.maximum.accumulate(place[:-1], out=before[1:])
    inside = before >= 0
    inside[inside] = cell[before[inside]] == cell[inside]
    return np.where(inside, before, -1)


def _next(mark: np.ndarray, cell: np.ndarray) -> np.ndarray:
    reverse = _last(mark[::-1], cell[::-1])[::-1]
    return np.where(reverse >= 0, len(mark) - 1 - reverse, -1)


def plain_links(table: ScheduleTable, swept: Sweep) -> Links:
    """The pairs of plain accesses."""
    first = np.flatnonzero((swept.when == 0) & (swept.next_write >= 0))
    to_write = np.stack([swept.event[first], swept.event[swept.next_write[first]]], 1)
    second = np.flatnonzero(~swept.write & (swept.last_write >= 0))
    second = second[swept.when[swept.last_write[second]] == 0]
    to_read = np.stack([swept.event[swept.last_write[second]], swept.event[second]], 1)
    from_write = swept.write[first]
    when = np.zeros(len(swept.members.start) - 1, np.int64)
    when[swept.event] = swept.when
    return Links(
        table,
        swept.members,
        when,
        _unique(to_write[~from_write]),
        _unique(np.concatenate([to_write[from_write], to_read])),
    )


def packet_links(table: ScheduleTable, accesses: Accesses, memory: Memory) -> Links:
    """The pairs of packet accesses (`accesses` holds packet rows only)."""
    writes, reads = np.flatnonzero(accesses.write), np.flatnonzero(~accesses.write)
    head, group = distinct(accesses.cls[reads], accesses.use[reads], accesses.when[reads])
    sizes = memory.cells.sizes(accesses.cls[writes])
    event = np.repeat(np.arange(len(writes)), sizes)
    cell = memory.cells.take(accesses.cls[writes])
    order = np.argsort(combine(cell, accesses.time[writes[event]]), kind="stable")
    event, cell = event[order], cell[order]
    link = np.flatnonzero((cell[1:] == cell[:-1]) & (accesses.when[writes[event[:-1]]] == 0))
    one, two = event[link], event[link + 1]

    uses = int(accesses.use.max(initial=0)) + 1
    leaders = reads[head]
    read_sizes = memory.cells.sizes(accesses.cls[leaders])
    number = np.repeat(np.arange(len(head)), read_sizes)
    span = (int(accesses.when.max(initial=0)) + 1) * uses
    slot = memory.cells.take(accesses.cls[leaders]) * span
    slot += (accesses.when[leaders] * uses + accesses.use[leaders])[number]
    by_slot = np.argsort(slot, kind="stable")
    slot, number = slot[by_slot], number[by_slot]
    owner = writes[one]
    wanted = cell[link] * span + accesses.when[owner] * uses + accesses.use[owner]
    low, high = np.searchsorted(slot, wanted), np.searchsorted(slot, wanted, side="right")
    readers = number[spans(low, high - low)]
    overwriter = np.repeat(two, high - low)
    sure = np.zeros(len(head), bool)
    np.logical_or.at(sure, group, accesses.certain[reads])
    sure_before = starts(sure[number])
    seen = sure_before[high] > sure_before[low]
    members = Rows.of(
        np.concatenate([np.arange(len(writes)), len(writes) + group]),
        np.concatenate([accesses.row[writes], accesses.row[reads]]),
        len(writes) + len(head),
    )
    return Links(
        table,
        members,
        np.concatenate([accesses.when[writes], accesses.when[leaders]]),
        _unique(
            np.concatenate(
                [
                    np.stack([one[seen], two[seen]], 1),
                    np.stack([len(writes) + readers, overwriter], 1),
                ]
            )
        ),
        _unique(np.stack([one[~seen], two[~seen]], 1)),
    )


def _unique(pairs: np.ndarray) -> np.ndarray:
    """Distinct rows of event pairs, pairs of one event with itself included."""
    if not len(pairs):
        return pairs.reshape(0, 2).astype(np.int64)
    top = int(pairs.max()) + 1
    key = np.unique(pairs[:, 0].astype(np.int64) * top + pairs[:, 1])
    return np.stack([key // top, key % top], 1)
