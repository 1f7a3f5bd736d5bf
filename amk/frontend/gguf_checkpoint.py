"""GGUF files of Llama models, seen as a Hugging Face checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16
from amk.frontend.checkpoint import Checkpoint, TensorInfo
from amk.frontend.config import ROPE_DIVISORS_KEY
from amk.frontend.gguf_file import GGUFFile

if TYPE_CHECKING:
    from amk.frontend.tokenizer import Tokenizer

# llama.<key> of the metadata -> key of config.json
_CONFIG_KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}

# Understood at these values only.
_FIXED_KEYS: Mapping[str, tuple[object, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0.0, 1.0),
    "tensor_data_layout": ("Meta AI original pth",),
}

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_ROPE_DIVISORS = "rope_freqs.weight"


class GGUFCheckpoint(Checkpoint):
    """A .gguf file of llama.cpp's `llama` architecture, with Hugging Face's names and row order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self.file = GGUFFile(path)
        self._names = {
            _hf_name(path, name): name for name in self.file.tensors if name != _ROPE_DIVISORS
        }
        self._tensors = {
            key: TensorInfo(self.file.tensors[name].shape, self.file.tensors[name].format.name)
            for key, name in self._names.items()
        }
        self.config = self._make_config()

    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, key: str) -> np.ndarray:
        self.info(key)
        return self._in_hf_order(key, self._decode(self._names[key]))

    def read_bf16(self, key: str) -> np.ndarray:
        if self.info(key).dtype != "bf16":
            return super().read_bf16(key)
        return self._in_hf_order(key, self.file.raw(self._names[key]).view(np.uint16))

    def fingerprint(self) -> str:
        status = self.path.stat()
        described = {name: repr(tensor) for name, tensor in self.file.tensors.items()}
        digest = hashlib.sha256(json.dumps([self.config, described], sort_keys=True).encode())
        digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def tokenizer(self) -> Tokenizer:
        from amk.frontend.gguf_tokenizer import tokenizer_of_metadata

        return tokenizer_of_metadata(self.file.metadata, self.name)

    def _decode(self, name: str) -> np.ndarray:
        raw, storage = self.file.raw(name), self.file.tensors[name].format.name
        if storage == "f32":
            return raw.view(np.float32)
        if storage == "f16":
            return raw.view(np.float16).astype(np.float32)
        if storage == "bf16":
            return from_bf16(raw.view(np.uint16))
        # A late import, since it costs 0.1 s that an import of the model without weights can save.
        from gguf import GGMLQuantizationType, quants

        return quants.dequantize(raw, GGMLQuantizationType(self.file.tensors[name].type_number))

    def _in_hf_order(self, key: str, rows: np.ndarray) -> np.ndarray:
        """Undoes llama.cpp's order of q and k rows: rotary partners adjacent, within each head."""
        if ".q_proj." in key:
            heads = self.config["num_attention_heads"]
        elif ".k_proj." in key:
            heads = self.config["num_key_value_heads"]
        else:
            return rows
        if len(rows) % (2 * heads):
            raise AmkError(
                f"{self.name}: {key} has {len(rows)} rows, which {heads} heads cannot share"
            )
        pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    def _make_config(self) -> dict[str, Any]:
        metadata = self.file.metadata
        architecture = metadata.get("general.architecture")
        if architecture != "llama":
            raise AmkError(
                f'{self.path}: architecture "{architecture}" is not supported (supported: "llama")'
            )
        config: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        for key, value in metadata.items():
            if key.startswith("llama."):
                self._translate(key.removeprefix("llama."), value, config)
        config.setdefault("num_key_value_heads", config.get("num_attention_heads"))
        config["tie_word_embeddings"] = "lm_head.weight" not in self._tensors
        if (embedding := self._tensors.get("model.embed_tokens.weight")) is not None:
            config.setdefault("vocab_size", embedding.shape[0])
        self._check_head_sizes(config)
        if (eos := self._eos_tokens()) is not None:
            config["eos_token_id"] = eos
        if _ROPE_DIVISORS in self.file.tensors:
            config[ROPE_DIVISORS_KEY] = self._decode(_ROPE_DIVISORS).ravel().tolist()
        return config

    def _translate(self, key: str, value: Any, config: dict[str, Any]) -> None:
        if key in _CONFIG_KEYS:
            config[_CONFIG_KEYS[key]] = value
        elif key in _FIXED_KEYS:
            if value not in _FIXED_KEYS[key]:
                raise AmkError(f"{self.path}: llama.{key} = {value!r} is not supported")
        elif key not in ("rope.dimension_count", "attention.value_length"):
            raise AmkError(f"{self.path}: llama.{key} = {value!r} is not known to AMK")

    def _check_head_sizes(self, config: dict[str, Any]) -> None:
        heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
        if not isinstance(heads, int) or not isinstance(hidden, int) or heads < 1:
            raise AmkError(f"{self.path}: head_count and embedding_length must be single integers")
        head_dim = config.get("head_dim", hidden // heads)
        for key in ("rope.dimension_count", "attention.value_length"):
            if (value := self.file.metadata.get(f"llama.{key}", head_dim)) != head_dim:
                raise AmkError(
                    f"{self.path}: llama.{key} = {value} is not the head size {head_dim}: "
                    "that is not supported"
                )

    def _eos_tokens(self) -> list[int] | None:
        keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        found = [self.file.metadata[key] for key in keys if key in self.file.metadata]
        return sorted(set(found)) if found else None


def _hf_name(path: Path, name: str) -> str:
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    match = _LAYER_TENSOR.fullmatch(name)
    if match is None or match[2] not in _LAYER_NAMES:
        raise AmkError(f"{path}: tensor {name} is not known to AMK: the model is no plain Llama")
    return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.{match[3]}"
