"""Mutants in which the verifier finds a race: ThreadSanitizer or a wrong result shows it.

The two tasks of the verifier's witness are held back between their waits and their accesses, both
so that they meet, or one so that the other overtakes it; then threads are delayed at random.
AMK_HOST_MUTANTS asks for more mutants.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from batch import THREAD, Batch, Case, Result
from compilers import needs_cxx
from schedules import Sample, mutated

from amk.errors import AmkError

MUTANTS = int(os.environ.get("AMK_HOST_MUTANTS", "200"))
TIMEOUT_MS = 100
PASSES = ((8, (0, 1)), (4, (0,)), (4, (1,)), (30, ()))
"""Launches, and which of the two tasks of the witness are held back in them."""

pytestmark = [needs_cxx, pytest.mark.slow]


def _expected(case: Case) -> list[bytes] | None:
    """What the interpreter computes in its fixed order; None where that is an error."""
    try:
        return case.expected()
    except AmkError:
        return None


def _shown(expected: list[bytes] | None, result: Result) -> str:
    """How a result shows the race, "" if it does not."""
    if result.reports:
        return "ThreadSanitizer"
    if result.status.code:
        return "a wait that never ends"
    if result.different or (expected is not None and _differs(expected, result.memory)):
        return "a wrong result"
    return ""


def _differs(expected: list[bytes], memory: Sequence[bytes]) -> bool:
    return list(memory[: len(expected)]) != expected


def test_races_show(tmp_path: Path) -> None:
    samples: list[Sample] = list(islice(mutated("race"), MUTANTS))
    cases = [sample.case() for sample in samples]
    expected = [_expected(case) for case in cases]
    batch = Batch([sample.module for sample in samples], THREAD, tmp_path, stress=True)
    shown = [""] * MUTANTS
    for launches, held in PASSES:
        left = [n for n in range(MUTANTS) if not shown[n]]
        jobs = [
            cases[n].job(
                n, launches=launches, timeout_ms=TIMEOUT_MS, held=_witness(samples[n], held)
            )
            for n in left
        ]
        for n, result in zip(left, batch.run(jobs), strict=True):
            shown[n] = _shown(expected[n], result)
    print(dict(Counter(shown)))
    for sample, how in zip(samples, shown, strict=True):
        if not how:
            print(f"{sample.name}: {sample.verdict.message}")
    assert sum(map(bool, shown)) >= 0.95 * MUTANTS


def _witness(sample: Sample, held: Sequence[int]) -> list[tuple[int, int]]:
    pair = sample.verdict.witness.pair
    return [(task, iteration) for n, (iteration, task) in enumerate(pair) if n in held]
