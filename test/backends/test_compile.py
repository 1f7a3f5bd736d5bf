"""Printed kernels of models compile for every GPU, within registers and shared memory."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from compilers import GPUS, needs_nvcc, nvcc, nvrtc
from models import LLAMA_1B, SMOLLM2, Model, model
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64

from amk.backends import emit, emit_program
from amk.backends.arch import ARCHS, window_bytes
from amk.backends.program import Program
from amk.bench.shapes import SHAPES
from amk.errors import AmkError
from amk.ir.expand import schedule_of

REAL = {
    "smollm2 f32": model(SMOLLM2, seed=None, context=2048),
    "smollm2 bf16": model(SMOLLM2, seed=None, context=2048, dtype="bf16"),
    "llama 1b": model(LLAMA_1B, seed=None, context=2048, dtype="bf16"),
    "llama 13b": model(SHAPES["llama-2-13b"], seed=None, context=2048, dtype="bf16"),
}


def shape(
    heads: int, kv_heads: int, size: int, hidden: int, inner: int, vocabulary: int, layers: int
) -> dict[str, object]:
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": size,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "num_hidden_layers": layers,
    }


SMALL: list[tuple[str, int, Model]] = [
    ("sm_80", 1, model(shape(1, 1, 10, 17, 7, 37, 1), seed=None)),
    ("sm_90", 5, model(shape(9, 3, 6, 33, 41, 61, 2), seed=None, dtype="bf16", exchange="f32")),
    ("sm_120", 3, model(shape(8, 1, 4, 52, 5, 113, 4), seed=None, splits=3, units=2)),
    ("sm_80", 7, model(shape(6, 2, 16, 40, 62, 99, 3), seed=None, dtype="bf16")),
    ("sm_90", 11, model(shape(7, 7, 2, 25, 70, 121, 1), seed=None, splits=5, units=8)),
    ("sm_120", 2, model(shape(4, 2, 20, 24, 34, 53, 2), seed=None, exchange="bf16")),
]
"""Small models of odd sizes, with the target and the number of workers to compile them for."""


@cache
def real_module(name: str, workers: int) -> ModuleOp:
    return REAL[name].task_module(workers)


def real_program(name: str, target: str) -> Program:
    return emit_program(real_module(name, ARCHS[target].workers), target)


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(("target", "workers", "small"), SMALL)
def test_small_models_compile(target: str, workers: int, small: Model, tmp_path: Path) -> None:
    compiled = nvcc(emit(small.task_module(workers), target), target, tmp_path)
    assert compiled.registers * ARCHS[target].threads <= ARCHS[target].registers


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("smollm2 bf16", "sm_80"),
        ("smollm2 f32", "sm_90"),
        ("smollm2 f32", "sm_120"),
        ("llama 1b", "sm_80"),
        ("llama 1b", "sm_90"),
        ("llama 1b", "sm_120"),
        ("llama 13b", "sm_90"),
    ],
)
def test_real_shapes_compile_without_spills(name: str, target: str, tmp_path: Path) -> None:
    program = real_program(name, target)
    compiled = nvcc(program.source, target, tmp_path)
    assert compiled.spilled == compiled.stack == 0
    assert compiled.registers * program.threads <= ARCHS[target].registers


@pytest.mark.slow
def test_nvrtc_compiles_a_printed_kernel() -> None:
    _, workers, small = SMALL[1]
    assert nvrtc(emit(small.task_module(workers), "sm_90"), "sm_90")[:4] == b"\x7fELF"


@pytest.mark.parametrize("target", ARCHS)
@pytest.mark.parametrize("name", REAL)
def test_real_shapes_fit_into_shared_memory(name: str, target: str) -> None:
    program = real_program(name, target)
    config, arch = program.config, ARCHS[target]
    assert program.shared_bytes <= arch.shared_bytes
    assert config["kSlots"] % config["kSlices"] == 0
    assert config["kProducers"] <= config["kWindow"] <= config["kWideWindow"] <= config["kSlots"]
    if config["kWideWindow"] < config["kSlots"]:
        # The fewest copies of each producer that keep memory busy, or a few more.
        streams = [info.stream for info in program.buffers if info.stream is not None]
        copies = sum(s.layers * s.blocks * (len(s.chunk_bounds) - 1) for s in streams)
        mean = sum(s.layers * s.layer_bytes for s in streams) / copies
        # An H100 needs 28 KiB for each of its 132; others by their memory.
        wanted = (28 << 10) * (arch.bandwidth / 3350) * (132 / arch.workers)
        assert (config["kWideWindow"] - config["kProducers"]) * mean < wanted * 7 / 6 * 1.03
        assert config["kWideWindow"] * mean > wanted
        assert config["kWindow"] * mean > 0.97 * wanted * 3 / 4
        # While attention reads rows, what it has in flight counts: units of 2 KiB a warp.
        rows = 8 * config["kRowUnits"] * 2048
        assert config["kPausedWindow"] * mean + rows <= max(rows, 1.03 * wanted)
    assert config["kRowUnits"] in (2, 3)
    # A whole ring of the largest chunks, and what else a block needs, leave less than eight slots.
    if config["kSlots"] < 64:
        assert program.shared_bytes + 8 * config["kSlotBytes"] > arch.shared_bytes
    assert f"constexpr int kSlots = {config['kSlots']};" in program.source


def test_a_schedule_may_choose_its_ring_and_window() -> None:
    module = REAL["smollm2 bf16"].task_module(128)
    schedule = schedule_of(module)
    schedule.properties["ring"] = IntegerAttr(16, i64)
    schedule.properties["window"] = IntegerAttr(6000, i64)
    config = emit_program(module, "sm_90").config
    # A stage has 1,314 bytes on the average, and there are four producers.
    assert (config["kSlots"], config["kWindow"], config["kWideWindow"]) == (16, 4, 8)
    del schedule.properties["window"]
    assert emit_program(module, "sm_90").config["kWindow"] == 16  # as much as the ring holds
    for ring, most in ((20, 16), (800, 64)):
        schedule.properties["ring"] = IntegerAttr(ring, i64)
        message = f"ring of {ring} slots is not a multiple of 8 .* on sm_90: take {most} or fewer"
        with pytest.raises(AmkError, match=message):
            emit_program(module, "sm_90")


@pytest.mark.parametrize("bandwidth", [3350, 4814], ids=["H100", "H200"])
def test_windows_are_those_that_were_the_fastest(bandwidth: float) -> None:
    # docs/results: two stages of each copy warp, three where the ring is empty, none beside rows.
    module = REAL["llama 1b"].task_module(128)
    window = window_bytes(bandwidth, 132)
    schedule_of(module).properties["window"] = IntegerAttr(window, i64)
    config = emit_program(module, "sm_90").config
    assert config["kProducers"] == 4
    assert (config["kWindow"], config["kWideWindow"], config["kPausedWindow"]) == (8, 12, 0)


def test_a_shape_that_one_block_cannot_hold_is_refused() -> None:
    # The residual of one worker alone is larger than its shared memory.
    wide = model(shape(2, 1, 8, 40_000, 16, 33, 1), seed=None).task_module(1)
    for target in GPUS:
        with pytest.raises(AmkError, match=r"the smallest ring needs \d+ bytes of shared memory"):
            emit(wide, target)


@pytest.mark.parametrize(
    ("small", "message"),
    [
        (
            model(shape(2, 1, 8, 25, 20, 29, 1), seed=None, exchange="bf16"),
            "@q_k_v: sm_90 reads pairs of bf16, but @x holds 25 elements: lower with exchange=f32",
        ),
    ],
)
def test_what_only_the_host_can_do_is_refused(small: Model, message: str) -> None:
    module = small.task_module(2)
    with pytest.raises(AmkError) as error:
        emit(module, "sm_90")
    assert str(error.value) == message
    emit(module, "host")


def test_the_size_of_the_program_does_not_depend_on_the_number_of_layers() -> None:
    few, many = (
        emit(model({"num_hidden_layers": n}, seed=None).task_module(3), "sm_90").splitlines()
        for n in (2, 40)
    )
    assert len(few) == len(many)
    # They differ in the count of the loop, the size of buffers and the numbers of packet uses.
    different = [(a, b) for a, b in zip(few, many, strict=True) if a != b]
    assert 1 < len(different) < 80
    for a, b in different:
        assert re.sub(r"\d+", "N", a) == re.sub(r"\d+", "N", b)
    assert "    for (int l = 0; l < 40; ++l) {" in many


def test_the_same_module_prints_the_same_text() -> None:
    one, two = (emit(SMALL[3][2].task_module(4), "sm_90") for _ in range(2))
    assert one == two


def test_a_printed_file_stands_alone() -> None:
    for target in GPUS:
        source = emit(SMALL[0][2].task_module(2), target)
        assert source.isascii()
        assert not [x for x in source.splitlines() if x.startswith("#include") and '"' in x]
        assert source.count('extern "C" __global__ void') == 1
        assert max(map(len, source.splitlines())) < 400
