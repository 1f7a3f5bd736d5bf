"""How many workers the tiles of a model are dealt to."""

from __future__ import annotations

import pytest
from small_models import SmallModel

from amk.dialects import new_context, tile
from amk.dialects.task import ScheduleOp
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.placement import fewest_workers
from amk.passes.verify_schedule import check


def rounds(tiles: list[int], workers: int) -> list[int]:
    """Tiles of the busiest worker, for each phase."""
    return [-(-count // workers) for count in tiles]


@pytest.mark.parametrize(
    "tiles", [[384, 256, 2048, 256], [120, 72, 384, 72, 48], [5], [1, 1], [7, 131, 133]]
)
@pytest.mark.parametrize("most", [1, 2, 7, 108, 132, 170])
def test_no_fewer_workers_would_do(tiles, most):
    workers = fewest_workers(tiles, most)
    assert 1 <= workers <= most
    assert rounds(tiles, workers) == rounds(tiles, most)
    assert workers == 1 or rounds(tiles, workers - 1) != rounds(tiles, most)


def test_an_even_schedule_is_sound_and_takes_the_fewest_workers():
    # The largest phase within a layer has 8 tiles: 7 workers need two rounds, as 4 do.
    model = SmallModel(
        seed=3, heads=2, kv_heads=1, hidden=32, head_dim=8, intermediate=32, vocabulary=40
    )
    module = model.tile_module()
    LowerToTasksPass(workers=7, even=True).apply(new_context(), module)
    (schedule,) = [op for op in module.walk() if isinstance(op, ScheduleOp)]
    phases = [op for op in model.tile_module().walk() if isinstance(op, tile.PhaseOp)]
    tiles = [phase.tiles.value.data for phase in phases]
    workers = schedule.workers.value.data
    assert workers < 7
    assert max(rounds(tiles, workers)) == max(rounds(tiles, 7))
    check(module, None)
