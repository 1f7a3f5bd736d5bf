"""Records of an instrumented launch, joined with the tasks of the schedule that they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from amk.backends.trace_layout import TraceLayout, Waits
from amk.errors import AmkError
from amk.schedule.table import COMPUTE, ScheduleTable


@dataclass(frozen=True)
class Timeline:
    """When each task of each worker began, waited and ended in the traced iterations."""

    table: ScheduleTable
    layout: TraceLayout
    waits: Waits
    tasks: np.ndarray
    """[workers, tasks of a worker]: numbers in `table`, in the order of the queue; -1: none."""

    @cached_property
    def phases(self) -> np.ndarray:
        """[workers, tasks of a worker]: the family of each task; -1: none."""
        return np.where(self.tasks < 0, -1, self.table.task_origin[self.tasks])

    @cached_property
    def layers(self) -> np.ndarray:
        """[workers, tasks of a worker]: the layer of each task; -1 outside layers."""
        index = self.table.task_index
        if index.shape[1] < 2:
            return np.full(self.tasks.shape, -1)
        return np.where(self.tasks < 0, -1, index[self.tasks, 1])

    @cached_property
    def start(self) -> int:
        """When the first task began, in nanoseconds."""
        return int(self.waits.begin[self._there()].min())

    @cached_property
    def end(self) -> int:
        """When the last task ended, in nanoseconds."""
        waits, there = self.waits, self._there()
        return int((waits.begin + waits.end)[there].max())

    @property
    def nanoseconds(self) -> float:
        """From the first begin to the last end of a warp, a token, on the average."""
        there = self._there()
        ends = np.where(there, self.waits.begin + self.waits.end, 0).max(axis=(2, 3))
        begins = np.where(there, self.waits.begin, 2**62).min(axis=(2, 3))
        some = there.any(axis=(2, 3))
        return float((ends - begins)[some].mean()) / self.layout.tokens

    def _there(self) -> np.ndarray:
        return self.waits.task >= 0


def timeline_of(table: ScheduleTable, layout: TraceLayout, values: np.ndarray) -> Timeline:
    """Join the contents of the trace buffer (int32) with the schedule.

    Raises AmkError where a record is missing or belongs to another task than the schedule has.
    """
    tasks = np.full((layout.workers, layout.tasks), -1, np.int64)
    for worker in range(layout.workers):
        mine = [
            number
            for number, queue in enumerate(table.queues)
            if queue.worker == worker and queue.agent == COMPUTE
        ]
        order = np.flatnonzero(np.isin(table.task_queue, mine))
        tasks[worker, : len(order)] = order
    timeline = Timeline(table, layout, layout.decode(values), tasks)
    wrong = np.argwhere(timeline.waits.task != timeline.phases[:, None, None, :])
    if len(wrong):
        worker, warp, token, place = (int(x) for x in wrong[0])
        expected = int(tasks[worker, place])
        name = "no task" if expected < 0 else f"task '{table.task_name(expected)}'"
        raise AmkError(
            f"the trace does not fit the schedule: worker {worker}, warp {warp} should have run"
            f" {name} as number {place} of traced token {token}"
        )
    return timeline
