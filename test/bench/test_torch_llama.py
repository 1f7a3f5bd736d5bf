"""The model in torch against the interpreter, and its decode steps against its forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amk.bench.random_weights import RandomCheckpoint
from amk.bench.shapes import shape_config
from amk.frontend.import_model import import_model
from amk.interpreters.nn import NNRunner

torch = pytest.importorskip("torch", reason="torch is not installed")

from amk.bench import alternatives  # noqa: E402
from amk.bench.stats import Times  # noqa: E402
from amk.bench.torch_llama import TorchLlama  # noqa: E402

IDS = [5, 17, 900, 3, 3, 8, 41]


@pytest.fixture(scope="module")
def checkpoint() -> RandomCheckpoint:
    return RandomCheckpoint(shape_config("tiny"), "tiny")


@pytest.fixture(scope="module")
def model(checkpoint) -> TorchLlama:
    return TorchLlama(checkpoint, "f32", "cpu")


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_float32_reference_is_what_the_interpreter_computes(checkpoint, dtype):
    module = import_model(checkpoint, dtype=dtype, context=64)
    expected = NNRunner(module, checkpoint.read).logits(IDS)
    model = TorchLlama(checkpoint, dtype, "cpu")
    logits = model.logits(IDS, 0, torch.float32)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(
        model.logits(IDS, 5, torch.float32), expected[5:], atol=1e-5 * np.abs(expected).max()
    )
    rounded = model.logits(IDS, 0, torch.bfloat16)
    error = np.linalg.norm(rounded - expected) / np.linalg.norm(expected)
    assert 1e-4 < error < 3e-2


@pytest.mark.parametrize(
    "attention", [alternatives.fused_attention, alternatives.batched_attention]
)
def test_decode_steps_give_the_logits_of_the_forward_pass(model, attention):
    decoder = alternatives.Decoder(model, len(IDS), attention)
    steps = []
    for position, token in enumerate(IDS):
        decoder.position.fill_(position)
        seen = [(k[:, : position + 1], v[:, : position + 1]) for k, v in decoder.caches]
        steps.append(decoder.logits(torch.tensor([token]), seen)[0].numpy())
    np.testing.assert_allclose(np.stack(steps), model.logits(IDS, 0, torch.float32), atol=1e-5)


def test_a_step_feeds_its_own_choice_to_the_next(model):
    decoder = alternatives.Decoder(model, 1, alternatives.fused_attention)
    decoder.token.fill_(5)
    decoder.run()
    chosen = int(decoder.token)
    assert chosen == model.logits([5], 0, torch.float32)[0].argmax()
    decoder.run()
    assert int(decoder.token) == model.logits([chosen], 0, torch.float32)[0].argmax()


@pytest.mark.parametrize("name", ["eager", "hf"])
def test_alternatives_are_measured(model, name):
    if name == "hf":
        pytest.importorskip("transformers", reason="transformers is not installed")
    ((_, make),) = alternatives.alternatives("cpu", (name,)).items()
    found = alternatives.measure(make, model, 8, 2)
    assert isinstance(found, Times), found
    assert len(found.us) == 2


def test_hugging_face_runs_the_same_model(model):
    pytest.importorskip("transformers", reason="transformers is not installed")
    with torch.inference_mode():
        step = alternatives.hugging_face(model, 1)
        step()  # feeds token 1 at position 0
    (chosen,) = (cell.cell_contents for cell in step.__closure__ or () if _is_token(cell))
    assert int(chosen) == model.logits([1], 0, torch.float32)[0].argmax()


def _is_token(cell) -> bool:
    return isinstance(cell.cell_contents, torch.Tensor)


def test_what_an_alternative_raises_is_the_reason_to_skip_it(model):
    def broken(*_arguments: object) -> Any:
        raise RuntimeError("no kernel image\nmore lines")

    found = alternatives.measure(broken, model, 8, 2)
    assert found == alternatives.Skipped("RuntimeError: no kernel image")


def test_graphs_are_for_gpus():
    assert not alternatives.alternatives("cpu", ("graph",))
    assert len(alternatives.alternatives("cuda", ("graph",))) == 2
