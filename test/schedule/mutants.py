"""Mutations of a schedule table: waits, signals, placements, order, regions, uses and guards."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from regions import malformed

from amk.schedule import ScheduleTable
from amk.schedule.table import SINGLE, Queue

WAIT = ("wait_task", "wait_counter", "wait_threshold")
SIGNAL = ("signal_task", "signal_counter", "signal_amount")
ACCESS = (
    "access_task", "access_buffer", "access_write", "access_lo", "access_hi", "access_lo_expr",
    "access_hi_expr", "access_guard", "access_use", "access_rank",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A mutated table, what was done, and the tasks that it concerns."""

    table: ScheduleTable
    what: str
    tasks: frozenset[int]


Change = Callable[[ScheduleTable, random.Random], Mutant | None]


def _put(table: ScheduleTable, row: int, **columns: object) -> ScheduleTable:
    made = {}
    for name, value in columns.items():
        made[name] = getattr(table, name).copy()
        made[name][row] = value
    return replace(table, **made)


def _without(table: ScheduleTable, columns: tuple[str, ...], row: int) -> ScheduleTable:
    return replace(table, **{c: np.delete(getattr(table, c), row, axis=0) for c in columns})


def change_wait(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Drop, weaken, strengthen, delay by an iteration, move or swap a wait."""
    if not len(table.wait_task):
        return None
    row, other = (rng.randrange(len(table.wait_task)) for _ in "ab")
    task, second = int(table.wait_task[row]), int(table.wait_task[other])
    threshold = int(table.wait_threshold[row])
    what = rng.choice(["drop", "weaken", "change", "lag", "move", "swap"])
    if what == "drop":
        made = _without(table, WAIT, row)
    elif what == "weaken":
        made = _put(table, row, wait_threshold=threshold - 1)
    elif what == "change":
        made = _put(table, row, wait_threshold=rng.randint(threshold - 3, threshold + 1))
    elif what == "lag":
        made = _put(table, row, wait_threshold=rng.choice([0, -1, -threshold]))
    elif what == "move":
        second = rng.randrange(table.n_tasks)
        made = _put(table, row, wait_task=second)
    else:
        made = _put(table, row, wait_task=second)
        made = _put(made, other, wait_task=task)
    return Mutant(made, f"wait {what} {row}", frozenset((task, second)))


def change_signal(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Drop, move or swap a signal, or change its amount."""
    if not len(table.signal_task):
        return None
    row, other = (rng.randrange(len(table.signal_task)) for _ in "ab")
    task, second = int(table.signal_task[row]), int(table.signal_task[other])
    what = rng.choice(["drop", "amount", "move", "swap"])
    if what == "drop":
        made = _without(table, SIGNAL, row)
    elif what == "amount":
        made = _put(table, row, signal_amount=rng.randint(1, 3))
    elif what == "move":
        second = rng.randrange(table.n_tasks)
        made = _put(table, row, signal_task=second)
    else:
        made = _put(table, row, signal_task=second)
        made = _put(made, other, signal_task=task)
    return Mutant(made, f"signal {what} {row}", frozenset((task, second)))


def change_placement(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Move a task to another queue or to a queue of its own, or swap the queues of two tasks."""
    task, other = (rng.randrange(table.n_tasks) for _ in "ab")
    if table.task_queue[task] != table.task_queue[other] and rng.random() < 0.3:
        one, two = int(table.task_queue[task]), int(table.task_queue[other])
        made = _put(_put(table, task, task_queue=two), other, task_queue=one)
        made = _follow(made, task, table.queues[two].worker)
        made = _follow(made, other, table.queues[one].worker)
        return Mutant(made, f"swap the places of {task} and {other}", frozenset((task, other)))
    if len(table.queues) == 1 or rng.random() < 0.2:
        return Mutant(on_its_own(table, task), f"own {task}", frozenset((task,)))
    queue = rng.choice([q for q in range(len(table.queues)) if q != table.task_queue[task]])
    made = _put(table, task, task_queue=queue)
    if rng.random() < 0.7:
        made = _follow(made, task, table.queues[queue].worker)
    return Mutant(made, f"place {task} on {queue}", frozenset((task,)))


def on_its_own(table: ScheduleTable, task: int) -> ScheduleTable:
    """`table` with `task` in a queue of its own."""
    wider = replace(table, queues=(*table.queues, Queue(-1, SINGLE)))
    return _put(wider, task, task_queue=len(table.queues))


def _follow(table: ScheduleTable, task: int, worker: int) -> ScheduleTable:
    """The accesses of `task` to shared memory go to the slab of `worker`."""
    shared = np.array([b.space == "shared" for b in table.buffers])[table.access_buffer]
    rows = np.flatnonzero(shared & (table.access_task == task))
    lo, hi = table.access_lo.copy(), table.access_hi.copy()
    lo[rows, 0], hi[rows, 0] = worker, worker + 1
    return replace(table, access_lo=lo, access_hi=hi)


def change_order(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Swap two tasks of a queue, neighbours half of the time."""
    task = rng.randrange(table.n_tasks)
    queue = np.flatnonzero(table.task_queue == table.task_queue[task])
    others = [int(t) for t in queue if t != task]
    if not others:
        return None
    near = sorted(others, key=lambda t: abs(t - task))[:2]
    other = rng.choice(near if rng.random() < 0.5 else others)
    number = np.arange(table.n_tasks, dtype=np.int32)
    number[[task, other]] = other, task
    columns = {c: getattr(table, c)[number] for c in ("task_origin", "task_index", "task_guard")}
    owners = {c: number[getattr(table, c)] for c in ("wait_task", "signal_task", "access_task")}
    made = replace(table, **columns, **owners)
    return Mutant(made, f"order {task} {other}", frozenset((task, other)))


def _some_access(table: ScheduleTable, rng: random.Random, packets: bool = False) -> int | None:
    fixed = np.array([b.kind in ("input", "constant") for b in table.buffers])
    chosen = ~fixed[table.access_buffer]
    if packets:
        chosen &= table.access_use >= 0
    elif rng.random() < 0.15:
        chosen[:] = True
    rows = np.flatnonzero(chosen)
    return int(rng.choice(rows)) if len(rows) else None


def change_region(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Shift, shrink or grow a region along one dimension, or swap two regions of a buffer."""
    row = _some_access(table, rng)
    if row is None:
        return None
    if rng.random() < 0.15:
        return _swap(
            table, rng, row, ("access_lo", "access_hi", "access_lo_expr", "access_hi_expr")
        )
    dim = rng.randrange(int(table.access_rank[row]))
    step = rng.choice([-1, 1, 1, -1, 2, -2, 4, -4])
    what = rng.choice(["shift", "lo", "hi"])
    lo, hi = table.access_lo.copy(), table.access_hi.copy()
    if what != "hi":
        lo[row, dim] += step
    if what != "lo":
        hi[row, dim] += step
    made = replace(table, access_lo=lo, access_hi=hi)
    text = f"{what} {step} dim {dim} of {table.box_text(row)}"
    return Mutant(made, text, frozenset((int(table.access_task[row]),)))


def _swap(
    table: ScheduleTable, rng: random.Random, row: int, columns: tuple[str, ...]
) -> Mutant | None:
    """Swap what `columns` say of access `row` and of another one of its buffer."""
    same = np.flatnonzero(table.access_buffer == table.access_buffer[row])
    other = int(rng.choice(same))
    made = table
    for column in columns:
        values = getattr(table, column).copy()
        values[[row, other]] = values[[other, row]]
        made = replace(made, **{column: values})
    tasks = frozenset(int(table.access_task[r]) for r in (row, other))
    what = columns[0].removeprefix("access_")
    return Mutant(made, f"swap {what} of {table.box_text(row)}, {table.box_text(other)}", tasks)


def change_use(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Give a packet access another use, and so another epoch, or swap the uses of two."""
    row = _some_access(table, rng, packets=True)
    if row is None:
        return None
    if rng.random() < 0.3:
        return _swap(table, rng, row, ("access_use",))
    uses = table.buffers[table.access_buffer[row]].uses
    use = rng.randrange(uses) if rng.random() < 0.9 else uses
    made = _put(table, row, access_use=use)
    return Mutant(
        made, f"use {use} of {table.box_text(row)}", frozenset((int(table.access_task[row]),))
    )


def change_guard(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Give an access or a task another guard, or none."""
    if not table.expressions:
        return None
    guard = rng.randrange(-1, len(table.expressions))
    guarded = np.flatnonzero(table.access_guard >= 0)
    if rng.random() < 0.25:
        task = rng.randrange(table.n_tasks)
        made = _put(table, task, task_guard=guard)
        return Mutant(made, f"guard {guard} of task {task}", frozenset((task,)))
    row = int(rng.choice(guarded)) if len(guarded) and rng.random() < 0.6 else None
    row = _some_access(table, rng) if row is None else row
    if row is None:
        return None
    made = _put(table, row, access_guard=guard)
    text = f"guard {guard} of {table.box_text(row)}"
    return Mutant(made, text, frozenset((int(table.access_task[row]),)))


def change_access(table: ScheduleTable, rng: random.Random) -> Mutant | None:
    """Drop an access, turn a read into a write or back, or give it to another task."""
    row = _some_access(table, rng)
    if row is None:
        return None
    task = int(table.access_task[row])
    second = task
    what = rng.choice(["drop", "turn", "move"])
    if what == "drop":
        made = _without(table, ACCESS, row)
    elif what == "turn":
        made = _put(table, row, access_write=not table.access_write[row])
    else:
        second = rng.randrange(table.n_tasks)
        made = _put(table, row, access_task=second)
    return Mutant(made, f"{what} {table.box_text(row)}", frozenset((task, second)))


CHANGES: tuple[Change, ...] = (
    change_wait, change_wait, change_signal, change_placement, change_order, change_region,
    change_region, change_use, change_guard, change_access,
)  # fmt: skip


def mutate(table: ScheduleTable, rng: random.Random) -> Mutant:
    """One mutation, or seldom two."""
    made = None
    while made is None:
        made = rng.choice(CHANGES)(table, rng)
    if rng.random() < 0.15:
        more = rng.choice(CHANGES)(made.table, rng)
        if more is not None:
            # A swap of two tasks renumbers them, so the tasks of both changes are kept.
            return Mutant(more.table, f"{made.what}; {more.what}", made.tasks | more.tasks)
    return made


def mutate_sensibly(table: ScheduleTable, rng: random.Random) -> Mutant:
    """A mutation that is seldom malformed: most random ones of packets are."""
    if rng.random() < 0.05:
        return mutate(table, rng)
    while True:
        made = mutate(table, rng)
        if not malformed(made.table) and not _written_twice(made):
            return made


def _written_twice(mutant: Mutant) -> bool:
    """Whether a touched task writes packets that another task writes too (guards left aside)."""
    table = mutant.table
    writes = np.flatnonzero(table.access_write & (table.access_use >= 0))
    touched = writes[np.isin(table.access_task[writes], list(mutant.tasks))]
    buffer, use = table.access_buffer, table.access_use
    for row in touched:
        rows = writes[(buffer[writes] == buffer[row]) & (use[writes] == use[row])]
        meet = (table.access_lo[rows] < table.access_hi[row]).all(1)
        meet &= (table.access_lo[row] < table.access_hi[rows]).all(1)
        if meet.sum() > 1:
            return True
    return False
