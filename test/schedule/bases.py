"""The lowerings whose mutants are judged: small ones and ones of true size."""

from __future__ import annotations

from functools import cache
from typing import Any

from real import LLAMA_1B, LLAMA_8B, SMOLLM2, config, lowered, with_counters

from amk.schedule import ScheduleTable

CONTEXT = 4
"""Positions of the small models: their longest launch is unrolled as a whole."""

SIZES = {
    "smollm2": SMOLLM2, "llama-3.2-1b": LLAMA_1B, "llama-3-8b": LLAMA_8B,
    "odd": config(3, 33, 3, 3, 10, 41, 101), "single-head": config(2, 16, 1, 1, 16, 24, 40),
    "grouped": config(1, 40, 8, 2, 8, 64, 300),
}  # fmt: skip
TRUE_SIZES = ("smollm2", "llama-3.2-1b", "llama-3-8b")
OPTIONS: list[dict[str, Any]] = [{"splits": 2, "units": 1}, {"splits": 1}, {"splits": 3}]


@cache
def small() -> list[ScheduleTable]:
    """Lowerings on 2 to 4 workers with 1 or 2 layers, with packets, and the same with counters."""
    made = []
    for workers in (2, 3, 4):
        for layers in (1, 2):
            for heads, kv, options in ((2, 1, OPTIONS[0]), (2, 2, OPTIONS[1]), (1, 1, OPTIONS[2])):
                hidden = 8 if workers < 4 else 16
                sizes = config(layers, hidden, heads, kv, 4, hidden + 1, 11)
                table = lowered(sizes, workers, CONTEXT, **options)
                made += [table, with_counters(table)]
    return made


@cache
def large(name: str, counters: bool) -> ScheduleTable:
    """The lowering of a model of true size on 132 workers; of `NAME-cut`, three layers of it."""
    sizes = SIZES[name.removesuffix("-cut")]
    if name.endswith("-cut"):
        sizes = {**sizes, "num_hidden_layers": 3}
    table = lowered(sizes, 132, 2048)
    return with_counters(table) if counters else table
