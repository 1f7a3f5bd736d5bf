"""Judges mutants of real lowerings: drops, moves and swaps of waits, signals, regions, uses, …

Run: python bench/verifier_mutants.py --size small --mutants 10000 --jobs 16 --seed 0
     python bench/verifier_mutants.py --size true --mutants 2000 --jobs 16 --seed 0

`small`: 2 to 4 workers, 1 or 2 layers; the verifier's kind must be that of the exhaustive explorer
and that of the oracle that blocks one task at a time.
`true`: SmolLM2, Llama-3.2-1B and Llama-3-8B on 132 workers, with packets and with counters; the
definitions are applied to the place that an error names, or to all conflicts of the mutated tasks
and to 1,000 at random. Prints one table; exits with 1 if anything differs.
Needs numpy, xdsl and lark.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "test" / "schedule"), str(ROOT / "bench")]

import many  # noqa: E402
from bases import TRUE_SIZES, large, small  # noqa: E402
from confirm import confirm  # noqa: E402
from explorer import TooBig  # noqa: E402
from explorer import judge as explore  # noqa: E402
from mutants import mutate, mutate_sensibly  # noqa: E402
from oracle import judge  # noqa: E402
from program import program_of  # noqa: E402

from amk.schedule.verify import verify  # noqa: E402

MEMORY = 256 << 20
"""Bytes for iterations of a mutant of true size; where accesses may meet thousands of iterations
apart, more would take minutes."""
STATES = 200_000
"""The explorer gives up on a mutant with more states."""
BEYOND = "the verifier cannot decide"
"""Part of the refusal of a schedule whose conflicts lie further apart than memory allows."""


def compare_small(seed: int) -> tuple[str, str, int]:
    """The kind of a small mutant, how the verifier differs, and whether the explorer judged it."""
    rng = random.Random(seed)
    mutant = mutate(rng.choice(small()), rng)
    verdict = verify(mutant.table)
    truth, explored = judge(mutant.table), 1
    try:
        found = explore(program_of(mutant.table), 2, STATES)
    except TooBig:
        found, explored = truth, 0
    label = truth or "sound"
    if verdict.kind == truth == found and verdict.ok == (truth == ""):
        return label, "", explored
    said = f"verifier {verdict.kind!r} ({verdict.message}), oracle {truth!r}, explorer {found!r}"
    return label, f"{mutant.what}: {said}", explored


def compare_true(seed: int) -> tuple[str, str, int]:
    """The verdict on a mutant of true size, what speaks against it, and how many pairs do not."""
    rng = random.Random(seed)
    base = large(rng.choice(TRUE_SIZES), rng.random() < 0.5)
    mutant = mutate_sensibly(base, rng)
    verdict = verify(mutant.table, memory=MEMORY)
    if verdict.kind == "resource" and BEYOND in verdict.message:
        return "not decided", "", 0
    opinion = confirm(base, mutant, verdict, rng)
    label = verdict.kind or "sound"
    if not opinion.against:
        return label, "", opinion.pairs
    return label, f"{mutant.what}: {label} ({verdict.message}), but {opinion.against}", 0


def main() -> int:
    """Parse the options and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=["small", "true"], default="small")
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.mutants)
    if options.size == "small":
        bases = small()
        work, chunk, total = compare_small, 10, "by the explorer"
    else:
        bases = [large(name, counters) for name in TRUE_SIZES for counters in (False, True)]
        work, chunk, total = compare_true, 1, "pairs"
    refused = [verdict.message for verdict in map(verify, bases) if not verdict.ok]
    print(f"{len(bases)} unmutated tables, {len(refused)} refused {refused or ''}", flush=True)
    gc.collect()
    gc.freeze()  # the forked processes share the tables
    tally = many.run(work, seeds, options.jobs, options.minutes, chunk)
    status = many.report(f"Mutants of {options.size} size", seeds, options.jobs, tally, total)
    return status or int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
