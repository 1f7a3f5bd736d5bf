"""The trace in the format of Chrome and Perfetto (https://ui.perfetto.dev)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.trace.timeline import Timeline

Event = dict[str, Any]
_RING = 100
"""The thread number of a worker's ring."""
_BIN = 500
"""Nanoseconds over which the rate of the copies is averaged."""


def chrome_trace(timeline: Timeline, *, all_warps: bool = False) -> dict[str, Any]:
    """A JSON object: a process for each worker, a thread for each warp (or for the first alone).

    Layers contain tasks, and tasks contain the wait for their packets. One more process counts the
    weights that all workers together ask for.
    """
    warps = timeline.layout.warps if all_warps else 1
    waited = _waited_buffers(timeline.table)
    events: list[Event] = []
    for worker in range(timeline.layout.workers):
        events.append(_name("process_name", worker, 0, f"worker {worker}"))
        for warp in range(warps):
            events.append(_name("thread_name", worker, warp, f"warp {warp}"))
            events.extend(_layers(timeline, worker, warp))
            events.extend(_tasks(timeline, worker, warp, waited))
        if timeline.layout.warps > 1:
            events.append(_name("thread_name", worker, _RING, "ring"))
            events.extend(_ring(timeline, worker))
    if len(timeline.waits.copied_at):
        events.append(_name("process_name", timeline.layout.workers, 0, "memory"))
        events.extend(_memory(timeline))
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _name(kind: str, worker: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": worker, "tid": thread, "args": {"name": name}}


def _slice(
    name: str, category: str, worker: int, thread: int, begin: float, length: float, **args: object
) -> Event:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": worker,
        "tid": thread,
        "ts": round(begin / 1e3, 3),
        "dur": round(length / 1e3, 3),
        "args": args,
    }


def _tasks(timeline: Timeline, worker: int, warp: int, waited: dict[int, str]) -> Iterator[Event]:
    table, waits = timeline.table, timeline.waits
    for token in range(timeline.layout.tokens):
        for place, task in enumerate(timeline.tasks[worker]):
            if task < 0:
                continue
            at = worker, warp, token, place
            begin = float(waits.begin[at] - timeline.start)
            packets, weights = int(waits.packets[at]), int(waits.weights[at])
            phase = table.origins[table.task_origin[task]].name
            yield _slice(
                table.task_name(int(task)),
                "task",
                worker,
                warp,
                begin,
                float(waits.end[at]),
                phase=phase,
                token=timeline.layout.first + token,
                waited_for_packets_us=packets / 1e3,
                waited_for_weights_us=weights / 1e3,
            )
            if waits.arrived[at] > 0:
                name = f"wait {waited.get(int(table.task_origin[task]), '')}".strip()
                yield _slice(name, "wait", worker, warp, begin, float(waits.arrived[at]))


def _layers(timeline: Timeline, worker: int, warp: int) -> Iterator[Event]:
    """From the begin of the first task of each layer to the end of its last one."""
    waits, layers = timeline.waits, timeline.layers[worker]
    for token in range(timeline.layout.tokens):
        for layer in np.unique(layers[layers >= 0]):
            places = np.flatnonzero(layers == layer)
            begins = waits.begin[worker, warp, token, places]
            ends = begins + waits.end[worker, warp, token, places]
            begin = float(begins.min() - timeline.start)
            yield _slice(
                f"layer {layer}", "layer", worker, warp, begin, float(ends.max() - begins.min())
            )


def _ring(timeline: Timeline, worker: int) -> Iterator[Event]:
    """How long the producers waited in each token."""
    waits = timeline.waits
    for token in range(timeline.layout.tokens):
        begin = float(waits.begin[worker, :, token, 0].min() - timeline.start)
        yield {
            "ph": "C",
            "name": "producers wait (us a token)",
            "pid": worker,
            "tid": _RING,
            "ts": round(begin / 1e3, 3),
            "args": {
                "ring full": float(waits.ring_full[worker, :, token].mean()) / 1e3,
                "window": float(waits.window[worker, :, token].mean()) / 1e3,
            },
        }


def _memory(timeline: Timeline) -> Iterator[Event]:
    """How fast weights were asked for."""
    at = timeline.waits.copied_at - timeline.start
    there = (at >= 0) & (at < timeline.end - timeline.start)
    sizes = np.bincount(at[there] // _BIN, weights=timeline.waits.copied_bytes[there])
    for place, size in enumerate(sizes):
        yield {
            "ph": "C",
            "name": "weights (GB/s)",
            "pid": timeline.layout.workers,
            "tid": 0,
            "ts": place * _BIN / 1e3,
            "args": {"weights": round(float(size) / _BIN, 1)},
        }


def _waited_buffers(table: ScheduleTable) -> dict[int, str]:
    """For each family, the packet buffers that its tasks read."""
    found: dict[int, list[str]] = {}
    reads = np.flatnonzero(~table.access_write & (table.access_use >= 0))
    pairs = np.stack([table.task_origin[table.access_task[reads]], table.access_buffer[reads]])
    for origin, buffer in np.unique(pairs, axis=1).T:
        found.setdefault(int(origin), []).append(f"@{table.buffers[buffer].name}")
    return {origin: ", ".join(names) for origin, names in found.items()}
