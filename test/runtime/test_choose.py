"""What is chosen for a GPU, by what its driver says of it."""

from __future__ import annotations

import pytest
from tiny_model import CONFIG

from amk.bench.random_weights import RandomCheckpoint
from amk.dialects.task import ScheduleOp
from amk.frontend.import_model import import_model
from amk.runtime import choose
from amk.runtime.build import PassOptions
from amk.runtime.choose import choose_device
from amk.runtime.toolchain import Gpu

H100 = Gpu("an H100", (9, 0), 132, 80 << 30, 3352.0)
H200 = Gpu("an H200", (9, 0), 132, 141 << 30, 4814.0)
SILENT = Gpu("a card whose driver is silent", (9, 0), 132, 80 << 30, 0.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(choose, "read_gpus", lambda: ((request.param,), ""))
    monkeypatch.setattr(choose, "has_gpu", lambda: True)


@pytest.mark.parametrize(
    ("gpu", "window"), [(H100, 28 << 10), (H200, 40 << 10), (SILENT, None)], indirect=["gpu"]
)
def test_the_window_is_what_keeps_the_memory_of_the_card_busy(gpu: None, window: int | None):
    choice = choose_device("cuda", None)
    assert (choice.target, choice.workers, choice.even) == ("sm_90", 132, True)
    if window is None:
        assert choice.window is None
    else:
        assert choice.window == pytest.approx(window, rel=0.01)


@pytest.mark.parametrize("gpu", [H200], indirect=True)
def test_the_schedule_says_the_window_and_options_have_the_last_word(gpu: None):
    choice = choose_device("cuda", 3)
    for tasks, expected in (("", choice.window), ("window=4096", 4096)):
        module = import_model(RandomCheckpoint(CONFIG, "tiny"), context=64)
        choice.lower(module, PassOptions(tasks=tasks))
        (schedule,) = [op for op in module.walk() if isinstance(op, ScheduleOp)]
        assert schedule.window is not None
        assert (schedule.workers.value.data, schedule.window.value.data) == (3, expected)
