"""Who executes what: the control flow of a printed program, run for all workers at once.

A *lane* is one execution of a statement: by one worker, in one turn of each loop around it. Loops
multiply the lanes, conditions drop some. What the lanes of a task's body have in common is its
text; their columns say where they are, and their keys in which order a worker meets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from amk.backends.readback import syntax
from amk.backends.readback.columns import Column
from amk.backends.readback.integers import Scope, Value
from amk.backends.readback.mismatch import fail, require
from amk.schedule.expr import Expr

COMPARISONS = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
WORKER = "w.id"
MOST_LANES = 2**22
"""Executions that are looked at: more than the IR allows tasks."""


@dataclass(frozen=True)
class Lanes:
    """Executions of one place: the columns of integer variables, each [n], and keys of order."""

    columns: Mapping[str, np.ndarray]
    keys: tuple[np.ndarray, ...]
    scope: Scope
    moving: Mapping[str, Column] = field(default_factory=dict)
    """Variables that a run-time scalar changes, each with a number for every lane."""

    @staticmethod
    def of_workers(workers: int, scalars: Mapping[str, Value]) -> Lanes:
        """One lane for each worker, before any loop."""
        ids = np.arange(workers)
        values = {**scalars, WORKER: Value(Expr.var(WORKER), (0, workers - 1))}
        return Lanes({WORKER: ids}, (), Scope(values)).take(ids)

    def __len__(self) -> int:
        return len(self.columns[WORKER])

    def evaluate(self, node: syntax.Expression) -> np.ndarray:
        """The values [n] of an expression that no run-time scalar may change."""
        expr = self.scope.read(node).expr
        if not expr.variables <= self.columns.keys():
            fail(node, "control flow may only depend on the worker and on loops")
        return np.broadcast_to(np.asarray(expr.evaluate(self.columns)), (len(self),))

    def holds(self, node: syntax.Expression) -> np.ndarray:
        """Which lanes a condition holds for."""
        match node:
            case syntax.Binary(operator="&&", left=left, right=right):
                return self.holds(left) & self.holds(right)
            case syntax.Binary(operator=operator, left=left, right=right) if (
                operator in COMPARISONS
            ):
                return COMPARISONS[operator](self.evaluate(left), self.evaluate(right))
            case _:
                return fail(node, "this is no comparison of integers")

    def take(self, chosen: np.ndarray) -> Lanes:
        """Some of the lanes, by number or by mask; one lane may be taken several times."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        values = dict(self.scope.values)
        for name, column in columns.items():
            values[name] = Value(Expr.var(name), (column, column))
        keys = tuple(key[chosen] for key in self.keys)
        return replace(self, columns=columns, keys=keys, scope=Scope(values))

    def at(self, place: int) -> Lanes:
        """The lanes at the `place`-th statement of a body."""
        return replace(self, keys=(*self.keys, np.full(len(self), place)))

    def bind(self, node: syntax.Node, name: str, values: np.ndarray) -> Lanes:
        """The lanes with one more variable, which must not hide another."""
        scope = self.scope.bind(node, name, Value(Expr.var(name), (values, values)))
        return replace(self, columns={**self.columns, name: values}, scope=scope)


@dataclass(frozen=True)
class Place:
    """A body that is no control flow, with its executions."""

    node: syntax.Node
    body: tuple[syntax.Statement, ...]
    index: str | None
    """The variable that the statement around the body declares."""
    lanes: Lanes


def run(body: Sequence[syntax.Statement], lanes: Lanes) -> list[Place]:
    """The places of a body of loops, conditions and blocks, in the order of the text."""
    places: list[Place] = []
    for number, statement in enumerate(body):
        here = lanes.at(number)
        match statement:
            case syntax.For():
                inner = _turns(statement, here)
                if _is_flow(statement.body):
                    places += run(statement.body, inner)
                else:
                    places.append(Place(statement, statement.body, statement.name, inner))
            case syntax.If(declaration=declaration) if declaration is not None:
                inner = _declared(declaration, here)
                inner = inner.take(inner.holds(statement.condition))
                require(len(inner) > 0, statement, "no worker ever comes here")
                places.append(Place(statement, statement.body, declaration.name, inner))
            case syntax.Block(body=(syntax.Declaration() as declaration, *rest)):
                inner = _declared(declaration, here)
                places.append(Place(statement, tuple(rest), declaration.name, inner))
            case _:
                fail(statement, "the printer writes only loops and tasks here")
    return places


def _is_flow(body: Sequence[syntax.Statement]) -> bool:
    return all(isinstance(s, syntax.For | syntax.If | syntax.Block) for s in body)


def _declared(declaration: syntax.Declaration, lanes: Lanes) -> Lanes:
    value = declaration.value
    if value is None or declaration.type != "const int":
        fail(declaration, "expected the index of a family")
    return lanes.bind(declaration, declaration.name, lanes.evaluate(value))


def _turns(loop: syntax.For, lanes: Lanes) -> Lanes:
    """One lane for each turn of a loop."""
    match loop.condition:
        case syntax.Binary(operator="<", left=syntax.Name(text=name), right=bound) if (
            name == loop.name
        ):
            ends = lanes.evaluate(bound)
        case _:
            fail(loop.condition, f"expected '{loop.name} < …'")
    require(loop.stepped == loop.name, loop.step, f"the loop of '{loop.name}' has to advance it")
    starts, steps = lanes.evaluate(loop.start), lanes.evaluate(loop.step)
    require(bool((steps > 0).all()), loop.step, "a loop has to advance")
    turns = np.maximum(0, -((starts - ends) // steps))
    total = int(turns.sum())
    require(total > 0, loop, "this loop has no turn")
    require(total <= MOST_LANES, loop, "this loop has too many turns")
    origin = np.repeat(np.arange(len(lanes)), turns)
    turn = np.arange(total) - np.repeat(np.cumsum(turns) - turns, turns)
    inner = lanes.take(origin)
    inner = inner.bind(loop, loop.name, starts[origin] + steps[origin] * turn)
    return replace(inner, keys=(*inner.keys, turn))


def in_order(places: Sequence[Lanes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All lanes of several places in the order of execution: workers, places and lanes, each [n].

    Sorted by worker; the lanes of one worker are in the order in which it meets them.
    """
    if not places:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    depth = max(len(lanes.keys) for lanes in places)
    rows: list[np.ndarray] = []
    for number, lanes in enumerate(places):
        keys = [*lanes.keys, *[np.zeros(len(lanes), np.int64)] * (depth - len(lanes.keys))]
        place = np.full(len(lanes), number)
        rows.append(np.stack([lanes.columns[WORKER], *keys, place, np.arange(len(lanes))]))
    table = np.concatenate(rows, axis=1)
    order = np.lexsort(table[depth::-1])
    return table[0, order], table[-2, order], table[-1, order]
