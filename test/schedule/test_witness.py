"""The `task` interpreter replays witnesses: what they claim really happens (see `replay`).

AMK_WITNESSES asks for more programs and mutants; bench/verifier_witnesses.py replays many more in
several processes.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from bases import small
from generators import program
from mutants import mutate
from program import table_of
from replay import NotHeldError, confirmed, for_dialect, shown

from amk.schedule import Schedule
from amk.schedule.verify import Witness, verify

SEEDS = int(os.environ.get("AMK_WITNESSES", "800"))


def test_witnesses_of_generated_programs() -> None:
    seen = Counter(shown(for_dialect(table_of(program(seed))), max_skew=2) for seed in range(SEEDS))
    for kind in ("deadlock: stuck", "race: two results", "race: lost packet", "race: late write",
                 "undefined-read: unwritten bytes"):  # fmt: skip
        assert seen[kind] > 5, seen
    assert sum(n for kind, n in seen.items() if "not replayed" in kind) < SEEDS // 20, seen


def test_witnesses_of_mutants_of_lowerings() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS // 8):
        rng = random.Random(seed)
        seen[shown(for_dialect(mutate(rng.choice(small()), rng).table))] += 1
    faults = {kind: n for kind, n in seen.items() if kind not in ("", "other")}
    assert {"deadlock: stuck", "undefined-read: unwritten bytes"} <= faults.keys()
    assert any(kind.startswith("race: ") for kind in faults)


def handshake(threshold: int) -> Schedule:
    s = Schedule(workers=3)
    a, c = s.buffer("a", (2,)), s.counter("c")
    s.task("one", 0, writes=[a[0]], signals=[(c, 1)])
    s.task("two", 1, writes=[a[1]], signals=[(c, 1)])
    s.task("use", 2, reads=[a[:]], waits=[(c, threshold)])
    return s


def test_a_wrong_witness_is_noticed() -> None:
    """The replay of a race that is none, and of a race with too short a run."""
    verdict = verify(handshake(1).table())
    assert confirmed(handshake(1).table(), verdict) == "two results"
    with pytest.raises(AssertionError):
        confirmed(handshake(2).table(), verdict)
    witness = verdict.witness
    short = Witness(witness.lines, (), witness.pair, (), witness.start)
    with pytest.raises(AssertionError):
        confirmed(handshake(1).table(), type(verdict)(False, "race", verdict.message, short))


def test_a_deadlock_that_is_none_is_noticed() -> None:
    s = Schedule(workers=2)
    c, d = s.counter("c"), s.counter("d")
    s.task("a", 0, waits=[(c, 1)], signals=[(d, 1)])
    s.task("b", 1, waits=[(d, 1)], signals=[(c, 1)])
    verdict = s.verify()
    assert confirmed(s.table(), verdict) == "stuck"
    t = Schedule(workers=2)
    c, d = t.counter("c"), t.counter("d")
    t.task("a", 0, signals=[(d, 1)])
    t.task("b", 1, waits=[(d, 1)], signals=[(c, 1)])
    with pytest.raises(AssertionError):
        confirmed(t.table(), verdict)


def test_packets_whose_uses_are_out_of_order_are_not_replayed() -> None:
    s = Schedule(workers=2)
    x = s.packets("x", (1,), uses=2)
    a = s.buffer("a", (1,))
    s.task("late", 0, writes=[x[0].use(1)])
    s.task("early", 0, writes=[x[0].use(0)])
    s.task("one", 0, writes=[a[:]])
    s.task("two", 1, writes=[a[:]])
    verdict = s.verify()
    assert verdict.kind == "race"
    with pytest.raises(NotHeldError, match="uses are out of order"):
        confirmed(s.table(), verdict)
