"""The barriers between the steps of a worker, and that the device layer has those it is said to."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from programs import Model, module_of, parse, printed

from amk.backends import emit
from amk.backends.device import HEADERS, device_text
from amk.backends.readback import check_program
from amk.backends.readback.expected import BufferFacts, Expected
from amk.backends.readback.mismatch import Mismatch
from amk.backends.readback.obligations import MET, PRIMITIVES, Step, follow
from amk.backends.readback.syntax import Name
from amk.errors import AmkError
from amk.passes.verify_schedule import check

NODE = Name(1, 1, "x")
TARGETS = [target for target in HEADERS if target != "host"]


def buffers() -> dict[str, BufferFacts]:
    """One buffer of each kind that matters."""
    return Expected(
        parse("""
  task.schedule @s attributes {workers = 1 : i64} {
    task.buffer @global state initial : memref<4xf32>
    task.buffer @own state initial : memref<1x4xf32, "shared">
  }""")
    ).buffers


GLOBAL, OWN = replace(buffers()["global"], exposed=True), buffers()["own"]


def steps(text: str) -> list[Step]:
    """Steps by their kinds: `map!` sends, `map@` reads global memory, `load.` reads its own."""
    found: list[Step] = []
    for word in text.split():
        kind = word.rstrip("!@.")
        loads = ((GLOBAL,) if "@" in word else ()) + ((OWN,) if "." in word else ())
        found.append(Step(kind, NODE, loads, sends="!" in word or kind == "send"))
    return found


SOUND = [
    "send",  # the first in an iteration
    "product! sync send",
    "product! map! combine! attention! product!",
    "map sync load. store",
    "map attention! load. store",
    "receive sync send",
    "argmax store",
    "sync load. send",  # memory that no other worker can overwrite
    "map@ product! combine! attention! map! signal",
    "wait load@ signal",
    "product@ map! sync send",
    "wait map@ signal wait send",
]
BROKEN = {
    "product! send": "this packet says that reads",
    "map send": "this packet says that reads",
    "receive send": "this packet says that reads",
    "sync load@ send": "this packet says that reads",
    "map load.": "have finished what comes before this access to @own",
    "product! store": "have finished what comes before this write",
    "store load.": "have finished what comes before this access to @own",
    "argmax store store": "have finished what comes before this write",
    "map@!": "packets are sent while other threads may still read @global",
    "product@!": "packets are sent while other threads may still read @global",
    "combine@!": "packets are sent while other threads may still read @global",
}


@pytest.mark.parametrize("text", SOUND)
def test_sound_steps(text: str) -> None:
    follow(steps(text), MET)


@pytest.mark.parametrize("text", BROKEN)
def test_broken_steps(text: str) -> None:
    with pytest.raises(Mismatch, match=BROKEN[text]):
        follow(steps(text), MET)


def test_a_poll_after_other_tasks_waits_for_their_threads() -> None:
    """Its packet says that the worker's reads before it have ended: there has to be a barrier."""
    module, text = module_of(Model()), printed(Model())
    poll = text.index("// task.family @poll")
    assert text.index("// task.family @down") < poll
    edited = text[:poll] + text[poll:].replace("w.sync();", "", 1)
    with pytest.raises(AmkError, match="this packet says that reads of other threads have ended"):
        check_program(module, "sm_90", edited, "poll.cu")


GUARDED = """
tile.kernel @copy(%from: memref<4xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    tile.yield %v : f32
  }
}
task.schedule @s attributes {workers = 1 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @a input : memref<4xf32>
  task.buffer @y output : memref<4xf32>
  task.family @copy calls @copy for i in 1 on 0 args [in @a[0 : 4] if pos mod 2 == 0, out @y[0 : 4]]
}
"""


@pytest.mark.parametrize(
    "placed",
    ["task.family @copy calls @copy for i in 1 on 0", "task.task @copy calls @copy worker 0"],
)
def test_an_access_under_a_guard_is_not_printed_without_it(placed: str) -> None:
    text = GUARDED.replace("task.family @copy calls @copy for i in 1 on 0", placed)
    module = parse(text)
    check(module)
    with pytest.raises(AmkError, match="not only if pos mod 2 == 0"):
        emit(module, "sm_90")
    always = emit(parse(text.replace(" if pos mod 2 == 0", "")), "sm_90")
    with pytest.raises(AmkError, match=r"the IR has a guard|not only if pos mod 2 == 0"):
        check_program(module, "sm_90", always, "guarded.cu")


# ---- the device layer ----------------------------------------------------------------------------


ACTS = (
    r"asm volatile|receive_vector|receive_attended|\bbody\(|epilogue\(|warp_best"
    r"|copy\(0\)|copies.start|send_to"
)
"""Where a primitive reads, writes or runs a lambda."""


def body_of(name: str, text: str) -> str:
    """The text of the function `name` of the device layer, which ends at a brace in column 0."""
    found = re.search(rf"^AMK_DEVICE [^\n]*\b{name}\((?:.|\n)*?^}}", text, re.MULTILINE)
    assert found is not None, name
    return re.sub(r"//[^\n]*", "", found[0])


@pytest.mark.parametrize("target", TARGETS)
def test_primitives_have_the_barriers_that_they_are_said_to_have(target: str) -> None:
    text = device_text(target)
    ways = [f"attention_by_{way}" for way in ("tiles", "rows")]
    for name in ("wait", "signal", "argmax", "map", "combine", *ways):
        primitive = PRIMITIVES[name.partition("_by_")[0]]
        body = body_of(name, text)
        first, last = body.find("w.sync()"), body.rfind("w.sync()")
        assert first > 0, name
        acts = [act.start() for act in re.finditer(ACTS, body)]
        if primitive.opens:
            assert first < min(acts), name
        if primitive.closes and name != "signal":
            assert last > max(acts), name
    # All partial results are read before the first epilogue.
    combine = body_of("combine", text)
    assert (
        combine.index("combine_elements") < combine.index("w.sync()") < combine.index("epilogue(")
    )
    # The last warp to arrive runs the epilogue of a product.
    product = body_of("product", text)
    assert "if (w.close_batch()) reduce(" in product
    assert "consumers_any(" in text[text.index("bool next()") :][:200]
