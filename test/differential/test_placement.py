"""How many workers the tiles of a model are dealt to."""

from __future__ import annotations

import pytest
from small_models import SmallModel

from amk.dialects import new_context
from amk.dialects.task import ScheduleOp
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.placement import worker_counts
from amk.passes.verify_schedule import check

MOST = 34
# 33 or 66 tiles in every phase: 33 workers have equally much to do, of 34 some would have nothing.
EVEN_FOR_33 = SmallModel(
    seed=3, heads=66, kv_heads=33, hidden=264, head_dim=8, intermediate=264, vocabulary=264
)


@pytest.mark.parametrize("most", [1, 7, 31, 32, 108, 132, 170])
def test_up_to_three_per_cent_fewer_workers_are_considered(most):
    counts = worker_counts(most)
    assert max(counts) == most
    assert 0.96 * most < min(counts) or most == 1


def lowered(workers: int, *, even: bool):
    module = EVEN_FOR_33.tile_module()
    LowerToTasksPass(workers=workers, even=even).apply(new_context(), module)
    (schedule,) = [op for op in module.walk() if isinstance(op, ScheduleOp)]
    return module, schedule.workers.value.data


def test_an_even_schedule_takes_the_workers_that_get_equally_much():
    assert lowered(MOST, even=False)[1] == MOST
    module, workers = lowered(MOST, even=True)
    assert workers == 33
    check(module, None)


def test_few_workers_are_all_taken():
    assert lowered(7, even=True)[1] == 7
