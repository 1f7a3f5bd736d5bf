"""Running an instrumented program, and the normal one beside it."""

from __future__ import annotations

from dataclasses import dataclass

from amk.backends import emit_program
from amk.backends.trace_layout import TRACE_BUFFER, TraceWindow
from amk.bench.subject import fill_caches, prepare
from amk.errors import AmkError
from amk.frontend.checkpoint import Checkpoint
from amk.frontend.import_model import DtypeName
from amk.ir.expand import expand, schedule_of
from amk.runtime.build import DEFAULTS, PassOptions
from amk.runtime.device import Device
from amk.runtime.model import TIMEOUT_SECONDS
from amk.runtime.progress import Progress, silent
from amk.runtime.session import Session
from amk.trace.timeline import Timeline, timeline_of

_WARM_TOKENS = 8
_FIRST_TOKEN = 1


@dataclass(frozen=True)
class Traced:
    """A timeline, and microseconds per token of the instrumented and of the normal program."""

    timeline: Timeline
    traced_us: float
    normal_us: float


def run_traced(
    checkpoint: Checkpoint,
    arch: str,
    *,
    dtype: DtypeName | None = None,
    context: int,
    workers: int | None = None,
    options: PassOptions = DEFAULTS,
    tokens: int = 2,
    progress: Progress = silent,
) -> Traced:
    """Record `tokens` tokens of a launch that ends at `context` positions.

    The caches are filled at random, no prompt runs. Other arguments are those of `amk.compile`.
    Raises AmkError where the launch fails or the records do not fit the schedule.
    """
    steps = _WARM_TOKENS + tokens + 1
    if context < steps:
        raise AmkError(f"a launch that is traced has {steps} tokens, more than context {context}")
    prepared = prepare(
        checkpoint,
        arch,
        dtype=dtype,
        context=context,
        workers=workers,
        options=options,
        progress=progress,
    )
    module, choice = prepared.module, prepared.choice
    window = TraceWindow(_WARM_TOKENS, tokens)
    program = emit_program(module, choice.target, trace=window)
    assert program.trace is not None
    device = choice.load(program, module, prepared.weights, progress)
    try:
        fill_caches(device)
        traced = _us_per_token(device, context - steps, steps)
        values = device.read(TRACE_BUFFER, program.trace.info.shape[0])
        with progress("compiling the normal program"):
            normal = type(device)(emit_program(module, choice.target), shared=device)
        device.clear_packets()
        return Traced(
            timeline_of(expand(schedule_of(module)).table, program.trace, values),
            traced,
            _us_per_token(normal, context - steps, steps),
        )
    finally:
        device.close()


def _us_per_token(device: Device, start: int, steps: int) -> float:
    session = Session(device, TIMEOUT_SECONDS[device.name])
    session.time(_FIRST_TOKEN, start, steps)  # warm
    return session.time(_FIRST_TOKEN, start, steps) / steps * 1e6
