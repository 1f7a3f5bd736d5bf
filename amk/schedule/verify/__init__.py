"""The exact verifier: `verify(table)` decides whether every execution of a schedule is sound.

docs/verifier.md has the model of execution, the theorems and their proofs.
"""

from __future__ import annotations

from functools import cache

from amk.schedule.table import ScheduleTable
from amk.schedule.verify import bounds, explain, history, malformed, resource
from amk.schedule.verify.cases import cases, outline, varying, written_twice
from amk.schedule.verify.engine import Examiner
from amk.schedule.verify.report import KINDS, Finding, Verdict, Witness, verdict_of
from amk.schedule.verify.resource import Limits
from amk.schedule.verify.scalars import States, TooManyStatesError

__all__ = ["KINDS", "Finding", "Limits", "Verdict", "Witness", "verify"]

MAX_SKEW = 16
"""The largest bound on the skew of agents, in iterations, that is looked for."""


def verify(table: ScheduleTable, limits: Limits | None = None, max_skew: int = MAX_SKEW) -> Verdict:
    """The verdict on `table`; `limits` of a machine, if given, are checked as well.

    Errors of the first kind that applies are reported (`KINDS` gives the order); later kinds are
    not looked for, since they have no meaning in a schedule that fails an earlier one.
    """
    found = malformed.check(table)
    if found:
        return verdict_of(found)

    @cache
    def states() -> States:
        return States.of(table)

    try:
        twice = written_twice(table, states)
        if twice is not None:
            return verdict_of([explain.twice(table, *twice)])
        found = resource.check(table, limits) or bounds.check(table, states)
        if found or not table.n_tasks:
            return verdict_of(found)
        return _examine(table, states, max_skew)
    except TooManyStatesError as error:
        return verdict_of([Finding("malformed", f"{error}; give them smaller ranges")])


def _examine(table: ScheduleTable, states, max_skew: int) -> Verdict:
    examiner = Examiner(table, max_skew)
    every = range(len(table.access_task))
    varies = bool(varying(table, slice(None)).any()) if len(every) else False  # type: ignore
    result = examiner.conflicts(outline(table, varies))
    if not varies:
        return verdict_of(result.findings, result.skew)
    if not result.decided:
        result = examiner.every(lambda window: cases(table, states(), window), result)
    if not result.findings:
        late = history.undefined(table, states()) if history.concerned(table).any() else None
        if late is not None:
            result.findings.append(explain.undefined(table, late[0], late[1], 0))
    return verdict_of(result.findings, result.skew)
