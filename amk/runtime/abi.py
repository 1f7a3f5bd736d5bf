"""The structures of a launch, as C sees them, and what a failed launch says."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from amk.backends.program import Program
from amk.errors import AmkError


class Launch(ctypes.Structure):
    """What a launch is to do. `amk::Launch`."""

    _fields_ = (
        ("pos", ctypes.c_int32),  # position of the first iteration
        ("steps", ctypes.c_int32),  # iterations at most
        ("base", ctypes.c_uint32),  # packet epochs start above base * uses
        ("timeout_ms", ctypes.c_uint32),  # longest wait for one packet or counter
        ("token", ctypes.c_int32),  # unused: the first token is a forced one
    )


class Status(ctypes.Structure):
    """How a launch ended. `amk::Status`."""

    _fields_ = (
        ("code", ctypes.c_uint32),  # 0 ok, TIMEOUT or TOO_WIDE
        ("worker", ctypes.c_uint32),
        ("task", ctypes.c_uint32),
        ("buffer", ctypes.c_uint32),
        ("index", ctypes.c_uint32),
        ("expected", ctypes.c_uint32),
        ("seen", ctypes.c_uint32),
        ("iteration", ctypes.c_uint32),
    )


TIMEOUT = 1
TOO_WIDE = 2
NO_THREAD = 3
RING = 2**32 - 1
"""Instead of a buffer: the ring of weights of a worker."""


@dataclass(frozen=True)
class StatusValues:
    """A copy of a `Status` that the device no longer writes to."""

    code: int = 0
    worker: int = 0
    task: int = 0
    buffer: int = 0
    index: int = 0
    expected: int = 0
    seen: int = 0
    iteration: int = 0


def copy_status(status: Status) -> StatusValues:
    """The values of `status` now."""
    return StatusValues(*(getattr(status, name) for name in StatusValues.__dataclass_fields__))


def launch_error(program: Program, launch: Launch, status: StatusValues) -> AmkError:
    """The error for a launch that ended with a code other than 0."""
    where = (
        f"worker {status.worker}, task '{_name(program.task_names, status.task)}',"
        f" position {launch.pos + status.iteration} (iteration {status.iteration})"
    )
    if status.code == TOO_WIDE:
        return AmkError(f"the launch failed: {where} has more elements than its scratch memory")
    if status.code == NO_THREAD:
        return AmkError(
            f"the system lets {status.worker} threads start, but the program has {program.workers} "
            f"workers: use fewer (--workers), or allow more threads (ulimit -u, ulimit -v)"
        )
    if status.code != TIMEOUT:
        return AmkError(f"the launch failed with code {status.code}: {where}")
    if status.buffer == RING:
        awaited = f"slot {status.index} of its ring of weights"
    else:
        buffer = _name(program.buffer_names, status.buffer)
        awaited = f"element {status.index} of buffer '{buffer}'"
    return AmkError(
        f"the launch hung: {where} waited more than {launch.timeout_ms / 1000:g} s for {awaited}"
        f" (expected {status.expected}, last seen {status.seen})"
    )


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"#{number}"
