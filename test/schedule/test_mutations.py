"""Real lowerings and their mutants: the verifier agrees with the definitions applied slowly.

AMK_MUTANTS and AMK_LARGE_MUTANTS ask for more mutants, AMK_MUTANTS_FIRST for other seeds.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import cache
from typing import Any

import pytest
from confirm import confirm
from mutants import mutate, on_its_own
from oracle import judge
from real import LLAMA_1B, LLAMA_8B, SMOLLM2, config, lowered, with_counters

from amk.schedule import ScheduleTable
from amk.schedule.verify import verify

MUTANTS = int(os.environ.get("AMK_MUTANTS", "640"))
LARGE = int(os.environ.get("AMK_LARGE_MUTANTS", "2"))
FIRST = int(os.environ.get("AMK_MUTANTS_FIRST", "0"))
BLOCKS = 4
CONTEXT = 4
"""Positions of the small models: their longest launch is unrolled as a whole."""

SIZES = {
    "smollm2": SMOLLM2, "llama-3.2-1b": LLAMA_1B, "llama-3-8b": LLAMA_8B,
    "odd": config(3, 33, 3, 3, 10, 41, 101), "single-head": config(2, 16, 1, 1, 16, 24, 40),
    "grouped": config(1, 40, 8, 2, 8, 64, 300),
}  # fmt: skip
OPTIONS: list[dict[str, Any]] = [{"splits": 2, "units": 1}, {"splits": 1}, {"splits": 3}]


@cache
def small() -> list[ScheduleTable]:
    """Small lowerings with packets, and the same with counters."""
    made = []
    for workers in (2, 3, 4):
        for layers in (1, 2):
            for heads, kv, options in ((2, 1, OPTIONS[0]), (2, 2, OPTIONS[1]), (1, 1, OPTIONS[2])):
                sizes = config(layers, 8, heads, kv, 4, 9, 11)
                table = lowered(sizes, workers, CONTEXT, **options)
                made += [table, with_counters(table)]
    return made


@cache
def large(name: str, counters: bool) -> ScheduleTable:
    """A lowering of true sizes on 132 workers; SmolLM2 has all layers, the others a few."""
    sizes = SIZES[name.removesuffix("-cut")]
    if name.endswith("-cut"):
        sizes = {**sizes, "num_hidden_layers": 3}
    table = lowered(sizes, 132, 2048)
    return with_counters(table) if counters else table


def test_small_lowerings_are_accepted_by_both() -> None:
    for table in small():
        assert verify(table).ok
        assert judge(table) == ""


@pytest.mark.parametrize("workers", [1, 2, 7, 132])
@pytest.mark.parametrize("name", SIZES)
def test_lowerings_are_accepted(name: str, workers: int) -> None:
    table = lowered(SIZES[name], workers, 2048)
    for made in (table, with_counters(table)):
        verdict = verify(made)
        assert verdict.ok, verdict.message


@pytest.mark.parametrize("block", range(BLOCKS))
def test_mutants_of_small_lowerings(block: int) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(FIRST + block, FIRST + MUTANTS, BLOCKS):
        rng = random.Random(seed)
        mutant = mutate(rng.choice(small()), rng)
        verdict = verify(mutant.table)
        truth = judge(mutant.table)
        assert verdict.kind == truth, f"seed {seed}: {mutant.what}: {verdict.message}"
        assert verdict.ok == (truth == "")
        kinds[truth] += 1
    print(dict(kinds))
    if MUTANTS >= 640:
        assert len(kinds) >= 6, kinds
        assert 0.2 < kinds[""] / kinds.total() < 0.7


LARGE_NAMES = ["smollm2-cut", "llama-3.2-1b-cut", "llama-3-8b-cut", "smollm2"]


@pytest.mark.parametrize("name", LARGE_NAMES)
def test_mutants_of_true_size(name: str) -> None:
    kinds: Counter[str] = Counter()
    count = LARGE if name.endswith("-cut") else max(LARGE // 4, 1)
    for seed in range(FIRST, FIRST + count):
        rng = random.Random(seed)
        mutant = mutate(large(name, seed % 2 == 1), rng)
        verdict = verify(mutant.table)
        against = confirm(mutant, verdict, rng)
        assert not against, f"seed {seed}: {mutant.what}: {verdict.kind} {verdict.message}"
        kinds[verdict.kind] += 1
    print(dict(kinds))


def test_a_guarded_reader_lets_a_packet_be_overwritten() -> None:
    # Which worker polls a new key depends on the position, but somebody always does.
    packets = small()[6]
    for task in range(packets.n_tasks):
        mutant = on_its_own(packets, task)
        assert verify(mutant).kind == judge(mutant)
