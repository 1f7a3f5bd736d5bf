"""Ops and passes of a toy pipeline, nn → tile → task, for the tests of the drivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import ModuleOp
from xdsl.irdl import IRDLOperation, irdl_op_definition
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import PassFailedException

from amk.dialects import register_all
from amk.ir.diagnostics import emit_error, fail, remark, warn
from amk.ir.levels import Level
from amk.ir.location import inherit_location
from amk.passes import PassEntry


@irdl_op_definition
class ToyNn(IRDLOperation):
    """An op of the nn level."""

    name = "nn.toy"


@irdl_op_definition
class ToyTile(IRDLOperation):
    """An op of the tile level."""

    name = "tile.toy"


@irdl_op_definition
class ToyTask(IRDLOperation):
    """An op of the task level."""

    name = "task.toy"


def replace_toys(module: ModuleOp, old: type[IRDLOperation], new: type[IRDLOperation]) -> None:
    """Replace each op of class `old` by one of class `new`."""
    for op in list(module.walk()):
        if isinstance(op, old):
            created = new.create()
            inherit_location(op, [created])
            block = op.parent
            assert block is not None
            block.insert_op_before(created, op)
            op.detach()
            op.erase()


@dataclass(frozen=True)
class ToTile(ModulePass):
    """Turn toys of nn into toys of tile.

    This line is not part of the help.
    """

    name = "to-tile"
    consumes: ClassVar = Level.NN
    produces: ClassVar = Level.TILE

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module."""
        replace_toys(op, ToyNn, ToyTile)


@dataclass(frozen=True)
class ToTask(ModulePass):
    """Turn toys of tile into toys of task."""

    name = "to-task"
    consumes: ClassVar = Level.TILE
    produces: ClassVar = Level.TASK
    workers: int = 1
    arch: str = "sm_90"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the module and say with which options."""
        replace_toys(op, ToyTile, ToyTask)
        remark(None, f"workers={self.workers} arch={self.arch}")


@dataclass(frozen=True)
class CheckTask(ModulePass):
    """Accept the schedule."""

    name = "check-task"
    consumes: ClassVar = Level.TASK
    produces: ClassVar = Level.TASK

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Complain(ModulePass):
    """Report things about every constant, in the way that `how` says."""

    name = "complain"
    how: str

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Walk the constants."""
        for constant in op.walk():
            if isinstance(constant, ConstantOp):
                self._complain(constant)

    def _complain(self, constant: ConstantOp) -> None:
        match self.how:
            case "fail":
                fail(constant, "deadlock: no task can run", ["task a waits for b"])
            case "error":
                emit_error(constant, "bad constant")
            case "warn":
                warn(constant, "odd constant")
            case "remark":
                remark(constant, "a constant")
            case "xdsl":
                raise PassFailedException("cannot do it")
            case _:
                raise KeyError("oops")


@dataclass(frozen=True)
class Break(ModulePass):
    """Leave an invalid module behind."""

    name = "break"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Remove the value of each constant."""
        for constant in op.walk():
            if isinstance(constant, ConstantOp):
                del constant.properties["value"]


@dataclass(frozen=True)
class LoadedEntry(PassEntry):
    """An entry whose pass is there already."""

    pass_class: type[ModulePass] = ModulePass

    def __call__(self) -> type[ModulePass]:
        """The pass class."""
        return self.pass_class


def toy_passes() -> dict[str, PassEntry]:
    """The toy pipeline, cse, and a pass that cannot be imported."""
    classes: tuple[type[ModulePass], ...] = (ToTile, ToTask, CheckTask, Complain, Break)
    entries: list[PassEntry] = [
        LoadedEntry(name=c.name, module="", class_name=c.__name__, pass_class=c) for c in classes
    ]
    entries.append(
        PassEntry(
            "cse",
            "xdsl.transforms.common_subexpression_elimination",
            "CommonSubexpressionElimination",
            "Merge.",
        )
    )
    entries.append(PassEntry("gone", "amk.passes.no_such_module", "Gone"))
    return {entry.name: entry for entry in entries}


def register_toys(ctx: Context) -> None:
    """Register everything, then the toys."""
    register_all(ctx)
    for op in (ToyNn, ToyTile, ToyTask):
        ctx.load_op(op)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the drivers know the toy ops and the toy passes instead of the real passes."""
    monkeypatch.setattr("amk.passes.all_passes", toy_passes)
    monkeypatch.setattr("amk.cli.opt.all_passes", toy_passes)
    monkeypatch.setattr("amk.cli.opt.register_all", register_toys)
    monkeypatch.setattr("amk.dialects.register_all", register_toys)
