"""Replays witnesses in the `task` interpreter: of faulty programs, or of mutants of lowerings.

Run: python bench/verifier_witnesses.py --of programs --count 100000 --jobs 16 --seed 0
     python bench/verifier_witnesses.py --of mutants --count 10000 --jobs 16 --seed 0

A deadlock gets stuck with the tasks and counts that the witness names; of a race both accesses are
enabled and the two orders differ, or a packet is lost, or it matters when a write arrives that
need not be visible; an undefined read sees bytes that were not written. "not replayed": the
interpreter stops at another fault first. Prints one table; exits with 1 if a witness is wrong.
Needs numpy, xdsl and lark.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "test" / "schedule"), str(ROOT / "bench")]

import many  # noqa: E402
from bases import small  # noqa: E402
from generators import program  # noqa: E402
from mutants import mutate  # noqa: E402
from program import table_of  # noqa: E402
from replay import for_dialect, shown  # noqa: E402


def of_program(seed: int) -> tuple[str, str, int]:
    """What the witness of the program of a seed shows, and 1 if it was replayed."""
    return _label(shown(for_dialect(table_of(program(seed))), max_skew=2))


def of_mutant(seed: int) -> tuple[str, str, int]:
    """What the witness of a small mutant shows, and 1 if it was replayed."""
    rng = random.Random(seed)
    return _label(shown(for_dialect(mutate(rng.choice(small()), rng).table)))


def _label(seen: str) -> tuple[str, str, int]:
    return seen or "sound", "", int(": " in seen and "not replayed" not in seen)


def main() -> int:
    """Parse the options and replay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--of", choices=["programs", "mutants"], default="programs")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.count)
    work = of_program
    if options.of == "mutants":
        small()
        work = of_mutant
    tally = many.run(work, seeds, options.jobs, options.minutes, chunk=50)
    return many.report(f"Witnesses of {options.of}", seeds, options.jobs, tally, "replayed")


if __name__ == "__main__":
    sys.exit(main())
