"""From a module at task level to a `Program`: the printed source and what a launcher must know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import Arch
from amk.backends.device import (
    SLICES,
    attention_bytes,
    cache_row,
    combine_bytes,
    device_text,
    operand_bytes,
    shared_bytes,
)
from amk.backends.printer.bindings import C_TYPES, Buffer, buffers_of, counters_of
from amk.backends.printer.entry import ARENA, arena_bytes, entry_of
from amk.backends.printer.schedule import (
    Family,
    Owner,
    SchedulePrinter,
    families_of,
    is_irregular,
    owners_of,
)
from amk.backends.printer.table import TablePrinter, VisibleBuffer, check_rows
from amk.backends.printer.text import Writer
from amk.backends.program import STEP_BYTES, BufferInfo, Program, StreamLayout
from amk.backends.trace_layout import TRACE_BUFFER, WARPS, TraceLayout, TraceWindow
from amk.dialects import task, tile
from amk.dialects.memory import integers
from amk.errors import AmkError
from amk.interpreters.numerics import chunk_bounds
from amk.ir.expand import TaskLike, expand, schedule_of
from amk.ir.location import location_of

WINDOW_BYTES = 28 * 1024
"""Weights in flight for each worker, at least: with less, memory is not busy all the time. Packets
stand in line behind more."""
MOST_SLOTS = 64


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


def emit_program(
    module: ModuleOp,
    arch: Arch,
    *,
    stream_only: bool = False,
    whole_ring: bool = False,
    trace: TraceWindow | None = None,
    stress: int | None = None,
) -> Program:
    """Print the schedule of a module (which must verify) for a target.

    With `stream_only`, its tasks are left out: weights are streamed in the same way, through the
    same ring and from the same buffers, and thrown away. No schedule can be faster. With
    `whole_ring`, the window is the whole ring. With `trace`, the program records what its workers
    do in those iterations of a launch. With `stress`, a seed, the threads of a host program are
    delayed at random where they wait, send and signal.
    """
    plan = resources(module, arch)
    layout = None if trace is None else trace_layout(plan.schedule, arch, trace)
    _check_form(plan, arch, stream_only=stream_only, traced=layout is not None, stress=stress)
    config = plan.config
    if stress is not None:
        config = {**config, "kStressSeed": stress & 0x7FFFFFFF}
    if whole_ring:
        config = {**config, "kWindow": config["kSlots"]}
    device = device_text(
        arch.device,
        table=plan.table is not None,
        ceiling=stream_only,
        trace=layout is not None,
        stress=stress is not None,
    )
    writer = Writer()
    _banner(writer, plan, arch)
    _config(writer, {**config, **layout.config} if layout else config)
    for line in device.splitlines():
        writer.line(line)
    _types(writer, plan, layout)
    _agents(writer, plan, arch, stream_only=stream_only, traced=layout is not None)
    _entry(writer, plan, arch, layout)
    return _program(plan, arch, config, layout, writer.text())


def _check_form(
    plan: Plan, arch: Arch, *, stream_only: bool, traced: bool, stress: int | None
) -> None:
    """AmkError for a form of the program that this schedule or this target does not have."""
    if plan.table is not None and (stream_only or traced):
        raise AmkError("a schedule that is no loops over families has no stream-only or trace form")
    if stress is not None and arch.is_gpu:
        raise AmkError(f"random delays are for the host, not for {arch.name}")


# ---- what is decided before anything is printed --------------------------------------------------


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


def trace_layout(schedule: task.ScheduleOp, arch: Arch, window: TraceWindow) -> TraceLayout:
    """Where an instrumented program leaves its records."""
    queues = expand(schedule).table.task_queue
    return TraceLayout(
        workers=schedule.workers.value.data,
        warps=WARPS if arch.is_gpu else 1,
        tasks=int(np.bincount(queues).max(initial=1)),
        tokens=window.tokens,
        first=window.first,
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
    families: Iterable[Family],
    arch: Arch,
) -> dict[str, int]:
    """The sizes of the ring and of shared memory, from the target's limits.

    A slot holds the largest chunk; the ring takes the shared memory that is left; the window is as
    many chunks of each producer as make `WINDOW_BYTES` at their mean size, if the ring has as many.
    The schedule may say otherwise of ring and window.
    """
    chunks = [
        bound[1] - bound[0]
        for layout in streams.values()
        for bound in zip(layout.chunk_bounds, layout.chunk_bounds[1:], strict=False)
    ]
    weight = sum(layout.layers * layout.layer_bytes for layout in streams.values())
    copies = sum(
        layout.layers * layout.blocks * (len(layout.chunk_bounds) - 1)
        for layout in streams.values()
    )
    config = {
        "kWorkers": workers,
        "kSlices": SLICES,
        "kProducers": max(arch.producers, 1),
        "kArrivers": 1,
        "kSlotBytes": max(chunks, default=1) * STEP_BYTES,
        "kSlots": SLICES,
        "kWindow": SLICES,
        "kOperandBytes": max(
            [operand_bytes(s.columns, s.dtype) for s in streams.values()]
            + [_combine_bytes(f) for f in families],
            default=64,
        ),
        "kScoreBytes": max([_score_bytes(f, buffers) for f in families], default=0),
        "kPrivateBytes": private_bytes(buffers),
    }
    if not arch.is_gpu:
        return config
    config["kSlots"] = _slots(schedule, config, arch)
    round_bytes = config["kProducers"] * max(1, weight // max(copies, 1))
    window = schedule.window.value.data if schedule.window else WINDOW_BYTES
    rounds = -(-window // round_bytes)
    config["kWindow"] = min(config["kSlots"], rounds * config["kProducers"])
    return config


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


def _score_bytes(family: Family, buffers: Mapping[str, Buffer]) -> int:
    """Scratch of the attention of one family."""
    bound = dict(family.accesses())
    sizes: list[int] = []
    for op in family.kernel.body.block.ops:
        if isinstance(op, tile.AttentionOp):
            group, units, size = op.shape
            storage = buffers[bound[op.key_cache].buffer].element
            sizes.append(attention_bytes(storage, size, group, units))
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


# ---- sections of the file ------------------------------------------------------------------------


def _banner(writer: Writer, plan: Plan, arch: Arch) -> None:
    schedule = plan.schedule
    total = sum(layout.layers * layout.layer_bytes for layout in plan.streams.values())
    build = (
        f"nvcc -O3 -std=c++17 -arch={arch.nvcc} -cubin FILE.cu"
        if arch.is_gpu
        else "c++ -O3 -std=c++20 -ffp-contract=off -fno-math-errno -pthread -shared -fPIC FILE.cpp"
    )
    context = schedule.context.value.data if schedule.context else 0
    writer.comment(
        f"@{schedule.sym_name.data}: one decode step after another, in one launch; by AMK.\n"
        f"Target {arch.name}; {schedule.workers.value.data} workers; context {context}; "
        f"{total} bytes of weights a token.\n"
        f"Build: {build}"
    )


def _config(writer: Writer, config: Mapping[str, int]) -> None:
    with writer.block("namespace amk::config", "}  // namespace amk::config"):
        for name, value in config.items():
            # Only the host reads the number of workers.
            unused = "[[maybe_unused]] " if name == "kWorkers" else ""
            writer.line(f"{unused}constexpr int {name} = {value};")


def _types(writer: Writer, plan: Plan, trace: TraceLayout | None) -> None:
    writer.line()
    writer.comment("What stays with a worker.")
    with writer.block("struct Private", "};"):
        shared = [b for b in plan.buffers.values() if b.space == "shared"]
        for buffer in shared:
            size = buffer.type.get_shape()[1] if len(buffer.strides) > 1 else 1
            writer.line(f"{C_TYPES[buffer.element]} {buffer.spelling}[{size}];")
        if not shared:
            writer.line("int unused;")
    writer.line()
    writer.comment("The buffers of the schedule, and its counters.")
    with writer.block("struct Buffers", "};"):
        for buffer in plan.arguments:
            writer.line(f"{buffer.pointer_type} {buffer.spelling};  // {buffer.type}")
        for counter in plan.counters.values():
            writer.line(f"uint32_t* {counter};")
        if trace is not None:
            writer.line(f"uint64_t* {TRACE_BUFFER};")


def _agents(writer: Writer, plan: Plan, arch: Arch, *, stream_only: bool, traced: bool) -> None:
    """The programs of the two agents of a worker: as loops over families, or as tables."""
    writer.line()
    if plan.table is not None:
        plan.table.print(writer, arch.is_gpu)
        return
    printer = SchedulePrinter(writer, plan.schedule, plan.families, plan.buffers, traced)
    printer.print(stream_only=stream_only, gpu=arch.is_gpu)


def _entry(writer: Writer, plan: Plan, arch: Arch, trace: TraceLayout | None) -> None:
    others = [("uint32_t*", name) for name in plan.counters.values()]
    if trace is not None:
        others.append(("uint64_t*", TRACE_BUFFER))
    entry_of(plan.arguments, others).print(writer, arch)


# ---- what a launcher must know -------------------------------------------------------------------


def _program(
    plan: Plan, arch: Arch, config: Mapping[str, int], trace: TraceLayout | None, source: str
) -> Program:
    schedule = plan.schedule
    return Program(
        name=schedule.sym_name.data,
        target=arch.name,
        source=source,
        workers=config["kWorkers"],
        threads=arch.threads if arch.is_gpu else 1,
        shared_bytes=shared_bytes(config) if arch.is_gpu else 0,
        context=schedule.context.value.data if schedule.context else 0,
        vocab=schedule.vocab.value.data if schedule.vocab else 0,
        eos=integers(schedule.eos) if schedule.eos else (),
        buffers=tuple(_infos(plan, trace)),
        task_names=plan.task_names,
        buffer_names=(*plan.buffers, *plan.counters),
        config=config,
        trace=trace,
    )


def _infos(plan: Plan, trace: TraceLayout | None) -> Iterator[BufferInfo]:
    """The arguments, in the order of the parameters that `_entry` prints."""
    for buffer in plan.arguments:
        if buffer.op.arena is None:
            yield _info(buffer, plan.streams.get(buffer.name))
    for name, size in arena_bytes(plan.arguments).items():
        yield BufferInfo(f"{ARENA}{name}", "state", "", (size // 4,), "i32")
    for counter in plan.counters:
        yield BufferInfo(counter, "scratch", "counter", (1,), "i32")
    if trace is not None:
        yield trace.info


def _info(buffer: Buffer, stream: StreamLayout | None) -> BufferInfo:
    op = buffer.op
    return BufferInfo(
        name=buffer.name,
        kind=op.kind.data,
        space=buffer.space,
        shape=buffer.type.get_shape(),
        dtype=buffer.element,
        source=op.source.root_reference.data if op.source else None,
        uses=op.uses.value.data if op.uses else None,
        stream=stream,
    )
