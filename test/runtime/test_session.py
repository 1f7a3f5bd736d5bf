"""Launch bookkeeping of `CompiledModel` on a hand-written host program."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import fake_cupy
import numpy as np
import pytest
from host_fake import CONTEXT, EOS, HANG, SLOTS, USES, VOCAB, generated, make_program, reference

from amk.errors import AmkError
from amk.runtime.cuda import CudaDevice
from amk.runtime.device import Device
from amk.runtime.epochs import LIMIT
from amk.runtime.host import HostDevice, build_library
from amk.runtime.model import CompiledModel
from amk.runtime.toolchain import find_cxx

pytestmark = pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")


@pytest.fixture(scope="module", params=["host", "cuda with a stand-in for CuPy"])
def device(request) -> Iterator[Device]:
    if request.param == "host":
        yield HostDevice(make_program())
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", fake_cupy.module())
        patch.setattr("amk.runtime.cuda.cached_cubin", lambda source, _arch: build_library(source))
        yield CudaDevice(replace(make_program(), shared_bytes=60_000))


@pytest.fixture
def model(device) -> CompiledModel:
    device.clear_packets()
    device.array("tokens")[...] = 0
    return CompiledModel(cast(Any, None), device.program, device, timeout=1.0)


def prompt_that_ends_after(count: int) -> list[int]:
    """A prompt whose continuation has an end-of-text token as its `count`-th."""
    return next(
        [a, b]
        for a, b in itertools.product(range(VOCAB - 1), repeat=2)
        if len(out := generated([a, b], count + 1)) == count and out[-1] == EOS
    )


LONG = next([a] for a in range(VOCAB - 1) if len(generated([a], 40)) == 40)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_generates_up_to_the_limit(model, count):
    assert list(model.generate(LONG, count)) == generated(LONG, count)


@pytest.mark.parametrize(("length", "limit"), [(1, 8), (4, 8), (8, 8)])
def test_ends_with_an_end_of_text_token(model, length, limit):
    prompt = prompt_that_ends_after(length)
    assert list(model.generate(prompt, limit)) == generated(prompt, limit)
    assert len(generated(prompt, limit)) == length


def test_an_end_of_text_token_within_the_prompt_does_not_end(model):
    prompt = prompt_that_ends_after(1)
    longer = [*prompt, EOS, 3, 4]
    assert list(model.generate(longer, 5)) == generated(longer, 5)


def test_goes_on_from_what_the_call_before_left(model):
    first = list(model.generate(LONG, 6))
    assert model.session.fed == LONG + first[:-1]
    longer = LONG + first + [1, 2]
    launches = []
    start = model.device.start
    model.device.start = lambda launch: (launches.append((launch.pos, launch.steps)), start(launch))
    try:
        assert list(model.generate(longer, 4)) == generated(longer, 4)
        # The same prompt again runs its last token only, a shorter one does not look ahead.
        assert list(model.generate(longer, 4)) == generated(longer, 4)
        assert list(model.generate(LONG, 3)) == generated(LONG, 3)
    finally:
        model.device.start = start
    last = len(longer) - 1
    assert launches == [(len(LONG) + 5, 4 + 2), (last, 4), (len(LONG) - 1, 3)]


def test_another_prompt_starts_where_it_differs(model):
    list(model.generate([1, 2, 3], 3))
    assert list(model.generate([1, 4, 3], 3)) == generated([1, 4, 3], 3)


def test_fills_the_context_and_no_more(model):
    prompt = LONG * 3
    out = list(model.generate(prompt, 1000))
    assert out == generated(prompt, 1000)
    full = [1] * CONTEXT
    assert list(model.generate(full, 5)) == [reference(full)]


def test_streams_while_the_launch_runs(model):
    tokens = model.generate(LONG, 40)
    first = next(tokens)
    assert model.device.running()
    assert [first, *tokens] == generated(LONG, 40)
    assert not model.device.running()


def test_closing_the_iterator_stops_the_launch(model):
    tokens = model.generate(LONG, 40)
    first = [next(tokens), next(tokens)]
    tokens.close()
    assert not model.device.running()
    assert first == generated(LONG, 2)
    ran = len(model.session.fed)
    assert 2 <= ran < 40
    assert model.session.epochs.base == ran
    assert list(model.generate(LONG, 40)) == generated(LONG, 40)


def test_a_new_call_ends_the_one_before(model):
    tokens = model.generate(LONG, 40)
    next(tokens)
    assert list(model.generate([9, 9], 3)) == generated([9, 9], 3)
    assert list(tokens) == []


def test_an_exception_while_streaming_stops_the_launch(model):
    class Interrupt(BaseException):
        pass

    def consume() -> None:
        for number, _ in enumerate(model.generate(LONG, 40)):
            if number == 3:
                raise Interrupt

    with pytest.raises(Interrupt):
        consume()
    assert list(model.generate(LONG, 5)) == generated(LONG, 5)


def test_a_failed_launch_names_what_hung_and_the_next_one_works(model):
    prompt = [1, 2, 3, 4, HANG, 6]
    list(model.generate([1, 2, 3], 2))
    with pytest.raises(AmkError) as error:
        list(model.generate(prompt, 5))
    message = str(error.value)
    assert "worker 0, task 'mix', position 4" in message
    assert "element 3 of buffer 'x'" in message
    assert list(model.generate([1, 2, 3], 5)) == generated([1, 2, 3], 5)
    assert model.session.epochs.base == 5  # started again from cleared packets


def test_epochs_just_below_the_wrap(model):
    steps = 8
    model.session.epochs.base = (LIMIT - 1) // USES - steps
    assert list(model.generate(LONG, steps)) == generated(LONG, steps)
    assert model.session.epochs.base * USES > LIMIT - 2 * USES
    assert list(model.generate([3, 1], steps)) == generated([3, 1], steps)
    assert model.session.epochs.base == len(generated([3, 1], steps)) + 1


def test_logits_come_in_blocks_of_the_ring(model):
    ids = [int(token) for token in np.random.default_rng(0).integers(0, HANG, 2 * SLOTS + 3)]
    logits = model.logits(ids)
    assert logits.shape == (len(ids), VOCAB)
    assert logits.dtype == np.float32
    expected = [reference(ids[: n + 1]) for n in range(len(ids))]
    assert logits.argmax(axis=1).tolist() == expected
    assert model.session.fed == ids


@pytest.mark.parametrize("first", [1, 2 * SLOTS, 2 * SLOTS + 2])
def test_logits_may_start_later(model, first):
    ids = [int(token) for token in np.random.default_rng(0).integers(0, HANG, 2 * SLOTS + 3)]
    expected = [reference(ids[: n + 1]) for n in range(first, len(ids))]
    assert model.logits(ids, first).argmax(axis=1).tolist() == expected
    with pytest.raises(AmkError, match=f"first {len(ids)} is outside 0..{len(ids) - 1}"):
        model.logits(ids, len(ids))


def test_times_launches_in_a_row_by_the_clock_of_the_device(model):
    list(model.generate([3, 1], 4))
    base = model.session.epochs.base
    started = time.perf_counter()
    # Each iteration sleeps for 300 us.
    assert model.session.time(LONG[0], 0, 5, launches=3) > 3 * 5 * 300e-6
    assert model.session.time(LONG[0], 0, 5) < time.perf_counter() - started
    assert model.session.epochs.base == base + 20
    assert model.session.fed == []
    assert list(model.generate([3, 1], 4)) == generated([3, 1], 4)


def test_a_timed_launch_that_ends_early_or_fails_has_no_time(model):
    ends = next(a for a in range(VOCAB - 1) if len(generated([a], 40)) < 40)
    with pytest.raises(AmkError, match="ended early, at an end-of-text token"):
        model.session.time(ends, 0, 40)
    with pytest.raises(AmkError, match="the launch hung: worker 0, task 'mix', position 0"):
        model.session.time(HANG, 0, 1)
    assert model.session.time(LONG[0], 0, 2) > 0


def test_a_closed_model_says_so():
    device = HostDevice(make_program())
    with CompiledModel(cast(Any, None), device.program, device, timeout=1.0) as model:
        pass
    with pytest.raises(AmkError, match="has been closed"):
        model.generate([1])


def test_too_little_memory_is_one_line_with_both_numbers(monkeypatch):
    monkeypatch.setattr("amk.runtime.host._available_bytes", lambda: 1000)
    with pytest.raises(AmkError, match=r"out of memory: the model needs 0\.0 GB, 0\.0 GB are free"):
        HostDevice(make_program())


def test_a_launch_that_outlives_its_time_is_reported(model, monkeypatch):
    monkeypatch.setattr(model.device, "finish", lambda seconds: None)
    with pytest.raises(AmkError, match="did not end within"):
        list(model.generate(LONG, 2))
    monkeypatch.undo()
    while model.device.running():
        time.sleep(0.01)
    assert list(model.generate(LONG, 2)) == generated(LONG, 2)


@pytest.mark.parametrize(
    ("ids", "count", "message"),
    [
        ([], 1, "the prompt is empty"),
        ([1] * (CONTEXT + 1), 1, f"the prompt has {CONTEXT + 1} tokens, but the context holds"),
        ([1, VOCAB], 1, f"token {VOCAB} is outside 0..{VOCAB - 1}"),
        ([-1], 1, "token -1 is outside"),
        ([1], -1, "max_new_tokens must not be negative"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(model, ids, count, message):
    with pytest.raises(AmkError, match=message):
        model.generate(ids, count)
    assert list(model.generate([1], 0)) == []
