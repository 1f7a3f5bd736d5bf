"""Schedules as dense tables of integers: text, back, errors, and 100,000 tasks."""

from __future__ import annotations

import time

import numpy as np
import pytest
from generators import program
from program import table_of
from test_explicit_text import meaning

from amk.errors import AmkError
from amk.interpreters.task import TaskMachine
from amk.ir.explicit import module_of, print_schedule, read_schedule
from amk.ir.module import parse_module, verify_module
from amk.passes.verify_schedule import check
from amk.schedule import Schedule, ScheduleTable, TableBuilder
from amk.schedule.verify import verify


def names(table: ScheduleTable) -> list[str]:
    return [table.task_name(t) for t in range(table.n_tasks)]


def test_random_programs_survive_as_tables() -> None:
    count = 0
    for seed in range(120):
        made = program(seed)
        for buffer in made.buffers:
            buffer.offset *= 4 if buffer.item not in (2, 4) else 1
            buffer.item = 8 if buffer.packet else 4 if buffer.item == 1 else buffer.item
        table = table_of(made)
        if any(len(a.lo) != len(made.buffers[a.buffer].shape) for t in made.tasks
               for a in t.accesses):  # fmt: skip
            continue
        text = print_schedule(table, "table")
        back = read_schedule(text)
        assert meaning(back) == meaning(table)
        assert names(back) == names(table)
        assert print_schedule(back, "table") == text
        verdict, again = verify(table), verify(back)
        assert (again.ok, again.kind) == (verdict.ok, verdict.kind)
        count += verdict.ok
    assert count > 20


def everything() -> Schedule:
    """Packets, guards, moving bounds, both agents, queues of their own, several ranks."""
    s = Schedule(workers=2, iterations=2, name="everything")
    pos = s.scalar("pos", 0, 6)
    a = s.buffer("a b", (8, 4), kind="state", initial=True)
    b = s.buffer("b", (8,), kind="output")
    x = s.packets("x", (2,), uses=2)
    c, d = s.counter("c"), s.counter("d")
    s.task("fill", 0, index=[3], writes=[a[pos, :], x[0].use(1)], signals=[(c, 1)], waits=[(d, 0)])
    s.task("fetch", 1, agent="stream", reads=[a[0:pos, 1:3].when(pos % 2)], waits=[(c, 1)],
           signals=[(d, 1)])  # fmt: skip
    s.task("alone", None, guard=pos % 3, reads=[x[0].use(1)], writes=[b[2:4]],
           waits=[(c, 1), (d, -1)], signals=[(d, 2)])  # fmt: skip
    return s


def test_both_forms_mean_the_same() -> None:
    s = everything()
    table, single = (read_schedule(print_schedule(s, form)) for form in ("table", "tasks"))
    assert meaning(table) == meaning(single) == meaning(s.table())
    finals = []
    for form in ("table", "tasks"):
        machine = TaskMachine(module_of(s, form), seed=1)
        assert list(machine.launch({"pos": 1})) == []
        finals.append([machine.array(n).tobytes() for n in ("a b", "b")])
    assert finals[0] == finals[1]


def test_many_tasks_are_written_as_a_table() -> None:
    s = Schedule(workers=3)
    for i in range(1001):
        s.task("t", i % 3, index=[i])
    text = print_schedule(s)
    assert "task.table @tasks" in text
    assert "task.task" not in text
    assert names(read_schedule(text))[1000] == "t[1000]"


def irregular(phases: int, width: int, workers: int) -> ScheduleTable:
    """Tasks on random workers in random order; each reads up to four tiles of the phase before."""
    rng = np.random.default_rng(0)
    b = TableBuilder(workers, None, "irregular")
    data = b.buffer("data", (2, width, 16), 4, "scratch")
    barrier = [b.counter(f"c{p}") for p in range(phases)]
    for phase in range(phases):
        queue = b.queues(rng.integers(0, workers, width))
        tile = rng.permutation(width)
        tasks = b.tasks(b.origin(f"phase{phase}"), queue, [tile])
        page, other = phase % 2, (phase - 1) % 2
        b.waits(tasks, barrier[phase - 1], width if phase else 0)
        if phase:
            low = np.maximum(tile - 3, 0)
            b.read(tasks, data, [other, low, 0], [other + 1, tile + 1, 16])
        b.write(tasks, data, [page, tile, 0], [page + 1, tile + 1, 16])
        b.signals(tasks, barrier[phase])
    return b.build()


def test_a_hundred_thousand_tasks_from_text() -> None:
    """Seconds, where single ops would take minutes to parse (docs: measured on two cores)."""
    table = irregular(100, 1024, 64)
    assert table.n_tasks > 100_000
    text = print_schedule(table)
    begin = time.process_time()
    back = read_schedule(text)
    verdict = verify(back)
    assert time.process_time() - begin < 60
    assert verdict.ok
    assert back.n_tasks == table.n_tasks
    for column in ("task_queue", "task_index", "wait_threshold", "access_lo", "access_hi"):
        assert np.array_equal(getattr(back, column), getattr(table, column))


HEAD = """task.schedule @s attributes {workers = 2 : i64} {
  task.scalar @pos in 0 to 4 step 1
  task.buffer @a scratch : memref<8x4xf32>
  task.buffer @v scratch : memref<8xf32>
  task.buffer @x scratch uses 1 : memref<4xf32, "packet">
  task.counter @c
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("buffers [@b] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0, 4]]",
         "7:3: error: @t: there is no buffer @b"),
        ("counters [@d] tasks [[0, 0, -1, -1, -1]] waits [[0, 0, 0]]",
         "7:3: error: @t: there is no counter @d"),
        ("buffers [@a] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0, 4]]",
         "7:3: error: @t: access 0 gives 1 dimensions, but @a has 2"),
        ("buffers [@v] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0, 4, 0, 1]]",
         "7:3: error: @t: access 0 of @v has bounds beyond its 1 dimensions"),
        ("buffers [@x] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0, 4]]",
         "7:3: error: @t: access 0 of @x must give its use"),
        ("buffers [@v] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, 0, -1, 0, 0, 4]]",
         "7:3: error: @t: access 0 of @v must not give a use"),
        ("buffers [@v] exprs [pos, pos * 2] tasks [[0, 0, -1, -1, -1]] "
         "accesses [[0, 0, 0, -1, -1, 0, 0, 4]] moving [[0, 1, 0], [0, 1, 1]]",
         "7:3: error: @t: a bound moves by two expressions; give their sum"),
        ("tasks [[7, 0, -1, -1, -1]]",
         "7:3: error: malformed: worker 7 does not exist; there are 2 workers"),
        ("counters [@c] tasks [[0, 0, -1, -1, -1]] waits [[0, 0, 1]] signals []",
         "7:3: error: malformed: t[0] waits for 'c' >= 1, but one iteration signals only 0"),
        ("buffers [@v] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 1, -1, -1, 0, 4, 9]]",
         "7:3: error: out-of-bounds: t[0] writes v[4:9], outside of its shape 8"),
        ("buffers [@v] exprs [n] tasks [[0, 0, -1, 0, -1]]",
         "malformed: 'n' uses 'n', which is not a run-time scalar"),
        ("tasks [[9999999999, 0, -1, -1, -1]]",
         "7:3: error: @t: row 0 of tasks has the number 9999999999; the limit is 2147483647"),
    ],
)  # fmt: skip
def test_bad_tables_are_errors_of_one_line(body: str, message: str) -> None:
    module = parse_module(f"{HEAD}  task.table @t {body}\n}}", "bad.mlir")
    verify_module(module)
    with pytest.raises(AmkError) as caught:
        check(module)
    line = AmkError.diagnostic(caught.value)
    assert message in line
    assert line.startswith("bad.mlir:")
    assert "\n" not in line


def test_a_table_in_a_repeat() -> None:
    text = f"""{HEAD}
      task.repeat l in 3 {{
        task.table @t names ["fill"] buffers [@v] exprs [l * 2]
          tasks [[0, 0, -1, -1, 0], [1, 0, -1, -1, -1]]
          accesses [[0, 0, 1, -1, -1, 0, 0, 2]] moving [[0, 0, 0], [0, 1, 0]]
      }}
    }}"""
    table = read_schedule(text)
    assert names(table) == ["fill[0]", "t[1, 0]", "fill[1]", "t[1, 1]", "fill[2]", "t[1, 2]"]
    assert [table.box_text(r) for r in range(3)] == ["v[0:2]", "v[2:4]", "v[4:6]"]
