"""The program that only streams its weights."""

from __future__ import annotations

import re

import pytest

from amk.backends import emit_program
from amk.bench.random_weights import RandomCheckpoint
from amk.bench.shapes import shape_config
from amk.frontend.import_model import import_model
from amk.runtime.abi import Launch
from amk.runtime.build import lower
from amk.runtime.cubin import compile_cuda
from amk.runtime.host import HostDevice
from amk.runtime.toolchain import find_cxx, find_nvcc


def programs(target: str):
    """The normal program of a small model, and the one that only streams."""
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    module = import_model(checkpoint, dtype="bf16", context=64)
    lower(module, 3, target)
    return emit_program(module, target), emit_program(module, target, stream_only=True)


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_streams_the_same_bytes_through_the_same_ring(target):
    normal, stream = programs(target)
    assert stream.buffers == normal.buffers
    assert stream.config == normal.config
    assert stream.shared_bytes == normal.shared_bytes
    calls = re.compile(r"amk::(\w+)(?:<.*>)?\(w, (amk::Stream<.*\})\);")
    copied = [(name, what) for name, what in calls.findall(stream.source) if name == "stream"]
    thrown = [(name, what) for name, what in calls.findall(stream.source) if name == "discard"]
    assert copied == [found for found in calls.findall(normal.source) if found[0] == "stream"]
    # Consumers take what producers bring, in the same order.
    assert [what for _, what in thrown] == [what for _, what in copied]
    assert len(thrown) == 5  # of each layer q_k_v, o, gate_up and down; and the head
    assert "discard" not in normal.source
    assert "amk::product<" not in stream.source


@pytest.mark.slow
@pytest.mark.skipif(find_nvcc() is None, reason="no nvcc")
@pytest.mark.parametrize(("target", "arch"), [("sm_80", "sm_80"), ("sm_90", "sm_90a")])
def test_compiles_without_spills(target, arch):
    cubin = compile_cuda(programs(target)[1].source, arch, prefer_nvcc=True)
    assert cubin is not None
    assert cubin.spilled_bytes == 0


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
def test_runs_on_the_memory_of_the_normal_program():
    normal, stream = programs("host")
    device = HostDevice(stream, shared=HostDevice(normal))
    device.start(Launch(0, 3, 0, 1000, 0))
    status = device.finish(10.0)
    assert status is not None
    assert status.code == 0
    assert not device.array("tokens").any()
