"""The device layer inside a printed program: it has to be the packaged text, to the letter."""

from __future__ import annotations

import re

from amk.backends.arch import ARCHS
from amk.backends.device import HEADERS, device_text
from amk.errors import AmkError

BANNER = re.compile(r"^// Target (\w+);", re.MULTILINE)
END_OF_CONSTANTS = re.compile(r"^\}[^\n]*$", re.MULTILINE)
CONTINUED = re.compile(r"\\[ \t]*$", re.MULTILINE)


def without_device_layer(text: str, target: str, name: str) -> tuple[str, bool]:
    """The file with the device layer of `target` blanked out, so that places stay what they are.

    It stands behind the constants, the first line that closes a brace; with the part that runs a
    schedule from tables, or without (then the second result is false). AmkError with the first line
    that is not that of the packaged text.
    """
    banner = BANNER.search(text, 0, text.find("namespace"))
    if banner is not None and banner[1] != target:
        message = f"this program was printed for {banner[1]}, not for {target}"
        raise AmkError(message, location=f"{name}:{text.count(chr(10), 0, banner.start()) + 1}:1")
    end = END_OF_CONSTANTS.search(text)
    if end is None:
        raise AmkError("the constants of the device layer do not end", location=f"{name}:1:1")
    head, rest = text[: end.end() + 1], text[end.end() + 1 :]
    device = ARCHS[target].device
    for kind, variant in (
        ("records a trace", device_text(device, trace=True)),
        ("throws its weights away", device_text(device, ceiling=True)),
    ):
        if rest.startswith(variant):
            message = f"this program {kind}: read back the one that runs the schedule"
            raise AmkError(message, location=f"{name}:1:1")
    layer = device_text(device, table=True)
    in_tables = rest.startswith(layer)
    if not in_tables:
        layer = device_text(device)
    if not rest.startswith(layer):
        _differing(head, rest, layer, target, name)
    schedule = head + "\n" * layer.count("\n") + rest[len(layer) :]
    continued = CONTINUED.search(schedule)
    if continued is not None:
        line = schedule.count("\n", 0, continued.start()) + 1
        raise AmkError("a line goes on in the next", location=f"{name}:{line}:1")
    return schedule, in_tables


def _differing(head: str, rest: str, layer: str, target: str, name: str) -> None:
    """Raise at the first line that differs; it names the target that the text would fit."""
    start = f"{name}:{head.count(chr(10)) + 1}:1"
    fitting = [other for other in HEADERS if rest.startswith(device_text(other))]
    if fitting:
        message = f"this is the device layer of {' or '.join(fitting)}, not of {target}"
        raise AmkError(message, location=start)
    found, wanted = rest.splitlines(), layer.splitlines()
    same = 0
    while same < min(len(found), len(wanted)) and found[same] == wanted[same]:
        same += 1
    line = head.count("\n") + same + 1
    shown = wanted[same].strip() if same < len(wanted) else ""
    message = (
        f"the device layer differs from the packaged text of {target}, which has '{shown}' here"
    )
    raise AmkError(message, location=f"{name}:{line}:1")
