"""Hand-written schedules: what the barriers of the `task` level mean, and what happens without."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pytest
from small_models import MODELS
from xdsl.dialects.builtin import ModuleOp

from amk.errors import AmkError
from amk.interpreters.task import TaskMachine
from amk.ir.module import parse_module, verify_module

pytestmark = pytest.mark.filterwarnings("ignore:Calling parse_operand:DeprecationWarning")

SEEDS = (None, *range(24))


def _module(body: str, workers: int = 2, iterations: int | None = 3) -> ModuleOp:
    ends = "" if iterations is None else f", iterations = {iterations} : i64"
    text = f"task.schedule @s attributes {{workers = {workers} : i64{ends}}} {{{body}}}"
    module = parse_module(text, "schedule.mlir")
    verify_module(module)
    return module


def _final(module: ModuleOp, seed: int | None, buffers: Iterable[str]) -> bytes:
    machine = TaskMachine(module, seed=seed)
    assert list(machine.launch({})) == []
    return b"".join(machine.array(name).tobytes() for name in buffers)


def _outcomes(module: ModuleOp, *buffers: str) -> set[bytes | str]:
    """What the buffers hold in the end, or the error, over many orders."""
    outcomes: set[bytes | str] = set()
    for seed in SEEDS:
        try:
            outcomes.add(_final(module, seed, buffers))
        except AmkError as error:
            outcomes.add(str(error))
    return outcomes


COUNTED = """
  task.buffer @a scratch : memref<8xf32>
  task.buffer @b output : memref<3x4xi32>
  task.counter @filled
  task.counter @read
  task.family @fill for i in 4 on i mod 2 args [out @a[2 * i : 2 * i + 2]]
    waits [@read >= 0] signals [@filled += 1]
  task.family @sum for i in 2 on i args [in @a[0 : 8], out @b[iter, 2 * i : 2 * i + 2]]
    waits [@filled >= 4] signals [@read += 1]
"""


def test_counters_order_plain_data() -> None:
    assert len(_outcomes(_module(COUNTED), "b")) == 1


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("waits [@filled >= 4]", "waits [@filled >= 3]"),
        ("waits [@filled >= 4]", ""),
        ("waits [@read >= 0]", ""),
        ("waits [@read >= 0]", "waits [@read >= -2]"),
    ],
)
def test_a_missing_wait_shows(good: str, bad: str) -> None:
    assert len(_outcomes(_module(COUNTED.replace(good, bad)), "b")) > 1


def test_a_threshold_out_of_reach_is_a_deadlock() -> None:
    module = _module(COUNTED.replace("@filled >= 4", "@filled >= 5"), iterations=1)
    with pytest.raises(AmkError) as error:
        _final(module, None, "b")
    assert str(error.value) == (
        "deadlock: sum[0] on worker 0 in iteration 0 waits for @filled >= 5, which is 4; "
        "sum[1] on worker 1 in iteration 0 waits for @filled >= 5, which is 4"
    )
    assert error.value.location == "schedule.mlir:8:3"


PACKETS = """
  task.buffer @p scratch uses 2 : memref<2x4xf32, "packet">
  task.buffer @b output : memref<3x4xf32>
  task.repeat l in 2 {
    task.family @make for i in 2 on i args [out @p[iter mod 2, 2 * i : 2 * i + 2] use l]
    task.family @take for i in 2 on i args [
      in @p[iter mod 2, 0 : 4] use l, out @b[iter, 2 * i : 2 * i + 2]]
  }
"""


ACKNOWLEDGED = """
  task.buffer @p scratch uses 1 : memref<4x4xf32, "packet">
  task.buffer @b output : memref<3x4xf32>
  task.family @first for i in 2 on i args [out @p[iter mod 2, 2 * i : 2 * i + 2] use 0]
  task.family @second for i in 2 on i args [
    in @p[iter mod 2, 0 : 4] use 0, out @p[iter mod 2 + 2, 2 * i : 2 * i + 2] use 0]
  task.family @third for i in 2 on i args [
    in @p[iter mod 2 + 2, 0 : 4] use 0, out @b[iter, 2 * i : 2 * i + 2]]
"""
"""Every task waits for all packets of the round before, which tells that they were read."""


def test_packets_need_no_counters() -> None:
    # Between two uses of a slot, its writer must hear from every reader: nobody tells it here.
    outcomes = _outcomes(_module(PACKETS), "b")
    assert any("lost packet: @p[" in o for o in outcomes if isinstance(o, str))
    assert len(_outcomes(_module(ACKNOWLEDGED), "b")) == 1


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("in @p[iter mod 2, 0 : 4] use 0", "in @p[iter mod 2, 0 : 4] use 1", "deadlock"),
        ("out @p[iter mod 2, 2 * i", "out @p[iter mod 2, 0 * i", "written twice in one use"),
        ("out @p[iter mod 2, 2 * i : 2 * i + 2]", "out @p[iter mod 2, 0 : 2]", "twice|lost"),
    ],
)
def test_a_wrong_packet_shows(good: str, bad: str, message: str) -> None:
    text = ACKNOWLEDGED.replace("uses 1", "uses 2")
    assert good in text
    outcomes = _outcomes(_module(text.replace(good, bad), iterations=3), "b")
    assert any(isinstance(o, str) and re.search(message, o) for o in outcomes)


def test_a_packet_makes_nothing_else_visible() -> None:
    body = """
  task.buffer @a scratch : memref<2xi32>
  task.buffer @p scratch uses 1 : memref<1xi32, "packet">
  task.buffer @b output : memref<2xi32>
  task.task @make worker 0 args [out @a[0 : 2], out @p[0 : 1] use 0]
  task.task @take worker 1 args [in @p[0 : 1] use 0, in @a[0 : 2], out @b[0 : 2]]
"""
    assert len(_outcomes(_module(body, iterations=1), "b")) == 2
    counter = body.replace("use 0]\n", "use 0] signals [@c += 1]\n", 1)
    counter = counter.replace("out @b[0 : 2]]", "out @b[0 : 2]] waits [@c >= 1]")
    assert len(_outcomes(_module(f"task.counter @c{counter}", iterations=1), "b")) == 1


def test_a_packet_that_nobody_sends_is_a_deadlock() -> None:
    module = _module(
        """
  task.buffer @p scratch uses 1 : memref<4xf32, "packet">
  task.task @take worker 1 args [in @p[2 : 3] use 0]
  task.family @later for i in 5 args [in @p[i : i + 1] use 0] when i floordiv 4 == 0
""",
        iterations=1,
    )
    with pytest.raises(AmkError) as error:
        _final(module, None, ())
    assert str(error.value) == (
        "deadlock: take on worker 1 in iteration 0 waits for use 0 of @p[2 : 3]; "
        "later[0] on a queue of its own in iteration 0 waits for use 0 of @p[0 : 1]; "
        "later[1] on a queue of its own in iteration 0 waits for use 0 of @p[1 : 2]; "
        "later[2] on a queue of its own in iteration 0 waits for use 0 of @p[2 : 3]; and 1 more"
    )


def test_tasks_without_a_kernel_hash_what_they_read() -> None:
    body = """
  task.buffer @a state : memref<4xi32>
  task.buffer @b output : memref<4xbf16>
  task.task @one worker 0 args [inout @a[0 : 4]]
  task.task @two worker 0 args [index 3, in @a[1 : 3], out @b[0 : 4]]
"""
    same = {_final(_module(body, iterations=n), None, "ab") for n in (2, 2)}
    assert len(same) == 1
    # Identity, iteration, indices and every byte read matter.
    others = [
        _module(body, iterations=3),
        _module(body.replace("@two", "@three"), iterations=2),
        _module(body.replace("index 3", "index 4"), iterations=2),
        _module(body.replace("in @a[1 : 3]", "in @a[1 : 4]"), iterations=2),
    ]
    assert len(same | {_final(module, None, "ab") for module in others}) == 5


def test_guards_make_tasks_and_accesses_empty() -> None:
    body = """
  task.buffer @b output : memref<2x3xi32>
  task.counter @c
  task.family @even for i in 3 on 0 args [out @b[0, i]] signals [@c += 1] when i mod 2 == 0
  task.family @all for i in 3 on 1 args [out @b[1, i] if i mod 2 == 0] waits [@c >= 3]
"""
    found = np.frombuffer(_final(_module(body, iterations=1), 3, "b"), np.int32).reshape(2, 3)
    untouched = found == found[0, 1]
    assert untouched.tolist() == [[False, True, False]] * 2


def test_arenas_share_memory() -> None:
    body = """
  task.buffer @x scratch in @m + 0 : memref<4xi32>
  task.buffer @y scratch in @m + 8 : memref<2xf32>
  task.buffer @b output : memref<4xi32>
  task.task @low worker 0 args [out @x[0 : 4]]
  task.task @high worker 0 args [out @y[0 : 2]]
  task.task @read worker 0 args [in @x[0 : 4], out @b[0 : 4]]
"""
    machine = TaskMachine(_module(body, iterations=1))
    list(machine.launch({}))
    assert machine.array("x")[2:].tobytes() == machine.array("y").tobytes()
    assert len(set(machine.array("x").tolist())) == 4


def test_streams_run_ahead_of_their_worker() -> None:
    body = """
  task.buffer @w constant : memref<8xf32>
  task.buffer @ring scratch : memref<2x4xi32>
  task.buffer @b output : memref<6x4xi32>
  task.counter @full
  task.counter @free
  task.repeat l in 2 {
    task.task @copy worker 0 stream args [in @w[4 * l : 4 * l + 4], out @ring[l, 0 : 4]]
      waits [@free >= l - 1] signals [@full += 1]
    task.task @use worker 0 args [in @ring[l, 0 : 4], out @b[2 * iter + l, 0 : 4]]
      waits [@full >= l + 1] signals [@free += 1]
  }
"""
    assert len(_outcomes(_module(body, workers=1), "b")) == 1
    eager = body.replace("waits [@free >= l - 1]", "waits [@free >= l - 3]")
    assert len(_outcomes(_module(eager, workers=1), "b")) > 1


def test_run_time_scalars() -> None:
    body = """
  task.scalar @n in 2 to 9 step 3
  task.buffer @b output : memref<9xi32>
  task.task @t worker 0 args [out @b[n]]
"""
    machine = TaskMachine(_module(body, iterations=None))
    before = machine.array("b")[0]
    list(machine.launch({"n": 2}))
    assert np.flatnonzero(machine.array("b") != before).tolist() == [2, 5, 8]
    with pytest.raises(AmkError, match="needs a value for the run-time scalar @n"):
        list(machine.launch({}))
    endless = _module("task.buffer @b output : memref<1xi32>", iterations=None)
    with pytest.raises(AmkError, match="nothing ends this schedule"):
        list(TaskMachine(endless).launch({}))
    assert list(TaskMachine(endless).launch({}, 2)) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("task.task @t worker 0 args [out @b[0 : 5]]", r"@t: instance 0 touches \[0 : 5\] of @b"),
        ("task.family @f for i in 3 args [in @b[i, 0]]", "has 2 dimensions, the buffer 1"),
        ("task.task @t worker 0 args [in @b[0 : k]]", "'k' uses k, which is no index or scalar"),
        ("task.task @t worker 0 args [in @c[0 : 1]]", "there is no buffer @c"),
        ("task.task @t worker 0 args [in @b[0] use 0]", "an access of @b must not give a use"),
        ("task.task @t worker 0 args [in @p[0]]", "an access of @p must give its use"),
        ("task.task @t calls @k worker 0 args []", "there is no tile.kernel @k"),
        ("task.task @t worker 0 args [out @h[1 : 3] use 0]", "splits a packet of two bf16"),
        ('task.buffer @q scratch uses 1 in @m + 0 : memref<2xi32, "packet">', "in an arena"),
    ],
)
def test_wrong_schedules_are_errors(body: str, message: str) -> None:
    declared = """
  task.buffer @b output : memref<4xi32>
  task.buffer @p scratch uses 1 : memref<4xi32, "packet">
  task.buffer @h scratch uses 1 : memref<4xbf16, "packet">
"""
    with pytest.raises(AmkError, match=message):
        _final(_module(declared + body, iterations=1), None, ())


MUTATIONS = {
    "a flag that is overwritten too early": (
        r"(?s)(task\.family @embed .*?)(task\.family @poll .*?use 0\]\n)",
        r"\2\1",
    ),
    "a use that is not written": (r"(in @attention_out\[.*?\] use )l", r"\1l + 1"),
    "the use before": (r"(in @gate_up_out\[.*?\] use )l", r"\g<1>0"),
    "a partial result of another head": (r"in @partial\[i floordiv 2,", "in @partial[0,"),
    "rows of another layer": (r"in @w_o\[l,", "in @w_o[0,"),
    "a tile that nobody writes": (r"(@down calls @down for i in )(\d+)", r"\g<1>2"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_model_shows(name: str) -> None:
    model = MODELS[9]
    tokens = model.tokens(3)
    expected = model.task(3)
    assert len(list(expected.run(0, tokens, 5))) == 5
    pattern, replacement = MUTATIONS[name]
    text = str(model.task_module(3))
    mutated = re.sub(pattern, replacement, text)
    assert mutated != text
    module = parse_module(mutated, "mutated.mlir")

    def shows(seed: int) -> bool:
        try:
            machine = TaskMachine(module, model.constants.__getitem__, seed=seed)
            list(machine.run(0, tokens, 5))
        except AmkError:
            return True
        return not np.array_equal(machine.logits[:5], expected.logits[:5])

    assert any(map(shows, range(12)))
