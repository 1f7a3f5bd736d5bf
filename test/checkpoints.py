"""Checkpoints in memory, made from a config: with random weights, or with none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from amk.frontend.checkpoint import Checkpoint, TensorInfo
from amk.frontend.config import parse_config
from amk.frontend.import_model import parameter_shapes


class MemoryCheckpoint(Checkpoint):
    """Random weights for a config; no tensors at all without `seed`."""

    def __init__(self, config: dict[str, Any], seed: int | None) -> None:
        self.name = "random"
        self.config = config
        self._tensors: dict[str, np.ndarray] = {}
        if seed is None:
            return
        random = np.random.default_rng(seed)
        for key, shape in parameter_shapes(parse_config(config, self.name)).items():
            values = random.standard_normal(shape)
            # Matrices large enough that attention is far from uniform.
            values = 1.5 * values / np.sqrt(shape[-1]) if len(shape) > 1 else 1 + 0.2 * values
            self._tensors[key] = values.astype(np.float32)

    def tensors(self) -> Mapping[str, TensorInfo]:
        return {key: TensorInfo(v.shape, "f32") for key, v in self._tensors.items()}

    def read(self, key: str) -> np.ndarray:
        return self._tensors[key]

    def fingerprint(self) -> str:
        raise NotImplementedError

    def tokenizer(self) -> Any:
        raise NotImplementedError
