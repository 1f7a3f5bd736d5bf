"""A printed program: its source, and everything that a launcher must know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amk.backends.trace_layout import TraceLayout

ELEMENT_BYTES = {"f32": 4, "bf16": 2, "i32": 4}
ROW_BLOCK = 8
"""Rows of one block of a streamed product."""
STEP_BYTES = 512
"""Bytes of one step of a row block: 8 rows, 4 lanes, 16 bytes each."""
PACKINGS = ("interleaved", "blocks")
"""Orders of packed weights, see `StreamLayout`: of GPUs and of the host."""


@dataclass(frozen=True)
class StreamLayout:
    """How one streamed constant is packed: in the order in which each instance consumes it.

    The row blocks of a layer are dealt evenly: instance i owns blocks (i * blocks) // instances up
    to ((i + 1) * blocks) // instances. `packing` is one of `PACKINGS`:

    - "interleaved": for each position u within an instance's blocks and each chunk c of columns,
      the chunks of all instances that have such a block stand next to each other; a step holds
      eight rows of four lanes of 16 bytes.
    - "blocks": one block after another, so each instance has one run of memory; a step holds, for
      each column of a lane and each lane, the values of the eight rows.
    """

    layers: int
    rows: int
    columns: int
    dtype: str
    instances: int
    chunk_bounds: tuple[int, ...]
    """Steps [chunk_bounds[c], chunk_bounds[c + 1]) are chunk c."""
    packing: str = "interleaved"

    @property
    def blocks(self) -> int:
        return -(-self.rows // ROW_BLOCK)

    @property
    def steps(self) -> int:
        return self.chunk_bounds[-1]

    @property
    def layer_bytes(self) -> int:
        return self.blocks * self.steps * STEP_BYTES


@dataclass(frozen=True)
class BufferInfo:
    """One pointer argument of the entry point.

    `kind` is input, constant, state, scratch or output; `space` is "", "stream", "packet", "host"
    or "host_packet". `source` names the `tile.constant` that fills a constant, `uses` is set for
    packets.
    """

    name: str
    kind: str
    space: str
    shape: tuple[int, ...]
    dtype: str
    source: str | None = None
    uses: int | None = None
    stream: StreamLayout | None = None

    @cached_property
    def nbytes(self) -> int:
        """Bytes to allocate."""
        if self.stream is not None:
            return self.stream.layers * self.stream.layer_bytes
        elements = prod(self.shape)
        if self.space in ("packet", "host_packet"):
            return 8 * (-(-elements // 2) if self.dtype == "bf16" else elements)
        return elements * ELEMENT_BYTES[self.dtype]


@dataclass(frozen=True)
class Program:
    """What a backend prints for one module and one target.

    `buffers` are the pointer arguments in order; after them the entry takes a `const Launch*` and a
    `Status*`. `tasks` and `worker_waits` name task and buffer ids for error messages.
    """

    name: str
    target: str
    source: str
    workers: int
    threads: int
    shared_bytes: int
    context: int
    vocab: int
    eos: tuple[int, ...]
    buffers: tuple[BufferInfo, ...]
    task_names: tuple[str, ...]
    buffer_names: tuple[str, ...]
    """Names by the ids that `Status.buffer` carries (all buffers of the schedule)."""
    config: Mapping[str, int] = field(default_factory=dict)
    trace: TraceLayout | None = None
    """Where the records of an instrumented program are; None for any other."""

    ENTRY = "amk_decode"

    @property
    def max_uses(self) -> int:
        """The most often a packet slot is used in one iteration."""
        return max((b.uses for b in self.buffers if b.uses), default=1)

    @property
    def stream_bytes(self) -> int:
        """Bytes of packed weights that one token streams."""
        return sum(b.nbytes for b in self.buffers if b.stream is not None)

    def buffer(self, name: str) -> BufferInfo:
        """The argument of this name; KeyError if there is none."""
        for info in self.buffers:
            if info.name == name:
                return info
        raise KeyError(name)
