"""Real lowerings and their mutants: the verifier agrees with the definitions applied slowly.

AMK_MUTANTS and AMK_LARGE_MUTANTS ask for more mutants, AMK_MUTANTS_FIRST for other seeds;
bench/verifier_mutants.py judges many more of both sizes, in many processes.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import explorer
import pytest
from bases import SIZES, large, small
from confirm import confirm
from mutants import mutate, mutate_sensibly, on_its_own
from oracle import judge
from program import program_of
from real import lowered, with_counters

from amk.schedule.verify import Verdict, verify

MUTANTS = int(os.environ.get("AMK_MUTANTS", "480"))
EXPLORED = 8
"""The exhaustive explorer judges every eighth mutant too; the command judges them all."""
LARGE = int(os.environ.get("AMK_LARGE_MUTANTS", "2"))
FIRST = int(os.environ.get("AMK_MUTANTS_FIRST", "0"))
BLOCKS = 4
MEMORY = 64 << 20
"""What compares accesses that lie thousands of iterations apart is passed over in tests."""


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
        if seed // BLOCKS % EXPLORED == 0:
            assert explorer.judge(program_of(mutant.table), 2) == truth
        kinds[truth] += 1
    print(dict(kinds))
    if MUTANTS >= 480:
        assert len(kinds) >= 6, kinds
        assert 0.2 < kinds[""] / kinds.total() < 0.7


@pytest.mark.parametrize("counters", [False, True])
@pytest.mark.parametrize("name", ["smollm2-cut", "llama-3.2-1b-cut", "llama-3-8b-cut", "smollm2"])
def test_mutants_of_true_size(name: str, counters: bool) -> None:
    base = large(name, counters)
    count = LARGE if name.endswith("-cut") else max(LARGE // 2, 1)
    for seed in range(FIRST, FIRST + count):
        rng = random.Random(f"{name} {counters} {seed}")
        mutant = mutate_sensibly(base, rng)
        verdict = verify(mutant.table)
        opinion = confirm(base, mutant, verdict, rng)
        what = f"seed {seed}: {mutant.what}: {verdict.kind} {verdict.message}"
        assert not opinion.against, f"{what}, but {opinion.against}"
        assert opinion.pairs > 1000 or not verdict.ok


def test_the_search_finds_faults() -> None:
    """A verifier that accepts everything would be noticed: most faults are found when not told."""
    base = large("smollm2-cut", True)
    found: list[bool] = []
    for seed in range(24):
        rng = random.Random(seed)
        mutant = mutate_sensibly(base, rng)
        verdict = verify(mutant.table, memory=MEMORY)
        if verdict.kind in ("race", "undefined-read"):
            opinion = confirm(base, mutant, Verdict(True, skew=1), rng)
            found.append(bool(opinion.against))
    assert len(found) >= 3
    assert sum(found) >= 0.7 * len(found)


def test_a_guarded_reader_lets_a_packet_be_overwritten() -> None:
    # Which worker polls a new key depends on the position, but somebody always does.
    packets = small()[6]
    for task in range(packets.n_tasks):
        mutant = on_its_own(packets, task)
        assert verify(mutant).kind == judge(mutant)
