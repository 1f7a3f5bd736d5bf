"""The CUDA device on a stand-in for CuPy, and compilers; test_session.py runs launches on it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import fake_cupy
import numpy as np
import pytest
from host_fake import make_program
from tiny_model import write_model

from amk.backends import emit_program
from amk.backends.program import BufferInfo, Program, StreamLayout
from amk.bench.random_weights import RandomCheckpoint, RandomOnDevice
from amk.bench.shapes import shape_config
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16
from amk.frontend.checkpoint import Checkpoint, open_checkpoint
from amk.frontend.import_model import import_model
from amk.interpreters.numerics import chunk_bounds
from amk.runtime.abi import Launch
from amk.runtime.build import load_constants, lower
from amk.runtime.constants import constants_of, layer_count, layer_values
from amk.runtime.cubin import Cubin, compile_cuda, device_arch
from amk.runtime.cuda import CudaDevice
from amk.runtime.host import build_library
from amk.runtime.packing import Packer, unpack
from amk.runtime.staging import LOADING_CHUNKS, Staging, chunks_of
from amk.runtime.toolchain import find_cxx, find_nvcc

CHUNK = 4096
PROGRAM = replace(make_program(), workers=3, threads=320, shared_bytes=90_000)


@pytest.fixture(autouse=True)
def cupy(monkeypatch) -> Any:
    if find_cxx() is None:
        pytest.skip("no C++ compiler")
    module = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(
        "amk.runtime.cuda.cached_cubin", lambda source, _arch: build_library(source)
    )
    return module


def test_launches_one_block_for_each_worker_with_its_shared_memory():
    device = CudaDevice(PROGRAM)
    launches = fake_cupy.RawKernel.launches
    launches.clear()
    forced = np.full(65, -1, np.int32)
    forced[0] = 9
    device.write("forced", forced)
    device.start(Launch(0, 2, 0, 1000, 0))
    status = device.finish(10.0)
    assert status is not None
    assert status.code == 0
    assert launches == [((3,), (320,), 90_000)]
    assert device.read("logits", 2).shape == (2, 97)
    assert isinstance(device.array("tokens"), np.ndarray)
    device.close()


def test_launches_follow_one_another_and_are_timed():
    device = CudaDevice(PROGRAM)
    forced = np.full(65, -1, np.int32)
    forced[:3] = 9
    device.write("forced", forced)
    begun = time.perf_counter()
    device.start(*(Launch(position, 1, position, 1000, 0) for position in range(3)))
    status = device.finish(10.0)
    assert status is not None
    assert status.code == 0
    # Each sleeps for 300 us before it writes its token.
    assert 900e-6 < device.seconds() < time.perf_counter() - begun
    assert [int(packet) >> 32 for packet in device.array("tokens")[:3]] == [1, 2, 3]


def test_another_program_runs_on_the_same_memory():
    device = CudaDevice(PROGRAM)
    other = CudaDevice(PROGRAM, shared=device)
    assert other.memory["logits"] is device.memory["logits"]
    CudaDevice(replace(PROGRAM, buffers=PROGRAM.buffers[:-1]), shared=device)
    with pytest.raises(ValueError, match="no buffer 'kv' like this"):
        CudaDevice(with_buffer(BufferInfo("kv", "state", "", (3,), "f32")), shared=device)


def test_more_workers_than_can_be_resident_are_refused():
    with pytest.raises(AmkError, match="keeps only 4 resident: lower with workers=4"):
        CudaDevice(replace(PROGRAM, workers=5))


def test_too_much_shared_memory_is_refused():
    with pytest.raises(AmkError, match="needs 100001 bytes of shared memory a block, this GPU has"):
        CudaDevice(replace(PROGRAM, shared_bytes=100_001))


def test_too_little_memory_is_one_line_with_both_numbers():
    big = BufferInfo("kv", "state", "", (300_000_000,), "f32")
    with pytest.raises(AmkError, match=r"needs 1\.2 GB, 1\.0 GB of 2\.0 GB are free"):
        CudaDevice(with_buffer(big))


def test_errors_of_the_gpu_become_one_line(cupy, monkeypatch):
    device = CudaDevice(PROGRAM)

    def fail(*_arguments: object, **_options: object) -> None:
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(device, "_kernel", fail)
    with pytest.raises(AmkError, match="launching the kernel: the GPU reports cudaErrorIllegal"):
        device.start(Launch(0, 1, 0, 1000, 0))


@pytest.mark.parametrize("columns", [70, 64])
def test_packs_on_the_device_as_on_the_host(cupy, columns):
    layout = StreamLayout(1, 21, columns, "f32", 3, chunk_bounds(columns, "f32"))
    matrix = np.random.default_rng(0).standard_normal((21, columns)).astype(np.float32)
    expected = np.empty(layout.layer_bytes, np.uint8)
    Packer(layout, None).pack([matrix], expected)
    packed = cupy.zeros(layout.layer_bytes, np.uint8)
    upload = Staging(cupy, cupy.cuda.Stream(non_blocking=True)).upload
    Packer(layout, None, cupy).pack([upload(matrix[:5]), upload(matrix[5:])], packed)
    np.testing.assert_array_equal(packed.values, expected)


def test_uploads_by_turns_through_pinned_buffers_that_grow(cupy):
    staging = Staging(cupy, cupy.cuda.Stream(non_blocking=True))
    rng = np.random.default_rng(0)
    given = [
        rng.integers(0, 2**16, shape, np.uint16) for shape in ((7, 3), (100, 64), (1, 9), (20,))
    ]
    uploaded = [staging.upload(values) for values in given]
    for values, result in zip(given, uploaded, strict=True):
        np.testing.assert_array_equal(result.values, values)
    assert staging.upload(uploaded[0]) is uploaded[0]  # it is on the device already
    staging.close()


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_loads_every_constant_of_a_model(tmp_path, monkeypatch, dtype, stored):
    # Runs of a few rows, so that every tensor comes in several.
    monkeypatch.setattr("amk.runtime.staging.CHUNK_BYTES", CHUNK)
    write_model(tmp_path, vocab_size=2001, intermediate_size=400)
    checkpoint = Stored(open_checkpoint(tmp_path), stored)
    module = import_model(checkpoint, dtype=dtype)
    lower(module, 3, "sm_90")
    program = emit_program(module, "sm_90")
    device = CudaDevice(replace(program, source=PROGRAM.source, shared_bytes=0))
    before = fake_cupy.DeviceArray.peak = fake_cupy.DeviceArray.live
    load_constants(module, checkpoint, device)
    # The largest tensor has more bytes than may be in use while it is loaded.
    assert max(info.nbytes for info in program.buffers) > LOADING_CHUNKS * CHUNK
    assert fake_cupy.DeviceArray.peak - before <= LOADING_CHUNKS * CHUNK
    constants = constants_of(module)
    for info in program.buffers:
        if info.kind != "constant":
            continue
        op = constants[info.source or ""]
        for layer in range(layer_count(op)):
            expected = layer_values(op, checkpoint, layer)
            loaded = device.memory[info.name].values.reshape(layer_count(op), -1)[layer]
            if info.stream is not None:
                loaded = unpack(info.stream, loaded)
            np.testing.assert_array_equal(loaded.view(expected.dtype).ravel(), expected.ravel())


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_random_weights_are_made_on_the_device(cupy, monkeypatch, dtype):
    monkeypatch.setattr("amk.runtime.staging.CHUNK_BYTES", CHUNK)
    # Nothing may come from the host.
    monkeypatch.setattr(Staging, "_copy", None)
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    module = import_model(checkpoint, dtype=dtype)
    lower(module, 3, "sm_90")
    program = emit_program(module, "sm_90")
    device = CudaDevice(replace(program, source=PROGRAM.source, shared_bytes=0))
    load_constants(module, RandomOnDevice(checkpoint, cupy), device)
    op = constants_of(module)["w_down"]
    (info,) = (info for info in program.buffers if info.source == "w_down")
    assert info.stream is not None
    loaded = device.memory[info.name].values.reshape(2, -1)[1]
    np.testing.assert_array_equal(unpack(info.stream, loaded), layer_values(op, checkpoint, 1))


class Stored(Checkpoint):
    """A checkpoint as if its numbers were stored in another type."""

    def __init__(self, checkpoint: Checkpoint, dtype: str) -> None:
        self.name, self.config = checkpoint.name, checkpoint.config
        self._checkpoint, self._dtype = checkpoint, dtype

    def tensors(self):
        return self._checkpoint.tensors()

    def stored(self, key: str) -> np.ndarray:
        values = self._checkpoint.read(key).copy()
        if values.ndim == 2:
            values[0, :3] = np.nan, -np.inf, 1 + 2**-8  # a tie
        return to_bf16(values) if self._dtype == "bfloat16" else values.astype(self._dtype)

    def read(self, key: str) -> np.ndarray:
        values = self.stored(key)
        return from_bf16(values) if values.dtype == np.uint16 else values.astype(np.float32)

    def fingerprint(self) -> str:
        raise NotImplementedError

    def tokenizer(self):
        raise NotImplementedError


def test_weights_are_loaded_in_runs_of_rows_of_bounded_size(monkeypatch):
    monkeypatch.setattr("amk.runtime.staging.CHUNK_BYTES", 64)
    matrix = np.arange(70, dtype=np.float32).reshape(7, 10)
    parts = list(chunks_of(matrix[:, :5]))
    assert [len(part) for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(parts), matrix[:, :5])
    assert [len(part) for part in chunks_of(np.zeros((2, 100), np.float32))] == [1, 1]


def with_buffer(info: BufferInfo) -> Program:
    return replace(PROGRAM, buffers=(*PROGRAM.buffers, info))


@pytest.mark.parametrize(
    ("capability", "arch"), [((8, 0), "sm_80"), ((9, 0), "sm_90a"), ((12, 0), "sm_120a")]
)
def test_compiles_for_the_instructions_of_the_device(capability, arch):
    assert device_arch(*capability) == arch


@pytest.mark.skipif(find_nvcc() is None, reason="no nvcc")
def test_nvcc_gives_a_cubin_and_its_registers():
    cubin = compile_cuda(
        'extern "C" __global__ void k(int* p) { *p = 1; }', "sm_80", prefer_nvcc=True
    )
    assert cubin is not None
    assert cubin.image.startswith(b"\x7fELF")
    assert cubin.compiler.startswith("nvcc ")
    assert cubin.registers is not None
    assert 2 <= cubin.registers < 64
    assert cubin.spilled_bytes == 0
    with pytest.raises(AmkError, match=r"does not compile .* for sm_80: .*undefined"):
        compile_cuda("__global__ void k() { x = 1; }", "sm_80", prefer_nvcc=True)


def test_the_log_of_ptxas_may_be_silent():
    assert Cubin(b"", "", "nvcc").registers is None
    assert Cubin(b"", "ptxas info : Used 96 registers, 8 bytes spill stores", "").registers == 96
