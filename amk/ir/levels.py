"""The three levels of the IR, computed from the ops of a module."""

from __future__ import annotations

from enum import Enum

from xdsl.dialects.builtin import ModuleOp


class Level(Enum):
    """A level of the pipeline, the most abstract first; the value is its dialect."""

    NN = "nn"
    TILE = "tile"
    TASK = "task"


def level_of(module: ModuleOp) -> Level | None:
    """The level of `module`, or None if it holds no op of the three dialects.

    `tile` ops stay in a module at task level (kernels and constants that the schedule names), so
    the most concrete dialect decides.
    """
    dialects: set[str] = set()
    for op in module.walk():
        dialect = op.name.partition(".")[0]
        if dialect == Level.TASK.value:
            return Level.TASK
        dialects.add(dialect)
    if Level.TILE.value in dialects:
        return Level.TILE
    if Level.NN.value in dialects:
        return Level.NN
    return None
