"""Printed programs of random small models under the sanitizers: no report, and the right bits.

With the schedules of `test_random_schedules.py`, whose tasks have no kernels, these are the two
hundred small models and schedules of every run. AMK_HOST_MODELS asks for more of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from batch import ADDRESS, THREAD, Batch, Job, Result
from compilers import needs_cxx
from sampled_models import FORMS, HEADS, LAUNCHES, ModelSample, model_sample

MODELS = int(os.environ.get("AMK_HOST_MODELS", "24"))
TOGETHER = 12
"""Models of one executable."""
PARTS = [range(n, min(n + TOGETHER, MODELS)) for n in range(0, MODELS, TOGETHER)]
DELAYS = 24
"""Of 4096 looks at a packet; a model looks at some thousands of them."""

pytestmark = [needs_cxx, pytest.mark.slow]
parts = pytest.mark.parametrize("numbers", PARTS, ids=lambda part: f"{part[0]}-{part[-1]}")


def test_every_kind_of_model_occurs() -> None:
    samples = [model_sample(number) for number in range(MODELS)]
    for values in (
        [sample.form for sample in samples],
        [sample.made.dtype for sample in samples],
        [sample.made.exchange for sample in samples],
        [sample.made.context % 2 for sample in samples],
        [sample.even for sample in samples],
        [sample.queues for sample in samples],
    ):
        print(dict(sorted(Counter(values).items())))
    print(sum(len(sample.expected[0]) for sample in samples), "positions")
    assert {sample.form for sample in samples} == set(FORMS)
    assert {(s.made.dtype, s.made.exchange) for s in samples} == {
        ("f32", "f32"), ("bf16", "f32"), ("bf16", "bf16"),
    }  # fmt: skip
    shapes = [sample.made.checkpoint.config for sample in samples]
    assert {(s["num_attention_heads"], s["num_key_value_heads"]) for s in shapes} == set(HEADS)
    queues = {sample.queues for sample in samples}
    assert len(queues) >= 13
    assert {2, 16} <= queues


def _run(batch: Batch, samples: Sequence[ModelSample], *, calm: bool = True) -> list[Result]:
    jobs = [
        Job(n, sample.memory(program), sample.steps, sample.start, 2, LAUNCHES, calm=calm)
        for n, (sample, program) in enumerate(zip(samples, batch.programs, strict=True))
    ]
    return batch.run(jobs)


def _check(batch: Batch, number: int, sample: ModelSample, result: Result) -> None:
    assert result.status.code == 0, sample
    assert result.different == 0, sample
    assert sample.outcome(batch.programs[number], result.memory) == sample.expected, sample


@parts
def test_address_and_undefined_behaviour_sanitizers(numbers: range, tmp_path: Path) -> None:
    samples = [model_sample(number) for number in numbers]
    batch = Batch([sample.module for sample in samples], ADDRESS, tmp_path)
    for number, result in enumerate(_run(batch, samples)):
        _check(batch, number, samples[number], result)


@parts
def test_thread_sanitizer(numbers: range, tmp_path: Path) -> None:
    samples = [model_sample(number) for number in numbers]
    modules = [sample.module for sample in samples]
    batch = Batch(modules, THREAD, tmp_path, stress=True, delays=DELAYS)
    reported: set[int] = set()
    for calm in (True, False):
        for number, result in enumerate(_run(batch, samples, calm=calm)):
            if not result.reports:
                _check(batch, number, samples[number], result)
                continue
            # As for schedules: a plain write after a read, and packets alone in between. What is
            # lowered has no such memory; with counters for some of its packets it has.
            assert result.reports == result.overwrites, samples[number]
            assert "counters" in samples[number].form, samples[number]
            reported.add(number)
    print(len(samples) - len(reported), "clean,", len(reported), "with writes after reads")
    if not reported:
        return
    again = [samples[number] for number in sorted(reported)]
    modules = [sample.module for sample in again]
    strong = Batch(modules, THREAD, tmp_path, stress=True, strong=True, delays=DELAYS)
    for calm in (True, False):
        for number, result in enumerate(_run(strong, again, calm=calm)):
            assert not result.reports, again[number]
            _check(strong, number, again[number], result)
