"""More of the named weak points of other validators; most are in test_schedule.py."""

from __future__ import annotations

from itertools import product

import pytest
from explorer import judge
from program import Access, Buffer, Program, Task, table_of

from amk.schedule import Schedule
from amk.schedule.verify import Verdict, verify


@pytest.mark.parametrize(
    ("offset", "kind"), [(0, "race"), (4, "race"), (60, "race"), (64, ""), (-1, "")]
)
def test_aliasing_by_offset(offset: int, kind: str) -> None:
    """Two buffers whose bytes overlap by `offset` (-1: in two arenas), in no order."""
    s = Schedule(workers=2)
    a = s.buffer("a", (16,), arena="p")
    b = s.buffer("b", (16,), arena="p" if offset >= 0 else "q", offset=max(offset, 0))
    s.task("one", 0, writes=[a[:]])
    s.task("two", 1, writes=[b[:]])
    verdict = s.verify()
    assert verdict.kind == kind
    if kind:
        assert "a[0:16], which shares bytes with b[0:16]" in verdict.message


def test_aliased_views_of_other_shapes() -> None:
    """A row of a matrix and a vector at the offset of that row are the same bytes."""

    def build(row: int) -> Verdict:
        s = Schedule(workers=2)
        matrix = s.buffer("matrix", (4, 8), arena="p")
        vector = s.buffer("vector", (8,), arena="p", offset=64)
        s.task("fill", 0, writes=[matrix[row, :]])
        s.task("use", 1, writes=[vector[:]])
        return s.verify()

    assert build(2).kind == "race"
    assert build(1).ok


def test_what_another_buffer_wrote_is_not_lost_by_order() -> None:
    """Bytes of an arena are defined by a write through either buffer."""
    s = Schedule(workers=1)
    a, b = s.buffer("a", (8,), arena="p"), s.buffer("b", (8,), arena="p", offset=16)
    s.task("write", 0, writes=[a[:]])
    s.task("read", 0, reads=[b[0:4]])
    assert s.verify().ok
    s.task("further", 0, reads=[b[0:5]])
    assert s.verify().kind == "undefined-read"


def test_missing_tile() -> None:
    """One of eight tiles is never written, and the buffer is read as a whole."""

    def build(missing: int) -> Verdict:
        s = Schedule(workers=4)
        a, c = s.buffer("a", (32, 4)), s.counter("c")
        for i in range(8):
            writes = [] if i == missing else [a[4 * i : 4 * i + 4, :]]
            s.task("tile", i % 4, index=[i], writes=writes, signals=[(c, 1)])
        s.task("all", 0, reads=[a[:, :]], waits=[(c, 8)])
        return s.verify()

    assert build(-1).ok
    assert {build(i).kind for i in range(8)} == {"undefined-read"}


def test_writes_to_inputs() -> None:
    s = Schedule(workers=1)
    x = s.buffer("x", (4,), kind="input")
    s.task("read", 0, reads=[x[:]])
    assert s.verify().ok
    s.task("write", 0, writes=[x[3]])
    assert s.verify().kind == "constant-write"


def test_writes_to_constants_by_another_buffer() -> None:
    s = Schedule(workers=1)
    s.buffer("w", (4,), kind="constant", arena="p")
    a = s.buffer("a", (4,), arena="p", offset=8)
    s.task("high", 0, writes=[a[2:4]])
    assert s.verify().ok
    s.task("low", 0, writes=[a[1:3]])
    assert s.verify().kind == "constant-write"


@pytest.mark.parametrize(("iterations", "hold", "kind"), [
    (1, False, ""), (2, False, "race"), (2, True, ""), (None, False, "race"), (None, True, ""),
])  # fmt: skip
def test_hazard_from_one_iteration_to_the_next(
    iterations: int | None, hold: bool, kind: str
) -> None:
    """The next token's producer overwrites what a slow reader of this token still reads."""
    s = Schedule(workers=2, iterations=iterations)
    x = s.buffer("x", (8,), kind="state")
    full, begun, free = s.counter("full"), s.counter("begun"), s.counter("free")
    waits = [(free, 0)] if hold else [(begun, 0)]
    s.task("produce", 0, writes=[x[:]], signals=[(full, 1)], waits=waits)
    s.task("begin", 1, signals=[(begun, 1)])
    s.task("consume", 1, reads=[x[:]], waits=[(full, 1)], signals=[(free, 1)])
    verdict = s.verify()
    assert verdict.kind == kind
    if kind:
        assert "produce of the next iteration" in verdict.message


def owners(splits: int, capacity: int, change: dict[str, int]) -> Program:
    """A cache whose rows are owned by residue; `change` is added to one of its bounds."""
    rows = -(-capacity // splits)
    tasks = []
    for split in range(splits):
        guard = f"(p - {split} + {change.get('guard', 0)}) % {splits}"
        old = f"(p + {splits - 1 - split}) // {splits} + {change.get('old hi', 0)}"
        low, high = (f"p // {splits} + {change.get(f'new {end}', 0)}" for end in ("lo", "hi"))
        accesses = [
            Access(0, False, (split, change.get("old lo", 0)), (split + 1, old)),
            Access(0, True, (split, low), (split + 1, f"{high} + 1"), guard),
            Access(0, False, (split, low), (split + 1, f"{high} + 1"), guard),
        ]
        tasks.append(Task(split, accesses=accesses, signals=[(0, 1)], waits=[(0, 0)]))
    return Program(
        tasks, [Buffer((splits, rows), "state", initial=True)], 1, None, [("p", 0, capacity, 1)]
    )


@pytest.mark.parametrize("bound", ["", "old lo", "old hi", "new lo", "new hi", "guard"])
def test_off_by_one_in_each_bound(bound: str) -> None:
    """All small capacities and numbers of owners: position 0, the last one, wrap-around."""
    kinds = set()
    for splits, capacity, step in product((1, 2, 3), range(1, 8), (-1, 1)):
        program = owners(splits, capacity, {bound: step})
        verdict = verify(table_of(program), max_skew=2)
        assert verdict.kind == judge(program, 2), (splits, capacity, step, verdict.message)
        kinds.add(verdict.kind)
    # Another owner may write its own row just as well; all else leaves the buffer somewhere.
    assert kinds == ({""} if bound in ("", "guard") else {"", "out-of-bounds"})
