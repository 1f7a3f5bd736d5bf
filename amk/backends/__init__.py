"""Targets: what is printed for them, and how they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from amk.backends.program import Program
    from amk.backends.trace_layout import TraceWindow


def emit_program(
    module: ModuleOp,
    target: str,
    *,
    stream_only: bool = False,
    whole_ring: bool = False,
    trace: TraceWindow | None = None,
    stress: int | None = None,
) -> Program:
    """Print a module at task level for `target` (`sm_90`, …, `host`); KeyError for other names.

    The schedule must have been verified: the printer trusts it. With `stream_only`, the program
    streams the weights and computes nothing; with `whole_ring`, as many of them are in flight as
    there are slots; with `trace`, it records what it does; with `stress`, a seed, the threads of
    the host are delayed at random.
    """
    from amk.backends.arch import arch_of
    from amk.backends.print_program import emit_program as emit_for

    return emit_for(
        module,
        arch_of(target),
        stream_only=stream_only,
        whole_ring=whole_ring,
        trace=trace,
        stress=stress,
    )


def emit(module: ModuleOp, target: str) -> str:
    """The printed source alone."""
    return emit_program(module, target).source
