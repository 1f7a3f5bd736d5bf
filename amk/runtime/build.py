"""From a checkpoint to a printed program: the passes in order, and the constants into memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass
from xdsl.printer import Printer
from xdsl.utils.arg_spec import ArgSpec, parse_spec
from xdsl.utils.exceptions import ArgSpecParseError

from amk.backends.arch import ARCHS, Arch
from amk.backends.program import BufferInfo
from amk.dialects import new_context
from amk.dialects.task import FamilyOp, ScheduleOp, TaskOp, for_each_task
from amk.dialects.tile import ConstantOp
from amk.errors import AmkError
from amk.ir.module import verify_module
from amk.runtime.block_packing import packer_of
from amk.runtime.constants import (
    Weights,
    constants_of,
    in_storage_type,
    layer_count,
    layer_shape,
    layer_values,
    row_order,
    source_values,
)
from amk.runtime.device import Device
from amk.runtime.progress import Progress, silent
from amk.runtime.staging import Upload, chunks_of

LOGITS_SLOTS = 16
"""Rows of the ring of logits: the positions of one launch of `CompiledModel.logits`."""

LevelName = Literal["nn", "tile", "task"]


@dataclass(frozen=True)
class PassOptions:
    """Options of the lowering passes, as `amk-opt` takes them: "key=value key=value"."""

    tiles: str = ""
    """Of `lower-to-tiles`, without `slots`."""
    tasks: str = ""
    """Of `lower-to-tasks`, without `workers` and `even`."""


DEFAULTS = PassOptions()
_NONE: Mapping[str, int] = {}


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
    even: bool = False,
    window: int | None = None,
    options: PassOptions = DEFAULTS,
    on_level: Callable[[LevelName, ModuleOp], None] | None = None,
    progress: Progress = silent,
) -> float:
    """Turn an nn module into a verified schedule for up to `workers` workers, in place.

    The resources of `target` (an architecture, or "host") are verified as well. Returns the seconds
    that the verification took.
    With `even`, fewer workers are taken where they share the work more evenly; `window` is the one
    of the schedule if `options` say nothing else.
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
        step = _configured(LowerToTilesPass, options.tiles, slots=LOGITS_SLOTS)
        _apply(step, context, module)
    tell("tile", module)
    with progress("lowering to tasks"):
        usual = {} if window is None else {"window": window}
        step = _configured(LowerToTasksPass, options.tasks, usual, workers=workers, even=even)
        _apply(step, context, module)
    tell("task", module)
    started = time.perf_counter()
    with progress("verifying the schedule"):
        check(module, target)
    return time.perf_counter() - started


def _configured(
    pass_class: type[ModulePass], options: str, usual: Mapping[str, int] = _NONE, **fixed: int
) -> ModulePass:
    """The pass with `options`, those that are `usual` where they say nothing, and those that are
    `fixed`; AmkError where they are wrong."""
    name = pass_class.name
    try:
        given = parse_spec(f"{name}{{{options}}}").normalize_parameter_names().parameters
        for option in given.keys() & fixed.keys():
            raise AmkError(f"option '{option}' of {name} cannot be given here")
        ours = {option: (value,) for option, value in {**usual, **fixed}.items()}
        return pass_class.from_spec(ArgSpec(name, {**ours, **given}))
    except (ArgSpecParseError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise AmkError(f"cannot take the options '{options}' of {name}: {reason}") from error


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
    with progress("loading the weights") as advance, device.loading() as upload:
        for info in wanted:
            op = constants.get(info.source or "")
            if op is None:
                raise AmkError(f"buffer '{info.name}' of the program has no constant to fill it")
            if op.kind.data != "rows":
                parts = _load_table(info, op, weights, device)
            elif info.stream is None:
                parts = _load_plain(info, op, weights, device, upload)
            else:
                parts = _load_packed(info, op, weights, device, upload)
            for bytes_loaded in parts:
                done += bytes_loaded
                advance(done / total)


def _load_table(
    info: BufferInfo, op: ConstantOp, weights: Weights, device: Device
) -> Iterator[int]:
    """Fill a buffer with values that no parameter holds; yields its bytes."""
    target = device.array(info.name)
    target[...] = device.xp.asarray(layer_values(op, weights, 0))
    yield info.nbytes


def _load_plain(
    info: BufferInfo, op: ConstantOp, weights: Weights, device: Device, upload: Upload
) -> Iterator[int]:
    """Fill a buffer with the rows as they are, or in their order; yields the bytes of each layer.

    Rows that the parameters leave at the end are zero from the start.
    """
    layers = layer_count(op)
    target = device.array(info.name).reshape(layers, *layer_shape(op))
    for layer in range(layers):
        sources = list(source_values(op, weights, layer, stored=True))
        order = row_order(op, [len(values) for values in sources])
        places = None if order is None else device.xp.asarray(np.argsort(order))
        row = 0
        for values in sources:
            for part in chunks_of(values):
                rows = slice(row, row + len(part))
                loaded = in_storage_type(op, upload(part), device.xp)
                target[layer][rows if places is None else places[rows]] = loaded
                row += len(part)
        yield info.nbytes // layers


def _load_packed(
    info: BufferInfo, op: ConstantOp, weights: Weights, device: Device, upload: Upload
) -> Iterator[int]:
    """Fill a streamed buffer; yields the bytes of each layer."""
    assert info.stream is not None
    target = device.array(info.name).reshape(layer_count(op), info.stream.layer_bytes)
    sources: Iterable[Any] = list(source_values(op, weights, 0, stored=True))
    packer = packer_of(info.stream, row_order(op, [len(values) for values in sources]), device.xp)
    for layer in range(len(target)):
        if layer > 0:
            sources = source_values(op, weights, layer, stored=True)
        parts = (upload(part) for values in sources for part in chunks_of(values))
        packer.pack((in_storage_type(op, part, device.xp) for part in parts), target[layer])
        yield info.stream.layer_bytes
