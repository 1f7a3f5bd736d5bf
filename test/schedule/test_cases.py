"""Cases of run-time scalars: residues and breakpoints against enumeration."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from amk.schedule import Expr, Schedule, ScheduleTable, TableBuilder
from amk.schedule.explicit import Region
from amk.schedule.verify import KINDS, breakpoints, verify
from amk.schedule.verify.breakpoints import Comparisons, meet
from amk.schedule.verify.cases import case_keys, changeable
from amk.schedule.verify.far import distance
from amk.schedule.verify.scalars import States, StateSpace


@pytest.fixture
def _no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ranges are treated like large ones."""
    monkeypatch.setattr(breakpoints, "SMALL", 0)


def expression(rng: random.Random, names: list[str]) -> Expr:
    """A random quasi-affine expression, nested at times."""
    result = Expr(rng.randint(-4, 6))
    for name in rng.sample(names, rng.randint(1, len(names))):
        result = result + Expr.var(name) * rng.choice([-2, -1, 1, 1, 1, 2, 3])
    roll = rng.random()
    if roll < 0.4:
        result = result // rng.randint(2, 4)
    elif roll < 0.7:
        result = result % rng.randint(2, 4)
    if rng.random() < 0.3:
        result = (result + Expr.var(rng.choice(names))) // rng.randint(2, 3)
    return result


@pytest.mark.usefixtures("_no_lists")
def test_points_meet_every_outcome() -> None:
    rng = random.Random(0)
    fewer = 0
    for number in range(120):
        names = ["x", "y", "z"][: 3 if number % 30 == 0 else rng.choice([1, 1, 2])]
        size = {1: 60, 2: 14, 3: 6}[len(names)]
        ranges = {n: (low := rng.randint(-5, 5), low + rng.randint(0, size)) for n in names}
        groups = [
            [(expression(rng, names), rng.randint(-3, 3)) for _ in range(rng.choice([1, 1, 2]))]
            + [(Expr(rng.randint(-5, 12)), 0)]
            for _ in range(rng.randint(1, 2))
        ]
        legal = [Expr.var(names[0]) * 2 - Expr.var(names[-1]) * 3 + 4] if rng.random() < 0.2 else []
        points = meet(ranges, Comparisons(groups, legal))
        sides = [range(lo, hi + 1) for lo, hi in ranges.values()]
        every = np.array(list(itertools.product(*sides)), np.int64)
        whole = {n: every[:, i] for i, n in enumerate(ranges)}
        for condition in legal:
            keep = np.asarray(condition.evaluate(whole)) >= 0
            whole = {n: v[keep] for n, v in whole.items()}
        found, wanted = outcomes(groups, points), outcomes(groups, whole)
        assert found == wanted
        fewer += len(next(iter(points.values()))) < len(every)
    assert fewer > 50


def outcomes(groups: list, points: dict[str, np.ndarray]) -> set[tuple[int, ...]]:
    count = len(next(iter(points.values())))
    columns = []
    for group in groups:
        values = [np.broadcast_to(np.asarray(e.evaluate(points)), (count,)) + c for e, c in group]
        columns += [np.sign(a - b) for a, b in itertools.combinations(values, 2)]
    return set(zip(*(c.tolist() for c in columns), strict=True))


def moving(rng: random.Random) -> ScheduleTable:
    """A table whose accesses use scalars of all sorts, and `iter` at times."""
    b = TableBuilder(2, rng.choice([None, 3, 9]))
    names = []
    for name in ["p", "q"][: rng.choice([1, 1, 2])]:
        low = rng.randint(-2, 3)
        b.scalar(name, low, low + rng.randint(1, 9), rng.choice([0, 1, 1, 2, -1]))
        names.append(name)
    if rng.random() < 0.3 and b.iterations is not None:
        names.append("iter")
    arena = rng.random() < 0.2
    buffers = [
        b.buffer(f"b{n}", (8, 3), 2, "state", arena="page" if arena else None, offset=4 * n)
        for n in range(2)
    ]
    for number in range(3):
        task = b.tasks(b.origin(f"t{number}"), b.queue(number % 2))
        for buffer in buffers:
            low, high = (expression(rng, names) for _ in range(2))
            guard = expression(rng, names) % 2 if rng.random() < 0.4 else None
            bounds = ([low, 0], [low + 1, 3]) if rng.random() < 0.5 else ([0, 1], [high, 2])
            b.access(task, buffer, rng.random() < 0.5, *bounds, guard=guard)
    return b.build()


def every_state(table: ScheduleTable, used: set[str]) -> dict[str, np.ndarray]:
    """All states of all launches, by playing them; `iter` only where it is used."""
    found = set()
    for start in itertools.product(*(range(s.lo, s.hi) for s in table.scalars)):
        at = list(start)
        for iteration in range(1000 if table.iterations is None else table.iterations):
            if not all(s.lo <= v < s.hi for s, v in zip(table.scalars, at, strict=True)):
                break
            found.add((*at, iteration if "iter" in used else 0))
            if "iter" not in used:
                break  # later states start launches of their own
            at = [v + s.step for s, v in zip(table.scalars, at, strict=True)]
    columns = np.array(sorted(found), np.int64).T
    names = [*(s.name for s in table.scalars), "iter"]
    return {n: c for n, c in zip(names, columns, strict=True) if n in used or n == "iter"}


@pytest.mark.usefixtures("_no_lists")
@pytest.mark.parametrize("window", [1, 3])
def test_states_meet_every_case(window: int) -> None:
    rng = random.Random(window)
    for _ in range(120):
        table = moving(rng)
        rows = np.flatnonzero(changeable(table))
        space = StateSpace(table)
        some = space.cases(rows, window)
        used = {n for e in table.expressions for n in e.variables}
        values = every_state(table, used)
        # The remaining iterations of a state are those of the playing above.
        count = len(values["iter"])
        both = {n: np.concatenate([values[n], some.values[n]]) for n in some.values}
        remaining = np.concatenate([_left(table, values), some.remaining])
        keys = case_keys(table, States(both, remaining), window)
        assert set(keys[:count].tolist()) == set(keys[count:].tolist())


def _left(table: ScheduleTable, values: dict[str, np.ndarray]) -> np.ndarray:
    left = []
    for row in range(len(values["iter"])):
        iteration = int(values["iter"][row])
        limit = 2**60 if table.iterations is None else table.iterations
        count = limit - iteration
        for scalar in table.scalars:
            if not scalar.step:
                continue
            known = scalar.name in values
            first = scalar.lo if scalar.step > 0 else scalar.hi - 1
            value = int(values[scalar.name][row]) if known else first + scalar.step * iteration
            steps = 0
            while scalar.lo <= value + scalar.step * steps < scalar.hi:
                steps += 1
            count = min(count, steps)
        left.append(count)
    return np.array(left, np.int64)


def ring(capacity: int, owners: int = 4, fault: int | None = None) -> Schedule:
    """Owners of a cache by residue; `fault` shifts one bound by one."""
    shift = [0] * 6
    if fault is not None:
        shift[fault] = 1
    s = Schedule(workers=owners, iterations=1)
    p = s.scalar("p", 0, capacity)
    rows = -(-capacity // owners)
    cache = s.buffer("cache", (owners, rows), kind="state", initial=True)
    seen = s.buffer("seen", (capacity,), kind="state", initial=True)
    done = s.counter("done")
    for i in range(owners):
        row = p // owners
        s.task(
            "attend", i, index=[i], signals=[(done, 1)],
            reads=[cache[i, shift[0] : (p + owners - 1 - i + shift[1] * owners) // owners]],
            writes=[cache[i, row + shift[2] : row + 1 + shift[2]].when((p - i) % owners)],
        )  # fmt: skip
    s.task("mark", 0, writes=[seen[p + shift[3] : p + 1 + shift[4]]], waits=[(done, owners)])
    s.task("look", 1, reads=[seen[0 : p + 1 + shift[5] - 1]])
    return s


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (None, {""}), (0, {""}), (1, {"", "out-of-bounds"}), (2, {"out-of-bounds"}),
        (3, {""}), (4, {"out-of-bounds"}), (5, {"race"}),
    ],
)  # fmt: skip
def test_small_capacities_agree_with_fixed_positions(fault: int | None, expected: set[str]) -> None:
    """Every bound off by one: the kind is the first of all positions taken one by one."""
    seen: set[str] = set()
    for capacity in (1, 2, 3, 4, 5, 8, 9):
        verdict = ring(capacity, fault=fault).verify()
        kinds: set[str] = set()
        for position in range(capacity):
            fixed = at_state(ring(capacity, fault=fault).table(), {"p": position})
            kinds.add(verify(fixed).kind)
        kinds.discard("")
        assert verdict.kind == min(kinds, key=KINDS.index, default="")
        seen.add(verdict.kind)
    # A read that begins one row later is sound, and so is one of a row of its own worker.
    assert seen == expected


def at_state(table: ScheduleTable, state: dict[str, int]) -> ScheduleTable:
    """The table with its scalars fixed: every bound is a number, every guard known."""
    values = np.array([e.evaluate(state) for e in table.expressions] + [0], np.int64)
    lo = table.access_lo + values[table.access_lo_expr]
    hi = table.access_hi + values[table.access_hi_expr]
    keep = values[table.access_guard] == 0
    columns = {
        "access_lo": lo, "access_hi": hi,
        "access_lo_expr": np.full_like(table.access_lo_expr, -1),
        "access_hi_expr": np.full_like(table.access_hi_expr, -1),
        "access_guard": np.full_like(table.access_guard, -1),
        "access_task": table.access_task, "access_buffer": table.access_buffer,
        "access_write": table.access_write, "access_use": table.access_use,
        "access_rank": table.access_rank,
    }  # fmt: skip
    columns = {n: c[keep] for n, c in columns.items()}
    empty = (columns["access_lo"] > columns["access_hi"]).any(axis=1)
    columns = {n: c[~empty] for n, c in columns.items()}
    return replace(table, scalars=(), expressions=(), **columns)


def test_huge_ranges_of_several_scalars() -> None:
    """Positions of four sequences in one cache each, and two that share one: not a product."""
    capacity = 131072

    def build(gap: int) -> Schedule:
        s = Schedule(workers=4, iterations=None)
        stepped, marked, ended = (s.counter(n) for n in ("stepped", "marked", "ended"))
        for i in range(4):
            p = s.scalar(f"p{i}", 0, capacity)
            cache = s.buffer(f"cache{i}", (4, capacity // 4), kind="state", initial=True)
            own = cache[i, p // 4].when((p - i) % 4)
            old = cache[i, 0 : (p + 3 - i) // 4]
            s.task("step", i, index=[i], reads=[old], writes=[own], signals=[(stepped, 1)],
                   waits=[(ended, 0)])  # fmt: skip
        one, two = s.scalar("one", 0, capacity), s.scalar("two", 0, capacity)
        both = s.buffer("both", (2 * capacity + 1,), kind="state", initial=True)
        s.task("left", 0, writes=[both[one]], waits=[(stepped, 4)], signals=[(marked, 1)])
        s.task("right", 1, writes=[both[two + capacity + gap]], waits=[(stepped, 4)],
               signals=[(marked, 1)])  # fmt: skip
        for i in range(4):
            s.task("end", i, index=[i], waits=[(marked, 2)], signals=[(ended, 1)])
        return s

    assert build(0).verify().ok
    verdict = build(-1).verify()
    assert verdict.kind == "race"
    assert f"one = {capacity - 1}" in verdict.message
    assert "two = 0" in verdict.message
    assert build(2).verify().kind == "out-of-bounds"


@pytest.mark.usefixtures("_no_lists")
def test_verdicts_agree_with_all_starts_one_by_one() -> None:
    """One iteration of random tables: the first kind of all starts, each with fixed regions."""
    rng = random.Random(5)
    seen: dict[str, int] = {}
    for _ in range(150):
        table = replace(moving(rng), iterations=1)
        kinds = {verify(table).kind}
        if kinds == {"malformed"}:  # constant bounds that end before they begin
            continue
        alone: set[str] = set()
        for start in itertools.product(*(range(s.lo, s.hi) for s in table.scalars)):
            values = {s.name: v for s, v in zip(table.scalars, start, strict=True)} | {"iter": 0}
            alone.add(verify(at_state(table, values)).kind)
        alone.discard("")
        assert kinds == {min(alone, key=KINDS.index, default="")}
        seen[min(kinds)] = seen.get(min(kinds), 0) + 1
    assert len(seen) > 3, seen


def _exchange(rows: Callable[[Expr], slice], *, seen: bool = False) -> ScheduleTable:
    """One worker appends rows to a cache that another one reads, ordered by packets; if `seen`, a
    third one reads all rows there are, which a counter makes visible to it."""
    s = Schedule(workers=3, iterations=None)
    p = s.scalar("p", 0, 64)
    cache = s.buffer("cache", shape=(70, 4), dtype="f32", kind="state", initial=True)
    there, back, done = s.packets("there", (1,)), s.packets("back", (2,)), s.counter("done")
    s.task("append", 0, writes=[cache[p : p + 1, :], there[0:1]], signals=[(done, 1)])
    s.task("read", 1, reads=[cache[rows(p), :], there[0:1]], writes=[back[0:1]])
    all_rows = [cache[0 : p + 1, :]] if seen else []
    s.task("look", 2, reads=all_rows, waits=[(done, 1)], writes=[back[1:2]])
    s.task("done", 0, reads=[back[0:2]])
    return s.table()


MEMORIES = [20_000, 2 << 30]
"""Bytes for some twenty iterations, and for all of them."""


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_race_is_found_although_its_accesses_may_meet_further_apart(memory: int) -> None:
    verdict = verify(_exchange(lambda p: slice(0, p + 1)), memory=memory)
    assert verdict.kind == "race"
    assert "through packets alone" in verdict.message


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("ahead", [1, 3, 5])
def test_accesses_that_meet_only_nearby_are_decided(memory: int, ahead: int) -> None:
    # A row is read some iterations before it is overwritten: an order that packets give.
    assert verify(_exchange(lambda p: slice(p + ahead, p + ahead + 1)), memory=memory).ok
    # The row that was written just before: packets do not make it visible.
    behind = _exchange(lambda p: slice(p, p + ahead))
    assert verify(behind, memory=memory).kind == "race"


def test_what_reaches_further_than_memory_is_not_decided_without_a_race() -> None:
    seen = _exchange(lambda p: slice(p + 1, p + 2), seen=True)
    assert verify(seen).ok
    verdict = verify(seen, memory=MEMORIES[0])
    assert verdict.kind == "resource"
    assert (
        "the verifier cannot decide: accesses that only packets order may meet" in verdict.message
    )
    assert "there is no race within" in verdict.message


def test_the_distance_at_which_queues_still_meet() -> None:
    assert distance(_exchange(lambda p: slice(p + 5, p + 6)), 100) == 1
    assert distance(_exchange(lambda p: slice(p, p + 6)), 100) == 1
    for behind, apart in ((1, 2), (2, 4), (3, 4), (4, 8), (20, 32)):
        table = _exchange(lambda p, n=behind: slice(p - n, p))
        assert distance(table, 100) == apart, behind
        assert distance(table, behind) is None
    assert distance(_exchange(lambda p: slice(p % 4, p % 4 + 1)), 50) is None
    # Row 7 is written once: after 57 iterations at the latest nobody comes again.
    assert distance(_exchange(lambda p: slice(7, 8)), 100) == 64


def _random_exchange(rng: random.Random) -> ScheduleTable:
    """Two or three workers that hand packets round, and read and write rows of one cache."""
    workers = rng.choice([2, 3])
    s = Schedule(workers=workers, iterations=None)
    p = s.scalar("p", 0, rng.choice([12, 20, 30]), rng.choice([1, 1, 1, 2]))
    cache = s.buffer("cache", shape=(60,), dtype="f32", kind="state", initial=True)
    packets = [s.packets(f"packet{i}", (1,)) for i in range(workers)]
    done, counted = s.counter("done"), rng.random() < 0.4

    def rows() -> Region:
        first = rng.choice([p * rng.choice([0, 1, 1]), p // rng.choice([2, 4])]) + rng.randint(0, 6)
        region = cache[first : first + rng.randint(1, 3) if rng.random() < 0.7 else p + 7]
        guarded = rng.random() < 0.25
        return region.when((p - rng.randint(0, 2)) % rng.choice([2, 3])) if guarded else region

    for i in range(workers):
        reads = [packets[i - 1][0:1]] if i else []
        writes = [packets[i][0:1], *([rows()] if i == 0 or rng.random() < 0.3 else [])]
        reads += [rows()] if rng.random() < 0.8 else []
        signals = [(done, 1)] if counted and i == 0 else []
        waits = [(done, 1)] if counted and i == 1 else []
        s.task(f"task{i}", i, reads=reads, writes=writes, signals=signals, waits=waits)
    s.task("end", 0, reads=[packets[-1][0:1]])
    return s.table()


def test_with_less_memory_fewer_schedules_are_decided_but_none_differently() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for seed in range(300):
        table = _random_exchange(random.Random(seed))
        with_all, with_less = verify(table).kind, verify(table, memory=9000).kind
        assert with_less in (with_all, "resource"), f"seed {seed}: {with_less}, not {with_all}"
        kinds[with_all, with_less] += 1
    assert kinds["", ""] > 50
    assert kinds["race", "race"] > 100
    assert 0 < kinds["", "resource"] + kinds["race", "resource"] < 30
