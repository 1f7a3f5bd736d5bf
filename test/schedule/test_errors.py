"""What a verdict says: witnesses with bytes, counts and places, and all errors on request."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from explorer import TooBig, _Launch, _malformed, _starts  # pyright: ignore[reportPrivateUsage]
from generators import program
from program import Program, table_of

from amk.errors import AmkError
from amk.ir.diagnostics import Diagnostic, capture
from amk.ir.module import parse_module
from amk.passes.verify_schedule import check
from amk.schedule import Schedule
from amk.schedule.table import Buffer
from amk.schedule.verify import Bytes, Limits, Verdict, Waiting, verify
from amk.schedule.verify.extent import common, missing, runs


def test_byte_runs_against_sets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1500):
        found = []
        for _ in range(2):
            shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 4)))
            arena = "page" if rng.random() < 0.7 else None
            buffer = Buffer("b", shape, int(rng.integers(1, 4)), "scratch", arena, 5)
            lo = np.array([rng.integers(-1, n) for n in (*shape, 0, 0)], np.int64)
            hi = np.array([rng.integers(0, n + 2) for n in (*shape, 0, 0)], np.int64)
            sides = [range(max(a, 0), min(b, n)) for a, b, n in zip(lo, hi, shape, strict=False)]
            touched: set[int] = set()
            for element in itertools.product(*sides):
                at = int(np.ravel_multi_index(element, shape)) if shape else 0
                first = at * buffer.item_bytes + (5 if arena else 0)
                touched.update(range(first, first + buffer.item_bytes))
            found.append((runs(buffer, lo, hi), touched))
        (one, ones), (two, twos) = found
        assert listed(one) == ones
        assert listed(common(one, two)) == ones & twos
        assert listed(missing(one, two)) == ones - twos


def listed(found: np.ndarray) -> set[int]:
    assert (found[1:, 0] > found[:-1, 1]).all()  # sorted, apart, and joined where they touch
    return {b for first, end in found.tolist() for b in range(first, end)}


def test_a_race_shows_the_bytes_and_the_places() -> None:
    s = Schedule(workers=2)
    a = s.buffer("a", (4, 64), "bf16")
    s.task("left", 0, writes=[a[1:3, 0:8]])
    s.task("right", 1, writes=[a[2:4, 4:64]])
    witness = s.verify().witness
    assert witness.bytes == (Bytes("a", 2 * 128 + 8, 2 * 128 + 16),)
    assert "both touch bytes 264:272 of a" in witness.lines
    assert [text for text, _ in witness.places] == [
        "left writes a[1:3, 0:8]", "right writes a[2:4, 4:64]",
    ]  # fmt: skip
    assert all(where.endswith(":1") and __file__ in where for _, where in witness.places)


def test_aliased_buffers_show_the_bytes_that_they_share() -> None:
    s = Schedule(workers=2)
    a = s.buffer("a", (64,), arena="page", offset=0)
    b = s.buffer("b", (32, 4), "bf16", arena="page", offset=128)
    s.task("one", 0, writes=[a[:]])
    s.task("two", 1, writes=[b[4:8, 1:3]])
    verdict = s.verify()
    assert verdict.witness.bytes == tuple(
        Bytes("page", 128 + 8 * row + 2, 128 + 8 * row + 6) for row in range(4, 8)
    )
    assert "shares bytes with b[4:8, 1:3] (bytes 162:166 of page)" in verdict.message


def test_a_deadlock_shows_counts_and_missing_signals() -> None:
    s = Schedule(workers=3)
    c, d = s.counter("c"), s.counter("d")
    s.task("ready", 0, signals=[(c, 2)])
    s.task("late", 1, waits=[(d, 1)], signals=[(c, 3)])
    s.task("join", 2, waits=[(c, 4)], signals=[(d, 1)])
    witness = s.verify().witness
    assert witness.waits == (Waiting(1, "d", 1, 0, ((2, 1),)), Waiting(2, "c", 4, 2, ((1, 3),)))
    assert witness.run == ((0, 0),)
    assert witness.stuck == ((0, 1), (0, 2))
    assert [text for text, _ in witness.places] == ["late waits", "join waits"]


def test_an_undefined_read_shows_the_bytes_and_who_comes_too_late() -> None:
    s = Schedule(workers=2)
    a = s.buffer("a", (4, 8))
    c = s.counter("c")
    s.task("first", 0, writes=[a[0:2, :]], signals=[(c, 1)])
    s.task("read", 1, reads=[a[:, 0:4]], waits=[(c, 1)])
    s.task("last", 1, writes=[a[2, :]])
    verdict = s.verify()
    assert verdict.kind == "undefined-read"
    assert verdict.witness.bytes == (Bytes("a", 64, 80), Bytes("a", 96, 112))
    assert "last writes a[2:3, 0:8], but runs after read" in verdict.witness.lines
    assert verdict.message.endswith("never written before (bytes 64:80 of a and more)")


def test_a_task_that_writes_after_it_reads() -> None:
    s = Schedule(workers=1)
    a = s.buffer("a", (4,))
    s.task("add", 0, reads=[a[1:3]], writes=[a[1:3]])
    verdict = s.verify()
    assert verdict.kind == "undefined-read"
    assert verdict.witness.lines == (
        "bytes 4:12 of a are not written before add",
        "add writes a[1:3], but after it reads",
    )


def test_an_undefined_read_at_some_iterations_shows_its_bytes() -> None:
    s = Schedule(workers=1, iterations=6)
    a = s.buffer("a", (4,), kind="state")
    s.task("read", 0, reads=[a[2:4].when(s.iteration - 3)])
    s.task("write", 0, writes=[a[s.iteration - 1].when((s.iteration - 3) * (s.iteration.of(1)))])
    verdict = s.verify()
    assert verdict.kind == "undefined-read"
    assert verdict.witness.bytes == (Bytes("a", 8, 16),)
    assert dict(verdict.witness.start)["iter"] == 3


def test_witness_bytes_are_those_of_both_accesses() -> None:
    count = 0
    for seed in range(700):
        made = program(seed)
        verdict = verify(table_of(made), max_skew=2)
        witness = verdict.witness
        if verdict.kind != "race" or made.scalars or not witness.bytes:
            continue
        if any(isinstance(b, str) for t in made.tasks for a in t.accesses
               for b in (*a.lo, *a.hi, a.guard)):  # fmt: skip
            continue
        launch = _Launch(made, {}, 2, 20000)
        (e1, t1), (e2, t2) = witness.pair
        pairs = [
            (a.bytes & b.bytes)
            for a in launch.instances[e1 * len(made.tasks) + t1].touches
            for b in launch.instances[e2 * len(made.tasks) + t2].touches
            if a is not b and (a.access.write or b.access.write)
        ]
        shown = {b for found in witness.bytes for b in range(found.first, found.end)}
        assert shown in [{at for _, at in both} for both in pairs], f"seed {seed}"
        count += 1
    assert count > 20


def faults() -> Schedule:
    """One of everything that can be wrong in one schedule."""
    s = Schedule(workers=3)
    w = s.buffer("w", (4,), kind="constant")
    a, b, gap = s.buffer("a", (4,)), s.buffer("b", (4,)), s.buffer("gap", (4,))
    c = s.counter("c")
    s.task("outside", 0, writes=[a[2:6]])
    s.task("spoil", 0, writes=[w[0]])
    s.task("left", 0, writes=[b[:]])
    s.task("right", 1, writes=[b[1:2]])
    s.task("hole", 1, reads=[gap[0:2]])
    s.task("stuck", 2, waits=[(c, 1)])
    s.task("never", 2, signals=[(c, 1)])
    return s


def kinds(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys(f.kind for f in verdict.errors))


def test_all_errors_are_listed_on_request() -> None:
    verdict = faults().verify(Limits(workers=2), all_errors=True)
    assert kinds(verdict) == [
        "resource", "out-of-bounds", "constant-write", "deadlock", "race", "undefined-read",
    ]  # fmt: skip
    alone = faults().verify(Limits(workers=2))
    assert (verdict.kind, verdict.message, verdict.witness) == (
        alone.kind, alone.message, alone.witness,
    )  # fmt: skip
    assert [f.kind for f in alone.errors] == ["resource"]
    found = {f.kind: f for f in verdict.errors[1:]}
    assert len(found) == len(verdict.errors) - 1
    assert set(found["race"].witness.pair) == {(0, 2), (0, 3)}
    assert found["undefined-read"].task == 4
    assert found["undefined-read"].message.startswith("hole reads gap[0:2]")


def test_a_race_does_not_hide_an_undefined_read_of_other_bytes() -> None:
    s = Schedule(workers=2, iterations=None)
    p = s.scalar("p", 0, 5)
    a, b = s.buffer("a", (5,)), s.buffer("b", (8,))
    s.task("left", 0, writes=[a[p]])
    s.task("right", 1, writes=[a[0]])
    s.task("hole", 1, reads=[b[p : p + 2]], writes=[b[0:1]])
    verdict = s.verify(all_errors=True)
    assert kinds(verdict) == ["race", "undefined-read"]
    s = Schedule(workers=2, iterations=None)
    a, b = s.buffer("a", (5,)), s.buffer("b", (8,))
    s.task("left", 0, writes=[a[1]])
    s.task("right", 1, writes=[a[0:2]])
    s.task("hole", 1, reads=[b[0:3]], writes=[b[0:1]])
    verdict = s.verify(all_errors=True)
    assert kinds(verdict) == ["unbounded-skew", "race", "undefined-read"]
    assert "hole reads b[0:3]" in verdict.errors[-1].message


def test_all_errors_are_faults() -> None:
    """Every kind that is listed is found by the explorer, too; the first one stays the first."""
    seen: dict[str, int] = {}
    for seed in range(700):
        made = program(seed)
        table = table_of(made)
        verdict, alone = verify(table, max_skew=2, all_errors=True), verify(table, max_skew=2)
        assert (verdict.kind, verdict.message) == (alone.kind, alone.message)
        if alone.ok or alone.kind == "malformed" or _odd_packets(made):
            continue
        extra = {f.kind for f in verdict.errors} - {alone.kind}
        if not extra:
            continue
        try:
            truth = _all_kinds(made)
        except TooBig:
            continue
        assert extra <= truth, f"seed {seed}: {extra}, not {truth}"
        for kind in extra:
            seen[kind] = seen.get(kind, 0) + 1
    assert min(seen.get(k, 0) for k in ("deadlock", "race", "undefined-read")) > 3, seen


def _odd_packets(made: Program) -> bool:
    """Packets outside of their buffer: cut off by one, waited for by the other."""
    return any(
        a.use >= 0 and (isinstance(a.hi[0], str) or a.hi[0] > made.buffers[a.buffer].shape[0])
        for t in made.tasks for a in t.accesses
    )  # fmt: skip


def _all_kinds(made: Program) -> set[str]:
    found: set[str] = set()
    assert not _malformed(made)
    for values in _starts(made):
        launch = _Launch(made, values, 2, 20000)
        launch._written_twice()
        for kind, check_kind in (
            ("out-of-bounds", launch._outside), ("constant-write", launch._constant_write),
            ("deadlock", launch._stuck), ("", lambda run=launch: _reach_all(run)),
            ("unbounded-skew", launch._runs_free),
            ("race", launch._races), ("undefined-read", launch._undefined),
        ):  # fmt: skip
            if check_kind():
                found.add(kind)
    return found


def _reach_all(launch: _Launch) -> None:
    """Goes on where the explorer stops at the first deadlock: which tasks can run without which."""
    full = (1 << len(launch.instances)) - 1
    seen, stack = {0}, [0]
    while stack:
        done = stack.pop()
        for number in launch._enabled(done):
            launch.not_before[number] |= full & ~done & ~(1 << number)
            after = done | 1 << number
            if after not in seen:
                if len(seen) > launch.limit:
                    raise TooBig
                seen.add(after)
                stack.append(after)


def test_the_pass_lists_all_errors_with_their_places() -> None:
    text = """task.schedule @s attributes {workers = 2 : i64, iterations = 1 : i64} {
  task.buffer @a scratch : memref<4xf32>
  task.buffer @w constant : memref<4xf32>
  task.task @left worker 0 args [out @a[0 : 4], out @w[0 : 1]]
  task.task @right worker 1 args [out @a[0 : 5]]
}"""
    reported: list[AmkError] = []
    with capture(reported.append), pytest.raises(Diagnostic) as last:
        check(parse_module(text, "s.mlir"), all_errors=True)
    heads = [str(AmkError.diagnostic(e)) for e in (*reported, last.value)]
    assert [h[:40] for h in heads] == [
        "s.mlir:5:3: error: out-of-bounds: right ",
        "s.mlir:4:3: error: constant-write: left ",
        "s.mlir:5:3: error: race: left writes and",
    ]
    notes = [note.line() for note in last.value.notes]
    assert "s.mlir:4:3: note: left writes a[0:4]" in notes
    assert "note: both touch bytes 0:16 of a" in notes


def test_a_stride_touches_nothing_between() -> None:
    def build(offset: int) -> Verdict:
        s = Schedule(workers=2)
        a = s.buffer("a", (8, 16), kind="state", initial=True)
        s.task("even", 0, writes=[a[::2, 3:7]])
        s.task("odd", 1, writes=[a[offset::2, 3:7]])
        return s.verify()

    assert build(1).ok
    verdict = build(2)
    assert verdict.kind == "race"
    assert "a[2:3, 3:7]" in verdict.message


def test_strided_reads_are_covered_exactly() -> None:
    def build(stop: int) -> Verdict:
        s = Schedule(workers=1)
        p = s.scalar("p", 0, 3)
        a = s.buffer("a", (9, 12))
        s.task("write", 0, writes=[a[p : p + 6 : 3, 0:12:4]])
        s.task("read", 0, reads=[a[p, 0:stop:4], a[p + 3, 4]])
        return s.verify()

    assert build(12).ok
    assert build(9).ok
    verdict = build(13)
    assert verdict.kind == "out-of-bounds"
    assert "read reads a[p:p + 1, 12:13]" in verdict.message


def test_steps_that_mean_nothing_are_refused() -> None:
    s = Schedule(workers=1)
    p = s.scalar("p", 0, 3)
    a = s.buffer("a", (8,))
    with pytest.raises(AmkError, match="buffer 'a' has step -1; it must be positive"):
        a[::-1]
    with pytest.raises(AmkError, match="has step 2 and 'p' elements"):
        s.task("t", reads=[a[0:p:2]])
