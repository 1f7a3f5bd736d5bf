"""What the printer does with schedules that no lowering makes: expressions, refusals, counters."""

from __future__ import annotations

import dataclasses
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from compilers import GPUS, needs_cxx, needs_nvcc, nvcc
from models import HostRun, model, parse, schedule

from amk.backends import emit, emit_program
from amk.backends.arch import ARCHS
from amk.backends.device import CONFIG_KEYS, device_text
from amk.backends.print_program import emit_program as emit_for
from amk.backends.printer.expressions import Variables
from amk.backends.printer.text import spell
from amk.errors import AmkError
from amk.interpreters.task import TaskMachine
from amk.passes.verify_schedule import check
from amk.runtime.toolchain import find_cxx
from amk.schedule.expr import Expr

RANGES = {"i": (0, 7), "l": (0, 40), "pos": (0, 2047), "n": (-9, 5), "big": (0, 2**31 - 2)}
VARIABLES = Variables({name: name for name in RANGES}, RANGES)


def random_expr(choose: random.Random, depth: int) -> Expr:
    """Sums, differences, floor divisions and remainders; products by constants of either sign."""
    kind = choose.randrange(6) if depth else 5
    if kind == 5:
        name = choose.choice([*RANGES, ""])
        return Expr.var(name) if name else Expr.const(choose.randint(-20, 20))
    left = random_expr(choose, depth - 1)
    if kind in (0, 1):
        right = random_expr(choose, depth - 1)
        return left + right if kind == 0 else left - right
    if kind == 2:
        return left * choose.choice([-7, -1, 2, 3, 512])
    divisor = choose.choice([1, 2, 3, 7, 8, 100])
    return left // divisor if kind == 3 else left % divisor


@needs_cxx
def test_printed_expressions_have_the_values_of_the_ir(tmp_path: Path) -> None:
    choose = random.Random(1)
    exprs = [random_expr(choose, 4) for _ in range(400)]
    exprs = [e for e in exprs if all(abs(end) < 2**60 for end in VARIABLES.range(e))]
    assert len(exprs) > 300
    points = [{n: choose.randint(*ends) for n, ends in RANGES.items()} for _ in range(6)]
    points += [{n: ends[side] for n, ends in RANGES.items()} for side in (0, 1)]
    lines = [f'  std::printf("%ld\\n", long({VARIABLES.print(e)}));' for e in exprs]
    arguments = ", ".join(f"int {name}" for name in RANGES)
    calls = [f"  f({', '.join(str(p[n]) for n in RANGES)});" for p in points]
    config = [f"constexpr int {key} = 8;" for key in CONFIG_KEYS]
    head = ["#include <cstdio>", "namespace amk::config {", *config, "}", device_text("host")]
    body = [f"static void f({arguments}) {{", *lines, "}", "int main() {", *calls, "}"]
    source = "\n".join([*head, *body])
    file = tmp_path / "expressions.cpp"
    file.write_text(source)
    command = [
        str(find_cxx()),
        "-std=c++20",
        "-O0",
        "-ftrapv",
        str(file),
        "-o",
        str(tmp_path / "e"),
    ]
    subprocess.run([*command, "-pthread"], check=True)
    output = subprocess.run([tmp_path / "e"], capture_output=True, check=True, text=True).stdout
    found = [int(line) for line in output.split()]
    assert found == [int(e.evaluate(p)) for p in points for e in exprs]


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (Expr.var("i") * 8 + 3, "i * 8 + 3"),
        (Expr.const(0) - Expr.var("i"), "-i"),
        ((Expr.var("i") * 4) // 3, "((i * 4) / 3)"),
        (Expr.var("pos") % 2, "(pos % 2)"),
        ((Expr.var("pos") - Expr.var("i")) % 2, "amk::floormod(-i + pos, 2)"),
        (Expr.var("n") // 4, "amk::floordiv(n, 4)"),
        (Expr.var("big") * 8, "long(big) * 8"),
        (Expr.const(-5), "-5"),
    ],
    ids=str,
)
def test_expressions_are_readable(expr: Expr, text: str) -> None:
    assert VARIABLES.print(expr) == text


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(AmkError, match="the printer does not know the variable 'q'"):
        VARIABLES.print(Expr.var("q") + 1)


def test_names_become_identifiers() -> None:
    assert [spell(n) for n in ("row", "w", "int", "v12", "a.b-c", "2x", "out_x", "")] == [
        "row", "w_", "int_", "nv12", "a_b_c", "n2x", "nout_x", "n",
    ]  # fmt: skip
    assert spell("launch", {"launch", "launch_"}) == "launch__"


# ---- counters ------------------------------------------------------------------------------------

ADD = """
tile.kernel @advance(%mine: memref<4xf32>, %theirs: memref<4xf32>, %seen: memref<4xf32>,
                     %next: memref<4xf32>, %who: index) {
  tile.map -> %next, %seen {counts = array<i64: 1, 1>} {
  ^bb0(%e: index):
    %a = tile.load %mine[%e]
    %b = tile.load %theirs[%e]
    %half = arith.constant 5.000000e-01 : f32
    %c = arith.mulf %b, %half : f32
    %d = arith.addf %a, %c : f32
    %p = arith.addi %e, %who : index
    %q = arith.index_cast %p : index to i32
    %r = arith.sitofp %q : i32 to f32
    %s = arith.addf %d, %r : f32
    tile.yield %s, %b : f32, f32
  }
}
"""
COUNTED = """
  task.buffer @x state initial : memref<2x2x4xf32>
  task.buffer @seen output : memref<8x2x4xf32>
  task.counter @done
  task.family @advance calls @advance for i in 2 on i args [
    in @x[iter mod 2, i, 0 : 4], in @x[iter mod 2, (i + 1) mod 2, 0 : 4],
    out @seen[pos, i, 0 : 4], out @x[(iter + 1) mod 2, i, 0 : 4], index 10 * i]
    waits [@done >= 0] signals [@done += 1]
"""
"""Two workers: each reads what the other wrote in the iteration before, under a counter."""


@needs_cxx
def test_plain_memory_is_exchanged_under_a_counter() -> None:
    module = schedule(COUNTED, ADD)
    check(module, "sm_90")
    machine = TaskMachine(module)
    machine.array("x")[...] = 1
    run = HostRun(module)
    run.array("x")[...] = 1
    base = 0
    # The counter goes on from launch to launch, as the base of the epochs does.
    for steps, pos in ((3, 0), (1, 3), (4, 4)):
        list(machine.launch({"pos": pos}, steps))
        status = run.launch(steps, base, pos)
        assert status.code == 0
        base += steps
        # `iter` starts at 0 again: what the next launch reads first is what this one wrote last.
        if steps % 2:
            for x in (machine.array("x"), run.array("x")):
                x[...] = x[::-1].copy()
    np.testing.assert_array_equal(run.array("seen"), machine.array("seen"))
    np.testing.assert_array_equal(run.array("x"), machine.array("x"))
    assert len(np.unique(run.array("seen"))) > 20
    assert int(run.array("done")[0]) == 16


def test_counters_are_printed_as_waits_and_signals() -> None:
    source = emit(schedule(COUNTED, ADD), "sm_90")
    assert "amk::wait(w, b.done, w.epoch(2, 0) - 1, 2);" in source
    assert "amk::signal(w, b.done, 1);" in source
    assert "uint32_t* done;" in source
    program = emit_program(schedule(COUNTED, ADD), "sm_90")
    assert program.buffer_names == ("x", "seen", "done")
    assert program.buffer("done").space == "counter"


@needs_cxx
def test_a_counter_that_stays_behind_ends_the_launch_with_its_name() -> None:
    # Such a schedule does not verify; the printer trusts its caller.
    run = HostRun(schedule(COUNTED.replace("@done >= 0", "@done >= 3"), ADD))
    from amk.runtime.abi import Launch, launch_error

    launch = Launch(0, 4, 0, 200, 0)
    run.device.start(launch)
    status = run.device.finish(20)
    assert status is not None
    message = str(launch_error(run.device.program, launch, status))
    assert (
        "waited more than 0.2 s for element 0 of buffer 'done' (expected 3, last seen 0)" in message
    )
    assert "task 'advance'" in message


# ---- names and shapes that models do not have ----------------------------------------------------

NAMES = """
tile.kernel @k(%in: memref<4xf32>, %w: memref<?xf32>, %v0: index, %i: index, %b: memref<?xf32>) {
  tile.map -> %w, %b {counts = array<i64: 1, 1>} {
  ^bb0(%r: index):
    %c = tile.load %in[%r]
    %0 = arith.addi %v0, %i : index
    %1 = arith.index_cast %0 : index to i32
    %2 = arith.sitofp %1 : i32 to f32
    %3 = arith.addf %c, %2 : f32
    tile.yield %3, %c : f32, f32
  }
}
"""
NAMED = """
  task.buffer @int input : memref<2x4xf32>
  task.buffer @launch output : memref<3x3x8xf32>
  task.buffer @b output : memref<1xf32>
  task.repeat w in 3 {
    task.family @r calls @k for k in 2 on k args [
      in @int[k, 0 : 4], out @launch[w, k, 0 : 4], index w * 10, index k + 1,
      out @launch[w, k, 4 : 8]]
    task.family @one calls @k for j in 1 on 1 args [
      in @int[0, 0 : 4], out @launch[w, 2, 0 : 4], index w * 10, index j + 1,
      out @launch[w, 2, 4 : 8]]
  }
"""


@needs_cxx
def test_names_of_the_ir_may_be_those_of_the_program() -> None:
    module = schedule(NAMED, NAMES)
    machine, run = TaskMachine(module), HostRun(module)
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    machine.array("int")[...] = values
    run.array("int")[...] = values
    list(machine.launch({"pos": 0}, 1))
    assert run.launch(1).code == 0
    np.testing.assert_array_equal(run.array("launch"), machine.array("launch"))
    assert run.array("launch")[2, 1, 0] == 4 + 20 + 2


@needs_nvcc
@pytest.mark.slow
def test_odd_schedules_compile(tmp_path: Path) -> None:
    # They leave parts of the device layer unused, of which nvcc warns.
    nvcc(emit(schedule(NAMED, NAMES), "sm_120"), "sm_120", tmp_path, strict=False)
    nvcc(emit(schedule(COUNTED, ADD), "sm_80"), "sm_80", tmp_path, strict=False)


PRODUCTS = """
tile.constant @first {kind = "rows", sources = ["model.layers.{layer}.first"]} : memref<4x16x24xf32>
tile.constant @second {kind = "rows", sources = ["second"]} : memref<16x24xf32>
tile.kernel @both(%one: memref<?x24xf32, "stream">, %two: memref<?x24xf32, "stream">,
                  %x: memref<24xf32>, %g: memref<24xf32>, %a: memref<?xf32>, %b: memref<?xf32>) {
  tile.product %one, %x -> %a {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k0: index, %x0: f32):
    %g0 = tile.load %g[%k0]
    %y0 = arith.mulf %x0, %g0 : f32
    tile.yield %y0 : f32
  } epilogue {
  ^bb0(%r0: index, %s0: f32):
    tile.yield %s0 : f32
  }
  tile.product %two, %x -> %b {group = 4 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k1: index, %x1: f32):
    %g1 = tile.load %g[%k1]
    %y1 = arith.subf %x1, %g1 : f32
    %z1 = arith.mulf %y1, %y1 : f32
    tile.yield %y1, %z1 : f32, f32
  } epilogue {
  ^bb0(%r1: index, %s1: f32, %s2: f32, %s3: f32, %s4: f32, %stat: f32):
    %t1 = arith.addf %s1, %s2 : f32
    %t2 = arith.mulf %s3, %s4 : f32
    %t3 = arith.subf %t1, %t2 : f32
    %t4 = arith.divf %t3, %stat : f32
    tile.yield %t4 : f32
  }
}
"""
TWO_PRODUCTS = """
  task.buffer @first constant from @first : memref<4x16x24xf32, "stream">
  task.buffer @second constant from @second : memref<16x24xf32, "stream">
  task.buffer @x input : memref<24xf32>
  task.buffer @g input : memref<3x24xf32>
  task.buffer @y output : memref<2x2x20xf32>
  task.repeat l in 2 {
    task.repeat m in 2 {
      task.family @both calls @both for k in 2 on (k + 1) mod 2 args [
        in @first[2 * l + m, 8 * k : 8 * k + 8, 0 : 24], in @second[8 * k : 8 * k + 8, 0 : 24],
        in @x[0 : 24], in @g[k + 1, 0 : 24], out @y[l, m, 8 * k : 8 * k + 8],
        out @y[l, m, 16 + 2 * k : 18 + 2 * k]]
    }
  }
"""


class Weights:
    """Random parameters of @first and @second."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(5).standard_normal((5, 16, 24)).astype(np.float32)

    def read(self, key: str) -> np.ndarray:
        return self.random[4 if key == "second" else int(key.split(".")[2])]

    def read_bf16(self, key: str) -> np.ndarray:
        raise NotImplementedError


@needs_cxx
def test_two_products_in_one_kernel_and_nested_layers() -> None:
    from amk.runtime.build import load_constants

    module, weights = schedule(TWO_PRODUCTS, PRODUCTS), Weights()
    constants = {"first": weights.random[:4], "second": weights.random[4]}
    machine, run = TaskMachine(module, constants.__getitem__), HostRun(module)
    load_constants(module, weights, run.device)
    random_values = np.random.default_rng(6)
    for name, shape in (("x", (24,)), ("g", (3, 24))):
        values = random_values.standard_normal(shape).astype(np.float32)
        machine.array(name)[...] = values
        run.array(name)[...] = values
    list(machine.launch({"pos": 0}, 1))
    assert run.launch(1).code == 0
    np.testing.assert_array_equal(run.array("y"), machine.array("y"))
    for target in GPUS:
        assert "b.first + (l * 2 + m) * amk::layer_bytes" in emit(module, target)


# ---- refusals ------------------------------------------------------------------------------------

COPY = """
tile.kernel @copy(%from: memref<?xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    BODY
    tile.yield %v : f32
  }
}
tile.kernel @own(%from: memref<?xf32>, %to: memref<?xf32, "shared">) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    tile.yield %v : f32
  }
}
"""
BUFFERS = """
  task.buffer @a input : memref<4x4xf32>
  task.buffer @b output : memref<4x4xf32>
  task.buffer @s scratch : memref<2x4xf32, "shared">
"""
ARGS = "args [in @a[i, 0 : 4], out @b[i, 0 : 4]]"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            f"task.family @f calls @nothing for i in 2 on i {ARGS}",
            "@f: there is no kernel @nothing",
        ),
        (
            "task.family @f calls @own for i in 2 on i args ["
            "in @a[i, 0 : 4], out @s[(i + 1) mod 2, 0 : 4]]",
            "@f: @s is in shared memory, so its first index must be the worker of the task",
        ),
        (
            "task.family @f calls @own for i in 2 on i args [in @a[i, 0 : 4], out @s[0, 0 : 4]]",
            "@f: @s is in shared memory, so its first index must be the worker of the task",
        ),
        (
            "task.family @f calls @copy for i in 2 on i args [in @a[i, 0 : 4], out @b[0 : 4, i]]",
            "@b[0 : 4, i] is no run of neighbouring elements: the printer reads those by tile.load "
            "only",
        ),
        (
            "task.scalar @other in 0 to 4 step 2 "
            f"task.family @f calls @copy for i in 2 on i {ARGS}",
            "a launch passes one run-time scalar; the schedule has @pos, @other",
        ),
    ],
)  # fmt: skip
def test_refused_schedules(body: str, message: str) -> None:
    module = schedule(BUFFERS + body, COPY.replace("BODY", ""))
    for target in ("sm_90", "host"):
        with pytest.raises(AmkError) as error:
            emit(module, target)
        assert str(error.value) == message
        assert (error.value.location or "").startswith("test.mlir:")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("%c = math.sin %v : f32", "the printer has no rule for math.sin; known: arith.addf, "),
        ("%c = arith.cmpf ugt, %v, %v : f32", "the printer knows only ordered float comparisons"),
        (
            "%c = arith.constant 1 : i64 %d = arith.addi %c, %c : i64",
            "the printer computes with f32, i32, i1 and index, not with i64",
        ),
    ],
)
def test_refused_operations(op: str, message: str) -> None:
    body = BUFFERS + f"task.family @f calls @copy for i in 2 on i {ARGS}"
    module = schedule(body, COPY.replace("BODY", op))
    with pytest.raises(AmkError) as error:
        emit(module, "sm_90")
    assert str(error.value).startswith(message)
    assert (error.value.location or "").startswith("test.mlir:")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "in @second[8 * k : 8 * k + 8, 0 : 24]",
            "in @second[0 : 8, 0 : 24]",
            "@both: @second is packed for rows dealt evenly to 2 instances; the family reads rows "
            "0 : 8",
        ),
        (
            "in @second[8 * k : 8 * k + 8, 0 : 24]",
            "in @second[8 * k : 8 * k + 4, 0 : 24]",
            "@both: @second is packed for rows dealt evenly to 2 instances; the family reads rows "
            "k * 8 : k * 8 + 4",
        ),
        (
            "from @second : memref<16x24xf32",
            "from @second : memref<16x48xf32",
            "@both: @second is packed for whole rows; the family reads columns 0 : 24 of 48",
        ),
    ],
)
def test_refused_streams(old: str, new: str, message: str) -> None:
    kernels = PRODUCTS
    if "memref" in new:
        kernels = kernels.replace("memref<16x24xf32>", "memref<16x48xf32>")
    assert old in TWO_PRODUCTS
    with pytest.raises(AmkError) as error:
        emit(schedule(TWO_PRODUCTS.replace(old, new), kernels), "sm_90")
    assert str(error.value) == message


def test_one_constant_streamed_in_two_ways_is_refused() -> None:
    family = TWO_PRODUCTS[TWO_PRODUCTS.index("task.repeat l") :]
    again = family.replace("@both calls", "@again calls").replace(
        "for k in 2 on (k + 1) mod 2", "for k in 1 on k"
    )
    module = schedule(TWO_PRODUCTS + again, PRODUCTS)
    with pytest.raises(AmkError, match="is streamed by two families in different ways"):
        emit(module, "sm_90")


def test_packets_are_asked_for_by_name() -> None:
    kernel = """
tile.kernel @best(%v: memref<2xf32>, %j: memref<2xi32>, %to: memref<1xi32>) {
  %0 = arith.constant 0 : index
  %t = tile.argmax %v, %j
  tile.store %t, %to[%0]
}
"""
    body = """
  task.buffer @v input : memref<2xf32>
  task.buffer @j input : memref<2xi32>
  task.buffer @to output : memref<2xi32>
  task.family @f calls @best for i in 2 on i args [in @v[0 : 2], in @j[0 : 2], out @to[i : i + 1]]
"""
    with pytest.raises(AmkError, match="@v is used where the printer needs packets"):
        emit(schedule(body, kernel), "host")


def test_a_ring_that_does_not_fit_is_refused() -> None:
    module = parse(model().text(2))
    small = dataclasses.replace(ARCHS["sm_90"], name="sm_small", shared_bytes=8 * 1024)
    with pytest.raises(AmkError) as error:
        emit_for(module, small)
    assert re.fullmatch(
        r"the smallest ring needs \d+ bytes of shared memory, a block on sm_small has 8192: "
        r"use more workers, or another architecture",
        str(error.value),
    )


@needs_nvcc
@pytest.mark.slow
def test_two_products_compile(tmp_path: Path) -> None:
    source = emit(schedule(TWO_PRODUCTS, PRODUCTS), "sm_90")
    assert nvcc(source, "sm_90", tmp_path, strict=False).spilled == 0
