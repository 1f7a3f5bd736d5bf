"""Mutated texts of schedules, and what parsing and verifying a text says."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from amk.errors import AmkError
from amk.frontend.checkpoint import open_checkpoint
from amk.frontend.import_model import import_model
from amk.ir.diagnostics import Diagnostic, Note, capture
from amk.ir.module import parse_module, verify_errors
from amk.passes.verify_schedule import check
from amk.runtime.build import ir_text, lower

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


def failures(seed: int) -> tuple[bool, list[str]]:
    """Whether the mutant of a seed is refused, and what is wrong with how that is said."""
    text = mutant(seed)
    try:
        with patience():
            errors = outcome(text)
    except (Exception, TooSlowError) as error:
        return False, [f"seed {seed}: {type(error).__name__}: {str(error)[:200]}"]
    return bool(errors), [f"seed {seed}: not one line: {e!r}" for e in errors if not _one_line(e)]


def _one_line(error: str) -> bool:
    return "\n" not in error and "error: " in error and not error.endswith("error: ")
