"""Random small Llama models on 2 to 16 workers, and what a printed program must compute of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from counted import counted
from explode import explode
from models import SLOTS, Model, interpreter, model
from xdsl.dialects.builtin import ModuleOp

from amk.backends.program import Program
from amk.dialects import new_context
from amk.frontend.import_model import import_model
from amk.ir.expand import schedule_of
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass
from amk.passes.verify_schedule import check
from amk.runtime.abi import Launch, StatusValues
from amk.runtime.build import load_constants
from amk.runtime.device import Device

FORMS = ("loops", "counters", "tables", "counters in tables")
"""As lowered; with counters for the exchanges that products read; task by task; both."""
HEADS = [(h, kv) for h in range(1, 10) for kv in range(1, h + 1) if h % kv == 0 and h // kv <= 8]
LAUNCHES = 2

Outcome = tuple[Mapping[int, tuple[int, bytes]], list[bytes]]
"""Token and logits of each position that ran, and the caches."""


@dataclass(frozen=True)
class ModelSample:
    """A model, how it is lowered, and two launches of it, one right behind the other."""

    made: Model
    workers: int
    even: bool
    form: str
    start: int
    steps: int
    """Of each launch."""

    @cached_property
    def _lowered(self) -> ModuleOp:
        made = self.made
        module = import_model(made.checkpoint, dtype=made.dtype, context=made.context)
        tiles = LowerToTilesPass(made.exchange, made.splits, made.units, SLOTS)
        for step in (tiles, LowerToTasksPass(self.workers, self.even)):
            step.apply(new_context(), module)
        return module

    @cached_property
    def module(self) -> ModuleOp:
        """The verified schedule, in the form of this sample."""
        module = self._lowered
        if "counters" in self.form:
            module = counted(module)
        if "tables" in self.form:
            module = explode(module)
        check(module, "host")
        return module

    @property
    def queues(self) -> int:
        """Workers that the lowering found work for."""
        return schedule_of(self._lowered).workers.value.data

    @cached_property
    def forced(self) -> np.ndarray:
        """Two tokens to begin with, one for the second launch; all others are free."""
        rng = np.random.default_rng(self.made.seed)
        forced = np.full(self.made.context + 1, -1, np.int32)
        for position in (self.start, self.start + 1, self.start + self.steps):
            forced[position] = rng.integers(self.made.checkpoint.config["vocab_size"])
        return forced

    @cached_property
    def expected(self) -> Outcome:
        """What the interpreter computes of the model as it was lowered."""
        machine = interpreter(self._lowered, self.made.checkpoint)
        machine.array("forced")[...] = self.forced
        for launch in range(LAUNCHES):
            for _ in machine.launch({"pos": self.start + launch * self.steps}, self.steps):
                pass
        tokens = machine.packets["tokens"]
        ran = np.flatnonzero(tokens.epoch).tolist()
        rows = {p: (int(tokens.payload[p]), machine.logits[p % SLOTS].tobytes()) for p in ran}
        return rows, [machine.array(name).tobytes() for name in ("keys", "values")]

    def memory(self, program: Program) -> list[bytes]:
        """The arguments of the printed program before the first launch."""
        device = _Memory(program)
        load_constants(self.module, self.made.checkpoint, device)
        device.write("forced", self.forced)
        return [device.memory[info.name].tobytes() for info in program.buffers]

    def outcome(self, program: Program, memory: tuple[bytes, ...]) -> Outcome:
        """What the program left."""
        device = _Memory(program)
        for info, data in zip(program.buffers, memory, strict=True):
            device.memory[info.name][...] = np.frombuffer(data, np.uint8)
        packets, logits = device.array("tokens"), device.array("logits")[:, : program.vocab]
        ran = np.flatnonzero(packets).tolist()
        rows = {p: (int(packets[p]) & 0xFFFFFFFF, logits[p % SLOTS].tobytes()) for p in ran}
        return rows, [device.array(name).tobytes() for name in ("keys", "values")]


class _Memory(Device):
    """The memory of a program that another process runs."""

    def start(self, *launches: Launch) -> None:
        raise NotImplementedError

    def running(self) -> bool:
        return False

    def finish(self, seconds: float) -> StatusValues | None:
        raise NotImplementedError

    def seconds(self) -> float:
        raise NotImplementedError

    def _allocate(self, info: Any) -> np.ndarray:
        return np.zeros(info.nbytes, np.uint8)


@cache
def model_sample(number: int) -> ModelSample:
    """Sample `number`; 24 in a row have all head counts, all groups and up to 16 workers."""
    rng = random.Random(number)
    heads, kv_heads = HEADS[number % len(HEADS)]
    workers = 2 + number % 15
    form = rng.choices(FORMS, (4, 2, 1, 1))[0]
    dtype = rng.choice(["f32", "bf16"])
    exchange = rng.choice(["f32", "bf16"]) if dtype == "bf16" else "f32"
    pairs = exchange == "bf16"  # Of elements, in packets: sizes must be even.
    context = rng.randint(9, 70)
    steps = rng.randint(2, 4)
    vocabulary = rng.randint(11, 120)
    # A launch that ends early leaves counters behind that the next one does not expect.
    stops = "counters" not in form and rng.random() < 0.3
    changes = {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": rng.choice([4, 8, 16] if pairs else [2, 4, 6, 8, 10, 16]),
        "hidden_size": 2 * rng.randint(2, 36) + (0 if pairs else rng.randint(0, 1)),
        # Enough rows for every worker.
        "intermediate_size": 4 * workers
        + 2 * rng.randint(0, 20)
        + (0 if pairs else rng.randint(0, 1)),
        "vocab_size": vocabulary,
        "num_hidden_layers": rng.randint(1, 3),
        "hidden_act": rng.choice(["silu", "silu", "gelu_pytorch_tanh"]),
        "tie_word_embeddings": rng.random() < 0.5,
        "eos_token_id": rng.sample(range(vocabulary), vocabulary // 3) if stops else [],
        "max_position_embeddings": context,
    }
    last = context - LAUNCHES * steps
    return ModelSample(
        model(
            changes,
            dtype=dtype,
            exchange=exchange,
            splits=rng.choice([None, 1, 2, 3, 4, 5]),
            units=rng.randint(1, 3),
            context=context,
            seed=number,
        ),
        workers,
        number % 7 == 3,
        form,
        rng.choice([0, last, rng.randint(0, last)]),
        steps,
    )
