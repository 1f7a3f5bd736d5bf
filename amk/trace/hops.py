"""How long packets travel: from the end of the last task that writes them to their arrival."""

from __future__ import annotations

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.trace.timeline import Timeline


def hop_times(timeline: Timeline) -> dict[int, np.ndarray]:
    """For each family that waits for packets, nanoseconds of its tasks in all traced tokens.

    From the end of the last task that writes what a task reads to the end of its last wait, both of
    their last warps. A warp's task ends a little after it has sent, so this may be less than the
    packets took. Tasks that began after that are left out: their packets may have been there.
    """
    table, waits = timeline.table, timeline.waits
    begins, arrivals, ends = (
        _by_task(timeline, values)
        for values in (waits.begin, waits.begin + waits.arrived, waits.begin + waits.end)
    )
    latest = _latest_writer(table, ends)
    found: dict[int, np.ndarray] = {}
    for origin in range(len(table.origins)):
        mine = table.task_origin == origin
        known = begins[mine] < latest[mine]
        if known.any():
            found[origin] = (arrivals[mine] - latest[mine])[known]
    return found


def _by_task(timeline: Timeline, values: np.ndarray) -> np.ndarray:
    """The largest of all warps, [tasks of the table, tokens]; 0 for tasks without a record."""
    workers, places = np.nonzero(timeline.tasks >= 0)
    result = np.zeros((timeline.table.n_tasks, timeline.layout.tokens), np.int64)
    result[timeline.tasks[workers, places]] = values.max(axis=1)[workers, :, places]
    return result


def _latest_writer(table: ScheduleTable, ends: np.ndarray) -> np.ndarray:
    """For each task and token, the end of the last task that writes packets which it reads."""
    latest = np.zeros_like(ends)
    packets = np.flatnonzero(table.access_use >= 0)
    keys = table.access_buffer[packets].astype(np.int64) << 32 | table.access_use[packets]
    order = np.argsort(keys, kind="stable")
    for group in np.split(packets[order], np.flatnonzero(np.diff(keys[order])) + 1):
        writes = table.access_write[group]
        readers, writers = group[~writes], group[writes]
        if not len(readers) or not len(writers):
            continue
        overlap = _overlap(table, readers, writers)
        for token in range(ends.shape[1]):
            last = np.where(overlap, ends[table.access_task[writers], token], 0).max(axis=1)
            np.maximum.at(latest[:, token], table.access_task[readers], last)
    return latest


def _overlap(table: ScheduleTable, readers: np.ndarray, writers: np.ndarray) -> np.ndarray:
    """[readers, writers]: whether their boxes may overlap; bounds that vary are taken to do so."""
    result = np.ones((len(readers), len(writers)), bool)
    for dim in range(table.access_lo.shape[1]):
        lo = [table.access_lo[side, dim] for side in (readers, writers)]
        hi = [table.access_hi[side, dim] for side in (readers, writers)]
        varies = [
            (table.access_lo_expr[side, dim] >= 0) | (table.access_hi_expr[side, dim] >= 0)
            for side in (readers, writers)
        ]
        apart = (lo[0][:, None] >= hi[1][None, :]) | (lo[1][None, :] >= hi[0][:, None])
        result &= ~apart | varies[0][:, None] | varies[1][None, :]
    return result
