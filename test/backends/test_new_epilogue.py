"""Epilogues that no model has, written in IR alone: they print for every target, and run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from compilers import GPUS, needs_cxx, needs_nvcc, nvcc
from models import HostRun, interpreter, model, parse

from amk.backends import emit
from amk.passes.verify_schedule import check

WORKERS = 3
MODEL = model({"num_hidden_layers": 2}, splits=2)
TOKENS = [3, 17, 8]
STEPS = 6
SILU = re.compile(
    r"( *)(%\w+) = arith\.negf (?P<gate>%\w+) : f32\n"
    r" *(%\w+) = math\.exp \2 : f32\n"
    r" *(%\w+) = arith\.constant 1\.0\w*\+00 : f32\n"
    r" *(%\w+) = arith\.addf \5, \4 : f32\n"
    r" *(?P<result>%\w+) = arith\.divf (?P=gate), \6 : f32\n"
)

# Each text computes %NEW from %GATE (f32), where %ROW is the row's index.
EPILOGUES = {
    "soft cap": """
      %cap = arith.constant 3.000000e+00 : f32
      %two = arith.constant 2.000000e+00 : f32
      %one = arith.constant 1.000000e+00 : f32
      %scaled = arith.divf %GATE, %cap : f32
      %doubled = arith.mulf %scaled, %two : f32
      %e = math.exp %doubled : f32
      %above = arith.addf %e, %one : f32
      %part = arith.divf %two, %above : f32
      %tanh = arith.subf %one, %part : f32
      %NEW = arith.mulf %cap, %tanh : f32
""",
    "gelu": """
      %slope = arith.constant -1.702000e+00 : f32
      %one = arith.constant 1.000000e+00 : f32
      %z = arith.mulf %GATE, %slope : f32
      %e = math.exp %z : f32
      %d = arith.addf %one, %e : f32
      %NEW = arith.divf %GATE, %d : f32
""",
    "clamped, negative literals": """
      %low = arith.constant -5.000000e-01 : f32
      %high = arith.constant 1.250000e+00 : f32
      %minus = arith.negf %low : f32
      %a = arith.maximumf %GATE, %low : f32
      %b = arith.minimumf %a, %high : f32
      %c = arith.minimumf %low, %b : f32
      %d = math.absf %c : f32
      %e = math.absf %low : f32
      %f = arith.addf %d, %minus : f32
      %g = arith.mulf %f, %b : f32
      %NEW = arith.subf %g, %e : f32
""",
    "all float operations": """
      %none = arith.constant 0xff800000 : f32
      %far = arith.negf %none : f32
      %small = arith.constant 1.000000e-30 : f32
      %square = arith.mulf %GATE, %GATE : f32
      %sum = arith.addf %square, %small : f32
      %root = math.sqrt %sum : f32
      %inverse = math.rsqrt %sum : f32
      %product = arith.mulf %root, %inverse : f32
      %bounded = arith.minimumf %product, %far : f32
      %positive = arith.cmpf ogt, %GATE, %small : f32
      %equal = arith.cmpf oeq, %GATE, %GATE : f32
      %least = arith.cmpf ole, %GATE, %root : f32
      %most = arith.cmpf oge, %GATE, %root : f32
      %less = arith.cmpf olt, %GATE, %small : f32
      %both = arith.andi %positive, %equal : i1
      %either = arith.ori %both, %less : i1
      %other = arith.xori %least, %most : i1
      %x = arith.select %either, %GATE, %bounded : f32
      %NEW = arith.select %other, %x, %product : f32
""",
    "by row": """
      %three = arith.constant 3 : index
      %two = arith.constant 2 : index
      %rest = arith.remui %ROW, %three : index
      %part = arith.divui %ROW, %two : index
      %times = arith.muli %rest, %two : index
      %mixed = arith.addi %times, %part : index
      %back = arith.subi %mixed, %rest : index
      %number = arith.index_cast %back : index to i32
      %minus = arith.constant -2 : i32
      %moved = arith.addi %number, %minus : i32
      %value = arith.sitofp %moved : i32 to f32
      %large = arith.cmpi ugt, %moved, %number : i32
      %small = arith.cmpi slt, %moved, %number : i32
      %even = arith.cmpi eq, %rest, %two : index
      %a = arith.select %large, %value, %GATE : f32
      %b = arith.select %small, %a, %value : f32
      %c = arith.mulf %b, %GATE : f32
      %NEW = arith.select %even, %c, %b : f32
""",
}


def edited(text: str, epilogue: str) -> str:
    """The module with another function in the place of SiLU."""
    match = SILU.search(text)
    assert match is not None
    assert SILU.search(text, match.end()) is None
    row = re.findall(r"\^bb\d+\((%\w+): index", text[: match.start()])[-1]
    names = {name: f"%new_{name}" for name in re.findall(r"%([a-z]+) =", epilogue)}
    replacement = re.sub(r"%([a-z]+)\b", lambda m: names[m[1]], epilogue.strip("\n"))
    for name, value in (("GATE", match["gate"]), ("ROW", row), ("NEW", match["result"])):
        replacement = replacement.replace(f"%{name}", value)
    return text[: match.start()] + replacement + "\n" + text[match.end() :]


@cache
def base() -> str:
    return MODEL.text(WORKERS)


def replace_once(text: str, pattern: str, replacement: str) -> str:
    """`text` with the one match of a pattern replaced."""
    result, count = re.subn(pattern, replacement, text)
    assert count == 1, (pattern, count)
    return result


def with_bias(text: str) -> str:
    """A bias, from a new constant buffer, on the rows of the MLP's first product."""
    text = edited(
        text, "  %bias = tile.load %bias_vector[%ROW]\n  %NEW = arith.addf %GATE, %bias : f32\n"
    )
    text = text.replace("%new_bias_vector", "%bias_vector")
    text = replace_once(
        text,
        r"(tile\.kernel @gate_up\(.*?)(, %gate_up_out\w*: )",
        r"\1, %bias_vector: memref<?xf32>\2",
    )
    # Any parameter of the right size does.
    text = replace_once(
        text,
        r"(builtin\.module \{\n)",
        r'\1  tile.constant @bias {kind = "rows", '
        r'sources = ["model.layers.{layer}.post_attention_layernorm.weight"]} : memref<2x24xf32>\n',
    )
    text = replace_once(
        text,
        r"( *)(task\.buffer @gate_up_out )",
        r"\1task.buffer @b constant from @bias : memref<2x24xf32>\n\1\2",
    )
    return replace_once(
        text,
        r"( *)(out @gate_up_out\[(.*?)\] use l\])",
        r"\1in @b[l, \3],\n\1\2",
    )


def with_two_outputs(text: str) -> str:
    """The epilogue also writes the gate and its product with itself to memory that it owns."""
    text = replace_once(
        text,
        r"(tile\.kernel @gate_up\(.*?%(gate_up_out\w*): memref<\?xf32, \"packet\">)",
        r"\1, %seen: memref<?xf32>",
    )
    text = replace_once(
        text,
        r"( -> %gate_up_out\w*) \{group = 2 : i64, counts = array<i64: 1>\}",
        r"\1, %seen {group = 2 : i64, counts = array<i64: 1, 2>}",
    )
    gate = SILU.search(text)
    assert gate is not None
    end = text.index("tile.yield", gate.end())
    text = text[:end] + f"%sq = arith.mulf {gate['gate']}, {gate['gate']} : f32\n" + text[end:]
    yielded = re.compile(r"(%sq = .*\n *tile\.yield %\w+) : f32")
    text = yielded.sub(rf"\1, {gate['gate']}, %sq : f32, f32, f32", text)
    text = replace_once(
        text,
        r"( *)(task\.buffer @gate_up_out )",
        r"\1task.buffer @gates output : memref<2x64xf32>\n\1\2",
    )
    return replace_once(
        text,
        r"( *)(out @gate_up_out\[(.*?) : (.*?)\] use l)\]",
        r"\1\2,\n\1out @gates[l, (\3) * 2 : (\4) * 2]]",
    )


CASES = {name: (lambda text, e=epilogue: edited(text, e)) for name, epilogue in EPILOGUES.items()}
CASES |= {"bias": with_bias, "two outputs": with_two_outputs}


@cache
def text_of(name: str) -> str:
    return CASES[name](base())


@needs_cxx
@pytest.mark.parametrize("name", CASES)
def test_host_equals_the_interpreter_bit_for_bit(name: str) -> None:
    module = parse(text_of(name))
    machine = interpreter(module, MODEL.checkpoint)
    wanted = list(machine.run(0, TOKENS, STEPS))
    run = HostRun(module, MODEL.checkpoint)
    assert run.generate(TOKENS, STEPS) == wanted
    logits = run.array("logits")[:STEPS]
    np.testing.assert_array_equal(bits(logits), bits(machine.array("logits")[:STEPS]))
    if name == "two outputs":
        gates = run.array("gates")[:, :40]
        np.testing.assert_array_equal(bits(gates), bits(machine.array("gates")[:, :40]))
        np.testing.assert_array_equal(gates[:, 0::2] * gates[:, 0::2], gates[:, 1::2])


def bits(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The bit patterns: NaN equals itself, and 0 is not -0."""
    return np.asarray(values, np.float32).view(np.uint32)


def test_the_new_epilogues_differ_from_the_old_one() -> None:
    old = interpreter(parse(base()), MODEL.checkpoint)
    list(old.run(0, TOKENS, len(TOKENS)))
    for name in CASES:
        new = interpreter(parse(text_of(name)), MODEL.checkpoint)
        list(new.run(0, TOKENS, len(TOKENS)))
        same = np.array_equal(new.logits[: len(TOKENS)], old.logits[: len(TOKENS)])
        assert same == (name == "two outputs")


@pytest.mark.parametrize("name", ["bias", "two outputs"])
def test_the_schedules_verify(name: str) -> None:
    check(parse(text_of(name)), "sm_90")


@pytest.mark.parametrize("name", CASES)
def test_prints_for_every_target(name: str) -> None:
    module = parse(text_of(name))
    for target in (*GPUS, "host"):
        source = emit(module, target)
        assert "task.family @gate_up calls @gate_up" in source
        assert source.isascii()


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("sm_80", "clamped, negative literals"),
        ("sm_80", "two outputs"),
        ("sm_90", "all float operations"),
        ("sm_90", "two outputs"),
        ("sm_120", "by row"),
        ("sm_120", "bias"),
    ],
)
def test_compiles(target: str, name: str, tmp_path: Path) -> None:
    assert nvcc(emit(parse(text_of(name)), target), target, tmp_path).spilled == 0
