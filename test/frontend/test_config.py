"""What a config may say, and what is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amk.errors import AmkError
from amk.frontend.config import FIXED_KEYS, HARMLESS_KEYS, READ_KEYS, LlamaConfig, parse_config
from amk.frontend.rope import Llama3Scaling, rope_frequencies

_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

# As published with SmolLM2-135M-Instruct.
_SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 49152,
}


def _parse(tiny: Any, **changes: Any) -> LlamaConfig:
    return parse_config(tiny.config | changes, "model")


def _refused(tiny: Any, message: str, **changes: Any) -> None:
    with pytest.raises(AmkError) as caught:
        _parse(tiny, **changes)
    assert str(caught.value) == f"model: {message}"


def test_reads_the_config_of_smollm2() -> None:
    assert parse_config(_SMOLLM2, "model") == LlamaConfig(
        vocabulary=49152,
        hidden=576,
        intermediate=1536,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        activation="silu",
        max_context=8192,
        eps=1e-5,
        tied=True,
        theta=100000.0,
        scaling=None,
        divisors=None,
        eos=(2,),
        dtype="bfloat16",
    )


def test_defaults_are_those_of_hugging_face() -> None:
    sizes = dict.fromkeys(("vocab_size", "intermediate_size", "num_hidden_layers"), 7)
    config = parse_config(
        {"model_type": "llama", "hidden_size": 12, "num_attention_heads": 3, **sizes}, "model"
    )
    assert (config.kv_heads, config.head_dim, config.activation) == (3, 4, "silu")
    assert (config.eps, config.theta, config.tied) == (1e-6, 10000.0, False)
    assert (config.max_context, config.eos, config.dtype) == (2048, (), None)


def test_head_size_may_differ_from_hidden_size(tiny) -> None:
    assert _parse(tiny, head_dim=6).head_dim == 6
    assert _parse(tiny, head_dim=None).head_dim == 4
    assert _parse(tiny, hidden_size=13, head_dim=6).hidden == 13


def test_new_and_old_names_of_rope_parameters(tiny) -> None:
    scaling = Llama3Scaling(32.0, 1.0, 4.0, 8192)
    old = _parse(tiny, rope_theta=500000.0, rope_scaling=_LLAMA3)
    new = _parse(tiny, rope_theta=None, rope_parameters=_LLAMA3 | {"rope_theta": 500000.0})
    older = {k: v for k, v in _LLAMA3.items() if k != "rope_type"} | {"type": "llama3"}
    oldest = _parse(tiny, rope_theta=500000.0, rope_scaling=older)
    for config in (old, new, oldest):
        assert (config.theta, config.scaling) == (500000.0, scaling)
    plain = _parse(tiny, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    assert (plain.theta, plain.scaling) == (7.0, None)


def test_every_harmless_key_is_accepted(tiny) -> None:
    _parse(tiny, **dict.fromkeys(HARMLESS_KEYS, "anything"))
    _parse(tiny, **{key: values[0] for key, values in FIXED_KEYS.items() if values})
    _parse(tiny, **dict.fromkeys(FIXED_KEYS))
    assert not HARMLESS_KEYS & (READ_KEYS | FIXED_KEYS.keys())
    assert not READ_KEYS & FIXED_KEYS.keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "mistral", 'model_type "mistral" is not supported (supported: "llama")'),
        ("model_type", None, 'model_type None is not supported (supported: "llama")'),
        (
            "architectures",
            ["LlamaForSequenceClassification"],
            "architectures ['LlamaForSequenceClassification'] is not supported "
            "(supported: LlamaForCausalLM)",
        ),
        ("attention_bias", True, "attention_bias = True is not supported"),
        ("mlp_bias", True, "mlp_bias = True is not supported"),
        ("sliding_window", 4096, "sliding_window = 4096 is not supported"),
        ("rope_interleaved", True, "rope_interleaved = True is not supported"),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor = 0.5 is not supported"),
        (
            "quantization_config",
            {"quant_method": "gptq"},
            "quantization_config = {'quant_method': 'gptq'} is not supported",
        ),
        ("auto_map", {"A": "b.C"}, "auto_map = {'A': 'b.C'} is not supported"),
        (
            "logit_scale",
            0.5,
            "logit_scale = 0.5 is not known to AMK: remove it if it is harmless",
        ),
        (
            "hidden_act",
            "relu",
            'hidden_act "relu" is not supported '
            "(supported: silu, swish, gelu_pytorch_tanh, gelu_new)",
        ),
        (
            "hidden_act",
            "gelu",
            'hidden_act "gelu" is not supported '
            "(supported: silu, swish, gelu_pytorch_tanh, gelu_new)",
        ),
        ("hidden_act", 3, "hidden_act must be a string, got 3"),
        ("hidden_size", None, "hidden_size is missing"),
        ("hidden_size", 0, "hidden_size must be a positive integer, got 0"),
        ("hidden_size", "12", "hidden_size must be a positive integer, got '12'"),
        ("hidden_size", True, "hidden_size must be a positive integer, got True"),
        ("hidden_size", 13, "hidden_size 13 is not a multiple of num_attention_heads 3"),
        (
            "num_key_value_heads",
            2,
            "num_attention_heads 3 is not a multiple of num_key_value_heads 2",
        ),
        ("head_dim", 5, "head_dim 5 is odd, so it has no rotary pairs"),
        ("rms_norm_eps", -1.0, "rms_norm_eps must be a positive number, got -1.0"),
        ("rms_norm_eps", float("nan"), "rms_norm_eps must be a positive number, got nan"),
        ("tie_word_embeddings", 1, "tie_word_embeddings must be true or false, got 1"),
        ("eos_token_id", 20, "eos_token_id 20 is not a token of the vocabulary of 20"),
        ("eos_token_id", [2, -1], "eos_token_id -1 is not a token of the vocabulary of 20"),
        (
            "rope_scaling",
            {"rope_type": "yarn", "factor": 4.0},
            'rope type "yarn" is not supported (supported: default, llama3)',
        ),
        (
            "rope_scaling",
            {"type": "linear", "factor": 4.0},
            'rope type "linear" is not supported (supported: default, llama3)',
        ),
        ("rope_scaling", [1], "rope parameters must be an object, got [1]"),
        (
            "rope_parameters",
            {"rope_type": "default", "partial_rotary_factor": 0.25},
            "rope parameter partial_rotary_factor = 0.25 is not supported for rope type default",
        ),
        (
            "rope_scaling",
            _LLAMA3 | {"mscale": 2.0},
            "rope parameter mscale = 2.0 is not supported for rope type llama3",
        ),
        (
            "rope_scaling",
            {k: v for k, v in _LLAMA3.items() if k != "factor"},
            "rope parameters: factor is missing",
        ),
        (
            "rope_scaling",
            _LLAMA3 | {"high_freq_factor": 1.0},
            "rope parameters: high_freq_factor must be above low_freq_factor",
        ),
    ],
)
def test_refuses(tiny, key: str, value: Any, message: str) -> None:
    _refused(tiny, message, **{key: value})


def test_refuses_contradicting_rope_parameters(tiny) -> None:
    _refused(
        tiny,
        "rope_parameters and rope_scaling contradict each other",
        rope_parameters={"rope_type": "default"},
        rope_scaling=_LLAMA3,
    )


def test_long_values_are_shortened_in_messages(tiny) -> None:
    with pytest.raises(AmkError, match=r'strange = "x+\.\.\. is not known') as e:
        _parse(tiny, strange="x" * 1000)
    assert len(str(e.value)) < 200


def test_rope_frequencies() -> None:
    found = rope_frequencies(8, 10000.0)
    np.testing.assert_allclose(found, [1.0, 0.1, 0.01, 0.001], rtol=1e-7)
    assert found.dtype == np.float32
    halved = rope_frequencies(8, 10000.0, divisors=[1.0, 2.0, 2.0, 4.0])
    np.testing.assert_allclose(halved, [1.0, 0.05, 0.005, 0.00025], rtol=1e-7)


def test_llama3_scaling_keeps_high_and_divides_low_frequencies() -> None:
    plain = rope_frequencies(128, 500000.0)
    scaled = rope_frequencies(128, 500000.0, Llama3Scaling(32.0, 1.0, 4.0, 8192))
    wavelengths = 2 * np.pi / plain
    high, low = wavelengths < 8192 / 4, wavelengths > 8192
    np.testing.assert_array_equal(scaled[high], plain[high])
    np.testing.assert_array_equal(scaled[low], plain[low] / np.float32(32))
    between = ~high & ~low
    assert between.any()
    assert (scaled[between] < plain[between]).all()
    assert (scaled[between] > plain[between] / 32).all()
    assert scaled.dtype == np.float32
