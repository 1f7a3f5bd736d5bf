"""The same model in PyTorch: the float32 reference, and a decode step that others can be made of.

Weights are kept once, in the storage type of the program; products whose inputs are the same are
one matrix (as fast implementations have them). Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from amk.bench.random_weights import RandomCheckpoint
from amk.frontend.checkpoint import Checkpoint
from amk.frontend.config import LlamaConfig, parse_config
from amk.frontend.import_model import EMBEDDING_KEY, FINAL_NORM_KEY, HEAD_KEY
from amk.interpreters.nn import rope_table
from amk.runtime.staging import chunks_of

_ROWS_AT_ONCE = 8192
"""Rows of the head that are widened to float32 at a time."""


@dataclass(frozen=True)
class Layer:
    """The weights of one layer."""

    qkv: torch.Tensor
    o: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    attention_norm: torch.Tensor
    mlp_norm: torch.Tensor


class TorchLlama:
    """The weights of a checkpoint on a device, and what can be computed with them."""

    def __init__(self, checkpoint: Checkpoint, dtype: str, device: str) -> None:
        """`dtype` is the storage type of the matrices, f32 or bf16; `device` cuda or cpu."""
        self.config: LlamaConfig = parse_config(checkpoint.config, checkpoint.name)
        self.device = device
        self.dtype = torch.bfloat16 if dtype == "bf16" else torch.float32
        self._checkpoint = checkpoint
        self.checkpoint_config = checkpoint.config
        self.embedding = self._matrix(EMBEDDING_KEY)
        self.head = self.embedding if self.config.tied else self._matrix(HEAD_KEY)
        self.norm = self._gain(FINAL_NORM_KEY)
        self.layers = [self._layer(f"model.layers.{i}.") for i in range(self.config.layers)]

    def _layer(self, prefix: str) -> Layer:
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        return Layer(
            qkv=self._matrix(*(f"{attention}{name}_proj.weight" for name in "qkv")),
            o=self._matrix(f"{attention}o_proj.weight"),
            gate_up=self._matrix(f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight"),
            down=self._matrix(f"{mlp}down_proj.weight"),
            attention_norm=self._gain(f"{prefix}input_layernorm.weight"),
            mlp_norm=self._gain(f"{prefix}post_attention_layernorm.weight"),
        )

    def _gain(self, key: str) -> torch.Tensor:
        return torch.from_numpy(np.array(self._checkpoint.read(key))).to(self.device)

    def _matrix(self, *keys: str) -> torch.Tensor:
        """The rows of several matrices one after another."""
        shapes = [self._checkpoint.info(key).shape for key in keys]
        rows = sum(shape[0] for shape in shapes)
        result = torch.empty((rows, shapes[0][1]), dtype=self.dtype, device=self.device)
        row = 0
        for key in keys:
            for part in chunks_of(self._rows(key)):
                values = _as_tensor(part)
                if self.dtype == torch.bfloat16:
                    values = values.view(torch.bfloat16)
                result[row : row + len(part)] = values
                row += len(part)
        return result

    def _rows(self, key: str) -> Any:
        """A tensor in the storage type, in rows; random ones are made where they are wanted."""
        as_float = self.dtype == torch.float32
        if isinstance(self._checkpoint, RandomCheckpoint):
            return self._checkpoint.rows(key, _array_module(self.device), as_float)
        return self._checkpoint.read(key) if as_float else self._checkpoint.read_bf16(key)

    def rope(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin (float32 [positions, head]) for rotation of halves."""
        tables = rope_table(self.config.frequencies(), 0, positions)
        cos, sin = (torch.from_numpy(table).to(self.device) for table in tables)
        return torch.cat([cos, cos], 1), torch.cat([sin, sin], 1)

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], first: int, dtype: torch.dtype) -> np.ndarray:
        """Logits (float32 [len(ids) - first, vocabulary]) after each of `ids` from `first` on.

        `dtype` is the type of all arithmetic: float32 for a reference, bfloat16 for what a usual
        forward pass of that type gives.
        """
        config = self.config
        tokens = torch.tensor(list(ids), device=self.device)
        cos, sin = (table.to(dtype) for table in self.rope(len(ids)))
        x = self.embedding[tokens].to(dtype)
        for layer in self.layers:
            normed = self.normalise(x, layer.attention_norm)
            q, k, v = split_heads(config, functional.linear(normed, layer.qkv.to(dtype)))
            attended = functional.scaled_dot_product_attention(
                rotate(q, cos, sin)[None],
                rotate(k, cos, sin)[None].repeat_interleave(config.heads // config.kv_heads, 1),
                v[None].repeat_interleave(config.heads // config.kv_heads, 1),
                is_causal=True,
            )
            merged = attended[0].transpose(0, 1).reshape(len(ids), -1)
            x = x + functional.linear(merged, layer.o.to(dtype))
            x = x + self._mlp(layer, self.normalise(x, layer.mlp_norm), dtype)
        x = self.normalise(x[first:], self.norm)
        parts = [functional.linear(x, part.to(dtype)) for part in self.head.split(_ROWS_AT_ONCE)]
        return torch.cat(parts, 1).float().cpu().numpy()

    def _mlp(self, layer: Layer, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        gate, up = functional.linear(x, layer.gate_up.to(dtype)).chunk(2, -1)
        return functional.linear(functional.silu(gate) * up, layer.down.to(dtype))

    def normalise(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        """RMSNorm."""
        return functional.rms_norm(x, (x.shape[-1],), gain.to(x.dtype), self.config.eps)


def split_heads(config: LlamaConfig, qkv: torch.Tensor) -> list[torch.Tensor]:
    """q, k and v [heads, n, head size] of the product [n, …]."""
    counts = (config.heads, config.kv_heads, config.kv_heads)
    heads = qkv.view(len(qkv), sum(counts), config.head_dim).transpose(0, 1)
    return list(heads.split(counts))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of x [heads, n, head size] by cos and sin [n, head size]."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def _as_tensor(values: Any) -> torch.Tensor:
    if values.dtype == np.uint16:
        values = values.view(np.int16)  # exchanged more widely
    if isinstance(values, np.ndarray):
        # A read-only view of a file is copied.
        return torch.from_numpy(values if values.flags.writeable else np.array(values))
    return torch.from_dlpack(values)


def _array_module(device: str) -> Any:
    if device == "cpu":
        return np
    import cupy  # pyright: ignore[reportMissingImports]

    return cupy
