"""The shapes of well-known models: a config to which random weights are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amk.errors import AmkError

_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
_LLAMA_3_SCALING = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _shape(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int,
    positions: int,
    **more: object,
) -> dict[str, Any]:
    return {
        **_LLAMA,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        **more,
    }


_LLAMA_3_2 = {"rope_theta": 5e5, "rope_scaling": _LLAMA_3_SCALING, "tie_word_embeddings": True}

SHAPES: Mapping[str, dict[str, Any]] = {
    "llama-3.2-1b": _shape(2048, 8192, 16, (32, 8), 128256, 131072, head_dim=64, **_LLAMA_3_2),
    "llama-3.2-3b": _shape(3072, 8192, 28, (24, 8), 128256, 131072, head_dim=128, **_LLAMA_3_2),
    "llama-3-8b": _shape(4096, 14336, 32, (32, 8), 128256, 8192, rope_theta=5e5),
    "llama-2-7b": _shape(4096, 11008, 32, (32, 32), 32000, 4096),
    "llama-2-13b": _shape(5120, 13824, 40, (40, 40), 32000, 4096),
    "smollm2-135m": _shape(
        576, 1536, 30, (9, 3), 49152, 8192, rope_theta=1e5, tie_word_embeddings=True
    ),
    # Nothing divides evenly: 25 heads of 120, rows and columns that leave part of a tile empty.
    "odd-3000": _shape(3000, 8100, 24, (25, 5), 50257, 8192),
    # The sizes only: Qwen's biases of queries, keys and values (0.2 MB) are left out.
    "qwen2.5-1.5b": _shape(
        1536,
        8960,
        28,
        (12, 2),
        151936,
        32768,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    ),
    # For trying the commands out: small enough for the CPU.
    "tiny": _shape(96, 256, 2, (6, 2), 1000, 512, tie_word_embeddings=True),
}
"""Configs by name, as a Hugging Face config.json has them, without end-of-text tokens."""


def shape_config(name: str) -> dict[str, Any]:
    """The config of shape `name`; AmkError if there is none."""
    if name not in SHAPES:
        raise AmkError(f"unknown shape '{name}'; known: {', '.join(SHAPES)}")
    return dict(SHAPES[name])
