"""Random single-token edits of a printed program."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from amk.backends.device import device_text

TOKEN = re.compile(
    r'//[^\n]*|"[^"\n]*"|[A-Za-z_]\w*|0x[0-9a-f]+u|\d[\w.]*(?:e-\d+f?)?|::|->|\[\[|\]\]|\+\+|--'
    r"|\+=|<=|>=|==|!=|&&|\|\||[^\s\w]"
)
OPERATORS = re.findall(
    r"\S+", "+ - * / % < > <= >= == != = & | ^ && || += ++ -- ? : . , ; ( ) [ ] { } -> :: !"
)


@dataclass(frozen=True)
class Edit:
    """An edited file; `what` says what was done, and on which line."""

    what: str
    text: str


def tokens(text: str) -> list[re.Match[str]]:
    """The tokens outside comments."""
    return [token for token in TOKEN.finditer(text) if not token.group().startswith("//")]


def edits(text: str, target: str, seed: int, *, device: bool = False) -> Iterator[Edit]:
    """Edits without end, each of one token: of the device layer, or of everything else."""
    choose = random.Random(seed)
    start = text.index(device_text(target))
    end = start + len(device_text(target))
    every = tokens(text)
    here = [token for token in every if (start <= token.start() < end) == device]
    words = sorted({t.group() for t in here if re.match(r"[A-Za-z_]", t.group())})
    numbers = sorted({t.group() for t in here if re.match(r"\d", t.group())})
    while True:
        place = choose.randrange(len(here) - 1)
        token, following = here[place], here[place + 1]
        kind = choose.choice(["delete", "repeat", "swap", "replace", "replace", "replace"])
        old, new, last = token.group(), "", token.end()
        if kind == "repeat":
            new = f"{old} {old}"
        elif kind == "swap":
            new, last = (
                f"{following.group()}{text[token.end() : following.start()]}{old}",
                following.end(),
            )
        elif kind == "replace":
            is_word, is_number = re.match(r"[A-Za-z_]", old), re.match(r"\d", old)
            new = choose.choice(words if is_word else numbers if is_number else OPERATORS)
        edited = text[: token.start()] + new + text[last:]
        if [t.group() for t in tokens(edited)] == [t.group() for t in every]:
            continue  # the same program
        line = text.count("\n", 0, token.start()) + 1
        yield Edit(f"line {line}: {kind} '{old}' -> '{new}'", edited)
