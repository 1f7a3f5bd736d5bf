"""The device layer on host threads: numbers bit for bit, ends of a launch, and failures."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from small_model import HostProgram, Reference, Shape, State, Weights

PROMPT = [5, 17, 250, 3]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device")


def ready(shape: Shape, slots: int = 8) -> State:
    state = State(Weights(shape), slots)
    state.arrays["forced"][: len(PROMPT)] = PROMPT
    return state


@pytest.mark.parametrize(
    "shape",
    [
        Shape(workers=1),
        Shape(workers=2),
        Shape(workers=7),
        Shape(workers=7, dtype="bf16"),
        Shape(workers=3, plain=True),
        # Uneven chunks, several chunks a slice, padded columns, rows that end within a block.
        Shape(workers=5, hidden=144, inner=1100, vocabulary=261, layers=1),
        Shape(workers=5, hidden=272, inner=2136, vocabulary=261, layers=1, dtype="bf16"),
    ],
    ids=str,
)
def test_matches_numpy_bit_for_bit(shape: Shape, folder: Path) -> None:
    steps = 8
    state = ready(shape)
    status = HostProgram(shape, folder).run(state, steps)
    logits, tokens = Reference(Weights(shape)).generate(PROMPT, steps)
    assert status.code == 0
    assert state.tokens() == tokens
    np.testing.assert_array_equal(state.arrays["logits"].view(np.uint32), logits.view(np.uint32))


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_long_context_uses_every_chunk_of_every_unit(dtype: str, folder: Path) -> None:
    shape, steps = Shape(workers=2, dtype=dtype, layers=1), 150
    state = ready(shape, steps)
    assert HostProgram(shape, folder).run(state, steps).code == 0
    logits, tokens = Reference(Weights(shape)).generate(PROMPT, steps)
    assert state.tokens() == tokens
    np.testing.assert_array_equal(state.arrays["logits"], logits)


def test_a_second_launch_continues_the_first(folder: Path) -> None:
    shape, program = Shape(workers=2), HostProgram(Shape(workers=2), folder)
    _, tokens = Reference(Weights(shape)).generate(PROMPT, 9)
    state = ready(shape)
    program.run(state, 5)
    state.arrays["forced"][5] = tokens[4]
    assert program.run(state, 4, pos=5, base=5).code == 0
    assert state.tokens() == tokens


def test_ends_after_steps_stop_and_end_of_text(folder: Path) -> None:
    shape, program = Shape(workers=7), HostProgram(Shape(workers=7), folder)
    _, tokens = Reference(Weights(shape)).generate(PROMPT, 8)

    state = ready(shape)
    assert program.run(state, 6).code == 0
    assert len(state.tokens()) == 6

    state = ready(shape)
    state.arrays["stop"][0] = 1
    assert program.run(state, 8).code == 0
    assert len(state.tokens()) == 1

    state = ready(shape)
    eos = tokens[5]
    assert program.run(state, 8, eos=eos).code == 0
    assert len(state.tokens()) == tokens.index(eos, len(PROMPT) - 1) + 1


def test_a_missing_packet_ends_the_launch_with_its_name(folder: Path) -> None:
    shape, program = Shape(workers=7), HostProgram(Shape(workers=7), folder)
    state = ready(shape)
    begin = time.monotonic()
    status = program.run(state, 8, timeout_ms=300, mute=4)
    assert time.monotonic() - begin < 0.3 + 1
    assert (status.code, status.task, status.buffer, status.index) == (1, 8, 7, 4)
    assert (status.expected, status.seen, status.iteration) == (2, 1, 1)
    assert status.worker < shape.workers

    # The memory is as good as new after it was cleared.
    state = ready(shape)
    assert program.run(state, 2).code == 0
