"""The launch structures and the message of a failed launch."""

from __future__ import annotations

import ctypes

from amk.backends.program import Program
from amk.runtime.abi import Launch, Status, StatusValues, copy_status, launch_error

PROGRAM = Program(
    name="tiny",
    target="host",
    source="",
    workers=2,
    threads=1,
    shared_bytes=0,
    context=16,
    vocab=8,
    eos=(2,),
    buffers=(),
    task_names=("embed", "qkv"),
    buffer_names=("x", "q"),
)


def test_structures_have_the_layout_of_the_device_header():
    assert ctypes.sizeof(Launch) == 20
    assert ctypes.sizeof(Status) == 32
    assert [Launch.pos.offset, Launch.steps.offset, Launch.base.offset] == [0, 4, 8]
    assert Launch.timeout_ms.offset == 12
    assert Status.iteration.offset == 28


def test_a_timeout_names_task_worker_and_buffer():
    status = Status(1, 5, 1, 0, 37, 1234, 1200, 7)
    error = launch_error(PROGRAM, Launch(3, 16, 0, 2500, 0), copy_status(status))
    assert str(error) == (
        "the launch hung: worker 5, task 'qkv', position 10 (iteration 7) waited more than 2.5 s"
        " for element 37 of buffer 'x' (expected 1234, last seen 1200)"
    )


def test_an_unknown_code_and_unknown_ids_are_shown_as_numbers():
    error = launch_error(PROGRAM, Launch(0, 1, 0, 1000, 0), StatusValues(code=9, task=77))
    assert str(error).startswith("the launch failed with code 9: worker 0, task '#77'")
