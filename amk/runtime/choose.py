"""Which device runs a program, and how many workers it has by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import ARCHS, window_bytes
from amk.backends.program import Program
from amk.errors import AmkError
from amk.ir.diagnostics import remark
from amk.runtime.build import DEFAULTS, PassOptions, find_arch, load_constants, lower
from amk.runtime.constants import Weights
from amk.runtime.device import Device
from amk.runtime.progress import Progress, silent
from amk.runtime.toolchain import find_cxx, has_gpu, missing_cxx, read_gpus

HOST = "host"


@dataclass(frozen=True)
class Choice:
    """A target of the printer, and how its programs are loaded."""

    target: str
    workers: int
    load: Callable[[Program, ModuleOp, Weights, Progress], Device]
    """Makes the device, with its constants loaded."""
    even: bool = False
    """Whether fewer workers may be taken where they share the work more evenly."""
    window: int | None = None
    """Bytes in flight for each worker that this device's memory needs, if it is known."""

    def lower(
        self, module: ModuleOp, options: PassOptions = DEFAULTS, progress: Progress = silent
    ) -> None:
        """Turn an nn module into a verified schedule for this device, in place."""
        lower(
            module,
            self.workers,
            self.target,
            even=self.even,
            window=self.window,
            options=options,
            progress=progress,
        )


def choose_device(arch: str, workers: int | None) -> Choice:
    """The device for `arch`: "auto", "host", "cuda" or a GPU architecture.

    Raises AmkError where there is no such device, or `workers` is more than it has.
    """
    if arch not in ("auto", "cuda", HOST):
        find_arch(arch)
    if workers is not None and workers < 1:
        raise AmkError(f"workers must be at least 1, got {workers}")
    if arch != HOST and (arch != "auto" or has_gpu()):
        return _gpu_choice(arch, workers)
    if find_cxx() is not None:
        return Choice(HOST, workers or _cores(), _load_on_cpu)
    remark(None, f"{missing_cxx()}: running in the interpreter, which is slow")
    # Its time goes by the number of tasks, so the fewest workers are the fastest.
    return Choice(HOST, workers or 1, _load_interpreter)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_on_cpu(
    program: Program, module: ModuleOp, weights: Weights, progress: Progress
) -> Device:
    from amk.runtime.host import HostDevice

    with progress("compiling the program"):
        device = HostDevice(program)
    return _loaded(device, module, weights, progress)


def _load_interpreter(
    program: Program, module: ModuleOp, weights: Weights, progress: Progress
) -> Device:
    from amk.runtime.interpret import InterpreterDevice

    with progress("loading the weights"):
        return InterpreterDevice(program, module, weights)


def _loaded(device: Device, module: ModuleOp, weights: Weights, progress: Progress) -> Device:
    """`device` with its constants, or closed."""
    try:
        load_constants(module, weights, device, progress)
    except BaseException:
        device.close()
        raise
    return device


def _gpu_choice(arch: str, workers: int | None) -> Choice:
    gpus, reason = read_gpus()
    if not gpus:
        raise AmkError(f"arch '{arch}' needs a GPU, but {reason}: run on the CPU (--device=cpu)")
    if not has_gpu():
        raise AmkError("there is a GPU, but not CuPy to use it: pip install 'amk[cuda]'")
    available = gpus[0].multiprocessors
    if workers is not None and workers > available:
        raise AmkError(
            f"this GPU has {available} multiprocessors, fewer than workers={workers}:"
            f" use workers={available}"
        )
    target = _arch_of(gpus[0].capability) if arch in ("auto", "cuda") else find_arch(arch).name
    window = window_bytes(gpus[0].bandwidth, available) if gpus[0].bandwidth else None
    return Choice(target, workers or available, _load_on_gpu, workers is None, window)


def _arch_of(capability: tuple[int, int]) -> str:
    """The newest known architecture that a GPU of this compute capability can run."""
    major, minor = capability
    for candidate in range(minor, -1, -1):
        if f"sm_{major}{candidate}" in ARCHS:
            return f"sm_{major}{candidate}"
    raise AmkError(f"this GPU has compute capability {major}.{minor}; known: {', '.join(ARCHS)}")


def _load_on_gpu(
    program: Program, module: ModuleOp, weights: Weights, progress: Progress
) -> Device:
    from amk.runtime.cuda import CudaDevice

    with progress("compiling the kernel"):
        device = CudaDevice(program)
    return _loaded(device, module, weights, progress)
