"""Random small Llama models: the `nn` interpreter against Hugging Face."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from amk.frontend.config import parse_config
from amk.frontend.import_model import import_model
from amk.frontend.transformers_adapter import checkpoint_from_transformers
from amk.interpreters.nn import NNRunner, rope_table

torch = pytest.importorskip("torch", reason="compares with Hugging Face: pip install amk[hf]")
pytest.importorskip("transformers", reason="compares with Hugging Face: pip install amk[hf]")

_STEPS = 10
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Short enough that all three kinds of frequencies occur with a few pairs.
    "original_max_position_embeddings": 32,
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """One random model."""

    seed: int
    heads: int
    kv_heads: int
    hidden: int
    head_dim: int | None
    intermediate: int
    layers: int
    vocabulary: int
    tied: bool
    activation: str
    rope: dict[str, Any]

    def __str__(self) -> str:
        size = "" if self.head_dim is None else f"d{self.head_dim}"
        return f"{self.seed}-h{self.heads}kv{self.kv_heads}x{self.hidden}{size}L{self.layers}"


def _shapes() -> Iterator[Shape]:
    """Every head count of 1 to 9, sharing of 1 to 9, and both kinds of everything else."""
    sharing = [(heads, kv) for heads in range(1, 10) for kv in (1, heads)]
    sharing += [(6, 2), (6, 3), (8, 2), (9, 3), (8, 4), (4, 2)]
    for seed, (heads, kv_heads) in enumerate(dict.fromkeys(sharing)):
        random = np.random.default_rng(seed)
        head_dim = int(random.choice([2, 4, 6, 8, 10, 14, 16]))
        explicit = seed % 3 == 0
        hidden = heads * int(random.integers(3, 9)) if explicit else heads * head_dim
        theta = float(random.choice([100.0, 10000.0, 500000.0]))
        yield Shape(
            seed=seed,
            heads=heads,
            kv_heads=kv_heads,
            hidden=hidden,
            head_dim=head_dim if explicit else None,
            intermediate=int(random.integers(5, 70)),
            layers=seed % 4 + 1,
            vocabulary=int(random.integers(11, 120)),
            tied=seed % 2 == 0,
            activation="gelu_pytorch_tanh" if seed % 7 == 3 else "silu",
            rope={"rope_theta": theta, **(_LLAMA3 if seed % 4 == 1 else {"rope_type": "default"})},
        )


SHAPES = list(_shapes())


def _make_model(shape: Shape) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(shape.seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden_act=shape.activation,
        tie_word_embeddings=shape.tied,
        rope_parameters=shape.rope,
        max_position_embeddings=64,
        # Large enough that attention is far from uniform.
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def _hf_logits(model: Any, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def _use_float64(monkeypatch: pytest.MonkeyPatch, model: Any, frequencies: np.ndarray) -> None:
    """Makes a Hugging Face model compute in float64 throughout.

    Its norms go through float32 whatever the model's type is. Its cos and sin are float32 by
    intention, and those of `nn` are the correctly rounded ones, so both sides get the latter.
    """
    from transformers.models.llama import modeling_llama

    def norm(self: Any, x: Any) -> Any:
        mean = x.pow(2).mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(mean + self.variance_epsilon)

    def rotary(self: Any, x: Any, position_ids: Any) -> tuple[Any, Any]:
        tables = rope_table(frequencies, 0, position_ids.shape[-1])
        cos, sin = (torch.from_numpy(np.concatenate([t, t], axis=1))[None] for t in tables)
        return cos.double(), sin.double()

    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "forward", rotary)
    model.double()


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_shapes_cover_what_they_should() -> None:
    assert len(SHAPES) >= 20
    assert {shape.heads for shape in SHAPES} == set(range(1, 10))
    assert {shape.heads // shape.kv_heads for shape in SHAPES} >= set(range(1, 9))
    assert {shape.layers for shape in SHAPES} == {1, 2, 3, 4}
    assert {shape.tied for shape in SHAPES} == {True, False}
    assert any(shape.intermediate % 2 for shape in SHAPES)
    assert any(shape.head_dim is not None for shape in SHAPES)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_equal_hugging_face(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _make_model(shape)
    checkpoint = checkpoint_from_transformers(model)
    module = import_model(checkpoint)
    tokens = np.random.default_rng(shape.seed).integers(0, shape.vocabulary, _STEPS).tolist()

    # Float32, Hugging Face as it is. A logit is a few hundred rounded operations deep, each wrong
    # by 6e-8 of its value at most; 2e-5 leaves room for all of them in one direction.
    expected = _hf_logits(model, tokens)
    found = NNRunner(module, checkpoint.read).logits(tokens)
    assert found.dtype == np.float32
    assert _relative(found, expected) < 2e-5

    reference = NNRunner(module, checkpoint.read, np.float64).logits(tokens)
    assert reference.dtype == np.float64
    frequencies = parse_config(checkpoint.config, "the model").frequencies()
    _use_float64(monkeypatch, model, frequencies)
    assert _relative(reference, _hf_logits(model, tokens)) < 1e-12


@pytest.mark.parametrize("shape", SHAPES[1::4], ids=str)
def test_greedy_tokens_equal_hugging_face(shape: Shape) -> None:
    model = _make_model(shape)
    checkpoint = checkpoint_from_transformers(model)
    runner = NNRunner(import_model(checkpoint), checkpoint.read)
    prompt = [1, 2, 3]
    generated = model.generate(
        torch.tensor([prompt]), max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    assert runner.generate(prompt, 12) == generated[0, len(prompt) :].tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rope_frequencies_are_those_of_hugging_face(shape: Shape) -> None:
    model = _make_model(dataclasses.replace(shape, layers=1))
    expected = model.model.rotary_emb.inv_freq.numpy()
    found = parse_config(checkpoint_from_transformers(model).config, "the model").frequencies()
    assert found.dtype == np.float32
    # Torch's power is wrong by a unit in the last place in rare cases, ours never.
    np.testing.assert_array_max_ulp(found, expected, maxulp=2)

    positions = torch.arange(64)[None]
    hf_cos, hf_sin = model.model.rotary_emb(torch.zeros(1), positions)
    cos, sin = rope_table(expected, 0, 64)
    half = len(expected)
    np.testing.assert_allclose(cos, hf_cos[0, :, :half].numpy(), rtol=0, atol=1.2e-7)
    np.testing.assert_allclose(sin, hf_sin[0, :, :half].numpy(), rtol=0, atol=1.2e-7)


def test_adapter_refuses_other_models() -> None:
    from amk.errors import AmkError

    with pytest.raises(AmkError, match="the Linear in memory is not supported"):
        checkpoint_from_transformers(torch.nn.Linear(2, 2))


def test_adapter_refuses_float64() -> None:
    from amk.errors import AmkError

    with pytest.raises(AmkError, match=r"model.embed_tokens.weight has type torch.float64"):
        checkpoint_from_transformers(_make_model(SHAPES[0]).double())


def test_adapter_sees_changes_of_the_model() -> None:
    model = _make_model(SHAPES[0])
    checkpoint = checkpoint_from_transformers(model)
    before = checkpoint.fingerprint()
    assert checkpoint.fingerprint() == before
    model.model.norm.weight.data[0] += 1
    assert checkpoint.fingerprint() != before
