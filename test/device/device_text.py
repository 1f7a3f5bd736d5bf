"""The text of the device layer, and edits of it that fail when the text has changed."""

from __future__ import annotations

import re
from importlib.resources import files


def replace(text: str, pattern: str, by: str = "") -> str:
    """`text` with the one match of `pattern` replaced."""
    text, count = re.subn(pattern, lambda _: by, text, flags=re.DOTALL | re.MULTILINE)
    assert count == 1, f"the device layer has {count} of {pattern!r} now: adapt the emulation"
    return text


def without_functions(text: str, *names: str) -> str:
    """`text` without the functions of these names, which the emulation defines instead."""
    for name in names:
        text = replace(text, rf"^AMK_DEVICE \w+ {name}\([^{{]*{{(?:[^\n]*}}\n|.*?\n}}\n)")
    return text


def device_file(name: str) -> str:
    return files("amk.backends.device").joinpath(name).read_text(encoding="utf-8")
