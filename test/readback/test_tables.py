"""Schedules that are printed as tables with a dispatch loop."""

from __future__ import annotations

import re
from itertools import islice

import pytest
from edits import edits
from programs import TABLES, Model, irregular, parse
from test_edits import is_reported
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit
from amk.backends.readback import check_program
from amk.backends.readback.tables import NAMES
from amk.errors import AmkError
from amk.ir.explicit import module_of
from amk.passes.verify_schedule import check
from amk.schedule import Schedule

TARGET = "sm_90"


def small() -> tuple[ModuleOp, str]:
    module = parse(TABLES)
    return module, emit(module, TARGET)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_model_in_tables(dtype: str) -> None:
    module = irregular(Model(dtype="bf16" if dtype == "bf16" else "f32"))
    text = emit(module, TARGET)
    assert "AMK_TABLE" in text
    report = check_program(module, TARGET, text, "tables.cu")
    # Two layers of four products on three workers, and the head.
    assert (report.workers, report.streams) == (3, 27)


def test_what_only_tables_can_say() -> None:
    module, text = small()
    check(module, TARGET)
    report = check_program(module, TARGET, text, "tables.cu")
    assert (report.workers, report.tasks, report.waits, report.signals) == (2, 8, 4, 5)


def table(text: str, name: str) -> list[int]:
    """The numbers of a printed table."""
    found = re.search(rf"int {name}\[\] = \{{([^}}]*)\}}", text)
    assert found is not None
    return [int(number) for number in found[1].replace("\n", "").split(",")[:-1]]


def with_table(text: str, name: str, numbers: list[int]) -> str:
    listed = "".join(f" {number}," for number in numbers)
    return re.sub(rf"(int {name}\[\] = \{{)[^}}]*\}}", rf"\g<1>{listed} }}", text)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_every_table_counts(name: str) -> None:
    module, text = small()
    numbers = table(text, name)
    ignored = [
        place
        for place, number in enumerate(numbers)
        if not is_reported(
            module, with_table(text, name, [*numbers[:place], number + 1, *numbers[place + 1 :]])
        )
    ]
    assert ignored == []
    assert is_reported(module, with_table(text, name, numbers[:-1]))
    assert is_reported(module, with_table(text, name, [*numbers, 0]))


CHANGES = {
    "memory": ("(void*)b.x, (void*)b.k", "(void*)b.k, (void*)b.x", "expected the tables, buffers"),
    "arena": ("arena_p + 16", "arena_p + 32", "Buffers takes the parameters"),
    "element of an arena": ("reinterpret_cast<float*>", "reinterpret_cast<int*>", "Buffers takes"),
    "case": ("case 0: {", "case 1: {", "the cases are"),
    "value": ("lo1_0 = value(2)", "lo1_0 = value(3)", "a task of @give passes 7 values"),
    "name of a value": ("lo1_0 = value(2)", "low = value(2)", "the values of argument 1 are"),
    "place": ("lo1_0 * 4", "lo1_0 * 8", "the place in @x is not that of give["),
    "extent": ("hi1_1 - lo1_1", "hi1_1 - lo1_0", "the number of elements"),
    "table": ("{kQueues, kTasks, kWaits", "{kQueues, kWaits, kTasks", "expected the tables"),
    "stream": ("(void)w;", "(void)b;", "there is nothing to stream"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_of_the_dispatch(name: str) -> None:
    old, new, message = CHANGES[name]
    module, text = small()
    start = text.index("// What stays with a worker.")
    assert old in text[start:]
    edited = text[:start] + text[start:].replace(old, new, 1)
    with pytest.raises(AmkError, match=re.escape(message)):
        check_program(module, TARGET, edited, "tables.cu")


def test_a_dense_table_of_tasks() -> None:
    s = Schedule(workers=2, iterations=1)
    x, done = s.buffer("x", (8, 4), "f32", "scratch"), s.counter("done")
    for k in range(8):
        s.task(f"fill{k}", worker=k % 2, writes=[x[k, 0:4]], signals=[(done, 1)])
    s.task("take", worker=1, reads=[x[0:8, 0:4]], waits=[(done, 8)])
    module = module_of(s, "table")
    text = emit(module, TARGET)
    assert check_program(module, TARGET, text, "tables.cu").tasks == 9
    numbers = table(text, "kAccesses")
    numbers[4] += 1
    assert is_reported(module, with_table(text, "kAccesses", numbers))


def test_streams_are_those_of_the_queue() -> None:
    module = irregular(Model())
    text = emit(module, TARGET)
    stream = text.rindex("AMK_DEVICE void stream")
    for old, new, message in (
        ("values[2 * i]", "values[2 * i + 1]", "expected a loop over the tasks"),
        ("kQueues[w.id + 1]", "kQueues[w.id]", "expected a loop over the tasks"),
        ("/ 8 * amk", "/ 16 * amk", "expected the streams of the kernel's products"),
        ("amk::stream(w", "amk::flow(w", "expected the streams of the kernel's products"),
    ):
        assert old in text[stream:]
        edited = text[:stream] + text[stream:].replace(old, new, 1)
        with pytest.raises(AmkError, match=message):
            check_program(module, TARGET, edited, "tables.cu")


def test_edits_of_a_program_in_tables() -> None:
    module, text = small()
    found = [
        edit.what
        for edit in islice(edits(text, TARGET, 4), 60)
        if not is_reported(module, edit.text)
    ]
    assert found == []
