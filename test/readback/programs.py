"""Schedules to print and to read back: lowered models without weights, and written ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from checkpoints import MemoryCheckpoint
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit
from amk.dialects import new_context
from amk.frontend.import_model import import_model
from amk.ir.module import parse_module, verify_module
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass
from amk.runtime.build import ir_text


@dataclass(frozen=True)
class Model:
    """A small model, and how it is lowered."""

    layers: int = 2
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    intermediate: int = 48
    vocabulary: int = 40
    workers: int = 3
    dtype: Literal["f32", "bf16"] = "f32"
    exchange: str | None = None
    splits: int | None = 3
    units: int = 1
    activation: str = "silu"
    context: int = 64

    def __str__(self) -> str:
        return (
            f"L{self.layers}-{self.hidden}-h{self.heads}kv{self.kv_heads}d{self.head_dim}-"
            f"w{self.workers}-{self.dtype}-{self.exchange}-s{self.splits}u{self.units}"
        )

    def module(self) -> ModuleOp:
        config = {
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": self.activation,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100.0,
            "tie_word_embeddings": True,
            "eos_token_id": [2],
        }
        module = import_model(
            MemoryCheckpoint(config, None), dtype=self.dtype, context=self.context
        )
        tiles = LowerToTilesPass(self.exchange, self.splits, self.units, 16)
        for step in (tiles, LowerToTasksPass(self.workers)):
            step.apply(new_context(), module)
        verify_module(module)
        return module


def random_models(count: int) -> list[Model]:
    """Head counts, odd sizes, splits and both types, by seed."""
    models: list[Model] = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        kv_heads = int(draw.integers(1, 4))
        bf16 = seed % 3 == 2
        models.append(
            Model(
                layers=int(draw.integers(1, 4)),
                hidden=int(draw.integers(17, 60)),
                heads=kv_heads * int(draw.integers(1, 4)),
                kv_heads=kv_heads,
                head_dim=2 * int(draw.integers(1, 9)),
                intermediate=int(draw.integers(5, 70)),
                vocabulary=int(draw.integers(11, 120)),
                workers=int(draw.integers(1, 8)),
                dtype="bf16" if bf16 else "f32",
                exchange="f32" if bf16 else None,
                splits=(1, 2, 3, None)[seed % 4],
                units=int(draw.integers(1, 4)),
                activation="gelu_pytorch_tanh" if seed % 5 == 3 else "silu",
            )
        )
    return models


SMOLLM2 = Model(30, 576, 9, 3, 64, 1536, 49152, workers=132, context=2048)


@cache
def module_of(model: Model) -> ModuleOp:
    return model.module()


@cache
def printed(model: Model, target: str = "sm_90") -> str:
    """The CUDA file of a model."""
    return emit(module_of(model), target)


@cache
def irregular(model: Model) -> ModuleOp:
    """The schedule of a model with every family of many tasks dealt in another order.

    That is no index arithmetic of the printer's any more, so it prints tables.
    """
    dealt = f"on i mod {model.workers} args"
    text = ir_text(model.module())
    assert dealt in text
    return parse(text.replace(dealt, f"on (i * 2) mod {model.workers} args"))


def parse(text: str) -> ModuleOp:
    """A verified module of this text."""
    module = parse_module(text, "test.mlir")
    verify_module(module)
    return module


COUNTED = """
tile.kernel @half(%from: memref<4xf32>, %to: memref<?xf32, "shared">) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %half = arith.constant 5.000000e-01 : f32
    %h = arith.mulf %v, %half : f32
    tile.yield %h : f32
  }
}
tile.kernel @half_back(%from: memref<4xf32>, %seen: memref<?xf32>, %to: memref<?xf32>) {
  tile.map -> %seen, %to {counts = array<i64: 1, 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %one = arith.constant 1.000000e+00 : f32
    %more = arith.addf %v, %one : f32
    tile.yield %v, %more : f32, f32
  }
}
task.schedule @exchange attributes {workers = 2 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @x state initial : memref<2x4xf32>
  task.buffer @y output : memref<8x2x4xf32>
  task.buffer @kept scratch : memref<2x4xf32, "shared">
  task.counter @done
  task.repeat l in 3 {
    task.family @give calls @half for i in 2 on i args [in @x[i, 0 : 4], out @kept[i, 0 : 4]]
      waits [@done >= l * 4] signals [@done += 1]
    task.family @take calls @half_back for i in 2 on (i + 1) mod 2 args [
      in @x[i, 0 : 4], out @y[pos, i, 0 : 4], out @x[i, 0 : 4]]
      waits [@done >= l * 4 + 2] signals [@done += 1]
  }
}
"""
"""Two workers exchange plain memory under a counter, layer by layer."""


TABLES = """
tile.kernel @copy(%from: memref<4xf32>, %to: memref<?xf32>, %first: index) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    tile.yield %v : f32
  }
}
task.schedule @s attributes {workers = 2 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @a input : memref<4xf32>
  task.buffer @x scratch in @p + 16 : memref<2x4xf32>
  task.buffer @k scratch : memref<2x4xf32, "shared">
  task.buffer @y output : memref<16x4xf32>
  task.buffer @q scratch uses 2 : memref<4xf32, "packet">
  task.counter @done
  task.counter @read
  task.family @give calls @copy for i in 2 on 1 - i args [
    in @a[0 : 4], out @x[i, 0 : 4], index i + pos] waits [@read >= 0] signals [@done += 1]
  task.task @send worker 0 args [out @q[0 : 4] use 1, index 7]
  task.family @take calls @copy for i in 2 on 1 - i args [
    in @x[(i + 1) mod 2, 0 : 4], out @y[pos + 8 * i, 0 : 4], index (pos * 3 + iter) mod 5]
    waits [@done >= 2] signals [@read += 1]
  task.family @keep for i in 2 on 1 - i args [
    in @a[0 : 4] if (pos + 2) mod 3 == 0, out @k[1 - i, 0 : 4]] when pos mod 2 == 0
  task.task @receive worker 1 args [in @q[0 : 4] use 1] signals [@read += 1]
}
"""
"""Explicit tasks, guards, an arena, tasks without a kernel: a schedule that prints tables."""
