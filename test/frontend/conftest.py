"""A tiny Llama checkpoint, to be written to disk in every form and with every fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amk.frontend.bf16 import from_bf16, to_bf16
from amk.frontend.config import parse_config
from amk.frontend.import_model import parameter_shapes

TINY_CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 20,
    "hidden_size": 12,
    "intermediate_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}

_ENCODERS = {
    "F32": lambda values: values.astype(np.float32).tobytes(),
    "F16": lambda values: values.astype(np.float16).tobytes(),
    "BF16": lambda values: to_bf16(values).tobytes(),
    "F64": lambda values: values.astype(np.float64).tobytes(),
}


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], dtypes: Mapping[str, str] | str = "F32"
) -> None:
    """Writes `tensors` as the safetensors types that `dtypes` names (one for all, or by key)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, values in tensors.items():
        dtype = dtypes if isinstance(dtypes, str) else dtypes[key]
        encoded = _ENCODERS[dtype](values)
        offsets = [len(data), len(data) + len(encoded)]
        header[key] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
        data += encoded
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@dataclass
class TinyModel:
    """Config and weights that fit together, until a test changes one of them."""

    directory: Path
    config: dict[str, Any] = field(default_factory=lambda: dict(TINY_CONFIG))
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw_weights()

    def draw_weights(self) -> None:
        """Random weights of the shapes that the config asks for; every number is exact in bf16."""
        random = np.random.default_rng(0)
        self.weights = {
            key: from_bf16(to_bf16(random.standard_normal(shape).astype(np.float32)))
            for key, shape in parameter_shapes(parse_config(self.config, "test")).items()
        }

    def write(self, dtypes: Mapping[str, str] | str = "F32") -> Path:
        """Writes config.json and model.safetensors; returns the directory."""
        self.write_config()
        write_safetensors(self.directory / "model.safetensors", self.weights, dtypes)
        return self.directory

    def write_config(self) -> Path:
        """Writes config.json alone; returns the directory."""
        self.directory.mkdir(exist_ok=True)
        (self.directory / "config.json").write_text(json.dumps(self.config))
        return self.directory

    def write_shards(self, *, overlapping: bool = False) -> Path:
        """Writes config.json and two shards with their index; returns the directory."""
        self.write_config()
        names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        keys = list(self.weights)
        parts = (keys, keys) if overlapping else (keys[::2], keys[1::2])
        for name, part in zip(names, parts, strict=True):
            write_safetensors(self.directory / name, {key: self.weights[key] for key in part})
        weight_map = {key: names[i % 2] for i, key in enumerate(keys)}
        index = {"metadata": {}, "weight_map": weight_map}
        (self.directory / "model.safetensors.index.json").write_text(json.dumps(index))
        return self.directory


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    """A tiny model, not yet written."""
    return TinyModel(tmp_path / "tiny")
