"""`verify-schedule`: proves a schedule free of deadlock and of data races."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from amk.dialects.task import ScheduleOp
from amk.errors import AmkError
from amk.ir.diagnostics import Diagnostic, Note, emit
from amk.ir.expand import expand, schedule_of
from amk.ir.levels import Level
from amk.ir.location import location_of
from amk.schedule.verify import Finding, Verdict, verify


def verdict_of(module: ModuleOp) -> Verdict:
    """The verdict on the schedule of a module, resources apart."""
    return verify(expand(schedule_of(module)).table)


def check(module: ModuleOp, arch: str | None = None, *, all_errors: bool = False) -> None:
    """Raise a `Diagnostic` with its witness unless the schedule of `module` verifies.

    With `arch` (an architecture, or "host"), its shared memory and the printer's requirements are
    checked as well. With `all_errors`, errors of later kinds are looked for, and every error but
    the last is emitted before the raise.
    """
    schedule = schedule_of(module)
    verdict = verify(expand(schedule).table, all_errors=all_errors)
    if not verdict.ok:
        shown = verdict.errors if all_errors else verdict.errors[:1]
        for finding in shown[:-1]:
            emit(_diagnostic(schedule, finding))
        raise _diagnostic(schedule, shown[-1])
    if arch is not None:
        _check_resources(module, arch)


def _diagnostic(schedule: ScheduleOp, finding: Finding) -> Diagnostic:
    """The error of a finding with its witness as notes."""
    witness = finding.witness
    places = [Note(text, location) for text, location in witness.places]
    return Diagnostic(
        f"{finding.kind}: {finding.message}",
        location=finding.location or location_of(schedule),
        notes=[*witness.lines, *places],
    )


def _check_resources(module: ModuleOp, arch: str) -> None:
    # Imported late: the schedule alone can be verified without a backend.
    from amk.backends.arch import ARCHS, HOST, arch_of
    from amk.backends.plan import resources

    if arch != HOST.name and arch not in ARCHS:
        raise AmkError(f"unknown architecture '{arch}'; known: {', '.join([*ARCHS, HOST.name])}")
    try:
        resources(module, arch_of(arch))
    except AmkError as error:
        where = error.location or location_of(schedule_of(module))
        raise Diagnostic(f"resource: {error}", location=where) from error


@dataclass(frozen=True)
class VerifySchedulePass(ModulePass):
    """Prove the schedule free of deadlock, data races, lost packets and reads of undefined data.

    Before: any `task.schedule`. After: the same module, or an error with a witness. Guarantee:
    every execution that the `task` dialect allows ends, for every number of iterations and every
    legal run-time scalar, and no two conflicting accesses can overlap.

    Options: `arch`, to check shared memory and the ring of that architecture as well; `all`, to
    list every error and not only the first.
    """

    name = "verify-schedule"
    consumes: ClassVar = Level.TASK
    produces: ClassVar = Level.TASK

    arch: str | None = None
    all: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        check(op, self.arch, all_errors=self.all)
