"""Compares the schedule verifier with the exhaustive explorer on seeded random programs.

Run: python bench/verifier_programs.py --programs 1000000 --jobs 16 --seed 0
Verdict and kind must be equal on every program that the explorer can visit completely. Prints one
table at the end; exits with 1 if anything differs. Needs numpy alone.
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
from explorer import TooBig, judge  # noqa: E402
from generators import program  # noqa: E402
from program import table_of  # noqa: E402

from amk.schedule.verify import verify  # noqa: E402

SKEW = 2
"""The largest skew that both sides accept: the explorer unrolls 2 * SKEW + 4 iterations."""


def compare(seed: int) -> tuple[str, str, int]:
    """The kind that the explorer finds for the program of a seed, and how the verifier differs."""
    made = program(seed)
    try:
        truth = judge(made, SKEW)
    except TooBig:
        return "too many states", "", 0
    verdict = verify(table_of(made), max_skew=SKEW)
    if verdict.kind == truth and verdict.ok == (truth == ""):
        return truth or "sound", "", 0
    said = f"{verdict.kind or 'sound'} ({verdict.message})"
    return truth or "sound", f"the verifier says {said}, the explorer {truth or 'sound'}", 0


def main() -> int:
    """Parse the options and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=20000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.programs)
    tally = many.run(compare, seeds, options.jobs, options.minutes, chunk=250)
    return many.report("Verifier and explorer on random programs", seeds, options.jobs, tally)


if __name__ == "__main__":
    sys.exit(main())
