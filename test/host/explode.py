"""Families as explicit tasks: the same schedule in the form that is printed as tables."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from amk.dialects import task
from amk.dialects.access import AccessAttr, ExprAttr
from amk.ir.expand import schedule_of
from amk.ir.module import verify_module
from amk.schedule.expr import Expr


def explode(module: ModuleOp) -> ModuleOp:
    """A copy of `module` in which every instance of a family in every layer is a `task.task`."""
    copy = module.clone()
    schedule = schedule_of(copy)
    block = schedule.body.block
    made: list[task.TaskOp] = []

    def visit(op: task.FamilyOp | task.TaskOp, repeats: dict[str, int]) -> None:
        for instance in range(op.instances):
            values = {**repeats, op.index_name: instance}
            placement = op.placement
            assert placement is not None
            made.append(
                task.TaskOp(
                    f"{op.sym_name.data}_{len(made)}",
                    op.kernel_name,
                    placement.substitute(values).value,
                    [
                        AccessAttr(a.data.substitute(values))
                        if isinstance(a, AccessAttr)
                        else ExprAttr(a.data.substitute(values))
                        for a in op.args
                    ],
                    waits=_fixed(op.waits, values),
                    signals=_fixed(op.signals, values),
                )
            )

    task.for_each_task(schedule, visit)
    for op in list(block.ops):
        if isinstance(op, task.FamilyOp | task.RepeatOp):
            op.detach()
    block.add_ops(made)
    verify_module(copy)
    return copy


def _fixed(pairs: list[tuple[str, Expr]], values: dict[str, int]) -> list[tuple[str, Expr]]:
    return [(name, expr.substitute(values)) for name, expr in pairs]
