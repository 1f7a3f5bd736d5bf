"""Findings of the examination in family and index terms, with their witnesses."""

from __future__ import annotations

import numpy as np

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.bounds import state_text
from amk.schedule.verify.cases import Case
from amk.schedule.verify.extent import Bytes, common, memory_of, merged, missing, runs
from amk.schedule.verify.flow import Flow, greedy
from amk.schedule.verify.order import Pair
from amk.schedule.verify.packets import Packets
from amk.schedule.verify.report import Finding, Waiting, Witness, at_task

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
    waits = [w for task in heads.tolist() for w in _waiting(table, flow, level, task)]
    run = np.argsort(level, kind="stable")
    run = run[level[run] >= 0]
    witness = Witness(
        lines=tuple(lines),
        run=tuple((0, int(t)) for t in run),
        stuck=tuple((0, int(t)) for t in stuck),
        start=_start(case),
        waits=tuple(waits),
        places=_places(table, [(f"{table.task_name(t)} waits", t) for t in heads[:SHOWN].tolist()]),
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
    for found in _waiting(table, flow, level, task):
        never = np.array([t for t, _ in found.missing], np.int64)
        lines.append(
            f"{name} waits for '{found.counter}' >= {found.need}, "
            f"which reaches {found.reached}: {_never(table, never)}"
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


def _waiting(table: ScheduleTable, flow: Flow, level: np.ndarray, task: int) -> list[Waiting]:
    """The waits of a task that are never met."""
    found: list[Waiting] = []
    for wait in flow.waits_of.row(task):
        counter, need = int(flow.wait_counter[wait]), int(flow.wait_need[wait])
        low, high = flow.suppliers.start[counter], flow.suppliers.start[counter + 1]
        suppliers, supply = flow.suppliers.items[low:high], flow.supply[low:high]
        ran = level[suppliers] >= 0
        reached = int(supply[ran].sum())
        if reached < need:
            lacking = zip(suppliers[~ran].tolist(), supply[~ran].tolist(), strict=True)
            name = table.counters[counter].name
            found.append(Waiting(int(task), name, need, reached, tuple(lacking)))
    return found


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
    sides = _Sides(table, case, flow, pair)
    at = state_text(table, case.values)
    use = int(table.access_use[pair.first_access])
    if use >= 0 and not table.access_write[pair.first_access]:
        text = (
            f"lost packet: {names[1]} may overwrite {sides.where}{at} before {names[0]} has polled "
            f"use {use}"
        )
    else:
        text = (
            f"{names[0]} {sides.verbs[0]} and {names[1]} {sides.verbs[1]} {sides.where}{at} in no "
            "fixed order"
        )
    line, run = _enabled(table, flow, pair.first, pair.second)
    return at_task(
        table, "race", pair.second % flow.tasks, text, sides.witness((line,), run, names)
    )


def unseen(table: ScheduleTable, case: Case, flow: Flow, pair: Pair, run: list[int]) -> Finding:
    """Two accesses in order, the first a write that need not be visible to the second; after
    `run` the second can run without having synchronised with the first."""
    names = [_instance(table, flow, i) for i in (pair.first, pair.second)]
    sides = _Sides(table, case, flow, pair)
    text = (
        f"{names[1]} {sides.verbs[1]} {sides.where}{state_text(table, case.values)} after "
        f"{names[0]} writes it, "
        "but may get there through packets alone, which do not make that write visible"
    )
    line = f"after {len(run)} tasks {names[1]} can run without having synchronised with {names[0]}"
    order = tuple((i // flow.tasks, i % flow.tasks) for i in run)
    return at_task(
        table, "race", pair.second % flow.tasks, text, sides.witness((line,), order, names)
    )


class _Sides:
    """The two accesses of a pair: what they do, and the bytes that they share."""

    def __init__(self, table: ScheduleTable, case: Case, flow: Flow, pair: Pair) -> None:
        self.table = table
        self.case = case
        self.flow = flow
        self.pair = pair
        self.rows = (pair.first_access, pair.second_access)
        self.when = (pair.first // flow.tasks, pair.second // flow.tasks)
        self.verbs = ["writes" if table.access_write[r] else "reads" for r in self.rows]
        self.boxes = [box_of(case, r, e) for r, e in zip(self.rows, self.when, strict=True)]
        buffers = [table.buffers[table.access_buffer[r]] for r in self.rows]
        both = [runs(b, *box) for b, box in zip(buffers, self.boxes, strict=True)]
        memory = memory_of(buffers[0])
        self.bytes = tuple(Bytes(memory, int(a), int(b)) for a, b in common(*both)[:SHOWN])
        self.where = self._where()

    def _where(self) -> str:
        """The overlap: a box of the buffer, or both regions if they alias."""
        table, rows = self.table, self.rows
        buffers = [int(table.access_buffer[r]) for r in rows]
        if buffers[0] != buffers[1]:
            shared = f" ({self.bytes[0]})" if self.bytes else ""
            return (
                f"{table.box_text(rows[0])}, which shares bytes with {table.box_text(rows[1])}"
                f"{shared},"
            )
        lo = np.maximum(self.boxes[0][0], self.boxes[1][0])
        hi = np.minimum(self.boxes[0][1], self.boxes[1][1])
        rank = len(table.buffers[buffers[0]].shape)
        parts = ", ".join(f"{lo[d]}:{hi[d]}" for d in range(rank))
        return f"{table.buffers[buffers[0]].name}[{parts}]"

    def witness(
        self, lines: tuple[str, ...], run: tuple[tuple[int, int], ...], names: list[str]
    ) -> Witness:
        pair, flow = self.pair, self.flow
        if self.bytes:
            lines = (*lines, f"both touch {', '.join(map(str, self.bytes))}")
        tasks = [i % flow.tasks for i in (pair.first, pair.second)]
        texts = [
            f"{name} {verb} {self.table.box_text(row)}"
            for name, verb, row in zip(names, self.verbs, self.rows, strict=True)
        ]
        return Witness(
            lines, run, _pair(flow, pair.first, pair.second), (), _start(self.case),
            bytes=self.bytes, places=_places(self.table, list(zip(texts, tasks, strict=True))),
        )  # fmt: skip


def box_of(case: Case, row: int, iteration: int) -> tuple[np.ndarray, np.ndarray]:
    """The box of an access in an iteration of a case."""
    boxes = case.boxes(int(iteration))
    at = int(np.searchsorted(boxes.rows, row))
    return boxes.lo[at], boxes.hi[at]


def _places(table: ScheduleTable, items: list[tuple[str, int]]) -> tuple[tuple[str, str], ...]:
    """Texts about tasks, with the places of the tasks that have one."""
    found = [(text, table.task_location(task)) for text, task in items]
    return tuple((text, where) for text, where in found if where)


def undefined(
    table: ScheduleTable, case: Case, row: int, when: int, rounds: list[np.ndarray]
) -> Finding:
    """A read of bytes that nothing has written; `rounds` are run orders of the iterations."""
    bytes_of, later = _unwritten(table, case, row, when, rounds)
    return _undefined(table, case, row, when, bytes_of, later)


def undefined_bytes(table: ScheduleTable, case: Case, row: int, found: np.ndarray) -> Finding:
    """A read of the bytes `found` (runs), which nothing has written in the launch so far."""
    return _undefined(table, case, row, 0, found, [])


def _undefined(
    table: ScheduleTable, case: Case, row: int, when: int, found: np.ndarray, later: list[int]
) -> Finding:
    task = int(table.access_task[row])
    memory = memory_of(table.buffers[table.access_buffer[row]])
    shown = tuple(Bytes(memory, int(a), int(b)) for a, b in found[:SHOWN])
    where = f" ({shown[0]}{' and more' if len(found) > 1 else ''})" if shown else ""
    text = (
        f"{table.task_name(task)} reads {table.box_text(row)}{state_text(table, case.values)}"
        f"{' in the second iteration' if when else ''}, "
        f"of which some bytes were never written before{where}"
    )
    lines = [f"{b} are not written before {table.task_name(task)}" for b in shown]
    names = [table.task_name(int(table.access_task[r])) for r in later[:SHOWN]]
    reader = table.task_name(task)
    lines += [
        f"{name} writes {table.box_text(r)}, but "
        + ("after it reads" if table.access_task[r] == task else f"runs after {reader}")
        for name, r in zip(names, later, strict=False)
    ]
    if not later:
        lines.append("no task of the iteration writes them")
    places = [
        (f"{n} writes", int(table.access_task[r])) for n, r in zip(names, later, strict=False)
    ]
    witness = Witness(tuple(lines), start=_start(case), bytes=shown, places=_places(table, places))
    return at_task(table, "undefined-read", task, text, witness)


def _unwritten(
    table: ScheduleTable, case: Case, row: int, when: int, rounds: list[np.ndarray]
) -> tuple[np.ndarray, list[int]]:
    """The bytes of a read that no write before it in the run covers, and later writes of them."""
    buffer = table.buffers[table.access_buffer[row]]
    memory = memory_of(buffer)
    near = np.array([memory_of(b) == memory for b in table.buffers], bool)
    wanted = runs(buffer, *box_of(case, row, when))
    scratch = buffer.kind == "scratch"
    known = [np.zeros((0, 2), np.int64)]
    if case.at_start and when == 0:
        kept = [b for b in table.buffers if memory_of(b) == memory]
        kept = [b for b in kept if b.initial or b.kind in ("input", "constant")]
        known += [runs(b, np.zeros(len(b.shape)), np.array(b.shape)) for b in kept]
    mine = (when, int(rounds[when][table.access_task[row]]))
    after: list[tuple[int, np.ndarray]] = []
    for iteration in range(when if scratch else 0, when + 1):
        boxes = case.boxes(iteration)
        chosen = np.flatnonzero(
            table.access_write[boxes.rows] & near[table.access_buffer[boxes.rows]]
        )
        for at in chosen:
            other = int(boxes.rows[at])
            found = runs(table.buffers[table.access_buffer[other]], boxes.lo[at], boxes.hi[at])
            if (iteration, int(rounds[iteration][table.access_task[other]])) < mine:
                known.append(found)
            elif len(common(found, wanted)):
                after.append((other, found))
    left = missing(wanted, merged(np.concatenate(known)))
    return left, [other for other, found in after if len(common(found, left))]


def precedes_all_writes(table: ScheduleTable, case: Case, flow: Flow, row: int, when: int) -> bool:
    """Whether a read must precede every other write of its bytes that the run has after it."""
    buffer = table.buffers[table.access_buffer[row]]
    wanted = runs(buffer, *box_of(case, row, when))
    reader = when * flow.tasks + int(table.access_task[row])
    level = greedy(flow, np.array([reader]))
    for iteration in range(flow.iterations):
        boxes = case.boxes(iteration)
        for at in np.flatnonzero(table.access_write[boxes.rows]):
            other = int(boxes.rows[at])
            target = table.buffers[table.access_buffer[other]]
            writer = iteration * flow.tasks + int(table.access_task[other])
            if memory_of(target) != memory_of(buffer) or writer == reader or level[writer] < 0:
                continue
            if len(common(wanted, runs(target, boxes.lo[at], boxes.hi[at]))):
                return False
    return True


def _enabled(
    table: ScheduleTable, flow: Flow, one: int, two: int
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A run after which both instances can run next, or the second has run and the first can."""
    names = [_instance(table, flow, i) for i in (one, two)]
    if greedy(flow, np.array([two]))[one] < 0:
        level = greedy(flow, np.array([one]))
        line = f"{names[1]} always runs before {names[0]}"
    else:
        level = greedy(flow, np.array([one, two]))
        line = f"after this run {names[0]} and {names[1]} are both enabled"
    return line, _order(flow, level)


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
