"""Which device runs a program, and how many workers it has by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from amk.backends.arch import ARCHS
from amk.backends.program import Program
from amk.cli.toolchain import has_gpu, read_gpus
from amk.errors import AmkError
from amk.runtime.build import find_arch
from amk.runtime.device import Device

HOST = "host"


@dataclass(frozen=True)
class Choice:
    """A target of the printer, and how its programs are loaded."""

    target: str
    workers: int
    load: Callable[[Program, ModuleOp], Device]


def choose_device(arch: str, workers: int | None) -> Choice:
    """The device for `arch`: "auto", "host", "cuda" or a GPU architecture.

    Raises AmkError where there is no such device, or `workers` is more than it has.
    """
    if arch not in ("auto", "cuda", HOST):
        find_arch(arch)
    if workers is not None and workers < 1:
        raise AmkError(f"workers must be at least 1, got {workers}")
    if arch == HOST or (arch == "auto" and not has_gpu()):
        return Choice(HOST, workers or _cores(), _load_on_cpu)
    return _gpu_choice(arch, workers)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_on_cpu(program: Program, _module: ModuleOp) -> Device:
    from amk.runtime.host import HostDevice

    return HostDevice(program)


def _gpu_choice(arch: str, workers: int | None) -> Choice:
    gpus, reason = read_gpus()
    if not gpus:
        raise AmkError(f"arch '{arch}' needs a GPU, but {reason}: use arch 'host' for the CPU")
    if not has_gpu():
        raise AmkError("there is a GPU, but not CuPy to use it: pip install 'amk[cuda]'")
    available = gpus[0].multiprocessors
    if workers is not None and workers > available:
        raise AmkError(
            f"this GPU has {available} multiprocessors, fewer than workers={workers}:"
            f" use workers={available}"
        )
    target = _arch_of(gpus[0].capability) if arch in ("auto", "cuda") else find_arch(arch).name
    return Choice(target, workers or available, _load_on_gpu)


def _arch_of(capability: tuple[int, int]) -> str:
    """The newest known architecture that a GPU of this compute capability can run."""
    major, minor = capability
    for candidate in range(minor, -1, -1):
        if f"sm_{major}{candidate}" in ARCHS:
            return f"sm_{major}{candidate}"
    raise AmkError(f"this GPU has compute capability {major}.{minor}; known: {', '.join(ARCHS)}")


def _load_on_gpu(program: Program, _module: ModuleOp) -> Device:
    from amk.runtime.cuda import CudaDevice

    return CudaDevice(program)
