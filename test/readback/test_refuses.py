"""What is wrong in a file is said in one line, with its place."""

from __future__ import annotations

import re

import pytest
from programs import COUNTED, Model, module_of, parse, printed

from amk.backends import emit, emit_program
from amk.backends.readback import check_program
from amk.backends.trace_layout import TraceWindow
from amk.errors import AmkError

TARGET = "sm_90"


def refusal(module, text: str, target: str = TARGET) -> AmkError:
    """The error that a file gives."""
    with pytest.raises(AmkError) as caught:
        check_program(module, target, text, "k.cu")
    assert re.fullmatch(r"k\.cu:\d+:\d+", caught.value.location or "")
    return caught.value


CHANGES = {
    "loop": (
        r"l = 0; l < 2",
        "l = 0; l < 3",
        "worker 0 runs @q_k_v as task",
    ),
    "placement": (
        r"i = \(w\.id \+ 1\) % 3",
        "i = (w.id + 2) % 3",
        "'first' is not that of q_k_v[",
    ),
    "family": (r"w\.at\(4\)", "w.at(5)", "worker 0 runs @gate_up as task"),
    "family that is not": (r"w\.at\(4\)", "w.at(40)", "there is no family 40"),
    "use": (r"w\.epoch\(3, l \+ 1\)", "w.epoch(3, l)", "the use of @x is not that of down[0, 0]"),
    "uses": (r"w\.epoch\(3, l \+ 1\)", "w.epoch(2, l + 1)", "an iteration has 3 of these, not 2"),
    "slot": (r"\.at\(i \* 8\)", ".at(i * 8 + 1)", "the place in @"),
    "buffer": (r"b\.attention_out, w", "b.gate_up_out, w", "expected @attention_out here"),
    "element type": (
        r"amk::Packets<float>\{b\.o_out",
        "amk::Packets<int>{b.o_out",
        "@o_out holds float",
    ),
    "number of a buffer": (
        r"w\.epoch\(2, l\), 20\}",
        "w.epoch(2, l), 19}",
        "the number of the buffer",
    ),
    "pointer": (
        r"b\.rope_cos \+ \(w\.pos \* 4\)",
        "b.rope_cos + (w.pos * 8)",
        "nothing that may run ahead",
    ),
    "rows": (
        r"(b\.o_out, w\.epoch\(2, l\), \d+\}), 32,",
        r"\1, 40,",
        "the number of rows of @w_gate_up",
    ),
    "old rows": (
        r"\(w\.pos - \(i % (\d+)\) \+ (\d+)\) / \1",
        r"(w.pos - (i % \1) + \2) / 16",
        "the number of old rows",
    ),
    "appended": (
        r"const bool v0 = first == 0;",
        "const bool v0 = first != 0;",
        "'v0' is not arith.cmpi",
    ),
    "index": (
        r"amk::floormod\(-i \+ w\.pos, ",
        "amk::floormod(i + w.pos, ",
        "'first' is not that of attention[1, 0]",
    ),
    "operation": (r"amk::sub\(v", "amk::add(v", "is not arith.subf"),
    "constant": ("1e-05f", "1.0000001e-05f", "is not arith.addf"),
    "operands": (r"amk::mul\(v12, v8\)", "amk::mul(v8, v12)", "is not arith.mulf"),
    "negation": (r"= -v7;", "= v7;", "is not arith.negf"),
    "statistic": (
        r"stat = amk::add\(stat, v6\)",
        "stat = amk::add(stat, v5)",
        "expected the sum of",
    ),
    "written twice": (r"\(r / 2\) \* 2 \+ 1, v", "(r / 2) * 2, v", "an element is written twice"),
    "wrong output": (
        r"amk::send\(out_x, r, v",
        "amk::send(out_x_own, r, v",
        "is not written like this",
    ),
    "type of a value": (r"const bool v0 = first", "const int v0 = first", "gives 'bool'"),
    "type of a field": (
        r"struct AtRow \{ float",
        "struct AtRow { int",
        "has another type than its value",
    ),
    "leader": (r"if \(w\.leader\(\)\) amk::send\(", "if (w.sync()) amk::send(", "by the leader"),
    "stream": (
        r"b\.w_o \+ l \* ([^;]*?), i\}\);",
        r"b.w_o + l * \1, 2 - i});",
        "consumes another stream",
    ),
    "layer of a stream": (
        r"amk::stream\(w, (.*?)b\.w_o \+ l \*",
        r"amk::stream(w, \1b.w_o + 0 *",
        "consumes another stream",
    ),
    "constants": ("kSlots = ", "kSlots = 1", "for this schedule"),
    "order of members": (r"    o_out,\n", "    o_out_own,\n", "Buffers takes the parameters"),
    "launch bounds": (r"__launch_bounds__\(\d+", "__launch_bounds__(256", "expected extern"),
    "unknown statement": (
        r"w\.at\(5\);",
        "w.at(5); ++w;",
        "the printer does not write '++' here",
    ),
    "unknown character": (r"w\.at\(5\);", "w.at(5); #", "the printer does not write '#' here"),
    "line that goes on": (r"(// task\.family @o) .*", r"\1 \\", "a line goes on in the next"),
    "cut off": (r"AMK_DEVICE void stream\((.|\n)*", "", "the functions are compute, stream"),
    "end of file": (r"  amk::run<Private, (.|\n)*", "", "ends in the middle of a construct"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_of_a_model(name: str) -> None:
    pattern, new, message = CHANGES[name]
    text = printed(Model())
    types = text.index("// What stays with a worker.")
    head = 0 if name == "constants" else types
    edited = text[:head] + re.sub(pattern, new, text[head:], count=1)
    assert edited != text, "the text to change is not there"
    assert message in str(refusal(module_of(Model()), edited))


COUNTER_CHANGES = {
    "threshold": ("w.epoch(12, l * 4) - 1", "w.epoch(12, l * 4 + 1) - 1", "the threshold of @done"),
    "total": ("w.epoch(12, l * 4)", "w.epoch(6, l * 4)", "an iteration has 12 of these, not 6"),
    "base": ("w.epoch(12, l * 4) - 1", "w.epoch(12, l * 4) - 0", "expected w.epoch(…) - 1"),
    "amount": ("amk::signal(w, b.done, 1)", "amk::signal(w, b.done, 2)", "the amount of @done"),
    "counter": ("amk::signal(w, b.done, 1)", "amk::signal(w, b.x, 1)", "expected the counter"),
    "missing wait": (
        "amk::wait(w, b.done, w.epoch(12, l * 4) - 1, 3);",
        "",
        "expected amk::wait(…)",
    ),
    "missing signal": ("amk::signal(w, b.done, 1);", "", "the signal of @done is missing"),
    "early signal": (
        "w.at(0);\n",
        "w.at(0);\n amk::signal(w, b.done, 1);\n",
        "expected amk::wait",
    ),
}


@pytest.mark.parametrize("name", COUNTER_CHANGES)
def test_changes_of_counters(name: str) -> None:
    old, new, message = COUNTER_CHANGES[name]
    module = parse(COUNTED)
    text = emit(module, TARGET)
    assert old in text
    assert message in str(refusal(module, text.replace(old, new, 1)))


def test_another_order_of_tasks() -> None:
    text = printed(Model())
    blocks = re.split(r"(?m)^(?=      // task\.family @)", text)
    o = next(n for n, block in enumerate(blocks) if block.startswith("      // task.family @o "))
    blocks[o], blocks[o + 1] = blocks[o + 1], blocks[o]
    error = refusal(module_of(Model()), "".join(blocks))
    assert "runs @gate_up as task" in str(error)
    assert "the schedule has @o" in str(error)


def test_the_device_layer_of_another_target() -> None:
    text = printed(Model(), "sm_80").replace("// Target sm_80;", "// Target sm_90;")
    error = refusal(module_of(Model()), text)
    assert str(error) == "this is the device layer of sm_80, not of sm_90"


@pytest.mark.parametrize("other", ["sm_80", "sm_120", "host"])
def test_a_program_for_another_target(other: str) -> None:
    error = refusal(module_of(Model()), printed(Model(), other))
    assert str(error) == f"this program was printed for {other}, not for sm_90"
    assert error.location == "k.cu:2:1"


def test_the_first_line_that_differs() -> None:
    text = printed(Model())
    lines = text.splitlines()
    place = next(n for n, line in enumerate(lines) if "st.relaxed.gpu.global.b64" in line)
    lines[place] = lines[place].replace("relaxed", "weak")
    error = refusal(module_of(Model()), "\n".join(lines) + "\n")
    assert error.location == f"k.cu:{place + 1}:1"
    assert "differs from the packaged text of sm_90" in str(error)
    assert "st.relaxed.gpu.global.b64" in str(error)


def test_programs_for_measuring() -> None:
    traced = emit_program(module_of(Model()), TARGET, trace=TraceWindow(0, 4)).source
    assert "records a trace" in str(refusal(module_of(Model()), traced))
    idle = emit_program(module_of(Model()), TARGET, stream_only=True).source
    assert "throws its weights away" in str(refusal(module_of(Model()), idle))


def test_the_file_of_another_model() -> None:
    refusal(module_of(Model(layers=3)), printed(Model()))
    refusal(module_of(Model(workers=4)), printed(Model()))
    refusal(module_of(Model(splits=2)), printed(Model()))
