"""The exact verifier: `verify(table)` decides whether every execution of a schedule is sound.

docs/verifier.md has the model of execution, the theorems and their proofs.
"""

from __future__ import annotations

from amk.schedule.table import ScheduleTable
from amk.schedule.verify import bounds, explain, history, malformed, resource
from amk.schedule.verify.cases import cases, outline, parts, varying, written_twice
from amk.schedule.verify.engine import MEMORY, Examiner, Result
from amk.schedule.verify.report import (
    KINDS,
    Finding,
    TooLargeError,
    Verdict,
    Witness,
    verdict_of,
)
from amk.schedule.verify.resource import Limits
from amk.schedule.verify.scalars import StateSpace

__all__ = ["KINDS", "MEMORY", "Finding", "Limits", "Verdict", "Witness", "verify"]


def verify(
    table: ScheduleTable,
    limits: Limits | None = None,
    max_skew: int | None = None,
    *,
    memory: int = MEMORY,
) -> Verdict:
    """The verdict on `table`; `limits` of a machine, if given, are checked as well.

    Errors of the first kind that applies are reported (`KINDS` gives the order); later kinds are
    not looked for, since they have no meaning in a schedule that fails an earlier one.  With
    `max_skew`, a larger bound on the skew counts as unbounded.  What would take more than `memory`
    bytes of unrolled iterations is not decided, and reported as `resource`.
    """
    found = malformed.check(table)
    if found:
        return verdict_of(found)
    space = StateSpace(table)
    try:
        twice = written_twice(table, space)
        if twice is not None:
            return verdict_of([explain.twice(table, *twice)])
        found = resource.check(table, limits) or bounds.check(table, space)
        if found or not table.n_tasks:
            return verdict_of(found)
        result = _examine(table, space, max_skew, memory)
    except TooLargeError as error:
        text = f"the verifier cannot decide: {error}"
        return verdict_of([Finding("resource", text, location=error.location)])
    return verdict_of(result.findings, result.skew)


def _examine(table: ScheduleTable, space: StateSpace, max_skew: int | None, memory: int) -> Result:
    varies = _varies(table)
    result = Examiner(table, max_skew, memory).conflicts(outline(table, varies))
    if not varies:
        return result
    if not result.decided:
        result = _by_parts(table, max_skew, memory)
    if not result.findings and history.concerned(table).any():
        late = history.undefined(table, space.every())
        if late is not None:
            result.findings = [explain.undefined(table, late[0], late[1], 0)]
    return result


def _by_parts(table: ScheduleTable, max_skew: int | None, memory: int) -> Result:
    """Each part by its outline, or by cases; findings of the first kind."""
    whole = Result()
    for part in parts(table):
        examiner = Examiner(part, max_skew, memory)
        result = examiner.conflicts(outline(part, _varies(part)))
        if not result.decided:
            space = StateSpace(part)
            result = examiner.every(lambda w, s=space, p=part: cases(p, s, w), result)
        whole.skew = max(whole.skew, result.skew)
        whole.findings += result.findings
    first = min((KINDS.index(f.kind) for f in whole.findings), default=0)
    whole.findings = [f for f in whole.findings if f.kind == KINDS[first]]
    return whole


def _varies(table: ScheduleTable) -> bool:
    """Whether an access uses an expression."""
    return bool(len(table.access_task)) and bool(varying(table, slice(None)).any())  # type: ignore
