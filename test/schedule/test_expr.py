"""Expressions: spelling, parsing, canonical form, and equality with plain arithmetic."""

from __future__ import annotations

import random

import numpy as np
import pytest

from amk.schedule.expr import Expr, ExprError, parse

POS, IDX = Expr.var("pos"), Expr.var("i")


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        ((POS + 43 - IDX) // 44, "(pos + 43 - i) floordiv 44"),
        (POS % 44, "pos mod 44"),
        (POS % 44 - 7, "pos mod 44 - 7"),
        (Expr.const(0), "0"),
        (-POS, "-pos"),
        (-(POS // 3), "-(pos floordiv 3)"),
        (POS * 4 + 1, "pos * 4 + 1"),
        ((POS // 2) * -3, "(pos floordiv 2) * -3"),
        ((POS * 4 + 9) // 4, "pos + 2"),
        ((POS // 3) // 5, "pos floordiv 15"),
        ((POS % 6) % 3, "pos mod 3"),
        ((POS % 3) // 3, "0"),
        (POS - POS, "0"),
    ],
)
def test_spelling_and_round_trip(expr: Expr, text: str) -> None:
    assert str(expr) == text
    assert parse(text) == expr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pos *", "expected an operand"),
        ("pos * i", "product of two variables"),
        ("pos floordiv 0", "positive constant"),
        ("pos mod i", "positive constant"),
        ("(pos", "missing '\\)'"),
        ("pos )", "unexpected '\\)'"),
        ("pos & 1", "unexpected '&'"),
        ("", "expected an operand"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(ExprError, match=message):
        parse(text)


def _random(rng: random.Random, depth: int) -> tuple[Expr, str]:
    """An expression and the same thing as Python text."""
    if depth == 0:
        if rng.random() < 0.4:
            value = rng.randint(-9, 9)
            return Expr.const(value), f"({value})"
        name = rng.choice(["pos", "i", "iter"])
        return Expr.var(name), name
    left, left_text = _random(rng, depth - 1)
    choice = rng.randrange(5)
    if choice < 2:
        right, right_text = _random(rng, depth - 1)
        if choice == 0:
            return left + right, f"({left_text}+{right_text})"
        return left - right, f"({left_text}-{right_text})"
    by = rng.randint(1, 6)
    if choice == 2:
        return left * by, f"({left_text}*{by})"
    if choice == 3:
        return left // by, f"({left_text}//{by})"
    return left % by, f"({left_text}%{by})"


def test_random_expressions_mean_what_python_means() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        expr, text = _random(rng, rng.randint(0, 4))
        values = {name: rng.randint(-40, 40) for name in ("pos", "i", "iter")}
        expected = eval(text, dict(values))
        assert expr.evaluate(values) == expected
        assert parse(str(expr)) == expr
        assert hash(parse(str(expr))) == hash(expr)
        assert expr.substitute(values).value == expected
        partly = expr.substitute({"i": values["i"], "pos": POS + 1})
        later = {"pos": values["pos"] - 1, "iter": values["iter"]}
        assert partly.evaluate(later) == expected


def test_evaluates_arrays_and_splits() -> None:
    expr = (POS + 43 - IDX) // 44 + IDX * 2 + 5
    own, rest = expr.split({"i"})
    assert str(own) == "i * 2 + 5"
    assert rest == (POS + 43 - IDX) // 44
    values = expr.evaluate({"pos": np.arange(3), "i": np.array([0, 1, 43])})
    assert np.array_equal(values, [5, 7, 91])
    assert expr.variables == {"pos", "i"}
    assert expr.divisors == {44}
