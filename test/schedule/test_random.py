"""The verifier and the explorer agree on every random program: verdict and kind."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from explorer import TooBig, judge
from generators import program
from program import table_of

from amk.schedule.verify import KINDS, verify

SKEW = 2
PROGRAMS = int(os.environ.get("AMK_SCHEDULE_PROGRAMS", "20000"))
FIRST = int(os.environ.get("AMK_SCHEDULE_FIRST", "0"))
BLOCKS = 8


def _compare(seed: int) -> str | None:
    """The kind both agree on, or None if the program is too big to explore."""
    made = program(seed)
    try:
        truth = judge(made, SKEW)
    except TooBig:
        return None
    verdict = verify(table_of(made), max_skew=SKEW)
    assert verdict.kind == truth, f"seed {seed}: {verdict.kind} ({verdict.message}), not {truth}"
    assert verdict.ok == (truth == "")
    return truth


@pytest.mark.parametrize("block", range(BLOCKS))
def test_agrees_with_the_explorer(block: int) -> None:
    kinds: Counter[str | None] = Counter()
    for seed in range(FIRST + block, FIRST + PROGRAMS, BLOCKS):
        kinds[_compare(seed)] += 1
    # The generators must keep reaching every kind, safe programs above all.
    assert kinds[None] < PROGRAMS // BLOCKS // 50 + 2
    if PROGRAMS >= 4000:
        assert all(kinds[k] for k in KINDS if k != "resource")
        assert kinds[""] > PROGRAMS // BLOCKS // 4


@pytest.mark.parametrize("seed", [639173, 838807])
def test_a_deadlock_of_launches_that_end_in_time(seed: int):
    """An iteration that needs a task of the next one: the last of a launch does not have it."""
    assert _compare(seed) == "deadlock"
