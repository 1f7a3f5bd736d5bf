"""Packets: which writes a packet read waits for.

Statement.  A read of use u waits, for every element of its box, for the one write of use u of that
element in the same iteration.  Reads of the same box and use wait for the same writes and form one
*group*; a group that names an element without a writer is never complete.  Two writers of one use
of an element in an iteration are malformed: a reader could not tell their payloads apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.arrays import Rows, distinct
from amk.schedule.verify.memory import Boxes, cut


@dataclass(frozen=True, eq=False)
class Packets:
    """The packet reads of one iteration.

    `producers` lists the tasks that certainly write for each group; `complete` [G] says that every
    element has such a writer, `covered` that it has a writer at all, in some state.  Edge i: task
    `reader[i]` waits for group `group[i]`, in every state if `certain[i]`.  `missing` gives each
    incomplete group an access number that reads it.
    """

    producers: Rows
    complete: np.ndarray
    covered: np.ndarray
    reader: np.ndarray
    group: np.ndarray
    certain: np.ndarray
    missing: dict[int, int]


def resolve(table: ScheduleTable, boxes: Boxes, classes: np.ndarray, cells: Rows) -> Packets:
    """The packet groups of one iteration; `classes` are the cell classes of `boxes`."""
    packet = np.array([b.packet for b in table.buffers], bool)
    rows = boxes.rows
    chosen = np.flatnonzero(packet[table.access_buffer[rows]])
    write = table.access_write[rows[chosen]]
    writes, reads = chosen[write], chosen[~write]
    uses = int(table.access_use[rows[chosen]].max(initial=0)) + 1
    sizes = cells.sizes(classes[writes])
    key = cells.take(classes[writes]) * uses + np.repeat(table.access_use[rows[writes]], sizes)
    owner = np.repeat(writes, sizes)
    order = np.argsort(key, kind="stable")
    key, owner = key[order], owner[order]

    first, group = distinct(classes[reads], table.access_use[rows[reads]])
    heads = reads[first]
    sizes = cells.sizes(classes[heads])
    wanted = cells.take(classes[heads]) * uses + np.repeat(table.access_use[rows[heads]], sizes)
    in_group = np.repeat(np.arange(len(heads)), sizes)
    at = np.searchsorted(key, wanted)
    hit = np.zeros(len(wanted), bool)
    hit[at < len(key)] = key[at[at < len(key)]] == wanted[at < len(key)]
    covered = np.ones(len(heads), bool)
    covered[in_group[~hit]] = False
    found, of = owner[at[hit]], in_group[hit]
    sure = boxes.certain[found]
    complete = covered.copy()
    complete[of[~sure]] = False
    of, writer = of[sure], table.access_task[rows[found[sure]]].astype(np.int64)
    once, _ = distinct(of, writer)
    producers = Rows.of(of[once], writer[once], len(heads))
    missing = {int(g): int(rows[heads[g]]) for g in np.flatnonzero(~complete)[:50]}
    return Packets(
        producers,
        complete,
        covered,
        table.access_task[rows[reads]].astype(np.int64),
        group,
        boxes.certain[reads],
        missing,
    )


def rewritten(table: ScheduleTable, boxes: Boxes) -> list[tuple[int, int]]:
    """Pairs of access numbers among the packet writes `boxes` that write one use of an element."""
    memory = cut(table, [boxes])
    classes = memory.classes[0]
    sizes = memory.cells.sizes(classes)
    use = table.access_use[boxes.rows]
    key = memory.cells.take(classes) * (int(use.max(initial=0)) + 1) + np.repeat(use, sizes)
    order = np.argsort(key, kind="stable")
    owner = np.repeat(np.arange(len(sizes)), sizes)[order]
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    pairs = np.unique(np.stack([owner[same], owner[same + 1]], 1), axis=0)
    return [(int(boxes.rows[a]), int(boxes.rows[b])) for a, b in pairs]
