"""Schedules of the Python builder as text of explicit tasks, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import test_schedule
from generators import program
from program import table_of

from amk.errors import AmkError
from amk.ir.explicit import print_schedule, read_schedule
from amk.schedule import Schedule, ScheduleTable
from amk.schedule.table import SINGLE
from amk.schedule.verify import verify


def meaning(table: ScheduleTable) -> dict[str, Any]:
    """What a table says, without the numbers of its expressions and the places it comes from."""
    exprs = table.expressions

    def guard(number: int) -> str:
        return str(exprs[number]) if number >= 0 else ""

    def rows(column: str) -> list[tuple[int, ...]]:
        names = {"wait": "threshold", "signal": "amount"}
        columns = (f"{column}_task", f"{column}_counter", f"{column}_{names[column]}")
        found = zip(*(getattr(table, c).tolist() for c in columns), strict=True)
        return sorted(found, key=lambda row: row[0])

    accesses = [
        (
            int(table.access_task[row]), int(table.access_buffer[row]),
            bool(table.access_write[row]), table.box_text(row).partition("[")[2],
            guard(table.access_guard[row]), int(table.access_use[row]),
        )
        for row in range(len(table.access_task))
    ]  # fmt: skip
    queues = [table.queues[q] for q in table.task_queue]
    alone = [int(q) for q, queue in zip(table.task_queue, queues, strict=True)
             if queue.agent == SINGLE]  # fmt: skip
    assert len(alone) == len(set(alone))
    return {
        "loop": (table.name, table.workers, table.iterations, table.scalars),
        "buffers": [
            replace(b, name="", location="", offset=b.offset if b.arena else 0)
            for b in table.buffers
        ],
        "counters": len(table.counters),
        "queues": queues,
        "guards": [guard(g) for g in table.task_guard],
        "waits": rows("wait"),
        "signals": rows("signal"),
        "accesses": sorted(accesses, key=lambda row: row[0]),
    }


def check_round_trip(table: ScheduleTable) -> ScheduleTable:
    text = print_schedule(table)
    back = read_schedule(text)
    assert meaning(back) == meaning(table)
    if table.n_tasks < 1000:
        assert print_schedule(back) == text
    return back


NAMED = [
    name
    for name in vars(test_schedule)
    if name.startswith("test_") and not hasattr(vars(test_schedule)[name], "pytestmark")
]


@pytest.mark.parametrize("name", NAMED)
def test_named_schedules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every schedule that a test of test_schedule.py verifies survives as text."""
    tables: list[ScheduleTable] = []
    verify_schedule = Schedule.verify

    def record(self: Schedule, *arguments: Any) -> Any:
        tables.append(self.table())
        return verify_schedule(self, *arguments)

    monkeypatch.setattr(Schedule, "verify", record)
    getattr(test_schedule, name)()
    for table in tables:
        check_round_trip(table)


def test_random_programs_keep_their_verdict() -> None:
    count = 0
    for seed in range(150):
        made = program(seed)
        if any(b.item not in (2, 4) for b in made.buffers if not b.packet):
            for buffer in made.buffers:
                buffer.item, buffer.offset = 4, buffer.offset * 4
        for buffer in made.buffers:
            buffer.item = 8 if buffer.packet else buffer.item
        table = table_of(made)
        verdict, back = verify(table), verify(check_round_trip(table))
        assert (back.ok, back.kind) == (verdict.ok, verdict.kind)
        count += verdict.ok
    assert count


def test_text_and_names() -> None:
    s = Schedule(workers=2, iterations=None, name="two")
    pos = s.scalar("pos", 0, 8)
    a, c = s.buffer("a b", (8, 4)), s.counter("c")
    x = s.packets("c", (2,), uses=2)
    s.task("fill", 0, index=[3], writes=[a[0:2, :], x[1].use(1)], signals=[(c, 1)])
    s.task("fill", None, index=[3], reads=[a[pos, 0:4].when(pos % 2)], waits=[(c, 1)], guard=pos)
    lines = print_schedule(s).splitlines()
    assert [line.strip() for line in lines if "task.buffer" in line or "fill" in line] == [
        '"'.join(["task.buffer @", "a b", " scratch : memref<8x4xf32>"]),
        'task.buffer @c scratch uses 2 : memref<2xf32, "packet">',
        'task.task @"fill[3]" worker 0 args [',
        'task.task @"fill[3]_2" args [',
    ]
    assert "  task.counter @c_2" in "\n".join(lines)
    table = check_round_trip(s.table())
    assert [table.task_name(t) for t in range(2)] == ["fill[3]", "fill[3]_2"]


def test_locations_lead_to_the_text() -> None:
    s = Schedule(workers=1)
    a = s.buffer("a", (4,))
    s.task("t", reads=[a[0:9]])
    table = read_schedule(print_schedule(s), "s.mlir")
    assert verify(table).errors[0].location == "s.mlir:4:5"


def test_what_the_dialect_does_not_have() -> None:
    s = Schedule(workers=1)
    s.buffer("a", (4,), "f64")
    with pytest.raises(AmkError, match="buffer 'a' has no form in the task dialect: elements of 8"):
        print_schedule(s)
    s = Schedule(workers=1)
    s.scalar("mod", 0, 4)
    with pytest.raises(AmkError, match="run-time scalar 'mod' needs a plain name"):
        print_schedule(s)
