"""Witnesses replayed with code of their own: what they claim really happens."""

from __future__ import annotations

from generators import program
from program import Program, table_of

from amk.schedule.verify import Witness, verify


class _Replay:
    """Executes instances in a given order, checking queue order, waits and packets."""

    def __init__(self, program: Program, start: dict[str, int]) -> None:
        self.program = program
        self.start = start
        self.counts = [0] * program.counters
        self.totals = [0] * program.counters
        for task in program.tasks:
            for counter, amount in task.signals:
                self.totals[counter] += amount
        self.done: set[tuple[int, int]] = set()
        self.written: set[tuple[int, int, int, int]] = set()

    def _packets(self, instance: tuple[int, int], write: bool) -> set[tuple[int, int, int, int]]:
        iteration, number = instance
        steps = {s[0]: s[3] for s in self.program.scalars} | {"iter": 1}
        values = {n: self.start.get(n, 0) + steps[n] * iteration for n in steps}
        found = set()
        for a in self.program.tasks[number].accesses:
            if a.use < 0 or a.write != write:
                continue
            guards = (self.program.tasks[number].guard, a.guard)
            if any(isinstance(g, str) and eval(g, {}, values) for g in guards):
                continue
            lo, hi = (b if isinstance(b, int) else eval(b, {}, values) for b in (a.lo[0], a.hi[0]))
            found |= {(a.buffer, element, a.use, iteration) for element in range(lo, hi)}
        return found

    def enabled(self, instance: tuple[int, int]) -> bool:
        iteration, number = instance
        task = self.program.tasks[number]
        for e in range(iteration + 1):
            for other, earlier in enumerate(self.program.tasks):
                same = other == number or (task.queue is not None and earlier.queue == task.queue)
                before = (e, other) < instance if same else False
                if before and (e, other) not in self.done:
                    return False
        met = all(self.counts[c] >= iteration * self.totals[c] + t for c, t in task.waits)
        return met and self._packets(instance, False) <= self.written

    def run(self, instance: tuple[int, int]) -> None:
        assert self.enabled(instance), f"{instance} cannot run"
        for counter, amount in self.program.tasks[instance[1]].signals:
            self.counts[counter] += amount
        self.written |= self._packets(instance, True)
        self.done.add(instance)


def _replay(made: Program, witness: Witness) -> _Replay:
    replay = _Replay(made, dict(witness.start))
    for instance in witness.run:
        replay.run(instance)
    return replay


def test_witnesses_replay() -> None:
    stuck = both = alone = 0
    for seed in range(1500):
        made = program(seed)
        verdict = verify(table_of(made), max_skew=2)
        if verdict.kind not in ("deadlock", "race"):
            continue
        witness = verdict.witness
        replay = _replay(made, witness)
        if verdict.kind == "deadlock":
            assert len(replay.done) + len(witness.stuck) == len(made.tasks)
            assert not any(replay.enabled(t) for t in witness.stuck)
            stuck += 1
        elif "packets alone" in verdict.message:
            # The second access is reached in a run whose counters could all be met without the
            # first; the first itself has run, since packets order the two.
            first, second = witness.pair
            assert first in replay.done
            assert replay.enabled(second)
            alone += 1
        else:
            first, second = witness.pair
            assert first not in replay.done
            assert replay.enabled(first)
            if second in replay.done:
                assert "lost packet" in verdict.message
            else:
                assert replay.enabled(second)
            both += 1
    assert min(stuck, both, alone) > 5
