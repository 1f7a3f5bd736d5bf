"""Schedules that are printed as tables: with the kernels of models, and of every irregular kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch import PLAIN, Batch, Case
from compilers import GPUS, needs_cxx, needs_nvcc, nvcc
from explode import explode
from models import HostRun, Model, interpreter, model, schedule

from amk.backends import emit, emit_program
from amk.errors import AmkError
from amk.passes.verify_schedule import verdict_of

PROMPT = [3, 17, 5]
STEPS = 8
MODELS: dict[str, tuple[int, Model]] = {
    "float32 on three workers": (3, model(splits=2, units=2)),
    "bfloat16 on five": (5, model(dtype="bf16", exchange="f32", splits=3)),
    "bfloat16 packets on two": (2, model(dtype="bf16", exchange="bf16", splits=2)),
}


@needs_cxx
@pytest.mark.parametrize("name", MODELS)
def test_tables_give_the_bits_of_families_and_of_the_interpreter(name: str) -> None:
    workers, made = MODELS[name]
    families = made.task_module(workers)
    tables = explode(families)
    assert verdict_of(tables).ok
    machine = interpreter(families, made.checkpoint)
    expected = list(machine.run(0, PROMPT, STEPS))
    for module in (families, tables):
        run = HostRun(module, made.checkpoint)
        assert run.generate(PROMPT, STEPS) == expected
        vocabulary = machine.logits.shape[1]
        logits = run.array("logits")[:STEPS, :vocabulary]
        np.testing.assert_array_equal(logits, machine.logits[:STEPS])


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), list(zip(GPUS, MODELS, strict=True)))
def test_tables_compile_for_every_gpu(target: str, name: str, tmp_path: Path) -> None:
    workers, made = MODELS[name]
    nvcc(emit(explode(made.task_module(workers)), target), target, tmp_path)
    nvcc(emit(schedule(IRREGULAR), target), target, tmp_path)


IRREGULAR = """
  task.buffer @a state initial : memref<4xf32>
  task.buffer @x scratch in @page + 4 : memref<2x2xf32>
  task.buffer @z scratch in @page + 24 : memref<2xbf16>
  task.buffer @own state initial : memref<2x2xf32, "shared">
  task.buffer @q scratch uses 2 : memref<4xf32, "packet">
  task.buffer @r scratch uses 1 : memref<4xbf16, "packet">
  task.buffer @y output : memref<4xi32>
  task.counter @writes
  task.counter @reads
  task.task @fill worker 0 args [in @a[0 : 4], out @x[0 : 2, 0 : 1], out @z[0 : 2],
    inout @own[0, 0 : 2], out @r[0 : 4] use 0] waits [@reads >= 0] signals [@writes += 1]
  task.task @alone args [out @q[pos mod 4] use 1] waits [@reads >= 0]
  task.repeat l in 2 {
    task.family @read for i in 2 on 1 - i stream args [index 10 * l + i, in @x[i, 0 : 1],
      in @q[pos mod 4] use 1, in @z[0 : 2], in @r[0 : 3] use 0, out @y[2 * i + l]]
      waits [@writes >= 1] signals [@reads += 1] when (pos + i) mod 2 == 0
  }
"""
"""An arena, private rows, packets of both kinds, a single task, stream queues, guards, layers."""


@needs_cxx
@pytest.mark.parametrize("start", [0, 3])
def test_every_irregular_kind_runs_as_the_interpreter_says(start: int, tmp_path: Path) -> None:
    module = schedule(IRREGULAR)
    assert verdict_of(module).ok, verdict_of(module).message
    case = Case(module, 4, start)
    expected = case.expected()
    (result,) = Batch([module], PLAIN, tmp_path).run([case.job(0)])
    assert result.status.code == 0
    assert list(result.memory[: len(expected)]) == expected
    program = emit_program(module, "host")
    assert program.workers == 4  # worker 0, the single task, and two stream queues
    assert program.task_names[0] == "fill"


DENSE = """
  task.buffer @a state initial : memref<4xf32>
  task.buffer @b output : memref<4xf32>
  task.counter @c
  task.repeat l in 2 {
    task.table @steps names ["fill"] buffers [@a, @b] counters [@c] exprs [pos mod 2, l * 2]
      tasks [[0, 0, -1, -1, 0], [1, 0, -1, -1, -1]]
      waits [[0, 0, 0], [1, 0, 2]] signals [[0, 0, 1]]
      accesses [[0, 0, 2, -1, -1, 0, 0, 4]]
  }
  task.family @copy calls @copy for i in 1 on 1 args [in @a[0 : 4], out @b[0 : 4]]
    waits [@c >= 2] signals [@c += 1]
"""
COPY = """
tile.kernel @copy(%from: memref<?xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    tile.yield %v : f32
  }
}
"""


@needs_cxx
def test_dense_tables_run_beside_families(tmp_path: Path) -> None:
    module = schedule(DENSE, COPY)
    assert verdict_of(module).ok, verdict_of(module).message
    case = Case(module, 3, 0)
    expected = case.expected()
    (result,) = Batch([module], PLAIN, tmp_path).run([case.job(0)])
    assert result.status.code == 0
    assert list(result.memory[: len(expected)]) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("+ 24", "+ 25", "@z: elements of 2 bytes cannot start at byte 25 of an arena"),
        (
            "task.counter @writes",
            "task.scalar @other in 0 to 4 step 1 task.counter @writes",
            "a launch passes one run-time scalar; the schedule has @pos, @other",
        ),
        ("out @y[2 * i + l]", "out @y[2 * i + l] if 3000000000 * pos == 0", "kCode"),
        (
            "task.counter @writes",
            'task.buffer @w constant : memref<8x16xf32, "stream"> task.counter @writes '
            "task.task @packed worker 0 args [in @w[0 : 8, 0 : 16]]",
            "@packed: only a kernel can read @w, which is packed",
        ),
    ],
)
def test_refused_tables(old: str, new: str, message: str) -> None:
    assert old in IRREGULAR
    with pytest.raises(AmkError, match=message):
        emit(schedule(IRREGULAR.replace(old, new)), "host")
