"""AMK's side of a benchmark: the program, the same ring without consumers, and their times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit_program
from amk.bench.random_weights import RandomCheckpoint, RandomOnDevice, RandomRows
from amk.bench.stats import Times
from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint
from amk.frontend.config import parse_config
from amk.frontend.import_model import DtypeName, import_model
from amk.runtime.abi import Launch
from amk.runtime.build import DEFAULTS, PassOptions
from amk.runtime.choose import HOST, Choice, choose_device
from amk.runtime.constants import Weights
from amk.runtime.device import Device
from amk.runtime.model import TIMEOUT_SECONDS, CompiledModel
from amk.runtime.progress import Advance, Progress, silent
from amk.runtime.staging import CHUNK_BYTES
from amk.runtime.toolchain import find_cxx, missing_cxx

MOST_TOKENS = 64
"""Tokens of a long launch: few enough that the context hardly changes, many enough that the start
of the launch does not count."""
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
_FIRST_TOKEN = 1


@dataclass(frozen=True)
class Prepared:
    """A verified schedule, where it will run, and the weights as that device takes them."""

    module: ModuleOp
    choice: Choice
    weights: Weights


def prepare(
    checkpoint: Checkpoint,
    arch: str,
    *,
    dtype: DtypeName | None,
    context: int,
    workers: int | None,
    options: PassOptions,
    progress: Progress,
) -> Prepared:
    """Import, lower and verify; other arguments are those of `amk.compile`."""
    choice = choose_device(arch, workers)
    if choice.target == HOST and find_cxx() is None:
        raise AmkError(missing_cxx())  # the interpreter is not worth measuring
    module = import_model(checkpoint, dtype=dtype, context=context)
    choice.lower(module, options, progress)
    weights: Any = checkpoint
    if isinstance(checkpoint, RandomCheckpoint):
        weights = RandomOnDevice(checkpoint, array_module(choice.target))
    return Prepared(module, choice, weights)


def fill_caches(device: Device) -> None:
    """Random keys and values at all positions, as if a prompt had run."""
    with device.loading():
        for info in device.program.buffers:
            if info.kind != "state":
                continue
            flat = device.array(info.name).reshape(-1)
            values = RandomRows((len(flat), 1), info.name, 0, device.xp, info.dtype == "f32")
            step = CHUNK_BYTES // 4
            for first in range(0, len(flat), step):
                part = slice(first, first + step)
                flat[part] = values[part].reshape(-1)


class Subject:
    """A model compiled by AMK, ready to be timed. Close it to free the device."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        arch: str,
        *,
        dtype: DtypeName | None = None,
        context: int,
        workers: int | None = None,
        options: PassOptions = DEFAULTS,
        progress: Progress = silent,
    ) -> None:
        """Compile, verify and load; other arguments are those of `amk.compile`."""
        self.config = parse_config(checkpoint.config, checkpoint.name)
        self.seconds: dict[str, float] = {}
        """How long each step of the preparation took, by its name."""
        progress = _timed(progress, self.seconds)
        self.options = options
        prepared = prepare(
            checkpoint,
            arch,
            dtype=dtype,
            context=context,
            workers=workers,
            options=options,
            progress=progress,
        )
        module, choice, weights = prepared.module, prepared.choice, prepared.weights
        program = emit_program(module, choice.target)
        self.device = choice.load(program, module, weights, progress)
        self.loading_peak_bytes = self.device.peak_bytes
        self._streams: list[Device] = [
            type(self.device)(
                emit_program(module, choice.target, stream_only=True, whole_ring=whole_ring),
                shared=self.device,
            )
            for whole_ring in (False, True)
        ]
        self.model = CompiledModel(
            checkpoint, program, self.device, TIMEOUT_SECONDS[self.device.name]
        )

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that one more position adds to what a token reads."""
        config, size = self.config, 2 if self.model.dtype == "bf16" else 4
        return 2 * config.layers * config.kv_heads * config.head_dim * size

    def tokens_before(self, context: int) -> int:
        """How many tokens a launch that ends at `context` positions has."""
        return min(MOST_TOKENS, max(1, context // 2))

    def time_tokens(self, context: int, repeats: int) -> Times:
        """Time per token of launches that end at `context` positions."""
        tokens = self.tokens_before(context)
        start = context - tokens
        session = self.model.session
        session.time(_FIRST_TOKEN, start, tokens)  # warm
        return Times.of(session.time(_FIRST_TOKEN, start, tokens) / tokens for _ in range(repeats))

    def time_launches(self, context: int, launches: int, repeats: int) -> Times:
        """Time per launch of one token, right behind one another, at the last of the positions."""
        session = self.model.session
        session.time(_FIRST_TOKEN, context - 1, 1, launches)
        return Times.of(
            session.time(_FIRST_TOKEN, context - 1, 1, launches) / launches for _ in range(repeats)
        )

    def read_bytes(self, context: int) -> float:
        """Bytes that a token of `time_tokens(context)` reads, on the average over its launch."""
        attended = context - (self.tokens_before(context) - 1) / 2
        return self.device.program.stream_bytes + attended * self.kv_bytes

    def time_stream(self, repeats: int) -> Times:
        """Time per token of launches that stream the weights and throw them away.

        The faster of two ways: with the window of the program, and with the whole ring in flight.
        """
        ways = [
            Times.of(self._stream_seconds(stream) for _ in range(repeats))
            for stream in self._streams
        ]
        return min(ways, key=lambda times: times.median)

    def _stream_seconds(self, stream: Device) -> float:
        timeout = TIMEOUT_SECONDS[self.device.name]
        stream.start(Launch(0, MOST_TOKENS, 0, round(timeout * 1000), 0))
        status = stream.finish(timeout * MOST_TOKENS)
        if status is None or status.code != 0:
            raise AmkError(f"the launch that only streams failed: {status}")
        return stream.seconds() / MOST_TOKENS

    def copy_bandwidth(self, repeats: int) -> float:
        """GB/s of the fastest of some large copies within the memory, read and written bytes."""
        size = _COPY_BYTES[self.device.name]
        seconds = copy_seconds(self.device.xp, size, repeats)
        self.free_unused()
        return 2 * size / seconds / 1e9

    def free_unused(self) -> None:
        """Give memory that is kept for later arrays back to the GPU."""
        if self.device.xp is not np:
            self.device.xp.get_default_memory_pool().free_all_blocks()

    def close(self) -> None:
        """Free the memory of the device."""
        for stream in self._streams:
            stream.close()
        self.model.close()


def _timed(progress: Progress, seconds: dict[str, float]) -> Progress:
    """`progress`, which also notes how long each step takes."""

    @contextmanager
    def timed(label: str) -> Iterator[Advance]:
        started = time.perf_counter()
        with progress(label) as advance:
            yield advance
        seconds[label] = time.perf_counter() - started

    return timed


def array_module(target: str) -> Any:
    """numpy for the host, cupy for a GPU."""
    if target == HOST:
        return np
    import cupy  # pyright: ignore[reportMissingImports]

    return cupy


def copy_seconds(xp: Any, size: int, repeats: int) -> float:
    """Seconds of the fastest of `repeats` copies of `size` bytes."""
    source, target = xp.zeros(size, np.uint8), xp.zeros(size, np.uint8)
    times: list[float] = []
    for _ in range(repeats + 1):
        if xp is np:
            started = time.perf_counter()
            target[...] = source
            times.append(time.perf_counter() - started)
            continue
        begin, end = xp.cuda.Event(), xp.cuda.Event()
        begin.record()
        target.data.copy_from_device_async(source.data, size, xp.cuda.get_current_stream())
        end.record()
        end.synchronize()
        times.append(xp.cuda.get_elapsed_time(begin, end) / 1e3)
    return min(times)
