"""The dialects of AMK: nn, tile and task, and the registry of everything that a module may use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from xdsl.context import Context
from xdsl.ir import Dialect

_DIALECTS = {
    "builtin": ("xdsl.dialects.builtin", "Builtin"),
    "arith": ("xdsl.dialects.arith", "Arith"),
    "math": ("xdsl.dialects.math", "Math"),
    "func": ("xdsl.dialects.func", "Func"),
    "nn": ("amk.dialects.nn", "NN"),
    "tile": ("amk.dialects.tile", "TILE"),
    "task": ("amk.dialects.task", "TASK"),
}
"""Name of each dialect to the module and variable that hold it; imported on first use."""


def _loader(module: str, variable: str) -> Callable[[], Dialect]:
    return lambda: getattr(import_module(module), variable)


def dialect_names() -> tuple[str, ...]:
    """The names of all dialects that a module may use."""
    return tuple(_DIALECTS)


def register_all(ctx: Context) -> None:
    """Register every dialect with `ctx`; each is imported when the first of its ops is parsed."""
    for name, (module, variable) in _DIALECTS.items():
        ctx.register_dialect(name, _loader(module, variable))


def new_context() -> Context:
    """A fresh xDSL context with every dialect registered."""
    ctx = Context()
    register_all(ctx)
    return ctx
