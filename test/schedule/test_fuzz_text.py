"""Mutated texts of schedules end in success or in errors of one line, never in a traceback.

`AMK_FUZZ_MUTANTS` sets how many mutants are tried (1,000 by default), `AMK_FUZZ_SEED` the first
seed, so that a failure that names its seed can be tried alone.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from amk.errors import AmkError
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.import_model import import_model
from amk.ir.diagnostics import Diagnostic, Note, capture
from amk.ir.module import parse_module, verify_errors
from amk.passes.verify_schedule import check
from amk.runtime.build import ir_text, lower

MUTANTS = int(os.environ.get("AMK_FUZZ_MUTANTS", "1000"))
FIRST_SEED = int(os.environ.get("AMK_FUZZ_SEED", "0"))
PATIENCE = 30
"""Seconds that one mutant may take."""

TEXTS = sorted((Path(__file__).parent / "texts").glob("*.mlir"))
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 16, "max_position_embeddings": 8,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip

TOKEN = re.compile(r'\s+|//[^\n]*|"[^"\n]*"|[@%^#]?[A-Za-z_][\w.]*|\d+(?:x\d+)+x|\d+|.', re.DOTALL)
NUMBERS = ["0", "1", "2", "3", "7", "-1", "16", "97", str(2**31 - 1), str(2**31), str(2**32),
           str(2**62), str(2**63), str(2**64), str(10**30), "-" + str(2**63), "1.5", "0x10",
           "999999999", "40000000000"]  # fmt: skip


class TooSlowError(BaseException):
    """A mutant that took longer than `PATIENCE`; not an error that something may catch."""


def lowered() -> str:
    """The task level of a tiny model."""
    with TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(CONFIG))
        module = import_model(open_checkpoint(directory), dtype="f32", context=8)
    lower(module, 2, "host")
    return ir_text(module)


@cache
def texts() -> list[str]:
    whole = lowered()
    schedule = whole[whole.index("  task.schedule") : whole.rindex("}")]
    return [*(path.read_text() for path in TEXTS), schedule, whole]


def mutant(seed: int) -> str:
    """A text with one to four changes."""
    rng = random.Random(seed)
    several = texts()
    text = rng.choices(several, [4] * len(TEXTS) + [2, 1])[0]
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        tokens = mutated(rng, tokens, several)
    return "".join(tokens)


def mutated(rng: random.Random, tokens: list[str], several: list[str]) -> list[str]:
    """The tokens with one change."""
    places = [at for at, token in enumerate(tokens) if not token.isspace()]
    if len(places) < 2:
        return tokens
    at, other = rng.choice(places), rng.choice(places)
    roll = rng.randrange(9)
    if roll == 0:
        return tokens[:at] + tokens[at + 1 :]
    if roll == 1:
        return [*tokens[: at + 1], " ", tokens[at], *tokens[at + 1 :]]
    if roll == 2:
        tokens[at], tokens[other] = tokens[other], tokens[at]
    elif roll in (3, 4, 5):
        _change_number(rng, tokens)
    elif roll == 6:
        tokens[at] = rng.choice(TOKEN.findall(rng.choice(several)))
    elif roll == 7 and rng.random() < 0.3:
        return tokens[:at]
    else:
        return _change_line(rng, tokens)
    return tokens


def _change_number(rng: random.Random, tokens: list[str]) -> None:
    places = [at for at, token in enumerate(tokens) if token[0].isdigit()]
    if not places:
        return
    at = rng.choice(places)
    parts = tokens[at].split("x")
    part = rng.choice([n for n, text in enumerate(parts) if text])
    near = str(int(parts[part]) + rng.choice([-2, -1, 1, 1, 2])) if parts[part].isdigit() else "1"
    parts[part] = near if rng.random() < 0.5 else rng.choice(NUMBERS)
    tokens[at] = "x".join(parts)


def _change_line(rng: random.Random, tokens: list[str]) -> list[str]:
    lines = "".join(tokens).splitlines(keepends=True)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    roll = rng.randrange(3)
    if roll == 0:
        del lines[at]
    elif roll == 1:
        lines.insert(other, lines[at])
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return TOKEN.findall("".join(lines))


def outcome(text: str) -> list[str]:
    """The printed lines of all errors of a text, without notes."""
    reported: list[AmkError] = []
    try:
        with capture(reported.append):
            module = parse_module(text, "mutant.mlir")
            reported += verify_errors(module)
            if not reported:
                check(module, all_errors=True)
    except AmkError as error:
        reported.append(error)
    notes = [n for e in reported if isinstance(e, Diagnostic) for n in e.notes]
    for note in notes:
        assert isinstance(note, Note)
        assert "\n" not in note.line()
    return [AmkError.diagnostic(error) for error in reported]


@contextmanager
def patience() -> Iterator[None]:
    def expire(_signal: int, _frame: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_the_texts_are_schedules() -> None:
    for text in texts():
        errors = outcome(text)
        assert errors == [] or all(": race: " in line for line in errors)
    assert outcome(texts()[-1]) == []


SCHEDULE = "task.schedule @s attributes {workers = 2 : i64} {\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("task.family @f for i in 2000000 args []", "tasks in one iteration is 2000000"),
        (
            "task.repeat a in 99999 {\n task.repeat b in 99999 {\n task.task @t args []\n }\n}",
            "tasks in one iteration is 9999800001; the limit is 1048576",
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


@pytest.mark.skipif(sys.platform == "win32", reason="uses SIGALRM")
def test_mutants() -> None:
    failures: list[str] = []
    refused = 0
    for seed in range(FIRST_SEED, FIRST_SEED + MUTANTS):
        text = mutant(seed)
        try:
            with patience():
                errors = outcome(text)
        except (Exception, TooSlowError) as error:
            failures.append(f"seed {seed}: {type(error).__name__}: {str(error)[:200]}")
            continue
        refused += bool(errors)
        failures += [f"seed {seed}: not one line: {e!r}" for e in errors if not _one_line(e)]
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:40])
    assert refused > 0


def _one_line(error: str) -> bool:
    return "\n" not in error and "error: " in error and not error.endswith("error: ")
