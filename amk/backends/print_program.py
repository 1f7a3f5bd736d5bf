"""From a module at task level to a `Program`: the printed source and what a launcher must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import Arch
from amk.backends.device import device_text, shared_bytes
from amk.backends.plan import Plan, resources, trace_layout
from amk.backends.printer.bindings import C_TYPES, Buffer
from amk.backends.printer.entry import ARENA, arena_bytes, entry_of
from amk.backends.printer.schedule import SchedulePrinter
from amk.backends.printer.text import Writer
from amk.backends.program import BufferInfo, Program, StreamLayout
from amk.backends.trace_layout import TRACE_BUFFER, TraceLayout, TraceWindow
from amk.dialects.memory import integers
from amk.errors import AmkError


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
    layout = None if trace is None else trace_layout(plan, arch, trace)
    _check_form(plan, arch, stream_only=stream_only, traced=layout is not None, stress=stress)
    config = plan.config
    if stress is not None:
        config = {**config, "kStressSeed": stress & 0x7FFFFFFF}
    if whole_ring:
        config = {**config, **dict.fromkeys(("kWindow", "kWideWindow"), config["kSlots"])}
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
