"""Reading a Hugging Face `config.json` of a Llama model, and refusing what is not understood.

A key that is not listed here could change the mathematics, so it is refused by name. A key is
*read* (the fields of LlamaConfig, and the rope parameters, whose own keys are checked one by one),
*fixed* (understood at some values, refused at any other), or *harmless* (it cannot change the
logits of inference).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from amk.errors import AmkError
from amk.frontend.rope import Llama3Scaling, rope_frequencies

ROPE_DIVISORS_KEY = "rope_divisors"
"""Config key, set by the GGUF reader only: per-pair divisors of the rope frequencies."""

READ_KEYS = frozenset(
    [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "eos_token_id",
        "dtype",
        "torch_dtype",
        "model_type",
        "architectures",
    ]
) | {ROPE_DIVISORS_KEY}

# Keys that change the mathematics, with the values at which they do not; None is always accepted.
FIXED_KEYS: Mapping[str, tuple[object, ...]] = {
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1, 1.0),
    "sliding_window": (),
    "use_sliding_window": (False,),
    "quantization_config": (),
    "is_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "auto_map": (),
    "per_layer_config": ({},),
}

# Training, bookkeeping, output selection, and tokens that only a tokenizer uses.
HARMLESS_KEYS = frozenset(
    [
        "_name_or_path",
        "_attn_implementation_autoset",
        "attention_dropout",
        "attn_implementation",
        "bos_token_id",
        "chunk_size_feed_forward",
        "finetuning_task",
        "id2label",
        "initializer_range",
        "is_llama_config",
        "label2id",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "task_specific_params",
        "tf_legacy_loss",
        "tokenizer_class",
        "torchscript",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
    ]
)

ACTIVATIONS: Mapping[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
}
"""Hugging Face's activation names, and the `nn` op that computes each."""

_ROPE_KEYS = {
    "default": frozenset(),
    "llama3": frozenset(
        ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    ),
}


@dataclass(frozen=True)
class LlamaConfig:
    """The shape and constants of a Llama model, checked for consistency."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    activation: str
    max_context: int
    eps: float
    tied: bool
    theta: float
    scaling: Llama3Scaling | None
    divisors: tuple[float, ...] | None
    eos: tuple[int, ...]
    dtype: str | None

    def frequencies(self) -> np.ndarray:
        """Rope frequencies (float32 [head_dim / 2]), in radians per position."""
        return rope_frequencies(self.head_dim, self.theta, self.scaling, self.divisors)


def parse_config(config: Mapping[str, Any], where: str) -> LlamaConfig:
    """Checks a config dict from `where` (named in errors) and gives what the importer needs.

    Raises AmkError, naming the key and its value, on everything that AMK does not implement.
    """
    reader = _Reader(config, where)
    _check_architecture(reader)
    _check_keys(reader)
    hidden = reader.size("hidden_size")
    heads = reader.size("num_attention_heads")
    kv_heads = reader.size("num_key_value_heads", heads)
    if heads % kv_heads:
        reader.refuse(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    if config.get("head_dim") is None and hidden % heads:
        reader.refuse(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    head_dim = reader.size("head_dim", hidden // heads)
    if head_dim % 2:
        reader.refuse(f"head_dim {head_dim} is odd, so it has no rotary pairs")
    activation = reader.text("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        reader.refuse(f'hidden_act "{activation}" is not supported (supported: {known})')
    theta, scaling = _parse_rope(reader)
    divisors = config.get(ROPE_DIVISORS_KEY)
    vocabulary = reader.size("vocab_size")
    return LlamaConfig(
        vocabulary=vocabulary,
        hidden=hidden,
        intermediate=reader.size("intermediate_size"),
        layers=reader.size("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        activation=ACTIVATIONS[activation],
        max_context=reader.size("max_position_embeddings", 2048),
        eps=reader.number("rms_norm_eps", 1e-6),
        tied=reader.flag("tie_word_embeddings", False),
        theta=theta,
        scaling=scaling,
        divisors=None if divisors is None else tuple(divisors),
        eos=_parse_eos(reader, vocabulary),
        dtype=reader.text("dtype", reader.text("torch_dtype", "")).removeprefix("torch.") or None,
    )


class _Reader:
    """Typed access to a config dict; None counts as absent, as in Hugging Face."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where

    def refuse(self, problem: str) -> NoReturn:
        raise AmkError(f"{self.where}: {problem}")

    def get(self, key: str, default: object) -> Any:
        value = self.config.get(key)
        value = default if value is None else value
        if value is None:
            self.refuse(f"{key} is missing")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            self.refuse(f"{key} must be a positive integer, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (math.isfinite(value) and value > 0):
            self.refuse(f"{key} must be a positive number, got {value!r}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.get(key, default)
        if not isinstance(value, str):
            self.refuse(f"{key} must be a string, got {value!r}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.refuse(f"{key} must be true or false, got {value!r}")
        return value


def _check_architecture(reader: _Reader) -> None:
    model_type = reader.config.get("model_type")
    if model_type != "llama":
        reader.refuse(f'model_type {_shown(model_type)} is not supported (supported: "llama")')
    architectures = reader.config.get("architectures")
    if architectures not in (None, [], ["LlamaForCausalLM"]):
        reader.refuse(
            f"architectures {_shown(architectures)} is not supported (supported: LlamaForCausalLM)"
        )


def _check_keys(reader: _Reader) -> None:
    for key, value in reader.config.items():
        if key in READ_KEYS or key in HARMLESS_KEYS:
            continue
        if key not in FIXED_KEYS:
            reader.refuse(
                f"{key} = {_shown(value)} is not known to AMK: remove it if it is harmless"
            )
        if value is not None and value not in FIXED_KEYS[key]:
            reader.refuse(f"{key} = {_shown(value)} is not supported")


def _parse_rope(reader: _Reader) -> tuple[float, Llama3Scaling | None]:
    parts = [reader.config.get("rope_parameters"), reader.config.get("rope_scaling")]
    given = [part for part in parts if part]
    if len(given) == 2 and given[0] != given[1]:
        reader.refuse("rope_parameters and rope_scaling contradict each other")
    rope: Any = given[0] if given else {}
    if not isinstance(rope, dict):
        reader.refuse(f"rope parameters must be an object, got {_shown(rope)}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_KEYS:
        known = ", ".join(_ROPE_KEYS)
        reader.refuse(f"rope type {_shown(kind)} is not supported (supported: {known})")
    allowed = _ROPE_KEYS[kind] | {"rope_type", "type", "rope_theta"}
    for key, value in rope.items():
        neutral = value is None or (key == "partial_rotary_factor" and value == 1)
        if key not in allowed and not neutral:
            reader.refuse(
                f"rope parameter {key} = {_shown(value)} is not supported for rope type {kind}"
            )
    nested = _Reader(rope, f"{reader.where}: rope parameters")
    theta = nested.number("rope_theta", reader.number("rope_theta", 10000.0))
    return theta, _parse_llama3(nested) if kind == "llama3" else None


def _parse_llama3(reader: _Reader) -> Llama3Scaling:
    scaling = Llama3Scaling(
        factor=reader.number("factor"),
        low_frequency_factor=reader.number("low_freq_factor"),
        high_frequency_factor=reader.number("high_freq_factor"),
        original_context=reader.size("original_max_position_embeddings"),
    )
    if scaling.high_frequency_factor <= scaling.low_frequency_factor:
        reader.refuse("high_freq_factor must be above low_freq_factor")
    return scaling


def _parse_eos(reader: _Reader, vocabulary: int) -> tuple[int, ...]:
    value = reader.config.get("eos_token_id")
    tokens = [] if value is None else value if isinstance(value, list) else [value]
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary:
            reader.refuse(
                f"eos_token_id {_shown(token)} is not a token of the vocabulary of {vocabulary}"
            )
    return tuple(tokens)


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
