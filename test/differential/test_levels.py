"""The same model at the levels nn, tile and task."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_models import CONTEXT, EXACT, MODELS, ROUNDED, MemoryCheckpoint, SmallModel

from amk.dialects import new_context
from amk.errors import AmkError
from amk.frontend.import_model import import_model
from amk.interpreters.memory import load_constants
from amk.interpreters.task import TaskMachine
from amk.interpreters.tile import TileState, run_step
from amk.ir.module import verify_module
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass

POSITIONS = 12
WORKERS = (1, 2, 3, 7, 132)

SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_models_cover_what_they_should() -> None:
    assert {m.heads for m in MODELS} == set(range(1, 10))
    assert {m.heads // m.kv_heads for m in MODELS} >= set(range(1, 9))
    assert {m.layers for m in MODELS} == {1, 2, 3, 4}
    assert {m.head_dim for m in MODELS} >= {6, 10, 12}
    assert {m.exchange for m in ROUNDED} == {"f32", "bf16"}
    assert {m.tied for m in EXACT} == {m.tied for m in ROUNDED} == {True, False}
    assert any(m.hidden % 2 for m in ROUNDED if m.exchange == "bf16")
    assert {m.activation for m in EXACT} == {"silu", "gelu_pytorch_tanh"}


@pytest.mark.parametrize("model", EXACT, ids=str)
def test_tile_equals_nn_in_float32(model: SmallModel) -> None:
    tokens = model.tokens(POSITIONS)
    reference = model.nn(np.float64).logits(tokens)
    # Both round the same values once each and differ in the order of sums only, so the error of one
    # says how large that of the other may be. The most seen was twice as large.
    allowed = 4 * _relative(model.nn().logits(tokens), reference)
    assert _relative(model.tile().logits(tokens), reference) < allowed


@pytest.mark.parametrize("model", ROUNDED, ids=str)
def test_tile_is_close_to_nn_in_bf16(model: SmallModel) -> None:
    tokens = model.tokens(POSITIONS)
    reference = model.nn(np.float64).logits(tokens)
    # A layer rounds eight vectors to bf16 (half a unit: 2^-9), the residual stays float32. The
    # errors are independent, so they add up like a random walk; 3 is for how layers stretch them.
    allowed = 3 * 2.0**-9 * np.sqrt(8 * model.layers + 2)
    error = _relative(model.tile().logits(tokens), reference)
    assert 2.0**-12 < error < allowed


@pytest.mark.parametrize("model", EXACT[::2], ids=str)
def test_greedy_tokens_are_those_of_nn(model: SmallModel) -> None:
    prompt = model.tokens(3)
    assert model.tile().generate(prompt, 12) == model.nn().generate(prompt, 12)


@pytest.mark.parametrize("model", MODELS[1::4], ids=str)
def test_rows_of_a_phase_are_independent(model: SmallModel) -> None:
    tokens = model.tokens(4)
    merged = model.tile().logits(tokens)
    assert np.array_equal(model.tile(merge_rows=False).logits(tokens), merged)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_task_equals_tile_bit_for_bit(model: SmallModel) -> None:
    prompt, steps = model.tokens(3), 5
    tile = model.tile()
    state = tile.new_state()
    logits: list[np.ndarray] = []
    choices: list[int] = []
    for position in range(steps):
        forced = prompt[position] if position < len(prompt) else None
        found, choice = tile.step(state, forced, position)
        logits.append(found)
        choices.append(choice)
    # Every model meets two worker counts, in turn: the fixed order, and two by chance.
    at = model.seed % len(WORKERS)
    for workers, seed in ((WORKERS[at], None), (WORKERS[at], 1), (WORKERS[at - 1], 2)):
        machine = model.task(workers, seed)
        assert list(machine.run(0, prompt, steps)) == choices
        assert np.array_equal(machine.logits[:steps], np.stack(logits))


@pytest.mark.parametrize("workers", WORKERS)
def test_order_does_not_matter(workers: int) -> None:
    model = MODELS[1]
    prompt = model.tokens(2)
    expected = model.task(1)
    choices = list(expected.run(0, prompt, 6))
    module = model.task_module(workers)
    for seed in range(5):
        machine = TaskMachine(module, model.constants.__getitem__, seed=seed)
        assert list(machine.run(0, prompt, 6)) == choices
        assert np.array_equal(machine.logits[:6], expected.logits[:6])


def test_launches_continue_a_sequence() -> None:
    model = MODELS[9]
    prompt = model.tokens(4)
    whole = list(model.task(3).run(0, prompt, 12))
    machine = model.task(3, seed=1)
    parts = list(machine.run(0, prompt[:2], 2))
    parts += machine.run(2, prompt[2:], 5)
    parts += machine.run(7, (), 5)  # feeds its own last choice
    assert parts == whole


def test_going_back_overwrites_the_cache() -> None:
    model = MODELS[9]
    first, second = model.tokens(8)[:4], model.tokens(8)[4:]
    machine = model.task(7)
    list(machine.run(0, first, 9))
    assert list(machine.run(2, second, 4)) == list(model.task(7).run(0, first[:2] + second, 6))[2:]


def test_an_eos_token_ends_the_loop() -> None:
    model = MODELS[13]
    prompt = model.tokens(2)
    free = model.nn().generate(prompt, 10)
    ends = dataclasses.replace(model, eos=(free[4],))
    expected = ends.nn().generate(prompt, 10)
    assert len(expected) <= 5
    assert ends.tile().generate(prompt, 10) == expected
    for seed in (None, 0, 1):
        assert list(ends.task(3, seed).run(0, prompt, 11))[1:] == expected
    # A forced token goes on, whatever the model would have chosen.
    forced = prompt + free[:5] + [prompt[0]]
    assert len(list(ends.task(3).run(0, forced, len(forced)))) == len(forced)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_the_stop_flag_ends_the_loop(seed: int | None) -> None:
    model = MODELS[1]
    machine = model.task(3, seed)
    answers = iter([False, False])
    seen = list(machine.run(0, model.tokens(2), 40, lambda: next(answers, True)))
    # Worker 0 reads the flag once an iteration and may be an iteration ahead.
    assert 2 <= len(seen) <= 4
    assert seen == list(model.task(1).run(0, model.tokens(2), len(seen)))


def test_closing_the_iterator_ends_the_launch() -> None:
    model = MODELS[1]
    machine = model.task(3)
    run = machine.run(0, model.tokens(2), 40)
    first = [next(run), next(run)]
    run.close()  # type: ignore[attr-defined]
    assert machine.base < 8
    assert list(machine.run(0, model.tokens(2), 5))[:2] == first


def test_a_launch_ends_with_the_context() -> None:
    model = MODELS[1]
    machine = model.task(2)
    machine.run(0, model.tokens(2), 1)
    assert len(list(machine.run(CONTEXT - 3, model.tokens(2), 100))) == 3
    with pytest.raises(AmkError, match=r"@pos = 64 is outside of its range 0 to 64"):
        list(machine.launch({"pos": CONTEXT}, 1))


def test_run_step_fills_an_empty_state() -> None:
    model = MODELS[1]
    state, tokens = TileState(), model.tokens(2)
    module, constants = model.tile_module(), model.constants.__getitem__
    found = [run_step(module, constants, state, token, at)[0] for at, token in enumerate(tokens)]
    assert np.array_equal(np.stack(found), model.tile().logits(tokens))
    with pytest.raises(AmkError, match="position 5 cannot run: only 2 ran before it"):
        run_step(module, constants, state, 0, 5)
    with pytest.raises(AmkError, match="token -1 is outside 0"):
        run_step(module, constants, state, -1, 2)


def test_constants_must_fit() -> None:
    model = MODELS[1]
    wrong = {**model.constants, "norm": np.zeros(3, np.float32)}
    with pytest.raises(AmkError, match=r"constant @norm has float32 values of shape \(3,\)"):
        TaskMachine(model.task_module(2), wrong.__getitem__)


def test_smollm2_stays_small() -> None:
    module = import_model(MemoryCheckpoint(SMOLLM2, seed=None), dtype="bf16")
    LowerToTilesPass().apply(new_context(), module)
    verify_module(module)
    LowerToTasksPass(workers=132).apply(new_context(), module)
    verify_module(module)
    assert sum(1 for _ in module.walk()) < 1000
    assert len(str(module)) < 1_000_000


def test_constants_of_all_levels_are_the_same() -> None:
    model = MODELS[0]
    at_task = load_constants(model.task_module(3), model.checkpoint)
    assert at_task.keys() == model.constants.keys()
    assert all(np.array_equal(at_task[key], model.constants[key]) for key in at_task)
