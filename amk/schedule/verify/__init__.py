"""The exact verifier: `verify(table)` decides whether every execution of a schedule is sound.

docs/verifier.md has the model of execution, the theorems and their proofs.
"""

from __future__ import annotations

from dataclasses import replace

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.decide import first, further
from amk.schedule.verify.engine import MEMORY
from amk.schedule.verify.extent import Bytes
from amk.schedule.verify.report import (
    KINDS,
    Finding,
    Verdict,
    Waiting,
    Witness,
    verdict_of,
)
from amk.schedule.verify.resource import Limits

__all__ = [
    "KINDS",
    "MEMORY",
    "Bytes",
    "Finding",
    "Limits",
    "Verdict",
    "Waiting",
    "Witness",
    "verify",
]


def verify(
    table: ScheduleTable,
    limits: Limits | None = None,
    max_skew: int | None = None,
    *,
    all_errors: bool = False,
    memory: int = MEMORY,
) -> Verdict:
    """The verdict on `table`; `limits` of a machine, if given, are checked as well.

    Errors of the first kind that applies are reported (`KINDS` gives the order).  With
    `all_errors`, `errors` goes on with those of later kinds that are faults of the schedule as it
    stands.  With `max_skew`, a larger bound on the skew counts as unbounded.  What would take more
    than `memory` bytes of unrolled iterations is not decided, and reported as `resource`.
    """
    verdict = verdict_of(*first(table, limits, max_skew, memory))
    if verdict.ok or not all_errors:
        return verdict
    errors = list(verdict.errors)
    known = {_key(f) for f in errors}
    for finding in further(table, verdict, memory):
        if _key(finding) not in known:
            known.add(_key(finding))
            errors.append(finding)
    errors.sort(key=lambda f: KINDS.index(f.kind))
    return replace(verdict, errors=tuple(errors))


def _key(finding: Finding) -> tuple[object, ...]:
    """What tells findings apart that are listed together: not the state of the scalars."""
    pair = tuple(task for _, task in finding.witness.pair)
    return finding.kind, finding.task, pair or finding.message
