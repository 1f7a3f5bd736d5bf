"""Findings of the examination in family and index terms, with their witnesses."""

from __future__ import annotations

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.bounds import state_text
from amk.schedule.verify.cases import Case
from amk.schedule.verify.flow import Flow, greedy
from amk.schedule.verify.order import Pair
from amk.schedule.verify.packets import Packets
from amk.schedule.verify.report import Finding, Witness, at_task

SHOWN = 8
"""At most this many tasks are explained in a witness."""


def twice(table: ScheduleTable, rows: tuple[int, int], values: dict[str, int]) -> Finding:
    """Two writes of one use of a packet."""
    one, two = (int(table.access_task[r]) for r in rows)
    text = (
        f"{table.task_name(one)} writes {table.box_text(rows[0])} and {table.task_name(two)} "
        f"writes {table.box_text(rows[1])}, both use {int(table.access_use[rows[0]])}"
        f"{state_text(table, values)}; a use of a packet has one writer in an iteration"
    )
    return at_task(table, "malformed", two, text, Witness(start=tuple(values.items())))


def deadlock(
    table: ScheduleTable, case: Case, flow: Flow, level: np.ndarray, packets: Packets
) -> Finding:
    """The tasks that never run in one iteration, and what the first of each queue waits for."""
    stuck = np.flatnonzero(level < 0)
    previous = flow.previous[stuck]
    heads = stuck[(previous < 0) | (level[previous] >= 0)]
    lines = [line for task in heads[:SHOWN] for line in _reasons(table, flow, level, packets, task)]
    run = np.argsort(level, kind="stable")
    run = run[level[run] >= 0]
    witness = Witness(
        lines=tuple(lines),
        run=tuple((0, int(t)) for t in run),
        stuck=tuple((0, int(t)) for t in stuck),
        start=_start(case),
    )
    first = int(heads[0])
    reason = lines[0] if lines else f"{table.task_name(first)} never runs"
    text = (
        f"{reason}{state_text(table, case.values)} ({len(stuck)} of {flow.count} tasks never run)"
    )
    return at_task(table, "deadlock", first, text, witness)


def _reasons(
    table: ScheduleTable, flow: Flow, level: np.ndarray, packets: Packets, task: int
) -> list[str]:
    name = table.task_name(task)
    lines: list[str] = []
    for wait in flow.waits_of.row(task):
        counter = int(flow.wait_counter[wait])
        low, high = flow.suppliers.start[counter], flow.suppliers.start[counter + 1]
        suppliers, supply = flow.suppliers.items[low:high], flow.supply[low:high]
        ran = level[suppliers] >= 0
        reached = int(supply[ran].sum())
        if reached < flow.wait_need[wait]:
            lines.append(
                f"{name} waits for '{table.counters[counter].name}' >= {flow.wait_need[wait]}, "
                f"which reaches {reached}: {_never(table, suppliers[~ran])}"
            )
    for group in flow.groups_of.row(task):
        rows = np.flatnonzero((packets.reader == task) & (packets.group == group))
        if group in packets.missing:
            what = table.box_text(packets.missing[int(group)])
            lines.append(f"{name} reads packets {what}, of which some are never written")
        elif len(rows):
            writers = flow.producers.row(group)
            waiting = writers[level[writers] < 0]
            if len(waiting):
                lines.append(f"{name} waits for packets of {_never(table, waiting)}")
    return lines


def _never(table: ScheduleTable, tasks: np.ndarray) -> str:
    names = [table.task_name(int(t)) for t in tasks[:3]]
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return f"{', '.join(names)}{more} never {'runs' if len(tasks) == 1 else 'run'}"


def free(table: ScheduleTable, case: Case, flow: Flow, queue: int, held: int) -> Finding:
    """A queue that goes on for ever while a task of another queue does not run."""
    one, two = (int(np.flatnonzero(table.task_queue == q)[0]) for q in (queue, held))
    last = one + flow.count - flow.tasks
    text = (
        f"{table.queues[queue]} runs free: {table.task_name(one)} can start any number of "
        f"iterations before {table.task_name(two)} ({table.queues[held]}) has run"
        f"{state_text(table, case.values)}; "
        "hold it back with a wait for the earlier iterations (threshold <= 0)"
    )
    line = (
        f"without {table.task_name(two)} of iteration 0, {flow.iterations} iterations of "
        f"{table.task_name(one)} run"
    )
    level = greedy(flow, np.array([two]))
    witness = Witness((line,), _order(flow, level), _pair(flow, two, last), (), _start(case))
    return at_task(table, "unbounded-skew", one, text, witness)


def runaway(table: ScheduleTable, case: Case, instance: int, length: int) -> Finding:
    """An agent that nothing within `length` iterations holds back."""
    task = instance % table.n_tasks
    queue = table.queues[table.task_queue[task]]
    text = (
        f"{queue} runs free: {table.task_name(task)} can start iteration {length - 1} while a task "
        f"of iteration 0 has not run{state_text(table, case.values)}; "
        "hold it back with a wait for the earlier iterations (threshold <= 0)"
    )
    return at_task(table, "unbounded-skew", task, text, Witness(start=_start(case)))


def race(table: ScheduleTable, case: Case, flow: Flow, pair: Pair) -> Finding:
    """Two accesses that conflict and that nothing orders."""
    names = [_instance(table, flow, i) for i in (pair.first, pair.second)]
    rows, where, verbs = _sides(table, case, flow, pair)
    at = state_text(table, case.values)
    use = int(table.access_use[rows[0]])
    if use >= 0 and not table.access_write[rows[0]]:
        text = (
            f"lost packet: {names[1]} may overwrite {where}{at} before {names[0]} has polled "
            f"use {use}"
        )
    else:
        text = f"{names[0]} {verbs[0]} and {names[1]} {verbs[1]} {where}{at} in no fixed order"
    witness = _enabled(table, case, flow, pair.first, pair.second)
    return at_task(table, "race", pair.second % flow.tasks, text, witness)


def unseen(table: ScheduleTable, case: Case, flow: Flow, pair: Pair, run: list[int]) -> Finding:
    """Two accesses in order, the first a write that need not be visible to the second; after
    `run` the second can run without having synchronised with the first."""
    names = [_instance(table, flow, i) for i in (pair.first, pair.second)]
    _, where, verbs = _sides(table, case, flow, pair)
    at = state_text(table, case.values)
    text = (
        f"{names[1]} {verbs[1]} {where}{at} after {names[0]} writes it, "
        "but may get there through packets alone, which do not make that write visible"
    )
    line = f"after {len(run)} tasks {names[1]} can run without having synchronised with {names[0]}"
    order = tuple((i // flow.tasks, i % flow.tasks) for i in run)
    both = _pair(flow, pair.first, pair.second)
    witness = Witness((line,), order, both, (), _start(case))
    return at_task(table, "race", pair.second % flow.tasks, text, witness)


def _sides(
    table: ScheduleTable, case: Case, flow: Flow, pair: Pair
) -> tuple[tuple[int, int], str, list[str]]:
    """The access numbers of a pair, their overlap, and what they do."""
    rows = (pair.first_access, pair.second_access)
    when = (pair.first // flow.tasks, pair.second // flow.tasks)
    verbs = ["writes" if table.access_write[r] else "reads" for r in rows]
    return rows, _common(table, case, rows, when), verbs


def undefined(table: ScheduleTable, case: Case, row: int, when: int) -> Finding:
    """A read of bytes that nothing has written."""
    task = int(table.access_task[row])
    later = " in the second iteration" if when else ""
    at = state_text(table, case.values)
    text = (
        f"{table.task_name(task)} reads {table.box_text(row)}{at}{later}, "
        "of which some bytes were never written before"
    )
    return at_task(table, "undefined-read", task, text, Witness(start=_start(case)))


def _enabled(table: ScheduleTable, case: Case, flow: Flow, one: int, two: int) -> Witness:
    """A run after which both instances can run next, or the second has run and the first can."""
    names = [_instance(table, flow, i) for i in (one, two)]
    if greedy(flow, np.array([two]))[one] < 0:
        level = greedy(flow, np.array([one]))
        line = f"{names[1]} always runs before {names[0]}"
    else:
        level = greedy(flow, np.array([one, two]))
        line = f"after this run {names[0]} and {names[1]} are both enabled"
    return Witness((line,), _order(flow, level), _pair(flow, one, two), (), _start(case))


def _order(flow: Flow, level: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The instances that run, in the order of their rounds."""
    order = np.argsort(level, kind="stable")
    order = order[level[order] >= 0]
    return tuple((int(i) // flow.tasks, int(i) % flow.tasks) for i in order)


def _instance(table: ScheduleTable, flow: Flow, instance: int) -> str:
    iteration, task = divmod(instance, flow.tasks)
    suffix = {0: "", 1: " of the next iteration"}.get(iteration, f" of iteration +{iteration}")
    return table.task_name(task) + suffix


def _pair(flow: Flow, one: int, two: int) -> tuple[tuple[int, int], ...]:
    return tuple((i // flow.tasks, i % flow.tasks) for i in (one, two))


def _start(case: Case) -> tuple[tuple[str, int], ...]:
    return tuple(case.start.items())


def _common(table: ScheduleTable, case: Case, rows: tuple[int, int], when: tuple[int, int]) -> str:
    """The overlap of two accesses: a box of the buffer, or both regions if they alias."""
    buffers = [int(table.access_buffer[r]) for r in rows]
    if buffers[0] != buffers[1]:
        return f"{table.box_text(rows[0])}, which shares bytes with {table.box_text(rows[1])},"
    sides = []
    for row, iteration in zip(rows, when, strict=True):
        boxes = case.boxes(int(iteration))
        at = int(np.searchsorted(boxes.rows, row))
        sides.append((boxes.lo[at], boxes.hi[at]))
    lo = np.maximum(sides[0][0], sides[1][0])
    hi = np.minimum(sides[0][1], sides[1][1])
    rank = len(table.buffers[buffers[0]].shape)
    parts = ", ".join(f"{lo[d]}:{hi[d]}" for d in range(rank))
    return f"{table.buffers[buffers[0]].name}[{parts}]"
