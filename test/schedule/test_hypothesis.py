"""The verifier and the explorer agree on programs that Hypothesis draws, and shrinks on failure."""

from __future__ import annotations

import os

import pytest
from explorer import TooBig, judge
from hypothesis import HealthCheck, assume, find, given, settings
from program import Program, table_of
from strategies import programs

from amk.schedule.verify import verify

SKEW = 2
EXAMPLES = int(os.environ.get("AMK_EXAMPLES", "500"))
FIXED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""The same examples in every run."""


def truth(program: Program) -> str:
    """The explorer's kind; programs with too many states are passed over."""
    try:
        return judge(program, SKEW)
    except TooBig:
        assume(False)
        raise


@FIXED
@given(programs())
def test_verifier_and_explorer_agree(program: Program) -> None:
    verdict = verify(table_of(program), max_skew=SKEW)
    assert verdict.kind == truth(program), verdict.message
    assert verdict.ok == (verdict.kind == "")


@pytest.mark.parametrize("kind", ["race", "undefined-read"])
def test_failures_shrink_to_few_tasks(kind: str) -> None:
    """What fails on every program of a kind is told by one of two or three tasks."""
    program = find(programs(), lambda p: truth(p) == kind, settings=FIXED)
    assert len(program.tasks) <= 3
