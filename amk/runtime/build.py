"""From a checkpoint to a printed program: the passes in order, and the constants into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.printer import Printer

from amk.backends.arch import ARCHS, Arch
from amk.backends.program import BufferInfo
from amk.dialects import new_context
from amk.dialects.task import FamilyOp, ScheduleOp, TaskOp, for_each_task
from amk.dialects.tile import ConstantOp
from amk.errors import AmkError
from amk.ir.module import verify_module
from amk.runtime.constants import (
    Weights,
    constants_of,
    layer_count,
    layer_values,
    row_order,
    source_values,
)
from amk.runtime.device import Device
from amk.runtime.packing import Packer
from amk.runtime.progress import Progress, silent

LOGITS_SLOTS = 16
"""Rows of the ring of logits: the positions of one launch of `CompiledModel.logits`."""

LevelName = Literal["nn", "tile", "task"]


def find_arch(name: str) -> Arch:
    """The GPU architecture `name`; AmkError if there is none."""
    if name not in ARCHS:
        raise AmkError(f"unknown architecture '{name}'; known: {', '.join(ARCHS)}")
    return ARCHS[name]


def ir_text(module: ModuleOp) -> str:
    """The module as text, as the tools read it."""
    text = StringIO()
    Printer(text).print_op(module)
    return text.getvalue() + "\n"


def task_count(module: ModuleOp) -> int:
    """How many tasks one iteration of the schedule in `module` has."""
    total = 0

    def count(op: FamilyOp | TaskOp, _repeats: dict[str, int]) -> None:
        nonlocal total
        total += op.instances

    for op in module.walk():
        if isinstance(op, ScheduleOp):
            for_each_task(op, count)
    return total


def lower(
    module: ModuleOp,
    workers: int,
    target: str,
    *,
    on_level: Callable[[LevelName, ModuleOp], None] | None = None,
    progress: Progress = silent,
) -> float:
    """Turn an nn module into a verified schedule for up to `workers` workers, in place.

    The resources of `target` (an architecture, or "host") are verified as well. Returns the seconds
    that the verification took.
    `on_level` sees the module at each level. Raises AmkError where a pass fails or the schedule
    does not verify.
    """
    # Imported late: a process that only reads IR needs no pass.
    from amk.passes.lower_to_tasks import LowerToTasksPass
    from amk.passes.lower_to_tiles import LowerToTilesPass
    from amk.passes.verify_schedule import check

    context = new_context()
    tell = on_level or (lambda _name, _module: None)
    tell("nn", module)
    with progress("lowering to tiles"):
        _apply(LowerToTilesPass(slots=LOGITS_SLOTS), context, module)
    tell("tile", module)
    with progress("lowering to tasks"):
        _apply(LowerToTasksPass(workers=workers), context, module)
    tell("task", module)
    started = time.perf_counter()
    with progress("verifying the schedule"):
        check(module, target)
    return time.perf_counter() - started


def _apply(step: ModulePass, context: Context, module: ModuleOp) -> None:
    step.apply(context, module)
    verify_module(module)


def load_constants(
    module: ModuleOp, weights: Weights, device: Device, progress: Progress = silent
) -> None:
    """Fill the constant buffers of `device`, on the device, one tensor and one layer at a time."""
    constants = constants_of(module)
    wanted = [info for info in device.program.buffers if info.kind == "constant"]
    total = sum(info.nbytes for info in wanted) or 1
    done = 0
    with progress("loading the weights") as advance, device.loading():
        for info in wanted:
            op = constants.get(info.source or "")
            if op is None:
                raise AmkError(f"buffer '{info.name}' of the program has no constant to fill it")
            layers = _load_packed if info.stream else _load_plain
            for bytes_loaded in layers(info, op, weights, device):
                done += bytes_loaded
                advance(done / total)


def _load_plain(
    info: BufferInfo, op: ConstantOp, weights: Weights, device: Device
) -> Iterator[int]:
    """Fill a buffer with the values as they are; yields the bytes of each layer."""
    layers = layer_count(op)
    target = device.array(info.name).reshape(layers, -1)
    for layer in range(layers):
        target[layer] = device.xp.asarray(layer_values(op, weights, layer).reshape(-1))
        yield info.nbytes // layers


def _load_packed(
    info: BufferInfo, op: ConstantOp, weights: Weights, device: Device
) -> Iterator[int]:
    """Fill a streamed buffer; yields the bytes of each layer."""
    assert info.stream is not None
    target = device.array(info.name).reshape(layer_count(op), info.stream.layer_bytes)
    sources = list(source_values(op, weights, 0))
    packer = Packer(info.stream, row_order(op, [len(values) for values in sources]), device.xp)
    packer.pack(sources, target[0])
    del sources
    yield info.stream.layer_bytes
    for layer in range(1, len(target)):
        packer.pack(source_values(op, weights, layer), target[layer])
        yield info.stream.layer_bytes
