"""Fuzzes the text of schedules: mutated files end in success or in errors of one line.

Run: python bench/verifier_texts.py --mutants 10000 --jobs 16 --seed 0
Prints one table; exits with 1 on any traceback, error of several lines, or mutant that takes more
than 30 s. Needs numpy, xdsl and lark.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test"), str(ROOT / "test" / "schedule"), str(ROOT / "bench")]

import many  # noqa: E402
from fuzz import failures, texts  # noqa: E402


def judge(seed: int) -> tuple[str, str, int]:
    """Whether the mutant of a seed is refused, and what is wrong with how that is said."""
    refused, found = failures(seed)
    return "refused" if refused else "accepted", "; ".join(found), 0


def main() -> int:
    """Parse the options and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.mutants)
    texts()
    tally = many.run(judge, seeds, options.jobs, options.minutes, chunk=25)
    return many.report("Mutated texts", seeds, options.jobs, tally)


if __name__ == "__main__":
    sys.exit(main())
