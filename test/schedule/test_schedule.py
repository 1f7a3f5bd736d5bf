"""The Python builder, and the named weak points of other validators."""

from __future__ import annotations

import pytest

from amk.errors import AmkError
from amk.schedule import Schedule
from amk.schedule.verify import Limits, Verdict


def handshake(iterations: int | None, hold: bool) -> Verdict:
    s = Schedule(workers=2, iterations=iterations)
    a = s.buffer("a", shape=(4, 64), dtype="f32", kind="scratch")
    c, d = s.counter("c"), s.counter("d")
    s.task(
        "produce", worker=0, writes=[a[0:2, :]], signals=[(c, 1)], waits=[(d, 0)] if hold else []
    )
    s.task("consume", worker=1, reads=[a[0:2, :]], waits=[(c, 1)], signals=[(d, 1)] if hold else [])
    return s.verify()


def test_example_once() -> None:
    verdict = handshake(1, hold=False)
    assert verdict.ok
    assert verdict.kind == verdict.message == ""


def test_example_any_number_runs_free() -> None:
    verdict = handshake(None, hold=False)
    assert verdict.kind == "unbounded-skew"
    assert "worker 0 runs free" in verdict.message
    assert "produce" in verdict.message


def test_example_any_number_held_back() -> None:
    assert handshake(None, hold=True).ok


def test_two_iterations_are_not_enough() -> None:
    """W0 runs ahead and supplies all four signals from the fourth iteration on."""
    s = Schedule(workers=3, iterations=None)
    a = s.buffer("a", (4,), kind="state", initial=True)
    c = s.counter("c")
    s.task("lone", 0, writes=[a[0]], signals=[(c, 1)])
    for i in range(3):
        s.task(f"tile{i}", 1, writes=[a[i + 1]], signals=[(c, 1)])
    s.task("join", 2, reads=[a[:]], waits=[(c, 4)])
    verdict = s.verify()
    assert verdict.kind == "unbounded-skew"
    assert "lone" in verdict.message or "tile0" in verdict.message


def test_cross_worker_queue_deadlock() -> None:
    s = Schedule(workers=2)
    c, d = s.counter("c"), s.counter("d")
    s.task("a0", 0, waits=[(d, 1)])
    s.task("a1", 0, signals=[(c, 1)])
    s.task("b0", 1, waits=[(c, 1)])
    s.task("b1", 1, signals=[(d, 1)])
    verdict = s.verify()
    assert verdict.kind == "deadlock"
    assert verdict.message == (
        "a0 waits for 'd' >= 1, which reaches 0: b1 never runs (4 of 4 tasks never run)"
    )
    assert verdict.witness.stuck == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert "b0 waits for 'c' >= 1, which reaches 0: a1 never runs" in verdict.witness.lines


def tiles(read_hi: int, second_lo: int, rows: int = 4, kind: str = "scratch") -> Verdict:
    s = Schedule(workers=3)
    a = s.buffer("a", (rows, 8), kind=kind)
    c = s.counter("c")
    s.task("left", 0, writes=[a[0:2, :]], signals=[(c, 1)])
    s.task("right", 1, writes=[a[second_lo:4, :]], signals=[(c, 1)])
    s.task("use", 2, reads=[a[0:read_hi, :]], waits=[(c, 2)])
    return s.verify()


def test_tiles_are_accepted() -> None:
    assert tiles(4, 2).ok


def test_tile_gap() -> None:
    verdict = tiles(4, 3)
    assert verdict.kind == "undefined-read"
    assert "use reads a[0:4, 0:8]" in verdict.message


def test_tile_out_of_bounds() -> None:
    verdict = tiles(5, 2)
    assert verdict.kind == "out-of-bounds"
    assert verdict.message == "use reads a[0:5, 0:8], outside of its shape 4x8"
    assert verdict.errors[0].location.endswith(":1")


def test_row_tiles_that_overlap() -> None:
    verdict = tiles(4, 1)
    assert verdict.kind == "race"
    assert "left writes and right writes a[1:2, 0:8] in no fixed order" in verdict.message
    assert verdict.witness.pair == ((0, 0), (0, 1))


def test_writes_to_constants() -> None:
    verdict = tiles(4, 2, kind="constant")
    assert verdict.kind == "constant-write"
    assert verdict.message == "left writes a[0:2, 0:8], but 'a' is a constant"


@pytest.mark.parametrize(
    ("capacity", "off", "kind"),
    [(1, 0, ""), (2, 0, ""), (3, 0, ""), (4, 0, ""), (7, 0, ""), (2, 1, "out-of-bounds"),
     (4, 1, "out-of-bounds"), (40, 1, "out-of-bounds")],
)  # fmt: skip
def test_cache_out_of_bounds(capacity: int, off: int, kind: str) -> None:
    """Rows are owned by residue; every start, and an off-by-one in the last row."""
    owners = 2
    s = Schedule(workers=owners, iterations=None)
    pos = s.scalar("pos", 0, capacity)
    rows = -(-capacity // owners)
    cache = s.buffer("cache", (owners, rows, 4), kind="state", initial=True)
    for i in range(owners):
        old = cache[i, 0 : (pos + owners - 1 - i) // owners + off, :]
        new = cache[i, pos // owners, :].when((pos - i) % owners)
        done = s.counter(f"done{i}")
        s.task("attend", i, reads=[old], writes=[new], index=[i], signals=[(done, 1)])
    verdict = s.verify()
    if kind:
        assert verdict.kind == kind
        assert "attend[" in verdict.message
        assert "pos = " in verdict.message
        return
    # Nothing holds the owners together, so only long launches of several owners run free.
    assert verdict.kind in ("", "unbounded-skew")


def test_more_than_8000_tasks() -> None:
    def build(last_wait: int) -> Verdict:
        s = Schedule(workers=8)
        a = s.buffer("a", (9000,))
        c = s.counter("c")
        for i in range(9000):
            s.task("tile", i % 8, writes=[a[i]], signals=[(c, 1)], index=[i])
        s.task("sum", None, reads=[a[:]], waits=[(c, last_wait)])
        return s.verify()

    assert build(9000).ok
    verdict = build(8999)
    assert verdict.kind == "race"
    assert "sum reads a[" in verdict.message


@pytest.mark.parametrize(
    ("second_offset", "ordered", "kind"),
    [(256, False, ""), (128, False, "race"), (128, True, ""), (0, True, "")],
)
def test_page_reuse(second_offset: int, ordered: bool, kind: str) -> None:
    """Two buffers in one arena: too small a distance, with and without an order."""
    s = Schedule(workers=2)
    a = s.buffer("a", (64,), arena="page", offset=0)
    b = s.buffer("b", (64,), arena="page", offset=second_offset)
    c = s.counter("c")
    s.task("one", 0, writes=[a[:]])
    s.task("read_one", 0, reads=[a[:]], signals=[(c, 1)])
    s.task("two", 1, writes=[b[:]], waits=[(c, 1)] if ordered else [])
    s.task("read_two", 1, reads=[b[:]])
    verdict = s.verify()
    assert verdict.kind == kind
    if kind:
        assert "shares bytes with" in verdict.message


def test_in_place_accumulation_across_iterations() -> None:
    """Two workers add to one sum; ordered inside an iteration, not from one to the next."""

    def build(close: bool) -> Verdict:
        s = Schedule(workers=2, iterations=2)
        total = s.buffer("total", (1,), kind="state", initial=True)
        c, d = s.counter("c"), s.counter("d")
        first = [(d, 0)] if close else []
        s.task("add0", 0, reads=[total[:]], writes=[total[:]], signals=[(c, 1)], waits=first)
        s.task("add1", 1, reads=[total[:]], writes=[total[:]], waits=[(c, 1)], signals=[(d, 1)])
        return s.verify()

    assert build(True).ok
    verdict = build(False)
    assert verdict.kind == "race"
    assert "add0 of the next iteration" in verdict.message


def test_same_worker_program_order_is_safe() -> None:
    s = Schedule(workers=1, iterations=None)
    a = s.buffer("a", (4,))
    s.task("write", 0, writes=[a[:]])
    s.task("read", 0, reads=[a[:]])
    assert s.verify().ok


def test_partial_threshold_on_ordered_producers_is_safe() -> None:
    s = Schedule(workers=2)
    a = s.buffer("a", (4,))
    c = s.counter("c")
    for i in range(4):
        s.task("produce", 0, writes=[a[i]], signals=[(c, 1)], index=[i])
    for i in range(4):
        s.task("consume", 1, reads=[a[i]], waits=[(c, i + 1)], index=[i])
    assert s.verify().ok


def test_partial_threshold_on_unordered_producers_is_a_race() -> None:
    s = Schedule(workers=3)
    a = s.buffer("a", (2,))
    c = s.counter("c")
    s.task("p0", 0, writes=[a[0]], signals=[(c, 1)])
    s.task("p1", 1, writes=[a[1]], signals=[(c, 1)])
    s.task("use", 2, reads=[a[0]], waits=[(c, 1)])
    assert s.verify().kind == "race"


def test_disjoint_tiles_under_two_counters_are_safe() -> None:
    s = Schedule(workers=4)
    a = s.buffer("a", (4, 4))
    c, d = s.counter("c"), s.counter("d")
    s.task("p0", 0, writes=[a[0:2, 0:2]], signals=[(c, 1)])
    s.task("p1", 1, writes=[a[0:2, 2:4]], signals=[(d, 1)])
    s.task("u0", 2, reads=[a[0:2, 0:2]], waits=[(c, 1)])
    s.task("u1", 3, reads=[a[0:2, 2:4]], waits=[(d, 1)])
    assert s.verify().ok


def test_in_place_residual_is_safe() -> None:
    s = Schedule(workers=2, iterations=None)
    h = s.buffer("h", (2, 4), kind="state", initial=True)
    x = [s.packets(f"x{layer}", (2,)) for layer in range(2)]
    for layer in range(2):
        for w in range(2):
            before = [x[layer - 1][:]] if layer else []
            s.task("layer", w, reads=[h[w, :], *before], writes=[h[w, :], x[layer][w]],
                   index=[layer, w])  # fmt: skip
    for w in range(2):
        s.task("end", w, reads=[x[1][:]], index=[w])
    assert s.verify().ok


def test_double_buffering_is_safe() -> None:
    s = Schedule(workers=2, iterations=None)
    pages = s.buffer("pages", (2, 8), kind="state", initial=True)
    full, free = s.counter("full"), s.counter("free")
    page = s.iteration % 2
    s.task("load", 0, writes=[pages[page, :]], signals=[(full, 1)], waits=[(free, -1)])
    s.task("use", 1, reads=[pages[page, :]], waits=[(full, 1)], signals=[(free, 1)])
    assert s.verify().ok


def test_single_buffering_with_that_lag_is_a_race() -> None:
    s = Schedule(workers=2, iterations=None)
    page = s.buffer("page", (8,), kind="state", initial=True)
    full, free = s.counter("full"), s.counter("free")
    s.task("load", 0, writes=[page[:]], signals=[(full, 1)], waits=[(free, -1)])
    s.task("use", 1, reads=[page[:]], waits=[(full, 1)], signals=[(free, 1)])
    assert s.verify().kind == "race"


def test_cache_row_written_while_older_rows_are_read_is_safe() -> None:
    s = Schedule(workers=2)
    pos = s.scalar("pos", 0, 8)
    cache = s.buffer("cache", (8, 4), kind="state", initial=True)
    s.task("append", 0, writes=[cache[pos, :]])
    s.task("attend", 1, reads=[cache[0:pos, :]])
    assert s.verify().ok


def test_cache_row_read_one_too_far_is_a_race() -> None:
    s = Schedule(workers=2)
    pos = s.scalar("pos", 0, 8)
    cache = s.buffer("cache", (8, 4), kind="state", initial=True)
    s.task("append", 0, writes=[cache[pos, :]])
    s.task("attend", 1, reads=[cache[0 : pos + 1, :]])
    verdict = s.verify()
    assert verdict.kind == "race"
    assert "cache[0:1, 0:4] at pos = 0" in verdict.message


def test_throttled_tiles_are_safe() -> None:
    """A ring of two slots: tile i waits until tile i - 2 was consumed."""
    s = Schedule(workers=1)
    ring = s.buffer("ring", (2, 16))
    full, free = s.counter("full"), s.counter("free")
    for i in range(6):
        s.task("copy", 0, agent="stream", writes=[ring[i % 2, :]], signals=[(full, 1)],
               waits=[(free, i - 1)], index=[i])  # fmt: skip
        s.task("consume", 0, reads=[ring[i % 2, :]], waits=[(full, i + 1)], signals=[(free, 1)],
               index=[i])  # fmt: skip
    assert s.verify().ok


def test_packets_make_only_their_payload_visible() -> None:
    s = Schedule(workers=2)
    a, x = s.buffer("a", (4,)), s.packets("x", (1,))
    s.task("produce", 0, writes=[a[:], x[:]])
    s.task("consume", 1, reads=[x[:], a[:]])
    verdict = s.verify()
    assert verdict.kind == "race"
    assert "packets alone" in verdict.message
    assert verdict.witness.run == ((0, 0),)


def test_one_slot_for_every_layer_is_a_lost_packet() -> None:
    """Worker 0 may write its packet of layer 1 before worker 1 has polled that of layer 0."""
    s = Schedule(workers=2)
    x = s.packets("x", (2,), uses=2)
    for w in range(2):
        s.task("first", w, writes=[x[w].use(0)], index=[w])
        s.task("second", w, reads=[x[:].use(0)], writes=[x[w].use(1)], index=[w])
    verdict = s.verify()
    assert verdict.kind == "race"
    assert verdict.message.startswith("lost packet: second[")


def test_lost_packet() -> None:
    s = Schedule(workers=2)
    x = s.packets("x", (1,), uses=2)
    s.task("first", 0, writes=[x[0].use(0)])
    s.task("second", 0, writes=[x[0].use(1)])
    s.task("poll", 1, reads=[x[0].use(0)])
    verdict = s.verify()
    assert verdict.kind == "race"
    assert verdict.message == (
        "lost packet: second may overwrite x[0:1] before poll has polled use 0"
    )


def test_visibility_of_joint_choices() -> None:
    """Each of two suppliers can be reached without the write, but never both in one execution."""

    def build(need: int) -> Verdict:
        s = Schedule(workers=1)
        a, x = s.buffer("a", (1,)), s.packets("x", (3,))
        d1, d2, c = s.counter("d1"), s.counter("d2"), s.counter("c")
        s.task("write", 0, writes=[a[0], x[0]])
        s.task("relay", 0, signals=[(d1, 1), (d2, 1), (c, 2)])
        s.task("x1", None, waits=[(d1, 1)], writes=[x[1]], signals=[(c, 1)])
        s.task("x2", None, waits=[(d2, 1)], writes=[x[2]], signals=[(c, 1)])
        s.task("p1", None, reads=[x[2]], signals=[(d1, 1)])
        s.task("p2", None, reads=[x[1]], signals=[(d2, 1)])
        s.task("read", None, reads=[x[0], a[0]], waits=[(c, need)])
        return s.verify()

    assert build(2).ok
    assert build(1).kind == "race"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"waits": 3}, "t waits for 'c' >= 3, but one iteration signals only 2"),
        ({"worker": 5}, "worker 5 does not exist; there are 2 workers"),
        ({"rank": True}, "t reads a[0:1], which gives 1 dimensions, but the buffer has 2"),
        ({"use": 4}, "t reads x[0:1], which names use 4; the packets have uses 0 to 0"),
        ({"amount": 0}, "t signals 0 to 'c'; an amount is at least 1"),
    ],
)
def test_malformed(change: dict[str, int], message: str) -> None:
    s = Schedule(workers=2)
    a, x = s.buffer("a", (4, 4), kind="input"), s.packets("x", (1,))
    c = s.counter("c")
    s.task("s", 0, signals=[(c, 2)], writes=[x[0]])
    s.task(
        "t",
        change.get("worker", 1),
        waits=[(c, change.get("waits", 1))],
        signals=[(c, change["amount"])] if "amount" in change else [],
        reads=[a[0] if "rank" in change else a[0, 0], x[0].use(change.get("use", 0))],
    )
    verdict = s.verify()
    assert verdict.kind == "malformed"
    assert verdict.message == message


@pytest.mark.parametrize("others", [0, 300])
def test_a_name_is_declared_once(others: int) -> None:
    s = Schedule(workers=1)
    for number in range(others):
        s.counter(f"c{number}")
    s.counter("c")
    s.counter("c")
    s.task("t")
    verdict = s.verify()
    assert verdict.kind == "malformed"
    assert verdict.message == "counter 'c' is declared twice"


def test_handles_of_another_schedule_are_refused() -> None:
    other = Schedule(workers=1).buffer("a", (1,))
    with pytest.raises(AmkError, match="belongs to another schedule"):
        Schedule(workers=1).task("t", reads=[other[0]])


def test_resources() -> None:
    s = Schedule(workers=4)
    h = s.buffer("h", (4, 1024), space="shared")
    s.task("t", 0, writes=[h[0, :]])
    assert s.verify(Limits(workers=4, shared_bytes=4096)).ok
    verdict = s.verify(Limits(workers=2, shared_bytes=100, name="a small chip"))
    assert verdict.kind == "resource"
    assert "workers=2" in verdict.message
    assert len(verdict.errors) == 2
    s.task("u", 1, writes=[h[2, :]])
    assert s.verify().kind == "malformed"


@pytest.mark.parametrize(("direct", "kind"), [(True, ""), (False, "race")])
def test_plain_data_that_is_read_many_iterations_later(direct: bool, kind: str) -> None:
    """Only packets order the workers, and a row is read five iterations after it was written."""
    s = Schedule(workers=2, iterations=None)
    pos = s.scalar("pos", 0, 40)
    rows = s.buffer("rows", (6, 4), kind="state", initial=True)
    x, y, z = s.packets("x", (1,)), s.packets("y", (1,)), s.packets("z", (1,))
    write = rows[pos % 6, :]
    late = rows[(pos + 1) % 6, :]
    reader = 0 if direct else 1
    s.task("write", 0, writes=[write, x[:]])
    s.task("read", reader, reads=[late, x[:]], writes=[y[:]])
    s.task("other", 1 - reader, reads=[y[:]], writes=[z[:]])
    s.task("end", 0, reads=[z[:]])
    verdict = s.verify()
    assert verdict.kind == kind
