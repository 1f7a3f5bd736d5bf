"""Malformed schedules: what has no meaning at all, decided before anything is executed.

Statement: a table passes iff every number that it uses names something that exists, every box has
its buffer's rank, every threshold can be reached within one iteration's signals, and every packet
access names a use of a packet buffer.  (That a use of an element has at most one writer is checked
where packets are resolved, since it can depend on run-time scalars; it is malformed as well.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from amk.schedule.table import (
    BUFFER_KINDS,
    COMPUTE,
    ITERATION,
    SINGLE,
    SPACES,
    STREAM,
    Buffer,
    ScheduleTable,
)
from amk.schedule.verify.report import Finding, at_task

LIMIT = 50
"""At most this many findings of one sort are listed."""


def check(table: ScheduleTable) -> list[Finding]:
    """All malformed parts of `table`."""
    found = [Finding("malformed", text) for text in _widths(table)]
    if found:
        return found
    found += [*(Finding("malformed", text) for text in _loop(table)), *_queues(table)]
    for buffer in table.buffers:
        found += [Finding("malformed", t, -1, buffer.location) for t in _buffer(buffer)]
    found += [Finding("malformed", text) for text in (*_names(table), *_packet_memory(table))]
    found += _ids(table)
    if found:
        return found
    return [*_waits(table), *_accesses(table), *_shared(table)]


def _widths(table: ScheduleTable) -> Iterator[str]:
    groups = {
        "task": ("queue", "origin", "index", "guard"),
        "wait": ("task", "counter", "threshold"),
        "signal": ("task", "counter", "amount"),
        "access": (
            "task", "buffer", "write", "lo", "hi", "lo_expr", "hi_expr", "guard", "use", "rank",
        ),
    }  # fmt: skip
    for group, columns in groups.items():
        lengths = {c: len(getattr(table, f"{group}_{c}")) for c in columns}
        if len(set(lengths.values())) > 1:
            yield f"the {group} columns have different lengths: {lengths}"
    boxes = {getattr(table, f"access_{c}").shape for c in ("lo", "hi", "lo_expr", "hi_expr")}
    if len(boxes) > 1 or any(len(shape) != 2 for shape in boxes):
        yield "the bounds of the accesses have different widths"
    elif max((len(b.shape) for b in table.buffers), default=0) > next(iter(boxes))[1] and len(
        table.access_task
    ):
        yield "the bounds of the accesses are narrower than the rank of a buffer"


def _loop(table: ScheduleTable) -> Iterator[str]:
    if table.workers < 1:
        yield f"a schedule needs at least 1 worker, not {table.workers}"
    if table.iterations is not None and table.iterations < 1:
        yield f"a schedule needs at least 1 iteration, not {table.iterations}"
    for scalar in table.scalars:
        if scalar.lo >= scalar.hi:
            yield f"run-time scalar '{scalar.name}' has the empty range {scalar.lo}:{scalar.hi}"
        if scalar.name == ITERATION:
            yield f"'{ITERATION}' is the number of the iteration and cannot be declared"
    known = {ITERATION, *(s.name for s in table.scalars)}
    for expr in table.expressions:
        for name in sorted(expr.variables - known):
            yield f"'{expr}' uses '{name}', which is not a run-time scalar"


def _queues(table: ScheduleTable) -> Iterator[Finding]:
    seen: set[object] = set()
    for number, queue in enumerate(table.queues):
        text = ""
        if queue.agent not in (COMPUTE, STREAM, SINGLE):
            text = f"unknown agent '{queue.agent}'; use '{COMPUTE}' or '{STREAM}'"
        elif queue.agent != SINGLE and not 0 <= queue.worker < table.workers:
            text = f"worker {queue.worker} does not exist; there are {table.workers} workers"
        elif queue.agent != SINGLE and queue in seen:
            text = f"the queue of {queue} is declared twice"
        seen.add(queue)
        if text:
            tasks = np.flatnonzero(table.task_queue == number)
            task = int(tasks[0]) if len(tasks) else -1
            origin = int(table.task_origin[task]) if len(tasks) else -1
            known = 0 <= origin < len(table.origins)
            yield Finding("malformed", text, task, table.origins[origin].location if known else "")


def _names(table: ScheduleTable) -> Iterator[str]:
    for what, names in (
        ("buffer", [b.name for b in table.buffers]),
        ("counter", [c.name for c in table.counters]),
        ("run-time scalar", [s.name for s in table.scalars]),
    ):
        for name in sorted(n for n, times in Counter(names).items() if times > 1):
            yield f"{what} '{name}' is declared twice"


def _buffer(buffer: Buffer) -> Iterator[str]:
    if buffer.kind not in BUFFER_KINDS:
        yield f"buffer '{buffer.name}' has the unknown kind '{buffer.kind}'"
    if buffer.space not in SPACES:
        yield f"buffer '{buffer.name}' has the unknown space '{buffer.space}'"
    if any(n < 1 for n in buffer.shape) or buffer.item_bytes < 1:
        yield f"buffer '{buffer.name}' has an empty shape"
    if buffer.offset < 0:
        yield f"buffer '{buffer.name}' has the negative offset {buffer.offset}"
    if buffer.packet and buffer.uses < 1:
        yield f"packet buffer '{buffer.name}' has {buffer.uses} uses an iteration"


def _packet_memory(table: ScheduleTable) -> Iterator[str]:
    arenas: dict[str, list[Buffer]] = {}
    for buffer in table.buffers:
        if buffer.arena is not None:
            arenas.setdefault(buffer.arena, []).append(buffer)
    for members in arenas.values():
        members.sort(key=lambda b: b.offset)
        for at, first in enumerate(members):
            for second in members[at + 1 :]:
                if second.offset >= first.offset + first.size:
                    break
                if first.packet or second.packet:
                    yield f"packet memory is shared by buffers '{first.name}' and '{second.name}'"


def _ids(table: ScheduleTable) -> list[Finding]:
    ranges = (
        ("task_queue", len(table.queues), 0, "a queue"),
        ("task_origin", len(table.origins), 0, "an origin"),
        ("task_guard", len(table.expressions), -1, "an expression"),
        ("wait_task", table.n_tasks, 0, "a task"),
        ("wait_counter", len(table.counters), 0, "a counter"),
        ("signal_task", table.n_tasks, 0, "a task"),
        ("signal_counter", len(table.counters), 0, "a counter"),
        ("access_task", table.n_tasks, 0, "a task"),
        ("access_buffer", len(table.buffers), 0, "a buffer"),
        ("access_lo_expr", len(table.expressions), -1, "an expression"),
        ("access_hi_expr", len(table.expressions), -1, "an expression"),
        ("access_guard", len(table.expressions), -1, "an expression"),
    )
    found: list[Finding] = []
    for column, end, low, what in ranges:
        values = getattr(table, column)
        bad = (values < low) | (values >= end)
        if bad.any():
            row = tuple(int(i) for i in np.argwhere(bad)[0])
            text = f"{column}{list(row)} is {int(values[row])}, which is not {what}"
            found.append(Finding("malformed", text))
    return found


def _waits(table: ScheduleTable) -> Iterator[Finding]:
    for row in np.flatnonzero(table.signal_amount < 1)[:LIMIT]:
        task = int(table.signal_task[row])
        counter = table.counters[table.signal_counter[row]].name
        text = f"{table.task_name(task)} signals {int(table.signal_amount[row])} to '{counter}'"
        yield at_task(table, "malformed", task, f"{text}; an amount is at least 1")
    total = np.zeros(len(table.counters), np.int64)
    np.add.at(total, table.signal_counter, table.signal_amount)
    reach = total[table.wait_counter]
    for row in np.flatnonzero(table.wait_threshold > reach)[:LIMIT]:
        task = int(table.wait_task[row])
        counter = table.counters[table.wait_counter[row]].name
        yield at_task(
            table,
            "malformed",
            task,
            f"{table.task_name(task)} waits for '{counter}' >= {int(table.wait_threshold[row])}, "
            f"but one iteration signals only {int(reach[row])}",
        )


def _accesses(table: ScheduleTable) -> Iterator[Finding]:
    buffers = table.buffers
    of = table.access_buffer
    rank = np.array([len(b.shape) for b in buffers], np.int64)
    packet = np.array([b.packet for b in buffers], bool)
    uses = np.array([b.uses if b.packet else 0 for b in buffers], np.int64)
    constant = (table.access_lo_expr < 0) & (table.access_hi_expr < 0)
    turned = ((table.access_lo > table.access_hi) & constant).any(axis=1)
    use = table.access_use
    for row in np.flatnonzero(table.access_rank != rank[of])[:LIMIT]:
        buffer = buffers[of[row]]
        text = f"{int(table.access_rank[row])} dimensions, but the buffer has {len(buffer.shape)}"
        yield _access(table, row, f"gives {text}")
    for row in np.flatnonzero((use >= 0) & ~packet[of])[:LIMIT]:
        yield _access(table, row, f"names use {int(use[row])} of a buffer that holds no packets")
    for row in np.flatnonzero(packet[of] & ((use < 0) | (use >= uses[of])))[:LIMIT]:
        yield _access(
            table, row, f"names use {int(use[row])}; the packets have uses 0 to {uses[of[row]] - 1}"
        )
    for row in np.flatnonzero(turned)[:LIMIT]:
        yield _access(table, row, "has a bound that ends before it begins")


def _access(table: ScheduleTable, row: int, text: str) -> Finding:
    task = int(table.access_task[row])
    verb = "writes" if table.access_write[row] else "reads"
    message = f"{table.task_name(task)} {verb} {table.box_text(row)}, which {text}"
    return at_task(table, "malformed", task, message)


def _shared(table: ScheduleTable) -> Iterator[Finding]:
    shared = np.array([b.space == "shared" for b in table.buffers], bool)
    rows = np.flatnonzero(shared[table.access_buffer]) if len(shared) else np.zeros(0, np.int64)
    if not len(rows):
        return
    workers = np.array([q.worker for q in table.queues], np.int64)
    worker = workers[table.task_queue[table.access_task[rows]]]
    own = (
        (table.access_lo[rows, 0] >= worker)
        & (table.access_hi[rows, 0] <= worker + 1)
        & (table.access_lo_expr[rows, 0] < 0)
        & (table.access_hi_expr[rows, 0] < 0)
        & (worker >= 0)
    )
    for row in rows[~own][:LIMIT]:
        task = int(table.access_task[row])
        queue = table.queues[table.task_queue[task]]
        yield _access(table, row, f"is not the shared memory of its own worker ({queue})")
