"""Random schedules for the host: safe ones, and mutants with what the verifier says of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

import generators
from batch import Case
from mutants import mutate
from program import table_of
from real import config, lowered, with_counters
from xdsl.dialects.builtin import ModuleOp

from amk.errors import AmkError
from amk.ir.expand import expand, schedule_of
from amk.ir.explicit import module_of
from amk.schedule import ScheduleTable
from amk.schedule.table import Buffer
from amk.schedule.verify import Verdict, verify

STEPS = 4
CONTEXT = 4


@dataclass(frozen=True)
class Sample:
    """A schedule with a name to find it by, and what the verifier says of it."""

    name: str
    module: ModuleOp
    table: ScheduleTable
    verdict: Verdict

    @property
    def start(self) -> int | None:
        """The first value of the run-time scalar: the witness's, or the least."""
        if not self.table.scalars:
            return None
        (scalar,) = self.table.scalars
        return dict(self.verdict.witness.start).get(scalar.name, scalar.lo)

    @property
    def steps(self) -> int:
        """Iterations to run: enough for the witness, as many as the scalar allows."""
        table = self.table
        last = max((e for e, _ in self.verdict.witness.pair), default=0)
        steps = table.iterations or max(STEPS, last + 2)
        for scalar in table.scalars:
            start = self.start or 0
            if scalar.step > 0:
                steps = min(steps, -(-(scalar.hi - start) // scalar.step))
        return steps

    def case(self) -> Case:
        return Case(self.module, self.steps, self.start)


def sample(name: str, table: ScheduleTable) -> Sample | None:
    """The schedule of a table; None where the dialect cannot hold it."""
    try:
        module = module_of(table)
        verdict = verify(expand(schedule_of(module)).table)
    except AmkError:
        return None
    return Sample(name, module, table, verdict)


def _counted(table: ScheduleTable) -> ScheduleTable:
    """The same with counters in the place of packets."""
    made = with_counters(table)
    buffers = tuple(replace(b, item_bytes=min(b.item_bytes, 4)) for b in made.buffers)
    return replace(made, buffers=buffers)


def _sized(table: ScheduleTable) -> ScheduleTable:
    """The same with elements of two and four bytes in the place of one and two."""

    def changed(buffer: Buffer) -> Buffer:
        if buffer.packet:
            return replace(buffer, item_bytes=8)
        item = 2 * buffer.item_bytes
        return replace(buffer, item_bytes=item, offset=buffer.offset * 2 // item * item)

    return replace(table, buffers=tuple(changed(b) for b in table.buffers))


@cache
def lowerings() -> tuple[tuple[str, ScheduleTable], ...]:
    """Small models, lowered to 2 to 16 workers, with packets and with counters in their place."""
    made: list[tuple[str, ScheduleTable]] = []
    for workers in range(2, 17):
        # The residual has a block of rows for each worker.
        shape = (1 + workers % 2, 8 * workers, 2, 1 + workers % 2, 4, 9, 11)
        table = lowered(config(*shape), workers, CONTEXT, splits=1 + workers % 3, units=1)
        made.append((f"lowered {workers} packets", table))
        made.append((f"lowered {workers} counters", _counted(table)))
    return tuple(made)


def safe() -> Iterator[Sample]:
    """Safe schedules without end: the lowerings, then random ones."""
    for name, table in lowerings():
        made = sample(name, table)
        assert made is not None
        assert made.verdict.ok, made.verdict.message
        yield made
    seed = 0
    while True:
        seed += 1
        made = sample(f"seed {seed}", _sized(table_of(generators.program(seed))))
        if made is not None and made.verdict.ok and made.table.n_tasks > 1:
            yield made


@cache
def _pool() -> tuple[ScheduleTable, ...]:
    small = [table for _, table in lowerings() if table.workers <= 3]
    some = islice((made for made in safe() if made.name.startswith("seed")), 200)
    return (*small, *(made.table for made in some if len(made.table.queues) > 1))


def mutated(kind: str) -> Iterator[Sample]:
    """Mutants for which the verifier says `kind`, without end."""
    pool = _pool()
    seed = 0
    while True:
        seed += 1
        rng = random.Random(seed)
        mutant = mutate(rng.choice(pool), rng)
        made = sample(f"mutant {seed}: {mutant.what}", mutant.table)
        if made is not None and made.verdict.kind == kind:
            yield made


def synchronisation(table: ScheduleTable) -> set[str]:
    """What a schedule synchronises with."""
    found: set[str] = set()
    total = [0] * len(table.counters)
    for counter, amount in zip(table.signal_counter, table.signal_amount, strict=True):
        total[counter] += int(amount)
    for counter, threshold in zip(table.wait_counter, table.wait_threshold, strict=True):
        if threshold <= 0:
            found.add("back-pressure")
        else:
            found.add("counters" if threshold == total[counter] else "partial thresholds")
    if (table.access_use >= 0).any():
        found.add("packets")
    return found
