"""The normal form of a persistent-kernel schedule and the exact verifier over it (pure numpy)."""

from amk.schedule.builder import TableBuilder
from amk.schedule.explicit import Schedule
from amk.schedule.expr import Expr, ExprError, parse
from amk.schedule.table import Buffer, Origin, Queue, Scalar, ScheduleTable

__all__ = [
    "Buffer",
    "Expr",
    "ExprError",
    "Origin",
    "Queue",
    "Scalar",
    "Schedule",
    "ScheduleTable",
    "TableBuilder",
    "parse",
]
