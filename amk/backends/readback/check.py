"""Proves that a printed program is the verified schedule of a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import ARCHS
from amk.backends.plan import resources
from amk.backends.readback import syntax
from amk.backends.readback.cases import CasesReader
from amk.backends.readback.declarations import (
    check_constants,
    check_functions,
    loop_of,
    read_types,
)
from amk.backends.readback.expected import Expected, Tasks
from amk.backends.readback.integers import scalar_values
from amk.backends.readback.lanes import Lanes, Place, in_order, run
from amk.backends.readback.memory import Names, Site
from amk.backends.readback.mismatch import Mismatch, fail, require
from amk.backends.readback.obligations import MET, Step, Threads, follow
from amk.backends.readback.parse import parse
from amk.backends.readback.source import without_device_layer
from amk.backends.readback.streams import Copies, compare, copies_of, read_stream
from amk.backends.readback.tables import read_tables
from amk.backends.readback.task import TaskReader
from amk.errors import AmkError


@dataclass(frozen=True)
class Report:
    """What was proved, in numbers."""

    target: str
    families: int
    workers: int
    tasks: int
    accesses: int
    packets: int
    waits: int
    signals: int
    streams: int
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.tasks} tasks of {self.families} families in order on {self.workers} workers, "
            f"{self.accesses} accesses ({self.packets} of packets), {self.waits} waits, "
            f"{self.signals} signals and {self.streams} streams are those of the verified IR; "
            f"{self.steps} steps keep the printer's obligations; the device layer is that of "
            f"{self.target}"
        )


def check_program(module: ModuleOp, target: str, text: str, name: str) -> Report:
    """Compare the CUDA file `name` with a module whose schedule has been verified for `target`.

    AmkError at the first difference, with its place in the file.
    """
    if target not in ARCHS:
        raise AmkError(f"cannot read back a program for '{target}'; known: {', '.join(ARCHS)}")
    schedule, in_tables = without_device_layer(text, target, name)
    unit = parse(schedule, name)
    try:
        return _Checker(module, target, unit, in_tables).run()
    except Mismatch as error:
        where = f"{name}:{error.node.line}:{error.node.column}" if error.node.line else name
        raise AmkError(str(error), location=where) from error


class _Checker:
    def __init__(self, module: ModuleOp, target: str, unit: syntax.Unit, in_tables: bool) -> None:
        self.module, self.unit, self.target = module, unit, target
        self.arch = ARCHS[target]
        self.expected = Expected(module, in_tables=in_tables)

    def run(self) -> Report:
        expected = self.expected
        config = resources(self.module, self.arch).config
        names = read_types(self.unit, expected)
        compute, stream = check_functions(self.unit, self.arch, names)
        check_constants(self.unit, expected, self.arch, config)
        if expected.in_tables:
            reader = CasesReader(read_tables(self.unit, expected), names)
            reader.compute(compute)
            return self._report(reader.stream(stream), len(reader.steps))
        if self.unit.tables:
            fail(self.unit.tables[0], "nothing reads this table")
        return self._loops(names, compute, stream)

    def _loops(self, names: Names, compute: syntax.Function, stream: syntax.Function) -> Report:
        """Families as loops and index arithmetic."""
        expected = self.expected
        lanes = Lanes.of_workers(
            expected.workers, scalar_values(expected.ranges, expected.iterations)
        )
        places = run(loop_of(compute), lanes)
        sites = self._sites(places, names, compute)
        steps = [TaskReader(site, place.body[1:], place.node).read() for site, place in sites]
        consumed = [c for site, place in sites for c in _consumed(site, place)]
        produced = copies_of(run(loop_of(stream), lanes), names)
        streams = compare(produced, consumed, stream)
        self._obligations(places, steps)
        return self._report(streams, sum(len(s) for s in steps))

    def _report(self, streams: int, steps: int) -> Report:
        table = self.expected.table
        packets = np.array([buffer.packet for buffer in table.buffers], bool)
        return Report(
            target=self.target,
            families=len(table.origins),
            workers=self.expected.workers,
            tasks=table.n_tasks,
            accesses=len(table.access_task),
            packets=int(packets[table.access_buffer].sum()),
            waits=len(table.wait_task),
            signals=len(table.signal_task),
            streams=streams,
            steps=steps,
        )

    def _sites(
        self, places: Sequence[Place], names: Names, at: syntax.Node
    ) -> list[tuple[Site, Place]]:
        """Each place with its tasks; Mismatch unless every worker runs its queue in order."""
        numbers = np.array([self._number(place) for place in places], np.int64)
        workers, which, lane = in_order([place.lanes for place in places])
        owners, tasks = self.expected.by_worker
        for worker in range(self.expected.workers):
            found = numbers[which[workers == worker]]
            wanted = self.expected.family_of[tasks[owners == worker]]
            self._same_queue(worker, found, wanted, which[workers == worker], places, at)
        sites: list[tuple[Site, Place]] = []
        for number, place in enumerate(places):
            mine = which == number
            ids = np.zeros(len(place.lanes), np.int64)
            ids[lane[mine]] = tasks[mine]
            op = self.expected.families[int(numbers[number])]
            sites.append((Site(names, place.lanes, Tasks(self.expected, op, ids)), place))
        return sites

    def _number(self, place: Place) -> int:
        """The family that a place says it runs: `w.at(number);`."""
        match place.body:
            case (
                syntax.Evaluation(
                    value=syntax.Call(
                        function=syntax.Member(object=syntax.Name(text="w"), name="at"),
                        arguments=(syntax.Number(text=text) as number,),
                    )
                ),
                *_,
            ) if text.isdigit():
                known = int(text) < len(self.expected.families)
                require(known, number, f"there is no family {text}")
                return int(text)
            case _:
                return fail(place.node, "a task starts with w.at(number)")

    def _same_queue(
        self,
        worker: int,
        found: np.ndarray,
        wanted: np.ndarray,
        which: np.ndarray,
        places: Sequence[Place],
        at: syntax.Node,
    ) -> None:
        shorter = min(len(found), len(wanted))
        wrong = np.flatnonzero(found[:shorter] != wanted[:shorter])
        place = int(wrong[0]) if len(wrong) else shorter
        if place == len(found) == len(wanted):
            return
        node = places[int(which[place])].node if place < len(found) else at
        names = [f"@{op.sym_name.data}" for op in self.expected.families]
        does = names[found[place]] if place < len(found) else "nothing"
        should = names[wanted[place]] if place < len(wanted) else "nothing"
        fail(node, f"worker {worker} runs {does} as task {place}, the schedule has {should}")

    def _obligations(self, places: Sequence[Place], steps: Sequence[Sequence[Step]]) -> None:
        """Follow the threads of each worker; workers with the same tasks are looked at once."""
        workers, which, _ = in_order([place.lanes for place in places])
        seen: set[bytes] = set()
        after: dict[tuple[int, Threads], Threads] = {}
        for worker in range(self.expected.workers):
            queue = which[workers == worker]
            if queue.tobytes() in seen:
                continue
            seen.add(queue.tobytes())
            threads = MET  # `w.next()` is a barrier
            for number in queue.tolist():
                key = (number, threads)
                if key not in after:
                    after[key] = follow(steps[number], threads)
                threads = after[key]


def _consumed(site: Site, place: Place) -> list[Copies]:
    """The streams of a place's products."""
    found: list[Copies] = []
    for number, statement in enumerate(place.body):
        match statement:
            case syntax.Evaluation(
                value=syntax.Call(
                    function=syntax.Template(name="amk::product"), arguments=(_, stream, *_)
                )
            ):
                found.append(read_stream(stream, place.lanes.at(number), site.names))
            case _:
                pass
    return found
