"""Mutated texts of schedules end in success or in errors of one line, never in a traceback.

`AMK_FUZZ_MUTANTS` sets how many mutants are tried (1,000 by default), `AMK_FUZZ_SEED` the first
seed, so that a failure that names its seed can be tried alone; bench/verifier_texts.py tries many
in several processes.
"""

from __future__ import annotations

import os
import sys

import pytest
from fuzz import failures, outcome, patience, texts

MUTANTS = int(os.environ.get("AMK_FUZZ_MUTANTS", "1000"))
FIRST_SEED = int(os.environ.get("AMK_FUZZ_SEED", "0"))


def test_the_texts_are_schedules() -> None:
    for text in texts():
        errors = outcome(text)
        assert errors == [] or all(": race: " in line for line in errors)
    assert outcome(texts()[-1]) == []


SCHEDULE = "task.schedule @s attributes {workers = 2 : i64} {\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("task.family @f for i in 2000000000000 args []", "has 2000000000000 tasks, whose table"),
        (
            "task.repeat a in 99999 {\n task.repeat b in 99999 {\n task.task @t args []\n }\n}",
            "one iteration has 9999800001 tasks, whose table would take about",
        ),
        (
            "task.family @f for i in 2 on i * 4000000000 args []",
            "may reach values beyond the limit",
        ),
        (
            "task.counter @c\n task.task @t args [] signals [@c += 4294967297]",
            "'4294967297' may reach values beyond the limit 2147483647",
        ),
        (
            'task.buffer @x scratch uses 1 : memref<4xf32, "packet">\n'
            "task.task @t args [out @x[0 : 4] use 4294967296]",
            "'4294967296' may reach values beyond",
        ),
        (
            "task.buffer @x scratch : memref<9999999999x9999999999x9999999999xf32>",
            "the size of @x in bytes is beyond 10^30; the limit is",
        ),
        ("task.buffer @x scratch in @a + 999999999999999999 : memref<4xf32>", "the offset of @x"),
        ("task.scalar @n in 0 to 9999999999 step 1", "a number of @n is 9999999999"),
        (f"task.task @t args [index {'(' * 5000}1{')' * 5000}]", "nested too deeply"),
        (f"task.task @t args [index {'9' * 5000}]", "integer string conversion"),
        (
            "task.buffer @a state in @p + 0 : memref<67108865x2xf32>\n"
            "task.buffer @b state in @p + 4 : memref<2xf32>\n"
            "task.task @t worker 0 args [out @a[0 : 67108865, 1]]\n"
            "task.task @u worker 0 args [out @b[0 : 2]]",
            "the regions of buffer 'a' fall into more than 67108864 pieces",
        ),
    ],
)
def test_what_is_too_large(body: str, message: str) -> None:
    with patience():
        errors = outcome(f"{SCHEDULE}{body}\n}}")
    assert len(errors) == 1
    assert message in errors[0]
    assert errors[0].startswith("mutant.mlir:")
    assert len(errors[0]) < 300


def test_a_first_token_that_is_none() -> None:
    """Found by mutant 107482: the parser reads the first token when it is made."""
    (error,) = outcome("% @three worker 1")
    assert error.startswith("mutant.mlir:1:1: error: Expected suffix identifier")


@pytest.mark.skipif(sys.platform == "win32", reason="uses SIGALRM")
def test_mutants() -> None:
    wrong: list[str] = []
    refused = 0
    for seed in range(FIRST_SEED, FIRST_SEED + MUTANTS):
        errors, found = failures(seed)
        refused += errors
        wrong += found
    assert not wrong, f"{len(wrong)} failures:\n" + "\n".join(wrong[:40])
    assert refused > 0
