"""What a printer owes (docs/verifier.md, section 5), on the order of steps of each worker.

The threads of a worker go through the same steps, but not at the same time. Two facts are followed
from step to step: whether all threads have met in a barrier since the last step that lets them
apart, and whether some of them may still be reading what another worker can overwrite. What a
primitive of the device layer does about either is the table `PRIMITIVES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amk.backends.readback import syntax
from amk.backends.readback.expected import BufferFacts
from amk.backends.readback.mismatch import Mismatch, require


@dataclass(frozen=True)
class Primitive:
    """What a call does about the threads of its worker.

    `opens`: all threads meet before anything else; `closes`: they meet at the end. `reads`: threads
    poll packets, or copy from memory, up to the end if it does not close. `gathers`: no thread
    sends before all have arrived, with everything before behind them.
    """

    opens: bool = False
    closes: bool = False
    reads: bool = False
    gathers: bool = True
    alone: bool = False
    """One thread acts, for all of them."""


PRIMITIVES = {
    "next": Primitive(opens=True, closes=True),
    "sync": Primitive(opens=True, closes=True),
    "wait": Primitive(closes=True),
    "signal": Primitive(opens=True, closes=True),
    "stop": Primitive(closes=False),
    "load": Primitive(reads=True),
    "store": Primitive(alone=True, gathers=False),
    "send": Primitive(alone=True, gathers=False),
    "receive": Primitive(reads=True),
    "argmax": Primitive(closes=True, reads=True),
    "map": Primitive(opens=True),
    "product": Primitive(reads=True),
    "combine": Primitive(reads=True),
    "attention": Primitive(opens=True, closes=True, reads=True),
}
APART = frozenset(("store", "send", "map", "product", "combine"))
"""After these some threads may be far ahead of others."""


@dataclass(frozen=True)
class Step:
    """One step of a task: a primitive, the plain memory that tasks write and that it reads first
    (`input`) or in its region (`loads`), and whether it sends packets."""

    kind: str
    node: syntax.Node
    loads: tuple[BufferFacts, ...] = ()
    input: tuple[BufferFacts, ...] = ()
    sends: bool = False


@dataclass(frozen=True)
class Threads:
    """Where the threads of a worker are.

    `together`: they met since the last step that lets them apart. `reading`: some may still read
    what another worker can overwrite.
    """

    together: bool = True
    reading: bool = False


MET = Threads()


def follow(steps: Sequence[Step], threads: Threads) -> Threads:
    """The threads after the steps of a task; Mismatch at the first that breaks an obligation."""
    for step in steps:
        primitive = PRIMITIVES[step.kind]
        before = MET if primitive.opens else threads
        _check(step, primitive, before)
        if primitive.closes:
            threads = MET
            continue
        exposed = any(buffer.exposed for buffer in (*step.loads, *step.input))
        polls = primitive.reads and step.kind != "load"
        threads = Threads(
            together=before.together and step.kind not in APART,
            reading=before.reading or exposed or polls,
        )
    return threads


def _check(step: Step, primitive: Primitive, before: Threads) -> None:
    names = ", ".join(sorted({f"@{b.name}" for b in (*step.loads, *step.input)}))
    if step.kind == "store" or step.kind == "load" or step.input:
        require(
            before.together,
            step.node,
            "a barrier is missing: other threads may not have finished what comes before this "
            + (f"access to {names}" if names else "write"),
        )
    if step.kind == "send":
        require(
            before.together and not before.reading,
            step.node,
            "a barrier is missing: this packet says that reads of other threads have ended",
        )
    if step.sends and not primitive.closes and any(b.exposed for b in step.loads):
        raise Mismatch(step.node, f"packets are sent while other threads may still read {names}")
