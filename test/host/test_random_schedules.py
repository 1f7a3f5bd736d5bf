"""Two hundred safe random schedules on real threads: what the interpreter says, and no race.

AMK_HOST_SCHEDULES asks for more of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from batch import ADDRESS, THREAD, Batch, Case, Result
from compilers import needs_cxx
from schedules import Sample, safe, synchronisation

SCHEDULES = int(os.environ.get("AMK_HOST_SCHEDULES", "200"))
LAUNCHES = 3

pytestmark = [needs_cxx, pytest.mark.slow]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(islice(safe(), SCHEDULES))


@pytest.fixture(scope="module")
def cases(samples: list[Sample]) -> list[tuple[Case, list[bytes]]]:
    """Each with the memory that it must leave."""
    made = [sample.case() for sample in samples]
    return [(case, case.expected()) for case in made]


def test_every_way_to_synchronise_occurs(samples: list[Sample]) -> None:
    ways = Counter(way for made in samples for way in synchronisation(made.table))
    queues = {len(made.table.queues) for made in samples}
    print(dict(ways), sorted(queues))
    assert all(ways[w] >= 20 for w in ("counters", "packets", "back-pressure"))
    assert ways["partial thresholds"] >= 10
    assert set(range(2, 17)) <= queues


def _run(batch: Batch, cases: Sequence[tuple[Case, list[bytes]]]) -> list[Result]:
    jobs = [case.job(number, launches=LAUNCHES) for number, (case, _) in enumerate(cases)]
    return batch.run(jobs)


def _check(samples: Sequence[Sample], expected: Sequence[list[bytes]], got: Sequence[Result]):
    for sample, memory, result in zip(samples, expected, got, strict=True):
        assert result.status.code == 0, sample.name
        assert list(result.memory[: len(memory)]) == memory, sample.name
        assert result.different == 0, sample.name


def test_address_and_undefined_behaviour_sanitizers(samples, cases, tmp_path: Path) -> None:
    batch = Batch([made.module for made in samples], ADDRESS, tmp_path)
    _check(samples, [memory for _, memory in cases], _run(batch, cases))


def test_thread_sanitizer(samples, cases, tmp_path: Path) -> None:
    batch = Batch([made.module for made in samples], THREAD, tmp_path, stress=True)
    results = _run(batch, cases)
    reported = [n for n, result in enumerate(results) if result.reports]
    # A write may follow a read that is ordered by packets alone: the reader has its value before it
    # sends. C++ has no order for that which is weaker than a release, so with packets that release
    # and acquire nothing may be left.
    for number in reported:
        result, made = results[number], samples[number]
        assert result.reports == result.overwrites, made.name
        assert "packets" in synchronisation(made.table), made.name
    clean = [n for n in range(len(results)) if n not in reported]
    _check([samples[n] for n in clean], [cases[n][1] for n in clean], [results[n] for n in clean])
    print(len(clean), "clean,", len(reported), "with writes after reads that packets order")
    assert len(reported) * 20 <= len(results)
    if not reported:
        return
    modules = [samples[n].module for n in reported]
    strong = Batch(modules, THREAD, tmp_path, stress=True, strong=True)
    results = _run(strong, [cases[n] for n in reported])
    assert not any(result.reports for result in results)
    _check([samples[n] for n in reported], [cases[n][1] for n in reported], results)
