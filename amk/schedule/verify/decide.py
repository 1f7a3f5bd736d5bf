"""From a table to findings: kinds in their order, parts and cases, and all kinds on request.

Statement (all errors).  What is found after the first kind is a fault of the schedule as it stands:
regions that leave their buffer are cut to it; of a schedule that deadlocks, the tasks that run in
the iteration that gets stuck are judged; of one that runs free, launches of a few iterations; and a
read counts as undefined beside races if it must precede every write of its bytes that comes later.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amk.schedule.table import ITERATION, ScheduleTable
from amk.schedule.verify import bounds, explain, history, malformed, resource
from amk.schedule.verify.cases import cases, outline, parts, varying, written_twice
from amk.schedule.verify.engine import ATTEMPTS, Examiner, Result
from amk.schedule.verify.report import KINDS, Finding, TooLargeError, Verdict
from amk.schedule.verify.resource import Limits
from amk.schedule.verify.scalars import StateSpace


def first(
    table: ScheduleTable, limits: Limits | None, max_skew: int | None, memory: int
) -> tuple[list[Finding], int]:
    """The findings of the first kind that applies, and the bound on the skew (-1: unknown)."""
    found = malformed.check(table)
    if found:
        return found, -1
    space = StateSpace(table)
    try:
        twice = written_twice(table, space)
        if twice is not None:
            return [explain.twice(table, *twice)], -1
        found = resource.check(table, limits) or bounds.check(table, space)
        if found or not table.n_tasks:
            return found, -1
        result = _examine(table, space, max_skew, memory)
    except TooLargeError as error:
        text = f"the verifier cannot decide: {error}"
        return [Finding("resource", text, location=error.location)], -1
    return result.findings, result.skew


def further(table: ScheduleTable, verdict: Verdict, memory: int) -> list[Finding]:
    """Findings of later kinds than that of `verdict`, as far as they are certain."""
    if verdict.kind == "malformed":
        return []
    found = list(verdict.errors)
    space = StateSpace(table)
    try:
        if verdict.kind == "resource":
            found += bounds.check(table, space)
        if verdict.kind in ("resource", "out-of-bounds", "constant-write"):
            found += _examine(table, space, None, memory).findings
        stuck = [f for f in found if f.kind == "deadlock"]
        if stuck:
            return found + _beside_deadlock(table, stuck[0], memory)
        if any(f.kind == "unbounded-skew" for f in found):
            table = replace(table, iterations=min(table.iterations or ATTEMPTS, ATTEMPTS))
        return found + _examine(table, StateSpace(table), None, memory, True).findings
    except TooLargeError:
        return found


def _examine(
    table: ScheduleTable,
    space: StateSpace,
    max_skew: int | None,
    memory: int,
    every: bool = False,
) -> Result:
    varies = _varies(table)
    result = Examiner(table, max_skew, memory, every).conflicts(outline(table, varies))
    if not varies:
        return result
    if not result.decided or (every and result.findings):
        result = _by_parts(table, max_skew, memory, every)
    if not result.findings and history.concerned(table).any():
        late = history.undefined(table, space.every())
        if late is not None:
            result.findings = [explain.undefined_bytes(table, *late)]
    return result


def _by_parts(table: ScheduleTable, max_skew: int | None, memory: int, every: bool) -> Result:
    """Each part by its outline, or by cases; findings of the first kind, or of every kind."""
    whole = Result()
    for part in parts(table):
        examiner = Examiner(part, max_skew, memory, every)
        result = examiner.conflicts(outline(part, _varies(part)))
        if not result.decided or (every and result.findings and _varies(part)):
            space = StateSpace(part)
            result = examiner.every(lambda w, s=space, p=part: cases(p, s, w), result)
        whole.skew = max(whole.skew, result.skew)
        whole.findings += result.findings
    if not every:
        kind = min((KINDS.index(f.kind) for f in whole.findings), default=0)
        whole.findings = [f for f in whole.findings if f.kind == KINDS[kind]]
    return whole


def _varies(table: ScheduleTable) -> bool:
    """Whether an access uses an expression."""
    return bool(len(table.access_task)) and bool(varying(table, slice(None)).any())  # type: ignore


def _beside_deadlock(table: ScheduleTable, stuck: Finding, memory: int) -> list[Finding]:
    """Faults among the tasks that run in the iteration that gets stuck."""
    values = dict(stuck.witness.start)
    kept = np.array(sorted(t for _, t in stuck.witness.run), np.int64)
    if not len(kept):
        return []
    part = _running(table, kept, values)
    found = _examine(part, StateSpace(part), None, memory, True).findings
    if values.get(ITERATION):
        found = [f for f in found if f.kind != "undefined-read"]
    return [_renumbered(f, kept) for f in found]


def _running(table: ScheduleTable, kept: np.ndarray, values: dict[str, int]) -> ScheduleTable:
    """One iteration of the tasks `kept`, with all expressions evaluated."""
    number = np.full(table.n_tasks, -1, np.int32)
    number[kept] = np.arange(len(kept))
    known = [e.evaluate(values) if e.variables <= values.keys() else 0 for e in table.expressions]
    value = np.array([*known, 0], np.int64)
    happens = value[table.access_guard] == 0
    happens &= value[table.task_guard[table.access_task]] == 0
    rows = {
        "task": kept,
        "wait": np.flatnonzero(number[table.wait_task] >= 0),
        "signal": np.flatnonzero(number[table.signal_task] >= 0),
        "access": np.flatnonzero((number[table.access_task] >= 0) & happens),
    }
    columns = {
        name: getattr(table, name)[rows[name.split("_")[0]]]
        for name in table.__dataclass_fields__
        if name.split("_")[0] in rows and isinstance(getattr(table, name), np.ndarray)
    }
    for side in ("lo", "hi"):
        columns[f"access_{side}"] = (
            columns[f"access_{side}"] + value[columns[f"access_{side}_expr"]]
        )
        columns[f"access_{side}_expr"] = np.full_like(columns[f"access_{side}_expr"], -1)
    for name in ("task_guard", "access_guard"):
        columns[name] = np.full_like(columns[name], -1)
    for name in ("wait_task", "signal_task", "access_task"):
        columns[name] = number[columns[name]]
    return replace(table, iterations=1, scalars=(), expressions=(), **columns)


def _renumbered(finding: Finding, kept: np.ndarray) -> Finding:
    """The finding with the task numbers of the whole table."""
    witness = finding.witness
    moved = {
        name: tuple((e, int(kept[t])) for e, t in getattr(witness, name))
        for name in ("run", "pair", "stuck")
    }
    return replace(finding, task=int(kept[finding.task]), witness=replace(witness, **moved))
