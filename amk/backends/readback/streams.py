"""The stream program against the compute program: each worker's copies are those that it consumes.

A producer copies ahead of the consumers through a ring, in which the n-th stage is the n-th that
is consumed. So the streams of a worker have to be, one after the other, those of its products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amk.backends.readback import syntax
from amk.backends.readback.lanes import Lanes, Place, in_order
from amk.backends.readback.memory import Names
from amk.backends.readback.mismatch import fail, require


@dataclass(frozen=True)
class Copies:
    """The streams of one call for all its lanes: a row of numbers for each, [lanes, 5].

    Buffer, layer, blocks, instances, instance.
    """

    node: syntax.Expression
    lanes: Lanes
    rows: np.ndarray


def copies_of(places: Sequence[Place], names: Names) -> list[Copies]:
    """What the stream program copies."""
    copies: list[Copies] = []
    for place in places:
        for number, statement in enumerate(place.body):
            match statement:
                case syntax.Evaluation(
                    value=syntax.Call(
                        function=syntax.Name(text="amk::stream"),
                        arguments=(syntax.Name(text="w"), stream),
                    )
                ):
                    copies.append(read_stream(stream, place.lanes.at(number), names))
                case _:
                    fail(statement, "the stream program only copies")
    return copies


def read_stream(node: syntax.Expression, lanes: Lanes, names: Names) -> Copies:
    """The numbers of `amk::Stream<T, K>{b.w + layer * layer_bytes, blocks, instances, instance}`.

    The types and the size of a layer are compared as text, elsewhere.
    """
    match node:
        case syntax.Braces(
            type=syntax.Template(name="amk::Stream"), values=(base, blocks, instances, instance)
        ):
            pass
        case _:
            fail(node, "expected a stream")
    layer: syntax.Expression = syntax.Number(0, 0, "0")
    match base:
        case syntax.Binary(operator="+", left=pointer, right=syntax.Binary(left=layer)):
            pass
        case pointer:
            pass
    match pointer:
        case syntax.Member(object=syntax.Name(text="b"), name=name) if name in names.buffers:
            buffer = names.buffers[name].number
        case _:
            fail(node, "expected a buffer")
    numbers = [lanes.evaluate(part) for part in (layer, blocks, instances, instance)]
    rows = np.stack([np.full(len(lanes), buffer), *numbers], axis=1)
    return Copies(node, lanes, rows)


def compare(produced: Sequence[Copies], consumed: Sequence[Copies], at: syntax.Node) -> int:
    """The number of streams; Mismatch unless each worker copies what it consumes, in order."""
    workers, rows, nodes = _sequence(produced)
    wanted_workers, wanted_rows, _ = _sequence(consumed)
    shorter = min(len(workers), len(wanted_workers))
    same = (workers[:shorter] == wanted_workers[:shorter]) & (
        rows[:shorter] == wanted_rows[:shorter]
    ).all(axis=1)
    wrong = np.flatnonzero(~same)
    if len(wrong):
        place = int(wrong[0])
        worker = min(int(workers[place]), int(wanted_workers[place]))
        fail(produced[int(nodes[place])].node, f"worker {worker} consumes another stream next")
    require(len(workers) == len(wanted_workers), at, "the streams are not those of the products")
    shapes = {id(c.node): _shape(c.node) for c in (*produced, *consumed)}
    by_buffer: dict[int, tuple[object, ...]] = {}
    for copies in (*consumed, *produced):
        shape = by_buffer.setdefault(int(copies.rows[0, 0]), shapes[id(copies.node)])
        alike = shape == shapes[id(copies.node)]
        require(alike, copies.node, "the product takes a stream of another type")
    return len(workers)


def _shape(node: syntax.Expression) -> tuple[object, ...]:
    """What of a stream is the same for all its lanes: its type, and the size of a layer."""
    assert isinstance(node, syntax.Braces)
    base = node.values[0]
    size = (
        base.right.right
        if isinstance(base, syntax.Binary) and isinstance(base.right, syntax.Binary)
        else None
    )
    return node.type, size


def _sequence(copies: Sequence[Copies]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The streams of all workers in order: workers [n], rows [n, 5], and which call each is of."""
    workers, places, lanes = in_order([c.lanes for c in copies])
    if not copies:
        return workers, np.zeros((0, 5), np.int64), places
    starts = np.cumsum([0, *(len(c.rows) for c in copies)])
    rows = np.concatenate([c.rows for c in copies])[starts[places] + lanes]
    return workers, rows, places
