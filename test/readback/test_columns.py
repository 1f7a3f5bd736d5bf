"""Equality of integer expressions is decided for all lanes and all values of the scalars."""

from __future__ import annotations

import random

import numpy as np
import pytest

from amk.backends.readback.columns import Column, Comparer, tabulated
from amk.backends.readback.integers import Scope, Value, scalar_values
from amk.backends.readback.mismatch import Mismatch
from amk.backends.readback.parse import parse
from amk.backends.readback.syntax import Declaration, Evaluation, While
from amk.schedule.expr import Expr

LANES = 7
POSITIONS = 50


def random_expr(choose: random.Random, depth: int) -> Expr:
    """Over the index i, the scalar pos and the iteration."""
    kind = choose.randrange(5) if depth else 4
    if kind == 4:
        return choose.choice([Expr.var("i"), Expr.var("pos"), Expr.var("iter"), Expr.const(3)])
    left = random_expr(choose, depth - 1)
    if kind == 0:
        return left + random_expr(choose, depth - 1) * choose.choice([-2, 1, 5])
    divisor = choose.choice([2, 3, 4])
    return left // divisor if kind < 3 else left % divisor


def in_program(expr: Expr) -> Expr:
    """The expression with the names that the program has for the scalars."""
    return expr.substitute({"pos": Expr.var("w.pos"), "iter": Expr.var("w.iteration")})


@pytest.mark.parametrize("seed", range(300))
def test_as_many_values_show(seed: int) -> None:
    choose = random.Random(seed)
    one = random_expr(choose, 3)
    # Half of the time something that is equal, or nearly so.
    other = choose.choice(
        [
            random_expr(choose, 3),
            one,
            (one * 6 + choose.randrange(7)) // 6,
            one + (Expr.var("pos") + choose.randrange(2)) // POSITIONS,
            one + (Expr.var("iter") // 2 + Expr.var("iter") % 2) // 12,
        ]
    )
    lanes = np.arange(LANES)
    column, expressions = tabulated(other, {"i": lanes}, LANES)
    comparer = Comparer(expressions, {"pos": (0, POSITIONS - 1)})
    lane = comparer.differing(Value(in_program(one), (0, 0)), {"i": lanes}, column)
    grid = {
        "i": lanes.reshape(-1, 1, 1),
        "pos": np.arange(POSITIONS).reshape(1, -1, 1),
        "iter": np.arange(200).reshape(1, 1, -1),
    }
    difference = np.asarray((one - other).evaluate(grid))
    equal = (np.broadcast_to(difference, (LANES, POSITIONS, 200)) == 0).all(axis=(1, 2))
    assert (lane is None) == bool(equal.all())
    assert lane is None or not equal[lane]


def test_a_condition_on_the_position() -> None:
    pos = Expr.var("pos")
    expressions = [(pos + 5) % 8, pos // 8 - (pos + 4) // 8, pos // 8 - (pos + 3) // 8]
    comparer = Comparer(expressions, {"pos": (0, 1000)})
    guard = np.array([0])
    # Where pos mod 8 is 3, pos floordiv 8 is (pos + 4) floordiv 8, but so it is at 0.
    assert comparer.equal_where(Column(np.array([0]), ((1, np.array([1])),)), guard)
    assert comparer.equal_where(Column(np.array([0]), ((1, np.array([2])),)), guard)
    assert not comparer.equal_where(Column(np.array([1]), ((1, np.array([1])),)), guard)
    assert not comparer.equal_where(Column(np.array([0]), ((1, np.array([1])),)), np.array([-1]))
    index = {"i": np.array([3])}
    assert comparer.same_zeros((pos - Expr.var("i")) % 8, index, guard)
    assert not comparer.same_zeros((pos - Expr.var("i")) % 4, index, guard)
    # They differ at position 995 only.
    assert not comparer.same_zeros((pos + 5) % 8 + pos // 995, index, guard)


def read(text: str) -> Value:
    """The value of an expression of i in 0..99 and w.pos in 0..9."""
    head = (
        "namespace amk::config { }\nstruct S { int a; };\nAMK_DEVICE void f() { while (w.next()) "
    )
    loop = parse(f"{head}{{ {text}; }} }}", "f.cu").functions[0].body[0]
    assert isinstance(loop, While)
    statement = loop.body[0]
    assert isinstance(statement, Evaluation | Declaration)
    assert statement.value is not None
    i = Value(Expr.var("i"), (0, 99))
    return Scope({**scalar_values({"pos": (0, 9)}), "i": i}).read(statement.value)


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        ("i * 3 + 4 - i", "i * 2 + 4"),
        ("(i + 1) / 2 % 5", "((i + 1) floordiv 2) mod 5"),
        ("-i + 8", "8 - i"),
        ("amk::floormod(-i + w.pos, 8)", "(w.pos - i) mod 8"),
        ("amk::floordiv(i - 5, 3)", "(i - 5) floordiv 3"),
        ("long(i) * 1000000000", "i * 1000000000"),
    ],
)
def test_expressions_mean_what_c_means(text: str, expr: str) -> None:
    from amk.schedule.expr import parse as parse_expr

    wanted = parse_expr(expr.replace("w.pos", "p")).substitute({"p": Expr.var("w.pos")})
    assert read(text).expr == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(i - 5) / 3", "rounds towards zero"),
        ("(i - 5) % 3", "rounds towards zero"),
        ("i * 1000000000", "may not fit"),
        ("i * 100000 * 1000 - i * 100000000", "may not fit"),
        ("w.iteration + 5", "may not fit"),
        ("i * w.pos", "a product of two variables"),
        ("i / w.pos", "other than a positive constant"),
        ("i % 0", "other than a positive constant"),
        ("i & 1", "does not give an integer"),
        ("j + 1", "no integer expression"),
        ("1.5f + i", "no integer expression"),
    ],
)
def test_what_c_would_compute_otherwise_is_refused(text: str, message: str) -> None:
    with pytest.raises(Mismatch, match=message):
        read(text)
