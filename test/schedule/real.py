"""Tables of real lowerings: from a config alone, through every pass, to the normal form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from checkpoints import MemoryCheckpoint

from amk.dialects import new_context
from amk.frontend.import_model import import_model
from amk.ir.expand import expand, schedule_of
from amk.passes.lower_to_tasks import LowerToTasksPass
from amk.passes.lower_to_tiles import LowerToTilesPass
from amk.schedule import ScheduleTable
from amk.schedule.table import Origin

BASE = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1e4}


def config(
    layers: int,
    hidden: int,
    heads: int,
    kv: int,
    head: int,
    inner: int,
    vocabulary: int,
    **more: Any,
) -> dict[str, Any]:
    """The config of a Llama model of these sizes."""
    sizes = {
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv, "head_dim": head, "intermediate_size": inner,
        "vocab_size": vocabulary, "max_position_embeddings": 2048, "tie_word_embeddings": True,
        "eos_token_id": 0,
    }  # fmt: skip
    return {**BASE, **sizes, **more}


SMOLLM2 = config(30, 576, 9, 3, 64, 1536, 49152)
LLAMA_1B = config(16, 2048, 32, 8, 64, 8192, 128256)
LLAMA_8B = config(32, 4096, 32, 8, 128, 14336, 128256, tie_word_embeddings=False)


def lowered(sizes: dict[str, Any], workers: int, context: int, **options: Any) -> ScheduleTable:
    """The table of the model of config `sizes` on `workers` workers."""
    module = import_model(MemoryCheckpoint(sizes, None), dtype="f32", context=context)
    options = {"exchange": "f32", "slots": 2, **options}
    LowerToTilesPass(**options).apply(new_context(), module)
    LowerToTasksPass(workers=workers).apply(new_context(), module)
    return expand(schedule_of(module)).table


def with_counters(table: ScheduleTable) -> ScheduleTable:
    """The same schedule with plain memory and counters in the place of packets.

    Each use of each packet buffer gets a counter: a writer signals it, a reader waits for all.
    """
    packet = np.array([b.packet for b in table.buffers])[table.access_buffer]
    base = np.concatenate([[0], np.cumsum([b.uses for b in table.buffers])])
    counter = base[table.access_buffer] + table.access_use

    def pairs(rows: np.ndarray) -> np.ndarray:
        return np.unique(np.stack([table.access_task[rows], counter[rows]], 1), axis=0)

    signals = pairs(np.flatnonzero(packet & table.access_write))
    waits = pairs(np.flatnonzero(packet & ~table.access_write))
    total = np.bincount(signals[:, 1], minlength=int(base[-1]))
    return replace(
        table,
        buffers=tuple(replace(b, packet=False, uses=1) for b in table.buffers),
        counters=tuple(Origin(f"c{n}") for n in range(int(base[-1]))),
        wait_task=waits[:, 0], wait_counter=waits[:, 1], wait_threshold=total[waits[:, 1]],
        signal_task=signals[:, 0], signal_counter=signals[:, 1],
        signal_amount=np.ones(len(signals), np.int64),
        access_use=np.full(len(packet), -1, np.int32),
    )  # fmt: skip
