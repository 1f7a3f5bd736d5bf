"""Runs a `task.schedule`: tasks on workers, in any order that its barriers allow.

A task runs in two steps. It *starts* when its conditions hold: it reads, computes and sends its
packets. It *finishes* later: its plain writes and its signals appear. In between, tasks of other
queues may run, since a packet makes nothing visible but itself. `launch.py` chooses the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.dialects import task
from amk.dialects.memory import is_packet, space_of
from amk.errors import AmkError
from amk.interpreters.bindings import Binding, Round, Values, count_boxes, rounds_of
from amk.interpreters.default_task import write_default
from amk.interpreters.kernel import Kernels
from amk.interpreters.launch import Blocked, Launch
from amk.interpreters.memory import (
    Constants,
    View,
    constant_array,
    no_constants,
    poison,
    poisoned,
    storage_of,
)
from amk.interpreters.packets import PacketBuffer, box_text
from amk.ir.expand import expand, schedule_of

OWN_CHOICE = -1
"""An element of @forced: feed the model's own choice."""


@dataclass
class Effects:
    """What is left of a task that has started."""

    task: int
    stores: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Destination and values of each plain write."""
    sent: set[str] = field(default_factory=set)
    """Packet buffers that the task wrote."""
    decision: bool | None = None
    """What its kernel's tile.stop said."""


class TaskMachine:
    """A schedule with its memory; buffers keep their contents from launch to launch.

    With a `seed`, each launch takes an order of its own; without one, a fixed and fast one. Raises
    AmkError where the schedule names what does not exist, touches what is outside of a buffer, or
    lacks a constant.
    """

    def __init__(
        self, module: ModuleOp, constants: Constants = no_constants, *, seed: int | None = None
    ) -> None:
        self.schedule = schedule_of(module)
        self.table = expand(self.schedule).table
        self.kernels = Kernels(module)
        self.seed = seed
        self.launches = 0
        self.base = 0
        """Iterations of all launches so far; epochs count on."""
        self._declared = {
            op.sym_name.data: op
            for op in self.schedule.body.block.ops
            if isinstance(op, task.BufferOp)
        }
        self.packets: dict[str, PacketBuffer] = {}
        self.host_packets = {
            name for name, op in self._declared.items() if space_of(op.type) == "host_packet"
        }
        """Packet buffers that the host polls while a launch runs."""
        self._plain: dict[str, np.ndarray] = {}
        self._allocate(constants)
        self._rounds = rounds_of(self.schedule, self._declared)
        counts = [r.count for r in self._rounds]
        self._round_of = np.repeat(np.arange(len(counts)), counts).tolist()
        self._deciding = {
            r.op.kernel_name: self.kernels.decides(r.op.kernel_name)
            for r in self._rounds
            if r.op.kernel_name is not None
        }
        self._readers = self._find_readers()
        self._reader_counts: dict[tuple[str, int], tuple[int, np.ndarray]] = {}
        self._conditions()

    # ---- memory ----------------------------------------------------------------------------

    def _allocate(self, constants: Constants) -> None:
        arenas: dict[str, np.ndarray] = {}
        for op in self._declared.values():
            if op.arena is not None and not is_packet(op.type):
                end = _offset(op) + _bytes(op)
                name = op.arena.data
                if name not in arenas or len(arenas[name]) < end:
                    arenas[name] = np.zeros(end, np.uint8)
        for name, op in self._declared.items():
            shape, dtype = op.type.get_shape(), storage_of(op.type)
            if is_packet(op.type):
                if op.arena is not None:
                    raise AmkError(f"packet buffer @{name} cannot lie in an arena")
                uses = op.uses.value.data if op.uses is not None else 1
                self.packets[name] = PacketBuffer(name, shape, dtype, uses)
            elif op.source is not None:
                source = op.source.root_reference.data
                self._plain[name] = constant_array(source, op.type, constants)
            elif op.arena is not None:
                memory = arenas[op.arena.data][_offset(op) : _offset(op) + _bytes(op)]
                self._plain[name] = memory.view(dtype).reshape(shape)
            elif op.kind.data == "output":
                self._plain[name] = poisoned(shape, dtype)
            else:
                self._plain[name] = np.zeros(shape, dtype)

    def array(self, name: str) -> np.ndarray:
        """The memory of a buffer in storage type (of a packet buffer, the payloads); no copy."""
        if name in self.packets:
            return self.packets[name].payload
        if name not in self._plain:
            raise AmkError(f"the schedule has no buffer @{name}")
        return self._plain[name]

    @property
    def logits(self) -> np.ndarray:
        """The ring of logits, float32 [slots, vocabulary]: row = position mod slots."""
        vocabulary = self.schedule.vocab
        rows = self.array("logits")
        return rows if vocabulary is None else rows[:, : vocabulary.value.data]

    def reset(self) -> None:
        """Forget all packets, as the host does before epochs wrap and after an error."""
        for packets in self.packets.values():
            packets.clear()
        self.base = 0

    # ---- running ---------------------------------------------------------------------------

    def launch(self, scalars: Mapping[str, int], steps: int | None = None) -> Iterator[str]:
        """Run up to `steps` iterations from these values of the run-time scalars.

        Ends earlier where a kernel decides so, at the declared number of iterations, and before a
        scalar leaves its range. Yields the name of a buffer of the host's whenever packets were
        written to it. After an error (a deadlock, a lost packet, …) call `reset` to go on.
        """
        for name, op in self._declared.items():
            if op.kind.data == "scratch" and op.initial is None and name in self._plain:
                poison(self._plain[name])
        self._reader_counts.clear()
        launch = Launch(self, scalars, steps)
        self.launches += 1
        try:
            yield from launch.run()
        finally:
            self.base += launch.begun

    def run(
        self,
        start: int,
        forced: Sequence[int],
        steps: int,
        stop: Callable[[], bool] | None = None,
    ) -> Iterator[int]:
        """Run positions `start` to at most `start + steps - 1` of a model; yields its choices.

        Feeds `forced` from position `start` on, then the model's own choices. `stop` is asked after
        each token. Closing the iterator ends the launch after the iteration under way.
        """
        wanted = self.array("forced")
        wanted[...] = OWN_CHOICE
        wanted[start : start + len(forced)] = forced
        flag, tokens = self.array("stop"), self.packets["tokens"]
        flag[0] = int(stop is not None and stop())
        base, position = self.base, start
        launch = self.launch({"pos": start}, steps)
        try:
            for _ in launch:
                while position < len(tokens.epoch) and tokens.epoch[position] == tokens.epoch_of(
                    0, base + position - start
                ):
                    yield int(tokens.payload[position])
                    position += 1
                flag[0] = int(stop is not None and stop())
        except GeneratorExit:
            flag[0] = 1
            for _ in launch:
                pass
            raise

    # ---- tasks -----------------------------------------------------------------------------

    def _conditions(self) -> None:
        table = self.table
        self.waits: dict[int, list[tuple[int, int]]] = {}
        self.signals: dict[int, list[tuple[int, int]]] = {}
        for into, tasks, counters, numbers in (
            (self.waits, table.wait_task, table.wait_counter, table.wait_threshold),
            (self.signals, table.signal_task, table.signal_counter, table.signal_amount),
        ):
            rows = zip(tasks.tolist(), counters.tolist(), numbers.tolist(), strict=True)
            for number, counter, value in rows:
                into.setdefault(number, []).append((counter, value))
        self.totals = np.zeros(len(table.counters), np.int64)
        np.add.at(self.totals, table.signal_counter, table.signal_amount)

    def decides(self, number: int) -> bool:
        """Whether the kernel of a task decides if the loop ends."""
        name = self._rounds[self._round_of[number]].op.kernel_name
        return name is not None and self._deciding[name]

    def _find(self, number: int) -> tuple[Round, int]:
        found = self._rounds[self._round_of[number]]
        return found, number - found.first

    def missing_packets(self, number: int, iteration: int, values: Values) -> Blocked | None:
        """The first region of packets that a task still waits for."""
        owner, instance = self._find(number)
        for binding in owner.bindings:
            if not binding.packet or binding.access is None or not binding.access.reads:
                continue
            regions = binding.regions(values)
            if not regions.happens[instance]:
                continue
            packets = self.packets[binding.buffer]
            box, use = regions.slices(instance), int(regions.use[instance])
            with self._blaming(number, iteration):
                arrived = packets.ready(box, packets.epoch_of(use, self.base + iteration))
            if not arrived:
                region = f"@{binding.buffer}[{box_text(box)}]"
                return Blocked(binding.buffer, f"use {use} of {region}")
        return None

    def start(self, number: int, iteration: int, values: Values) -> Effects:
        """Start a task whose conditions hold."""
        effects = Effects(number)
        owner, instance = self._find(number)
        if owner.enabled(values)[instance]:
            with self._blaming(number, iteration):
                _Execution(self, effects, owner, instance, iteration, values).run()
        return effects

    def finish(self, effects: Effects) -> None:
        """Make the plain writes of a task appear."""
        for destination, values in effects.stores:
            destination[...] = values

    def readers(self, buffer: str, use: int, iteration: int, values: Values) -> np.ndarray:
        """For each slot of a packet buffer, how many accesses read this use in this iteration."""
        key = (buffer, use)
        known = self._reader_counts.get(key)
        if known is not None and known[0] in (-1, iteration):
            return known[1]
        shape = self.packets[buffer].payload.shape
        counts = np.zeros(shape, np.int32)
        fixed = True
        for binding in self._readers.get(key, ()):
            regions = binding.regions(values)
            chosen = regions.happens & (regions.use == use)
            count_boxes(shape, regions.lo[chosen], regions.hi[chosen], counts)
            fixed = fixed and binding.fixed
        self._reader_counts[key] = (-1 if fixed else iteration, counts)
        return counts

    def _find_readers(self) -> dict[tuple[str, int], list[Binding]]:
        """The arguments that read each use of each packet buffer."""
        found: dict[tuple[str, int], list[Binding]] = {}
        for owner in self._rounds:
            for binding in owner.bindings:
                access = binding.access
                if access is None or access.use is None or not access.reads:
                    continue
                for use in np.unique(owner.evaluate(access.use, {})).tolist():
                    found.setdefault((access.buffer, use), []).append(binding)
        return found

    def task_text(self, number: int, iteration: int) -> str:
        """`down[2] on worker 1 in iteration 0`."""
        queue = self.table.queues[self.table.task_queue[number]]
        return f"{self.table.task_name(number)} on {queue} in iteration {iteration}"

    @contextmanager
    def _blaming(self, number: int, iteration: int) -> Iterator[None]:
        """Say in an error which task it is about."""
        try:
            yield
        except AmkError as error:
            location = self.table.task_location(number) or error.location
            raise AmkError(
                f"{self.task_text(number, iteration)}: {error}", location=location
            ) from error


class _Execution:
    """One task: binds its arguments, runs its kernel and sends its packets."""

    def __init__(
        self,
        machine: TaskMachine,
        effects: Effects,
        owner: Round,
        instance: int,
        iteration: int,
        values: Values,
    ) -> None:
        self.machine = machine
        self.effects = effects
        self.owner = owner
        self.instance = instance
        self.iteration = iteration
        self.values = values
        self.arguments: list[View | int] = []
        self.read: list[np.ndarray] = []
        self.written: list[np.ndarray] = []
        self.sends: list[tuple[PacketBuffer, tuple[slice, ...], np.ndarray, int]] = []

    def run(self) -> None:
        for binding in self.owner.bindings:
            self.arguments.append(self._bind(binding))
        name = self.owner.op.kernel_name
        if name is None:
            self._write_hash()
        else:
            self.effects.decision = self.machine.kernels.run(name, self.arguments)
        machine, iteration = self.machine, self.iteration
        for packets, box, data, use in self.sends:
            epoch = packets.epoch_of(use, machine.base + iteration)
            readers = machine.readers(packets.name, use, iteration, self.values)
            packets.send(box, data, epoch, readers)
            self.effects.sent.add(packets.name)

    def _bind(self, binding: Binding) -> View | int:
        if binding.access is None:
            return binding.number(self.instance, self.values)
        name, access, at = binding.buffer, binding.access, self.instance
        regions = binding.regions(self.values)
        if not regions.happens[at]:
            return View(name, None)
        region = self.machine.array(name)[regions.box(at)]
        full = regions.slices(at)
        if access.reads:
            self.read.append(region)
            if binding.packet:
                self.machine.packets[name].take(full)
        if not access.writes:
            return View(name, region)
        # What the task writes appears later, and all of it: what the kernel leaves out is poison.
        own = region.copy() if access.reads else poisoned(region.shape, region.dtype)
        self.written.append(own)
        if binding.packet:
            packets = self.machine.packets[name]
            target = own.reshape([part.stop - part.start for part in full])
            self.sends.append((packets, full, target, int(regions.use[at])))
        else:
            self.effects.stores.append((region, own))
        return View(name, own)

    def _write_hash(self) -> None:
        """The meaning of a task without a kernel: a hash of its identity, epoch and inputs."""
        machine = self.machine
        write_default(
            machine.table.task_name(self.effects.task),
            machine.base + self.iteration,
            [a for a in self.arguments if isinstance(a, int)],
            self.read,
            self.written,
        )


def _bytes(op: task.BufferOp) -> int:
    return int(np.prod(op.type.get_shape())) * storage_of(op.type).itemsize


def _offset(op: task.BufferOp) -> int:
    return op.offset.value.data if op.offset is not None else 0
