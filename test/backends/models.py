"""Small models and real shapes as modules at task level, and their programs on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from checkpoints import MemoryCheckpoint
from xdsl.dialects.builtin import ModuleOp

from amk.backends import emit_program
from amk.dialects import new_context
from amk.frontend.checkpoint import Checkpoint
from amk.frontend.import_model import import_model
from amk.interpreters import memory
from amk.interpreters.task import TaskMachine
from amk.ir.module import parse_module, verify_module
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass
from amk.runtime.abi import Launch, StatusValues
from amk.runtime.build import ir_text, load_constants
from amk.runtime.host import HostDevice
from amk.runtime.session import Session

SLOTS = 16
"""Rows of the ring of logits."""
TIMEOUT = 20.0
SMOLLM2: Mapping[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rope_theta": 100000.0,
}
LLAMA_1B: Mapping[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
}
_DEFAULTS: Mapping[str, Any] = {
    "model_type": "llama",
    "vocab_size": 29,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100.0,
    "tie_word_embeddings": True,
    "eos_token_id": [],
}


@dataclass(frozen=True)
class Model:
    """A config (`changes` to the default one) and how it is lowered; weights by `seed`."""

    changes: tuple[tuple[str, Any], ...] = ()
    dtype: Literal["f32", "bf16"] = "f32"
    exchange: str | None = None
    splits: int | None = None
    units: int = 1
    context: int = 64
    seed: int | None = 0

    @cached_property
    def checkpoint(self) -> MemoryCheckpoint:
        return MemoryCheckpoint({**_DEFAULTS, **dict(self.changes)}, self.seed)

    def task_module(self, workers: int) -> ModuleOp:
        module = import_model(self.checkpoint, dtype=self.dtype, context=self.context)
        tiles = LowerToTilesPass(self.exchange, self.splits, self.units, SLOTS)
        for step in (tiles, LowerToTasksPass(workers)):
            step.apply(new_context(), module)
        verify_module(module)
        return module

    def text(self, workers: int) -> str:
        """The module at task level as text, to be edited."""
        return ir_text(self.task_module(workers))


def model(changes: Mapping[str, Any] | None = None, **options: Any) -> Model:
    """A `Model` with changes given as a dict."""
    return Model(tuple((changes or {}).items()), **options)


def parse(text: str) -> ModuleOp:
    """A verified module of this text."""
    module = parse_module(text, "test.mlir")
    verify_module(module)
    return module


def schedule(body: str, kernels: str = "", workers: int = 2, context: int | None = 8) -> ModuleOp:
    """A module with one hand-written schedule of up to `context` positions."""
    more = "" if context is None else f", context = {context} : i64"
    scalar = "" if context is None else f"task.scalar @pos in 0 to {context} step 1"
    head = f"task.schedule @s attributes {{workers = {workers} : i64{more}}}"
    return parse(f"builtin.module {{\n{kernels}\n{head} {{\n{scalar}\n{body}\n}}\n}}")


class HostRun:
    """A module as a program of the host."""

    def __init__(self, module: ModuleOp, weights: Checkpoint | None = None) -> None:
        self.device = HostDevice(emit_program(module, "host"))
        if weights is not None:
            load_constants(module, weights, self.device)

    def generate(self, tokens: list[int], steps: int) -> list[int]:
        """The choices after each of `steps` positions from 0 on, in one launch."""
        return list(Session(self.device, TIMEOUT).run(tokens, 0, steps))

    def launch(self, steps: int, base: int = 0, pos: int = 0) -> StatusValues:
        """One launch of a hand-written schedule."""
        self.device.start(Launch(pos, steps, base, round(TIMEOUT * 1000), 0))
        status = self.device.finish(TIMEOUT + 5)
        assert status is not None
        return status

    def array(self, name: str) -> np.ndarray:
        return self.device.array(name)


def interpreter(module: ModuleOp, weights: Checkpoint) -> TaskMachine:
    """The same module in the interpreter of the task level."""
    return TaskMachine(module, memory.load_constants(module, weights).__getitem__)
