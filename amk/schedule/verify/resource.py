"""Resources: does the machine hold the schedule?

Statement: with `Limits` of a machine, every worker can be resident at once and each worker's
shared memory holds its slab of every shared buffer.  Without limits nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amk.schedule.table import ScheduleTable
from amk.schedule.verify.report import Finding


@dataclass(frozen=True)
class Limits:
    """What a machine offers.

    `workers`: thread blocks that can be resident at once; `shared_bytes`: shared memory of a
    worker that buffers may use (None: not limited); `name` of the machine for messages; `more`:
    further checks, each a function from the table to lines that say what does not fit.
    """

    workers: int | None = None
    shared_bytes: int | None = None
    name: str = "the device"
    more: tuple[Callable[[ScheduleTable], list[str]], ...] = ()


def check(table: ScheduleTable, limits: Limits | None) -> list[Finding]:
    """Everything that does not fit into `limits`."""
    if limits is None:
        return []
    lines: list[str] = []
    if limits.workers is not None and table.workers > limits.workers:
        lines.append(
            f"the schedule needs {table.workers} resident workers, {limits.name} holds "
            f"{limits.workers}; lower it with workers={limits.workers}"
        )
    used = sum(b.size // b.shape[0] for b in table.buffers if b.space == "shared")
    if limits.shared_bytes is not None and used > limits.shared_bytes:
        lines.append(
            f"the buffers need {used} bytes of shared memory per worker, {limits.name} has "
            f"{limits.shared_bytes}"
        )
    for extra in limits.more:
        lines.extend(extra(table))
    return [Finding("resource", line) for line in lines]
