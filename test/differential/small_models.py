"""Random small models, and their modules at every level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from checkpoints import MemoryCheckpoint
from xdsl.dialects.builtin import ModuleOp

from amk.dialects import new_context
from amk.frontend.import_model import import_model
from amk.interpreters.memory import load_constants
from amk.interpreters.nn import NNRunner
from amk.interpreters.task import TaskMachine
from amk.interpreters.tile import TileRunner
from amk.ir.module import verify_module
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass

CONTEXT = 64
SLOTS = 16


@dataclass(frozen=True)
class SmallModel:
    """One random model, and how it is lowered."""

    seed: int
    heads: int
    kv_heads: int
    hidden: int
    head_dim: int
    intermediate: int
    vocabulary: int
    layers: int = 1
    tied: bool = True
    activation: str = "silu"
    dtype: Literal["f32", "bf16"] = "f32"
    exchange: str = "f32"
    splits: int | None = 2
    units: int = 1
    combine: int | None = None
    eos: tuple[int, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.seed}-h{self.heads}kv{self.kv_heads}d{self.head_dim}x{self.hidden}"
            f"L{self.layers}-{self.dtype}-{self.exchange}-s{self.splits}u{self.units}"
        )

    @cached_property
    def config(self) -> dict[str, Any]:
        return {
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": self.activation,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100.0,
            "tie_word_embeddings": self.tied,
            "eos_token_id": list(self.eos),
        }

    @cached_property
    def checkpoint(self) -> MemoryCheckpoint:
        return MemoryCheckpoint(self.config, self.seed)

    def nn_module(self) -> ModuleOp:
        return import_model(self.checkpoint, dtype=self.dtype, context=CONTEXT)

    def tile_module(self) -> ModuleOp:
        module = self.nn_module()
        LowerToTilesPass(
            exchange=self.exchange,
            splits=self.splits,
            units=self.units,
            combine=self.combine,
            slots=SLOTS,
        ).apply(new_context(), module)
        verify_module(module)
        return module

    def task_module(self, workers: int) -> ModuleOp:
        module = self.tile_module()
        LowerToTasksPass(workers=workers).apply(new_context(), module)
        verify_module(module)
        return module

    @cached_property
    def constants(self) -> dict[str, np.ndarray]:
        return load_constants(self.tile_module(), self.checkpoint)

    def nn(self, dtype: Any = np.float32) -> NNRunner:
        return NNRunner(self.nn_module(), self.checkpoint.read, dtype)

    def tile(self, *, merge_rows: bool = True) -> TileRunner:
        return TileRunner(self.tile_module(), self.constants.__getitem__, merge_rows=merge_rows)

    def task(self, workers: int, seed: int | None = None) -> TaskMachine:
        return TaskMachine(self.task_module(workers), self.constants.__getitem__, seed=seed)

    def tokens(self, count: int) -> list[int]:
        random = np.random.default_rng(self.seed + 1000)
        return random.integers(0, self.vocabulary, count).tolist()


def small_models() -> Iterator[SmallModel]:
    """Head counts 1 to 9, groups of 1 to 8 query heads, odd sizes, all options."""
    heads = [(h, kv) for h in range(1, 9) for kv in (1, h)]
    heads += [(6, 2), (6, 3), (8, 2), (9, 3), (8, 4), (9, 9)]
    options: list[tuple[int | None, int]] = [(1, 1), (2, 1), (3, 2), (4, 3), (None, 1), (5, 8)]
    for seed, (count, kv_heads) in enumerate(dict.fromkeys(heads)):
        random = np.random.default_rng(seed)
        splits, units = options[seed % len(options)]
        bf16 = seed % 3 == 2
        yield SmallModel(
            seed=seed,
            heads=count,
            kv_heads=kv_heads,
            hidden=(36, 24, 40, 17, 52, 33)[seed % 6],
            head_dim=(6, 10, 12, 8, 16, 4, 2)[seed % 7],
            intermediate=int(random.integers(5, 70)) | 1,
            vocabulary=int(random.integers(11, 120)) | 1,
            layers=seed % 4 + 1,
            tied=seed % 2 == 0,
            activation="gelu_pytorch_tanh" if seed % 7 == 3 else "silu",
            dtype="bf16" if bf16 else "f32",
            exchange="bf16" if seed % 6 == 5 else "f32",
            splits=splits,
            units=units,
            combine=2 if seed % 4 == 2 else None,
        )


MODELS = list(small_models())
"""Ordered so that every stride of it sees all kinds."""
EXACT = [model for model in MODELS if model.dtype == "f32" and model.exchange == "f32"]
ROUNDED = [model for model in MODELS if model not in EXACT]
