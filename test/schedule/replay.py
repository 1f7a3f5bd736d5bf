"""Witnesses replayed by the `task` interpreter: what they claim really happens there.

Tasks have their default meaning, a hash of what they read, so another value in memory makes another
result. `confirmed` says what was seen; it fails where the witness is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from amk.errors import AmkError
from amk.interpreters.launch import Agent, Launch
from amk.interpreters.task import Effects, TaskMachine
from amk.ir.explicit import module_of
from amk.schedule import ScheduleTable
from amk.schedule.table import ITERATION
from amk.schedule.verify import Verdict, verify

Instance = tuple[int, int]
"""Iteration and task number."""

DATA, UNWRITTEN = 0x11, 0xA5
"""Bytes of memory that holds data at the start, and of memory that does not."""

WAITS = re.compile(r"(.+) waits for '(.+)' >= (\d+), which reaches (\d+): ")
ORDERS = 3
"""Random orders in which a deadlocked schedule is run as a whole."""


class NotHeldError(Exception):
    """The machine has no execution of this kind."""


def for_dialect(table: ScheduleTable) -> ScheduleTable:
    """`table` with elements and offsets that the dialect has: another schedule if it has arenas."""
    buffers = tuple(
        replace(b, item_bytes=8 if b.packet else 4, offset=4 * b.offset) for b in table.buffers
    )
    return replace(table, buffers=buffers)


class Replay(Launch):
    """A launch whose tasks run one at a time, as told, from the state of a witness."""

    def __init__(self, table: ScheduleTable, verdict: Verdict) -> None:
        witness = verdict.witness
        self.first = dict(witness.start).get(ITERATION, 0)
        start = {name: value for name, value in witness.start if name != ITERATION}
        machine = TaskMachine(module_of(table))
        longest = max([0, *(e for e, _ in (*witness.run, *witness.pair))])
        super().__init__(machine, {s.name: s.lo for s in table.scalars} | start, longest + 2)
        self.memory = [machine.array(name) for name in machine._declared]
        self.agent_of: dict[int, Agent] = {t: a for a in self.agents for t in a.tasks}
        for array, buffer in zip(self.memory, table.buffers, strict=True):
            if not buffer.packet:
                _fill(array, UNWRITTEN)
        for array, buffer in zip(self.memory, table.buffers, strict=True):
            if not buffer.packet and (buffer.initial or buffer.kind in ("input", "constant")):
                _fill(array, DATA)

    def values(self, iteration: int) -> dict[str, int]:
        """The run-time scalars and `iter`, which the witness may start later than at 0."""
        return {**super().values(iteration), ITERATION: iteration + self.first}

    def can(self, instance: Instance) -> bool:
        """Whether this task can run next."""
        agent = self.agent_of[instance[1]]
        if agent.at == len(agent.tasks):
            self._next_iteration(agent)
        if agent.done or (agent.iteration, agent.task) != instance:
            return False
        return self._missing(agent) is None

    def play(self, instance: Instance) -> Effects:
        """Run a task that can run; its plain writes appear with `finish` of what is returned."""
        assert self.can(instance), f"{instance} cannot run"
        iteration, task = instance
        effects = self.machine.start(task, iteration, self.values(iteration))
        for counter, amount in self.machine.signals.get(task, ()):
            self.counters[counter] += amount
        self.agent_of[task].at += 1
        return effects

    def play_all(self, instances: Iterable[Instance]) -> None:
        """Run tasks to their ends in this order."""
        for instance in instances:
            self.machine.finish(self.play(instance))

    def regions(self, instance: Instance, write: bool) -> list[tuple[str, np.ndarray]]:
        """The plain regions that a task reads or writes: buffers, and views of their memory."""
        iteration, task = instance
        owner, at = self.machine._find(task)
        seen = []
        for binding in owner.bindings:
            access = binding.access
            if access is None or access.writes != write or binding.packet:
                continue
            regions = binding.regions(self.values(iteration))
            if regions.happens[at]:
                part = self.machine.array(access.buffer)[regions.slices(at)]
                seen.append((access.buffer, part))
        return seen

    def reads(self, instance: Instance) -> list[bytes]:
        """What the plain reads of a task would see now."""
        return [part.tobytes() for _, part in self.regions(instance, False)]

    def image(self) -> bytes:
        """All memory, packets as well."""
        return b"".join(array.tobytes() for array in self.memory)


def _fill(array: np.ndarray, byte: int) -> None:
    array.reshape(-1).view(np.uint8)[...] = byte


def confirmed(table: ScheduleTable, verdict: Verdict) -> str:
    """What the replay of the witness of a deadlock, race or undefined read shows.

    The table must be one that the dialect has. Raises `NotHeldError` where the machine is stricter
    than the model of execution: it wants uses of a slot in growing order and no box whose lower
    bound is above the upper one, and stops where another fault, a lost packet, comes first.
    """
    try:
        if verdict.kind == "deadlock":
            return _deadlock(table, verdict)
        if verdict.kind == "undefined-read":
            return _undefined(table, verdict)
        assert verdict.kind == "race"
        if verdict.message.startswith("lost packet"):
            return _lost(table, verdict)
        if "packets alone" in verdict.message:
            return _unseen(table, verdict)
        return _both(table, verdict)
    except AmkError as error:
        stricter = ["uses are out of order", " touches [", "lost packet"]
        if any(text in str(error) for text in stricter):
            raise NotHeldError(str(error)) from error
        raise


def _deadlock(table: ScheduleTable, verdict: Verdict) -> str:
    """After the run of the witness nothing of the iteration can run, for the reasons it names."""
    witness = verdict.witness
    replay = Replay(table, verdict)
    replay.play_all(witness.run)
    assert witness.stuck
    assert len(witness.run) + len(witness.stuck) == table.n_tasks
    assert not any(replay.can(instance) for instance in witness.stuck)
    names = {counter.name: number for number, counter in enumerate(table.counters)}
    heads = {a.task: a for a in replay.agents if a.at < len(a.tasks) and not a.iteration}
    for line in witness.lines:
        told = WAITS.match(line)
        if told is None:
            who = line.split(" waits for packets" if "waits for" in line else " reads packets")[0]
            (task,) = (t for t in heads if table.task_name(t) == who)
            missing = replay.machine.missing_packets(task, 0, replay.values(0))
            assert missing is not None, line
            continue
        who, counter, need, reached = told.groups()
        assert any(table.task_name(task) == who for task in heads), line
        assert replay.counters[names[counter]] == int(reached) < int(need), line
    if replay.first == 0:
        for seed in range(ORDERS):
            machine = TaskMachine(module_of(table), seed=seed)
            try:
                for _ in machine.launch(replay.start_values, 1):
                    pass
            except AmkError as error:
                if "deadlock: " not in str(error):
                    raise
                continue
            raise AssertionError("a run of the whole schedule ends")
    return "stuck"


def _both(table: ScheduleTable, verdict: Verdict) -> str:
    """Both accesses are enabled, and the two orders differ in what is read or left in memory."""
    results = []
    for order in (verdict.witness.pair, verdict.witness.pair[::-1]):
        replay = Replay(table, verdict)
        replay.play_all(verdict.witness.run)
        assert all(replay.can(instance) for instance in order)
        seen = {}
        try:
            for instance in order:
                seen[instance] = replay.reads(instance)
                replay.play_all([instance])
        except AmkError as error:
            # Of two packets in one slot, the older one cannot be sent after the newer one.
            results.append(str(error))
            continue
        results.append(([seen[i] for i in verdict.witness.pair], replay.image()))
    if all(isinstance(result, str) for result in results):
        raise NotHeldError(results[0])
    assert results[0] != results[1], "both orders have the same result"
    return "two results"


def _lost(table: ScheduleTable, verdict: Verdict) -> str:
    """The packet is overwritten while somebody still has to poll it."""
    one, two = verdict.witness.pair
    replay = Replay(table, verdict)
    assert one not in verdict.witness.run
    try:
        replay.play_all(verdict.witness.run)
        assert two not in verdict.witness.run
        assert replay.can(one)
        assert replay.can(two)
        replay.play_all([two])
    except AmkError as error:
        if "lost packet" not in str(error):
            raise
        return "lost packet"
    raise AssertionError("the packet is not lost")


def _unseen(table: ScheduleTable, verdict: Verdict) -> str:
    """The second access is reached without having synchronised with the first, a write.

    That is shown with a write that reaches memory late, after the second access. None of the tasks
    in whose past the write is not notices; of the others, none is needed by the second. (A packet
    that arrives late cannot be shown: the interpreter sends packets at once.)
    """
    first, second = verdict.witness.pair
    results = []
    for late in (False, True):
        replay = Replay(table, verdict)
        past = _Past(replay, first)
        held = None
        for instance in verdict.witness.run:
            effects = replay.play(instance)
            past.add(instance)
            if late and instance == first:
                held = effects
            else:
                replay.machine.finish(effects)
        assert replay.can(second)
        assert first in verdict.witness.run
        assert past.lacks_it(second), "the second task has synchronised with the first"
        if not _meet(replay, first, second):
            return "late packet"
        seen = replay.reads(second)
        replay.play_all([second])
        if held is not None:
            replay.machine.finish(held)
        results.append((seen, replay.image()))
    assert results[0] != results[1], "it does not matter when the write arrives"
    return "late write"


def _meet(replay: Replay, first: Instance, second: Instance) -> bool:
    """Whether a plain write of the first and an access of the second share memory."""
    return any(
        np.shares_memory(one, two)
        for _, one in replay.regions(first, True)
        for write in (False, True)
        for _, two in replay.regions(second, write)
    )


class _Past:
    """Which tasks of a run have a certain one in their past, if each takes suppliers without it
    wherever these suffice."""

    def __init__(self, replay: Replay, first: Instance) -> None:
        self.machine = replay.machine
        self.first = first
        self.counts = [0] * len(self.machine.totals)
        self.stained: set[int] = set()

    def lacks_it(self, instance: Instance) -> bool:
        iteration, task = instance
        if instance == self.first or int(self.machine.table.task_queue[task]) in self.stained:
            return False
        return all(
            self.counts[counter] >= iteration * int(self.machine.totals[counter]) + threshold
            for counter, threshold in self.machine.waits.get(task, ())
            if iteration * int(self.machine.totals[counter]) + threshold > 0
        )

    def add(self, instance: Instance) -> None:
        task = instance[1]
        if not self.lacks_it(instance):
            self.stained.add(int(self.machine.table.task_queue[task]))
            return
        for counter, amount in self.machine.signals.get(task, ()):
            self.counts[counter] += amount


def _undefined(table: ScheduleTable, verdict: Verdict) -> str:
    """The task sees bytes that nothing has written since its memory became undefined."""
    replay = Replay(table, verdict)
    task = verdict.errors[0].task
    wanted = (int("in the second iteration" in verdict.message), task)
    kinds = dict(zip(replay.machine._declared, (b.kind for b in table.buffers), strict=True))
    read = {name for name, _ in replay.regions(wanted, False) if kinds[name] == "scratch"}
    for iteration in range(wanted[0] + 1):
        if iteration:
            for name in read:
                _fill(replay.machine.array(name), UNWRITTEN)
        for instance in _one_by_one(replay, iteration):
            if instance == wanted:
                break
            replay.play_all([instance])
    assert replay.can(wanted)
    pattern = bytes([UNWRITTEN])
    for name, values in replay.regions(wanted, False):
        size = values.dtype.itemsize
        if kinds[name] not in ("input", "constant") and any(
            values.tobytes()[at : at + size] == pattern * size
            for at in range(0, values.nbytes, size)
        ):
            return "unwritten bytes"
    raise AssertionError("all bytes were written")


def _one_by_one(replay: Replay, iteration: int) -> Iterator[Instance]:
    """The instances of an iteration in an order in which they can run; the caller runs them."""
    left = {(iteration, task) for task in replay.agent_of}
    while left:
        ready = [instance for instance in sorted(left) if replay.can(instance)]
        assert ready
        for instance in ready:
            left.discard(instance)
            yield instance


def shown(table: ScheduleTable, max_skew: int | None = None) -> str:
    """The kind of the verdict on a table, and what its witness shows.

    "" for a sound table, "other" where no task has to run to see the error. Fails where the witness
    is wrong.
    """
    verdict = verify(table, max_skew=max_skew)
    if verdict.ok:
        return ""
    if verdict.kind not in ("deadlock", "race", "undefined-read"):
        return "other"
    try:
        return f"{verdict.kind}: {confirmed(table, verdict)}"
    except NotHeldError:
        return f"{verdict.kind}: not replayed"
