"""Memory cut into cells: the classes of bytes that the accesses of a schedule cannot tell apart.

Statement.  Every access of the given iterations touches a cell wholly or not at all, and two
accesses share a byte iff they share a cell.  So conflicts and cover are decided per cell, exactly,
for boxes of any rank and for buffers that overlap in an arena.

A buffer whose bytes no other buffer shares is cut along each dimension at the bounds of its boxes.
An arena in which buffers overlap is cut at the ends of the contiguous byte runs of all boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amk.schedule.table import Buffer, ScheduleTable
from amk.schedule.verify.arrays import Rows, combine, spans, starts
from amk.schedule.verify.report import TooLargeError

MAX_PIECES = 2**26
"""Into more pieces than this regions are not cut (`TooLargeError`)."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The accesses of one iteration to memory that can change.

    `rows` [n] are access numbers of the table, ascending; `lo`, `hi` [n, R] their boxes, not
    empty and inside the buffer; `certain` [n] says that the access happens, with this box, in
    every state (always true when one state is looked at).
    """

    rows: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    certain: np.ndarray


@dataclass(frozen=True, eq=False)
class Memory:
    """Cells of all boxes.  `classes[i]` [n] numbers the boxes of iteration i, equal boxes alike;
    `cells` lists the cells of each class; `initial` [cells] holds data at the start."""

    classes: list[np.ndarray]
    cells: Rows
    n_cells: int
    initial: np.ndarray


def cut(table: ScheduleTable, iterations: list[Boxes]) -> Memory:
    """Cut the memory that the boxes of `iterations` touch (equal list items are cut once)."""
    once = list({id(b): b for b in iterations}.values())
    buffer = np.concatenate([table.access_buffer[b.rows] for b in once])
    lo = np.concatenate([b.lo for b in once])
    hi = np.concatenate([b.hi for b in once])
    key = combine(buffer, *lo.T, *hi.T)
    _, first, classes = np.unique(key, return_index=True, return_inverse=True)
    classes = classes.reshape(-1)
    bounds = starts(np.array([len(b.rows) for b in once]))
    of = {id(b): classes[bounds[i] : bounds[i + 1]] for i, b in enumerate(once)}
    cells, n_cells, initial = _cells(table, buffer[first], lo[first], hi[first])
    return Memory([of[id(b)] for b in iterations], cells, n_cells, initial)


def overlapping_arenas(table: ScheduleTable) -> dict[str, list[int]]:
    """Buffers by arena, of the arenas in which two buffers share a byte."""
    arenas: dict[str, list[int]] = {}
    for number, buffer in enumerate(table.buffers):
        if buffer.arena is not None:
            arenas.setdefault(buffer.arena, []).append(number)
    result: dict[str, list[int]] = {}
    for name, members in arenas.items():
        members.sort(key=lambda n: table.buffers[n].offset)
        end = 0
        for number in members:
            buffer = table.buffers[number]
            if buffer.offset < end:
                result[name] = members
                break
            end = buffer.offset + buffer.size
    return result


def _cells(
    table: ScheduleTable, buffer: np.ndarray, lo: np.ndarray, hi: np.ndarray
) -> tuple[Rows, int, np.ndarray]:
    """Cells of distinct boxes, which are sorted by buffer."""
    count = len(buffer)
    arenas = overlapping_arenas(table)
    arena_of = {number: name for name, members in arenas.items() for number in members}
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    initial: list[np.ndarray] = []
    base = 0
    cuts = np.flatnonzero(np.diff(buffer)) + 1
    runs: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for rows in np.split(np.arange(count), cuts) if count else []:
        number = int(buffer[rows[0]])
        if number in arena_of:
            found = _byte_runs(table.buffers[number], rows, lo[rows], hi[rows])
            runs.setdefault(arena_of[number], []).append(found)
            continue
        owner, cell, size = _grid(table.buffers[number], rows, lo[rows], hi[rows])
        pieces.append((owner, cell + base))
        initial.append(np.full(size, table.buffers[number].initial))
        base += size
    for name, found in runs.items():
        owners, first, last = (np.concatenate(part) for part in zip(*found, strict=True))
        edges = np.unique(np.concatenate([first, last]))
        low = np.searchsorted(edges, first)
        sizes = np.searchsorted(edges, last) - low
        pieces.append((np.repeat(owners, sizes), spans(low, sizes) + base))
        initial.append(_initial(table, arenas[name], edges))
        base += len(edges) - 1
    if not pieces:
        return Rows(np.zeros(count + 1, np.int64), np.zeros(0, np.int64)), 0, np.zeros(0, bool)
    owners, cells = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return Rows.of(owners, cells, count), base, np.concatenate(initial)


def _grid(
    buffer: Buffer, rows: np.ndarray, lo: np.ndarray, hi: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cells of boxes of one buffer: (box of each entry, its cell, number of cells)."""
    low = np.empty_like(lo)
    size = np.empty_like(lo)
    shape: list[int] = []
    for dim in range(lo.shape[1]):
        edges = np.unique(np.concatenate([lo[:, dim], hi[:, dim]]))
        low[:, dim] = np.searchsorted(edges, lo[:, dim])
        size[:, dim] = np.searchsorted(edges, hi[:, dim]) - low[:, dim]
        shape.append(max(len(edges) - 1, 1))
    total = size.prod(axis=1)
    _check_pieces(buffer, total)
    owner = np.repeat(np.arange(len(rows)), total)
    rest = spans(np.zeros(len(rows), np.int64), total)
    cell = np.zeros(len(owner), np.int64)
    stride = 1
    for dim in reversed(range(lo.shape[1])):
        if shape[dim] == 1:
            continue
        extent = size[owner, dim]
        cell += (low[owner, dim] + rest % extent) * stride
        rest //= extent
        stride *= shape[dim]
    return rows[owner], cell, stride


def _byte_runs(
    buffer: Buffer, rows: np.ndarray, lo: np.ndarray, hi: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contiguous byte runs of boxes: (box of each run, first byte, end byte) in the arena."""
    rank = len(buffer.shape)
    shape = np.array(buffer.shape, np.int64)
    strides = np.ones(rank + 1, np.int64)
    strides[:rank] = np.cumprod(shape[::-1])[::-1]
    full = (lo[:, :rank] == 0) & (hi[:, :rank] == shape)
    last = np.array([np.flatnonzero(~f)[-1] if not f.all() else 0 for f in full], np.int64)
    owner = np.arange(len(rows))
    first = np.zeros(len(rows), np.int64)
    for dim in range(rank):
        outer = dim < last[owner]
        sizes = np.where(outer, hi[owner, dim] - lo[owner, dim], 1)
        at = np.where(dim <= last[owner], lo[owner, dim], 0)
        _check_pieces(buffer, sizes)
        owner, offset = np.repeat(owner, sizes), spans(np.zeros(len(sizes), np.int64), sizes)
        first = np.repeat(first + at * strides[dim + 1], sizes) + offset * strides[dim + 1]
    along = last[owner]
    length = (hi[owner, along] - lo[owner, along]) * strides[along + 1] if rank else strides[along]
    begin = buffer.offset + first * buffer.item_bytes
    return rows[owner], begin, begin + length * buffer.item_bytes


def _check_pieces(buffer: Buffer, sizes: np.ndarray) -> None:
    if float(sizes.sum(dtype=np.float64)) > MAX_PIECES:
        raise TooLargeError(
            f"the regions of buffer '{buffer.name}' fall into more than {MAX_PIECES} pieces; make "
            "them whole rows, or place the buffer in memory of its own",
            buffer.location,
        )


def _initial(table: ScheduleTable, members: list[int], edges: np.ndarray) -> np.ndarray:
    """Which cells of an arena an initial buffer covers (a partly covered cell is not covered)."""
    result = np.zeros(len(edges) - 1, bool)
    depth = np.zeros(len(edges) - 1, np.int64)
    points = [
        p
        for n in members
        for p in (table.buffers[n].offset, table.buffers[n].offset + table.buffers[n].size)
    ]
    fine = np.unique(np.concatenate([edges, points]))
    covered = np.zeros(len(fine), bool)
    for number in members:
        buffer = table.buffers[number]
        if buffer.initial or buffer.kind in ("input", "constant"):
            low, high = np.searchsorted(fine, [buffer.offset, buffer.offset + buffer.size])
            covered[low:high] = True
    cell = np.searchsorted(edges, fine, side="right") - 1
    inside = (cell >= 0) & (cell < len(depth))
    np.add.at(depth, cell[inside & ~covered], 1)
    result[:] = depth == 0
    return result
