"""Bounded skew without a stated maximum, against runs that block one task."""

from __future__ import annotations

import random
from functools import cache

import pytest
from explorer import TooBig, judge
from generators import program
from program import Program, table_of

from amk.schedule import Schedule
from amk.schedule.verify import verify

FAR = 80
"""Iterations that a queue gets through at most before it counts as running free."""


def furthest(made: Program, blocked: int, at_iteration: int = 0) -> int:
    """Iterations that the queue furthest ahead begins while one task instance is blocked."""
    queues: dict[object, list[int]] = {}
    totals, counts = [0] * made.counters, [0] * made.counters
    for number, task in enumerate(made.tasks):
        queues.setdefault(task.queue if task.queue is not None else f"own{number}", []).append(
            number
        )
        for counter, amount in task.signals:
            totals[counter] += amount
    done = [0] * len(made.tasks)

    @cache
    def packets(iteration: int) -> tuple[dict[tuple[int, int, int], int], list[list[tuple]]]:
        """Who writes which use of which slot, and what each task polls."""
        writers: dict[tuple[int, int, int], int] = {}
        polled: list[list[tuple]] = [[] for _ in made.tasks]
        for number, task in enumerate(made.tasks):
            for a in task.accesses:
                if a.use < 0 or value(task.guard, iteration) or value(a.guard, iteration):
                    continue
                for cell in range(value(a.lo[0], iteration), value(a.hi[0], iteration)):
                    slot = (a.buffer, cell, a.use)
                    if a.write:
                        writers[slot] = number
                    else:
                        polled[number].append(slot)
        return writers, polled

    def ready(number: int) -> bool:
        task, iteration = made.tasks[number], done[number]
        if (number == blocked and iteration == at_iteration) or iteration >= FAR:
            return False
        writers, polled = packets(iteration)
        if any(done[writers[slot]] <= iteration for slot in polled[number]):
            return False
        return all(counts[c] >= iteration * totals[c] + t for c, t in task.waits)

    moved = True
    while moved:
        moved = False
        for members in queues.values():
            at = sum(done[n] for n in members)
            while ready(members[at % len(members)]):
                number = members[at % len(members)]
                done[number] += 1
                at += 1
                moved = True
                for counter, amount in made.tasks[number].signals:
                    counts[counter] += amount
    return max(done)


def value(bound: int | str, iteration: int) -> int:
    return bound if isinstance(bound, int) else eval(bound, {}, {"iter": iteration})


def guarded(made: Program, rng: random.Random) -> Program:
    """The program with packets polled only in some iterations."""
    for task in made.tasks:
        for a in task.accesses:
            if a.use >= 0 and not a.write and rng.random() < 0.5:
                number = rng.randrange(3)
                some = [f"(iter + {number}) % 3", f"iter - {number}", "iter // 3", "iter % 2"]
                a.guard = rng.choice(some)
    return made


@pytest.mark.parametrize("some", [False, True])
def test_runs_free_iff_a_run_goes_on_for_ever(some: bool) -> None:
    free = bounded = 0
    for seed in range(1500 if some else 2500):
        made = program(seed)
        polls = any(a.use >= 0 and not a.write for t in made.tasks for a in t.accesses)
        if made.iterations is not None or made.scalars or (some and not polls):
            continue
        if some:
            made = guarded(made, random.Random(seed))
        verdict = verify(table_of(made))
        if verdict.kind in ("malformed", "out-of-bounds", "constant-write", "deadlock"):
            continue
        starts = range(6) if some else range(1)
        far = max(furthest(made, n, e) for n in range(len(made.tasks)) for e in starts)
        assert (verdict.kind == "unbounded-skew") == (far >= FAR), f"seed {seed}: {far}"
        if verdict.ok and not some:
            assert far <= verdict.skew + 1
        free += far >= FAR
        bounded += far < FAR
    assert min(free, bounded) > 8, (free, bounded)


def test_a_skew_within_the_explorers_bound_changes_nothing() -> None:
    for seed in range(100_000, 100_400):
        made = program(seed)
        try:
            truth = judge(made, 2)
        except TooBig:
            continue
        if truth != "unbounded-skew":
            assert verify(table_of(made)).kind == truth, f"seed {seed}"


def hand_over(lag: int, iterations: int | None = None) -> Schedule:
    """A ring of `lag` + 1 pages; the reader takes the page that the writer filled."""
    s = Schedule(workers=2, iterations=iterations)
    pages = s.buffer("pages", (lag + 1, 8), kind="state", initial=True)
    full, free = s.counter("full"), s.counter("free")
    page = s.iteration % (lag + 1)
    s.task("load", 0, writes=[pages[page, :]], signals=[(full, 1)], waits=[(free, -lag)])
    s.task("use", 1, reads=[pages[page, :]], waits=[(full, 1)], signals=[(free, 1)])
    return s


def test_a_long_ring_is_safe() -> None:
    verdict = hand_over(20).verify()
    assert verdict.ok
    assert verdict.skew == 20


def test_a_long_ring_with_a_page_too_few_is_a_race() -> None:
    s = Schedule(workers=2, iterations=None)
    pages = s.buffer("pages", (20, 8), kind="state", initial=True)
    full, free = s.counter("full"), s.counter("free")
    page = s.iteration % 20
    s.task("load", 0, writes=[pages[page, :]], signals=[(full, 1)], waits=[(free, -20)])
    s.task("use", 1, reads=[pages[page, :]], waits=[(full, 1)], signals=[(free, 1)])
    verdict = s.verify()
    assert verdict.kind == "race"
    assert "use reads and load of iteration +20 writes pages[" in verdict.message


def test_a_stated_maximum_is_one() -> None:
    table = hand_over(20).table()
    assert verify(table, max_skew=20).ok
    assert verify(table, max_skew=19).kind == "unbounded-skew"


def test_amounts_that_let_an_agent_run_far_ahead() -> None:
    """One signal of 1 among 30: the others make up for it for 29 iterations and more."""
    s = Schedule(workers=3, iterations=None)
    c, d, e = s.counter("c"), s.counter("d"), s.counter("e")
    s.task("slow", 0, signals=[(c, 1)], waits=[(d, 0)])
    s.task("fast", 1, signals=[(c, 29)], waits=[(d, 0)])
    s.task("join", 2, signals=[(d, 1), (e, 1)], waits=[(c, 30)])
    verdict = s.verify()
    assert verdict.ok
    s = Schedule(workers=3, iterations=None)
    c, d = s.counter("c"), s.counter("d")
    s.task("slow", 0, signals=[(c, 1)], waits=[(d, 0)])
    s.task("fast", 1, signals=[(c, 29)])
    s.task("join", 2, signals=[(d, 1)], waits=[(c, 30)])
    verdict = s.verify()
    assert verdict.kind == "unbounded-skew"
    assert "fast can start any number of iterations" in verdict.message


def test_a_launch_that_ends_is_judged_as_a_whole() -> None:
    def build(rows: int, iterations: int) -> Schedule:
        s = Schedule(workers=2, iterations=iterations)
        log = s.buffer("log", (rows, 4), kind="state", initial=True)
        s.task("fill", 0, writes=[log[s.iteration, :]])
        s.task("clear", 1, writes=[log[s.iteration + 60, :]])
        return s

    assert build(120, 60).verify().ok
    verdict = build(121, 61).verify()
    assert verdict.kind == "race"
    assert "fill of iteration +60" in verdict.message


def test_what_does_not_fit_is_not_decided() -> None:
    s = Schedule(workers=2, iterations=10**6)
    s.task("left", 0)
    s.task("right", 1)
    verdict = verify(s.table(), memory=10_000)
    assert verdict.kind == "unbounded-skew"
    assert "runs free" in verdict.message
