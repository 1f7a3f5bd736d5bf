"""A bug of the printer does not pass: each of these prints another program than the IR says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from programs import COUNTED, Model, parse
from xdsl.dialects import arith

from amk.backends import emit
from amk.backends.printer import bindings, expressions, kernel, scalars, schedule
from amk.backends.readback import check_program
from amk.dialects import tile
from amk.errors import AmkError

Patch = Callable[[pytest.MonkeyPatch], None]
MODEL = Model()


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """Replace an attribute by what `make` makes of it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return patch


def swapped_rule(kind: type, rule: str) -> Patch:
    """Another C++ expression for an operation."""
    return lambda monkeypatch: monkeypatch.setitem(scalars.RULES, kind, rule)


def truncating(real: Any) -> Any:
    """Division by `/` and `%` everywhere, as if no number were negative."""
    return lambda self, expr: (
        real(self, expr).replace("amk::floormod(", "(").replace(", 2)", " % 2)")
    )


def without_last(real: Any) -> Any:
    """Drop the last use of a layer: every use is that of the layer itself."""

    def epoch(self: Any) -> str:
        return real(self).replace("l + 1", "l")

    return epoch


def only_first_layer(real: Any) -> Any:
    def stream(op: Any, bound: Any, instances: int, instance: str) -> str:
        return real(op, bound, instances, instance).replace(" + l * ", " + 0 * ")

    return stream


BUGS: dict[str, Patch] = {
    "no barrier before plain memory": replaced(
        schedule.SchedulePrinter, "_needs_sync", lambda real: lambda *_: False
    ),
    "a worker too far": replaced(
        schedule, "rotation_of", lambda real: lambda op, workers: (real(op, workers) + 1) % workers
    ),
    "the use of the wrong layer": replaced(bindings.Binding, "epoch", without_last),
    "the stream of the first layer": replaced(schedule, "stream_of", only_first_layer),
    "the weights of the first layer": replaced(kernel, "stream_of", only_first_layer),
    "division towards zero": replaced(expressions.Variables, "print", truncating),
    "loads of memory that tasks write run ahead": replaced(
        kernel.KernelPrinter,
        "_is_early",
        lambda real: (
            lambda self, op, late: (
                real(self, op, late)
                or (isinstance(op, tile.LoadOp) and not any(v in late for v in op.operands))
            )
        ),
    ),
    "a difference the wrong way round": swapped_rule(arith.SubfOp, "amk::sub({1}, {0})"),
    "fused operations": swapped_rule(arith.AddfOp, "{0} + {1}"),
    "a selection the wrong way round": swapped_rule(arith.SelectOp, "{0} ? {2} : {1}"),
    "constants cut to six digits": replaced(
        kernel, "float_literal", lambda real: lambda value: f"{value:.5e}f"
    ),
    "an offset without its last dimension": replaced(
        bindings.Binding, "offset", lambda real: property(lambda self: real.fget(self) // 2 * 2 + 1)
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_the_printer_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = MODEL.module()
    right = emit(module, "sm_90")
    BUGS[name](monkeypatch)
    wrong = emit(module, "sm_90")
    assert wrong != right
    with pytest.raises(AmkError):
        check_program(module, "sm_90", wrong, "wrong.cu")


def test_waits_and_signals_in_the_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module = parse(COUNTED)
    printer = schedule.SchedulePrinter
    waits, signals = printer._waits, printer._signals
    monkeypatch.setattr(printer, "_waits", signals)
    monkeypatch.setattr(printer, "_signals", waits)
    with pytest.raises(AmkError, match=r"expected amk::wait"):
        check_program(module, "sm_90", emit(module, "sm_90"), "wrong.cu")
