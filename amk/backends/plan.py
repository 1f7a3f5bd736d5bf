"""What is decided before a program is printed: how weights are packed, the ring, shared memory.

A schedule that a target cannot run is refused here, so `verify-schedule` asks the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import Arch, window_bytes
from amk.backends.device import (
    SLICES,
    attention_bytes,
    cache_row,
    combine_bytes,
    operand_bytes,
    row_bytes,
    shared_bytes,
)
from amk.backends.printer.bindings import Buffer, buffers_of, counters_of
from amk.backends.printer.schedule import Family, Owner, families_of, is_irregular, owners_of
from amk.backends.printer.table import TablePrinter, VisibleBuffer, check_rows
from amk.backends.program import STEP_BYTES, StreamLayout
from amk.backends.trace_layout import WARPS, TraceLayout, TraceWindow
from amk.dialects import task, tile
from amk.errors import AmkError
from amk.interpreters.numerics import chunk_bounds
from amk.ir.expand import TaskLike, expand, schedule_of
from amk.ir.location import location_of

MOST_SLOTS = 64
NARROW, WIDE = 3 / 4, 7 / 6
"""Of `window_bytes`, what a worker has in flight with stages in its ring, and with none.

So workers that are behind get more of the memory, since all wait for the last one."""
ROW_UNITS = range(2, 4)
"""Units of old rows that a warp of attention has in shared memory, the more the better."""


@dataclass(frozen=True)
class Plan:
    """What is decided before anything is printed."""

    schedule: task.ScheduleOp
    families: Mapping[TaskLike, Family]
    buffers: Mapping[str, Buffer]
    streams: Mapping[str, StreamLayout]
    config: Mapping[str, int]
    table: TablePrinter | None = None
    """What prints a schedule that is irregular."""

    @property
    def arguments(self) -> list[Buffer]:
        """The buffers that the entry point is given: all but those that stay with a worker."""
        return [b for b in self.buffers.values() if b.space != "shared"]

    @property
    def counters(self) -> Mapping[str, str]:
        """The counters by name, with their names in C++."""
        return counters_of(self.schedule)

    @property
    def task_names(self) -> tuple[str, ...]:
        """By the ids that the program gives its tasks."""
        if self.table is not None:
            return self.table.task_names
        return tuple(family.op.sym_name.data for family in self.families.values())


def resources(module: ModuleOp, arch: Arch) -> Plan:
    """The sizes of the program for a target; AmkError if they exceed what the target has."""
    schedule = schedule_of(module)
    kernels = {
        op.sym_name.data: op for op in module.body.block.ops if isinstance(op, tile.KernelOp)
    }
    owners = owners_of(schedule)
    families = families_of(owners, kernels)
    buffers = buffers_of(schedule)
    if is_irregular(schedule):
        return _irregular_resources(schedule, owners, families, buffers, arch)
    if arch.is_gpu:
        for family in families.values():
            _check_copies(family, buffers, arch)
    streams = _stream_layouts(families, buffers, arch)
    workers = schedule.workers.value.data
    config = choose_config(schedule, workers, streams, buffers, [*families.values()], arch)
    return Plan(schedule, families, buffers, streams, config)


def _irregular_resources(
    schedule: task.ScheduleOp,
    owners: Sequence[Owner],
    families: Mapping[TaskLike, Family],
    buffers: Mapping[str, Buffer],
    arch: Arch,
) -> Plan:
    """The same for a schedule in tables: one worker for each queue, weights in whole blocks."""
    visible = {name: VisibleBuffer(b.op, b.number, b.spelling) for name, b in buffers.items()}
    for family in families.values():
        if arch.is_gpu:
            _check_copies(family, visible, arch)
        check_rows(family, visible)
    streams = _stream_layouts(families, visible, arch, instances=1)
    printer = TablePrinter(schedule, owners, families, visible)
    config = choose_config(schedule, printer.queues, streams, visible, [*families.values()], arch)
    return Plan(schedule, families, visible, streams, config, printer)


def trace_layout(plan: Plan, arch: Arch, window: TraceWindow) -> TraceLayout:
    """Where an instrumented program leaves its records."""
    queues = expand(plan.schedule).table.task_queue
    workers = plan.schedule.workers.value.data
    copies = 0
    for layout in plan.streams.values():
        blocks = -(-layout.blocks // layout.instances) * -(-layout.instances // workers)
        chunks = len(layout.chunk_bounds) - 1
        copies += layout.layers * blocks * -(-chunks // plan.config["kProducers"])
    return TraceLayout(
        workers=workers,
        warps=WARPS if arch.is_gpu else 1,
        tasks=int(np.bincount(queues).max(initial=1)),
        tokens=window.tokens,
        first=window.first,
        copies=copies if arch.is_gpu else 0,
    )


def _check_copies(family: Family, buffers: Mapping[str, Buffer], arch: Arch) -> None:
    """The device layer lays out rows of a cache in its own way, and reads bf16 packets whole."""
    bound = dict(family.accesses())
    name, where = family.op.sym_name.data, location_of(family.op)
    for op in family.kernel.body.block.ops:
        if isinstance(op, tile.AttentionOp):
            cache = buffers[bound[op.key_cache].buffer]
            row, wanted = cache.type.get_shape()[-1], cache_row(op.shape[2])
            if row != wanted:
                raise AmkError(
                    f"@{name}: rows of @{cache.name} hold {row} elements; for heads of "
                    f"{op.shape[2]} the kernel needs rows of {wanted}",
                    location=where,
                )
        elif isinstance(op, tile.ProductOp):
            source = buffers[bound[op.input].buffer]
            columns = op.weights_type.get_shape()[1]
            if source.is_packet and source.element == "bf16" and columns % 2:
                raise AmkError(
                    f"@{name}: {arch.name} reads pairs of bf16, but @{source.name} holds {columns} "
                    f"elements: lower with exchange=f32",
                    location=where,
                )


def _stream_layouts(
    families: Mapping[TaskLike, Family],
    buffers: Mapping[str, Buffer],
    arch: Arch,
    instances: int | None = None,
) -> dict[str, StreamLayout]:
    """How each streamed constant is packed: for the family that reads it, or for `instances`."""
    layouts: dict[str, StreamLayout] = {}
    for family in families.values():
        weights = {product.weights for product in family.products}
        for parameter, access in family.accesses():
            buffer = buffers[access.buffer]
            if parameter not in weights or buffer.space != "stream":
                continue
            *layers, rows, columns = buffer.type.get_shape()
            layout = StreamLayout(
                layers=layers[0] if layers else 1,
                rows=rows,
                columns=columns,
                dtype=buffer.element,
                instances=instances or family.op.instances,
                chunk_bounds=chunk_bounds(columns, buffer.element),
                packing=arch.packing,
            )
            if layouts.setdefault(buffer.name, layout) != layout:
                raise AmkError(f"@{buffer.name} is streamed by two families in different ways")
    return layouts


def choose_config(
    schedule: task.ScheduleOp,
    workers: int,
    streams: Mapping[str, StreamLayout],
    buffers: Mapping[str, Buffer],
    families: Sequence[Family],
    arch: Arch,
) -> dict[str, int]:
    """The sizes of the ring and of shared memory, from the target's limits.

    A slot holds the largest chunk; the ring takes the shared memory that is left, in eights of
    slots; what is left then holds more rows for attention. `_windows` says how many chunks are in
    flight. The schedule may say otherwise of ring and window.
    """
    chunks = [
        bound[1] - bound[0]
        for layout in streams.values()
        for bound in zip(layout.chunk_bounds, layout.chunk_bounds[1:], strict=False)
    ]
    config = {
        "kWorkers": workers,
        "kSlices": SLICES,
        "kProducers": max(arch.producers, 1),
        "kArrivers": 1,
        "kSlotBytes": max(chunks, default=1) * STEP_BYTES,
        "kSlots": SLICES,
        "kWindow": SLICES,
        "kWideWindow": SLICES,
        "kPausedWindow": 0,
        "kOperandBytes": max(
            [operand_bytes(s.columns, s.dtype) for s in streams.values()]
            + [_combine_bytes(f) for f in families],
            default=64,
        ),
        "kScoreBytes": _score_bytes(families, buffers, ROW_UNITS[0]),
        "kRowUnits": ROW_UNITS[0],
        "kPrivateBytes": private_bytes(buffers),
    }
    if not arch.is_gpu:
        return config
    config["kSlots"] = _slots(schedule, config, arch)
    for units in ROW_UNITS:
        score = _score_bytes(families, buffers, units)
        more = {**config, "kRowUnits": units, "kScoreBytes": score}
        if shared_bytes(more) <= arch.shared_bytes:
            config = more
    return {**config, **_windows(schedule, config, streams.values(), arch)}


def _windows(
    schedule: task.ScheduleOp,
    config: Mapping[str, int],
    streams: Iterable[StreamLayout],
    arch: Arch,
) -> dict[str, int]:
    """Stages in flight, in whole rounds of the producers, at the mean size of a stage.

    About `window_bytes`: less for a worker that has stages in its ring, more for one that waits for
    them, and beside the rows of attention at most what those leave of it.
    """
    weight = copies = 0
    for layout in streams:
        weight += layout.layers * layout.layer_bytes
        copies += layout.layers * layout.blocks * (len(layout.chunk_bounds) - 1)
    round_bytes = config["kProducers"] * max(1, weight // max(copies, 1))
    if schedule.window:
        window = schedule.window.value.data
    else:
        window = window_bytes(arch.bandwidth, arch.workers)
    beside = max(0, window - row_bytes(config["kRowUnits"]))
    rounds = {
        "kWindow": math.ceil(NARROW * window / round_bytes),
        "kWideWindow": math.ceil(WIDE * window / round_bytes),
        "kPausedWindow": beside // round_bytes,
    }
    most = config["kSlots"] // config["kProducers"]
    return {name: min(most, count) * config["kProducers"] for name, count in rounds.items()}


def _combine_bytes(family: Family) -> int:
    """Scratch of the combine of one family."""
    sizes = [
        combine_bytes((access.dims[0].end - access.dims[0].lo).value)
        for op in family.kernel.body.block.ops
        if isinstance(op, tile.CombineOp)
        for parameter, access in family.accesses()
        if parameter is op.outs[0]
    ]
    return max(sizes, default=0)


def _score_bytes(families: Iterable[Family], buffers: Mapping[str, Buffer], row_units: int) -> int:
    """Scratch of attention, whose warps have `row_units` units of rows each."""
    sizes: list[int] = []
    for family in families:
        bound = dict(family.accesses())
        for op in family.kernel.body.block.ops:
            if isinstance(op, tile.AttentionOp):
                group, units, size = op.shape
                storage = buffers[bound[op.key_cache].buffer].element
                sizes.append(attention_bytes(storage, size, group, units, row_units))
    return max(sizes, default=0)


def _slots(schedule: task.ScheduleOp, config: Mapping[str, int], arch: Arch) -> int:
    """As many slots as the schedule wants, or else the most, in eights, that fit in a block."""
    wanted = schedule.ring.value.data if schedule.ring else MOST_SLOTS
    for slots in range(wanted, 0, -SLICES):
        if shared_bytes({**config, "kSlots": slots}) > arch.shared_bytes:
            continue
        if schedule.ring and (slots != wanted or wanted % SLICES):
            raise AmkError(
                f"a ring of {wanted} slots is not a multiple of {SLICES} that fits in the shared"
                f" memory of a block on {arch.name}: take {slots - slots % SLICES} or fewer",
                location=location_of(schedule),
            )
        return slots
    needed = shared_bytes({**config, "kSlots": SLICES})
    raise AmkError(
        f"the smallest ring needs {needed} bytes of shared memory, a block on {arch.name} has "
        f"{arch.shared_bytes}: use more workers, or another architecture"
    )


def private_bytes(buffers: Mapping[str, Buffer]) -> int:
    """sizeof(Private)."""
    total = 0
    for buffer in buffers.values():
        if buffer.space == "shared":
            total += 4 * (buffer.type.get_shape()[1] if len(buffer.strides) > 1 else 1)
    return max(4, total)
