"""What the verifier says: `Finding` and `Verdict`, and the order in which kinds are reported."""

from __future__ import annotations

from dataclasses import dataclass, field

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.extent import Bytes

KINDS = (
    "malformed",
    "resource",
    "out-of-bounds",
    "constant-write",
    "deadlock",
    "unbounded-skew",
    "race",
    "undefined-read",
)
"""All kinds of error; the first that applies is the kind of the verdict."""


class TooLargeError(Exception):
    """The verifier cannot decide within its bounds on memory; the text says which, and why."""

    def __init__(self, message: str, location: str = "") -> None:
        """`location` is `file:line:col` of what is too large, if it is known."""
        super().__init__(message)
        self.location = location


@dataclass(frozen=True)
class Waiting:
    """A wait that is never met: `task` of iteration 0 waits for `counter` >= `need`, which reaches
    `reached`; `missing` are the tasks that never run with the amounts that they would signal."""

    task: int
    counter: str
    need: int
    reached: int
    missing: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Witness:
    """Evidence for a finding, in family and index terms.

    `lines` explain it to a reader, `places` say what happens at which `file:line:col`.  `run` is a
    list of (iteration, task number) in the order in which they run: for a race both `pair` members
    are enabled after it (or its last task is the access that is reached without having synchronised
    with the other), for an agent that runs free it is a run without the first of `pair`, for a
    deadlock it is the longest run, `stuck` are the (iteration, task) that remain, and `waits` what
    the first of each queue waits for.  `bytes` are those that both accesses of a race touch, or
    those of an undefined read that nothing has written.  `start` gives the run-time scalars (and
    `iter`) at the iteration that the run calls 0.
    """

    lines: tuple[str, ...] = ()
    run: tuple[tuple[int, int], ...] = ()
    pair: tuple[tuple[int, int], ...] = ()
    stuck: tuple[tuple[int, int], ...] = ()
    start: tuple[tuple[str, int], ...] = ()
    waits: tuple[Waiting, ...] = ()
    bytes: tuple[Bytes, ...] = ()
    places: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Finding:
    """One error: its kind, one line that says what is wrong, and where it comes from.

    `task` is the number of the task at fault or -1, `location` its `file:line:col` or empty.
    """

    kind: str
    message: str
    task: int = -1
    location: str = ""
    witness: Witness = field(default_factory=Witness)

    def __str__(self) -> str:
        prefix = f"{self.location}: " if self.location else ""
        return f"{prefix}error: {self.kind}: {self.message}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a schedule.

    `kind` and `message` are those of the first error, empty if `ok`.  `skew` is the proven bound
    D: no agent starts iteration e + D + 1 before every task of iteration e has run (-1: unknown).
    """

    ok: bool
    kind: str = ""
    message: str = ""
    witness: Witness = field(default_factory=Witness)
    errors: tuple[Finding, ...] = ()
    skew: int = -1


def verdict_of(findings: list[Finding], skew: int = -1) -> Verdict:
    """The verdict that reports `findings`, ordered by kind."""
    if not findings:
        return Verdict(True, skew=skew)
    ordered = sorted(findings, key=lambda f: KINDS.index(f.kind))
    first = ordered[0]
    return Verdict(False, first.kind, first.message, first.witness, tuple(ordered), skew)


def at_task(
    table: ScheduleTable, kind: str, task: int, message: str, witness: Witness | None = None
) -> Finding:
    """A finding at `task`, located at the op that the task comes from."""
    return Finding(kind, message, task, table.task_location(task), witness or Witness())
