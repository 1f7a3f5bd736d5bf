"""Every program that the printer makes of a verified schedule is proved to be that schedule."""

from __future__ import annotations

import pytest
from programs import COUNTED, SMOLLM2, Model, module_of, parse, printed, random_models

from amk.backends import emit
from amk.backends.readback import check_program
from amk.dialects import task

TARGETS = ("sm_80", "sm_90", "sm_120")


@pytest.mark.parametrize(("seed", "model"), list(enumerate(random_models(10))), ids=str)
def test_small_models(seed: int, model: Model) -> None:
    target = TARGETS[seed % 3]
    report = check_program(module_of(model), target, printed(model, target), "small.cu")
    # Six phases of a layer; embed, poll, lm_head, select and emit around them.
    assert report.families == 11
    assert report.workers == model.workers
    assert report.waits == report.signals == 0


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_smollm2_on_132_workers(dtype: str) -> None:
    model = Model(**{**vars(SMOLLM2), "dtype": dtype})
    report = check_program(module_of(model), "sm_90", printed(model), "smollm2.cu")
    assert report.workers == 132
    # Four products in each of 30 layers, and the head: each instance consumes one stream.
    instances = {
        op.kernel_name: op.instances
        for op in module_of(model).walk()
        if isinstance(op, task.FamilyOp)
    }
    layer = sum(instances[name] for name in ("q_k_v", "o", "gate_up", "down"))
    assert report.streams == 30 * layer + instances["lm_head"]


def test_counters_and_plain_memory() -> None:
    module = parse(COUNTED)
    report = check_program(module, "sm_80", emit(module, "sm_80"), "counted.cu")
    # Three layers of two families of two tasks, each of which waits once and signals once.
    assert (report.tasks, report.waits, report.signals, report.packets) == (12, 12, 12, 0)
