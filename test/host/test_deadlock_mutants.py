"""Mutants in which the verifier finds a deadlock end in the bounded wait, which names who waits."""

from __future__ import annotations

import re
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from batch import PLAIN, Batch
from compilers import needs_cxx
from schedules import mutated

from amk.ir.expand import expand, schedule_of
from amk.runtime.abi import TIMEOUT, Launch, launch_error

MUTANTS = 40
TIMEOUT_MS = 200

pytestmark = [needs_cxx, pytest.mark.slow]


def test_deadlocks_end_in_time_and_say_where(tmp_path: Path) -> None:
    samples = list(islice(mutated("deadlock"), MUTANTS))
    batch = Batch([sample.module for sample in samples], PLAIN, tmp_path)
    waits: set[str] = set()
    for number, sample in enumerate(samples):
        job = sample.case().job(number, timeout_ms=TIMEOUT_MS)
        started = time.monotonic()
        (result,) = batch.run([job], timeout=10)
        assert time.monotonic() - started < 1, sample.name
        # Queues have other numbers in the mutated table where the mutation moved a task.
        status, table = result.status, expand(schedule_of(sample.module)).table
        assert status.code == TIMEOUT, sample.name
        launch = Launch(job.position, job.steps, 0, TIMEOUT_MS, 0)
        message = str(launch_error(batch.programs[number], launch, status))
        found = re.fullmatch(
            r"the launch hung: worker (\d+), task '(.+)', position -?\d+ \(iteration (\d+)\) "
            r"waited more than 0.2 s for element \d+ of buffer '(\w+)' "
            r"\(expected \d+, last seen \d+\)",
            message,
        )
        assert found, message
        worker, task, iteration, barrier = found.groups()
        assert int(iteration) < job.steps
        # The task stands in the queue of that worker and does wait for that barrier.
        numbers = [t for t in range(table.n_tasks) if table.task_name(t) == task]
        assert len(numbers) == 1
        assert table.task_queue[numbers[0]] == int(worker)
        names = [b.name for b in table.buffers]
        if barrier in names:
            rows = np.flatnonzero(table.access_task == numbers[0])
            assert names.index(barrier) in table.access_buffer[rows[table.access_use[rows] >= 0]]
            waits.add("packets")
        else:
            counters = [c.name for c in table.counters]
            rows = np.flatnonzero(table.wait_task == numbers[0])
            assert counters.index(barrier) in table.wait_counter[rows]
            waits.add("counters")
    assert waits == {"packets", "counters"}
