"""The device layer: C++ and CUDA text that every printed program carries in front of its own code.

A target's text is the concatenation of small headers, each one mechanism; a target differs from
another by the headers that it lists, not by conditions inside them. The text expects constants in
``namespace amk::config`` before it (`CONFIG_KEYS`); ``README.md`` describes what it offers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise

_CUDA = (
    "cuda/platform.cuh",
    "common/types.h",
    "common/math.h",
    "cuda/fast.cuh",
    "common/tiling.h",
    "common/support.h",
    "cuda/packets.cuh",
    "cuda/barriers.cuh",
    "{copy}",
    "{registers}",
    "cuda/block.cuh",
    "cuda/worker.cuh",
    "cuda/producer.cuh",
    "cuda/receive.cuh",
    "cuda/dot.cuh",
    "cuda/product.cuh",
    "cuda/attention_parts.cuh",
    "cuda/attention_tiles.cuh",
    "cuda/matrix.cuh",
    "cuda/attention_rows.cuh",
    "cuda/attention.cuh",
    "cuda/combine.cuh",
    "cuda/phases.cuh",
    "cuda/single.cuh",
    "cuda/run.cuh",
)
_HOST = (
    "host/platform.h",
    "common/types.h",
    "common/math.h",
    "host/fast.h",
    "common/tiling.h",
    "common/support.h",
    "host/vectors.h",
    "host/packets.h",
    "host/worker.h",
    "host/product.h",
    "host/attention.h",
    "host/combine.h",
    "host/phases.h",
    "host/single.h",
    "host/run.h",
)


def _cuda(copy: str, registers: str) -> tuple[str, ...]:
    return tuple(name.format(copy=copy, registers=registers) for name in _CUDA)


HEADERS: Mapping[str, tuple[str, ...]] = {
    "sm_80": _cuda("cuda/copy_async.cuh", "cuda/registers_equal.cuh"),
    "sm_90": _cuda("cuda/copy_bulk.cuh", "cuda/registers_moved.cuh"),
    "sm_120": _cuda("cuda/copy_bulk.cuh", "cuda/registers_equal.cuh"),
    "host": _HOST,
}
"""The headers of each target, in the order in which they are printed."""

_TRACE_MARK = "AMK_TRACE("
"""Lines with it are part of instrumented programs only."""
_STRESS_MARK = "AMK_STRESS("
"""Lines with it are part of programs with random delays only."""

_TRACE: Mapping[str, tuple[str, ...]] = {
    "cuda": ("cuda/trace_clock.cuh", "common/trace.h", "cuda/trace_ring.cuh"),
    "host": ("host/trace_clock.h", "common/trace.h"),
}
_TABLE: Mapping[str, tuple[str, ...]] = {
    "cuda": ("common/table.h", "cuda/table.cuh"),
    "host": ("common/table.h", "host/table.h"),
}
_CEILING: Mapping[str, str] = {"cuda": "cuda/ceiling.cuh", "host": "host/ceiling.h"}

CONFIG_KEYS = (
    "kWorkers",
    "kSlices",
    "kProducers",
    "kArrivers",
    "kSlotBytes",
    "kSlots",
    "kWindow",
    "kWideWindow",
    "kPausedWindow",
    "kOperandBytes",
    "kScoreBytes",
    "kRowUnits",
    "kPrivateBytes",
)
"""Names of the ``int`` constants of ``namespace amk::config``."""

TABLE_DIMS = 8
"""The most dimensions of a buffer of a schedule in tables: `amk::kMostDims`."""
SLICES = 8
_STEP_COLUMNS = {"f32": 16, "bf16": 32}
_VALUE_BYTES = {"f32": 4, "bf16": 2}
_OPERAND_STEP_BYTES = 64
_UNIT_BYTES = 2048


def device_text(
    target: str,
    *,
    table: bool = False,
    ceiling: bool = False,
    trace: bool = False,
    stress: bool = False,
) -> str:
    """The device layer of `target`: a key of `HEADERS`.

    With `table`, what a schedule in tables needs; with `ceiling`, what a program needs that throws
    away its weights; with `trace`, what an instrumented one needs; with `stress` (on the host),
    what one with random delays needs.
    """
    root, kind = files(__name__), "host" if target == "host" else "cuda"
    names = list(HEADERS[target])
    if trace:
        place = names.index("common/support.h") + 1
        names[place:place] = _TRACE[kind]
    if stress:
        names.insert(names.index("common/support.h") + 1, "host/stress.h")
    if table:
        names += _TABLE[kind]
    if ceiling:
        names.append(_CEILING[kind])
    text = "\n".join(
        root.joinpath(name).read_text(encoding="utf-8").rstrip() + "\n" for name in names
    )
    left_out = [m for m, on in ((_TRACE_MARK, trace), (_STRESS_MARK, stress)) if not on]
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if not any(mark in line for mark in left_out)
    )


def operand_bytes(columns: int, dtype: str) -> int:
    """Bytes per consumer warp for the operand of a product over `columns`; dtype f32 or bf16."""
    steps = -(-columns // _STEP_COLUMNS[dtype])
    chunks = SLICES
    while -(-steps // chunks) > 8:
        chunks += SLICES
    bounds = [c * steps // chunks for c in range(chunks + 1)]
    lengths = [b - a for a, b in pairwise(bounds)]
    return _OPERAND_STEP_BYTES * max(sum(lengths[s::SLICES]) for s in range(SLICES))


def combine_bytes(elements: int) -> int:
    """Bytes per consumer warp for a combine of that many elements in one worker.

    config kOperandBytes is the maximum of this and of `operand_bytes`, over all tasks.
    """
    return _align(4 * (-(-elements // SLICES) + 16), 16)


def cache_row(head: int) -> int:
    """Elements from one row of a key or value cache to the next: `amk::cache_row`."""
    return _align(head, 8)


def attention_bytes(dtype: str, head: int, group: int, units: int, row_units: int) -> int:
    """Scratch bytes of an attention task: config kScoreBytes is the maximum over the tasks.

    `dtype` of the cache, `head` size, query heads in a `group`, `units` (Z) of a split; config
    kRowUnits as `row_units`.
    """
    row = cache_row(head) * _VALUE_BYTES[dtype]
    fixed = group * _align(head, 4) * 4 + 2 * row
    tiles = 32 * units * (2 * row + 16)
    part = group * (cache_row(head) + 4) * 4
    return fixed + max(tiles, SLICES * max(row_units * _UNIT_BYTES, part))


def row_bytes(row_units: int) -> int:
    """Bytes of old rows that attention has in flight at most: config kRowUnits."""
    return SLICES * row_units * _UNIT_BYTES


def shared_bytes(config: Mapping[str, int]) -> int:
    """Dynamic shared memory of a block: what ``amk::shared_bytes()`` returns for this config."""
    size = config["kSlots"] * config["kSlotBytes"]
    reductions = 4 * 4 * (4 * (SLICES * 8 + 8) + 3 * SLICES)
    product = SLICES * config["kOperandBytes"] + reductions
    size = _align(size, 128) + max(product, config["kScoreBytes"])
    barriers = 2 * config["kSlots"] + 4 + 2  # of the ring, of batches, end and pause
    size = _align(size, 16) + 8 * barriers
    size += 4 * (1 + 2)  # flag, results of argmax
    return _align(_align(size, 16) + (config["kPrivateBytes"] or 16), 128)


def _align(size: int, unit: int) -> int:
    return -(-size // unit) * unit
