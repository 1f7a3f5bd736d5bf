"""Random small models as Hugging Face directories, made without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from amk.frontend.config import parse_config
from amk.frontend.import_model import parameter_shapes

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 101,
    "max_position_embeddings": 128,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def write_config(directory: Path, **changes: Any) -> Path:
    """A directory with config.json alone."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return directory


def write_model(directory: Path, seed: int = 0, **changes: Any) -> Path:
    """A directory with a config (`CONFIG` with `changes`) and random weights."""
    write_config(directory, **changes)
    shapes = parameter_shapes(parse_config({**CONFIG, **changes}, "the tiny model"))
    rng = np.random.default_rng(seed)
    tensors = {key: _random(rng, shape).astype(np.float32) for key, shape in sorted(shapes.items())}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:
        return 1 + 0.1 * rng.standard_normal(shape)
    return 1.5 * rng.standard_normal(shape) / np.sqrt(shape[1])
