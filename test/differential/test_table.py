"""A lowered model as one dense table runs like the families that it came from."""

from __future__ import annotations

import numpy as np
from small_models import MODELS
from xdsl.dialects.builtin import ModuleOp

from amk.dialects import task
from amk.dialects.access import Argument, ExprAttr
from amk.interpreters.task import TaskMachine
from amk.ir.expand import expand, schedule_of
from amk.ir.module import parse_module, verify_module
from amk.runtime.build import ir_text
from amk.schedule import Expr
from amk.schedule.verify import verify


class _Flattener:
    """Turns every family of a schedule into rows of a table."""

    def __init__(self, schedule: task.ScheduleOp) -> None:
        self.schedule = schedule
        self.lists: dict[str, dict] = {k: {} for k in ("names", "kernels", "buffers", "exprs")}
        self.tasks: list[list[int]] = []
        self.index: list[list[int]] = []
        self.accesses: list[list[int]] = []
        self.moving: list[list[int]] = []
        self.rank = max(
            op.type.get_num_dims()
            for op in schedule.body.block.ops
            if isinstance(op, task.BufferOp)
        )

    def number(self, key: str, item: object) -> int:
        return self.lists[key].setdefault(item, len(self.lists[key]))

    def run(self) -> task.TableOp:
        task.for_each_task(self.schedule, self._visit)
        return task.TableOp(
            "flat", task.Rows.of(self.tasks),
            names=[*self.lists["names"]], kernels=[*self.lists["kernels"]],
            buffers=[*self.lists["buffers"]], exprs=[*self.lists["exprs"]],
            index=task.Rows.of(self.index), accesses=task.Rows.of(self.accesses),
            moving=task.Rows.of(self.moving, 3),
        )  # fmt: skip

    def _visit(self, op: task.FamilyOp | task.TaskOp, repeats: dict[str, int]) -> None:
        assert not op.waits
        assert not op.signals
        for instance in range(op.instances):
            known = {**repeats, op.index_name: instance}
            place = op.placement.evaluate(known) if op.placement is not None else -1
            kernel = self.number("kernels", op.kernel_name)
            self.index.append([instance, repeats.get("l", -1)])
            self.tasks.append([place, int(op.agent_name == "stream"), kernel, -1,
                               self.number("names", op.sym_name.data)])  # fmt: skip
            for argument in op.args:
                self._argument(argument, known)

    def _argument(self, argument: Argument, known: dict[str, int]) -> None:
        row = [len(self.tasks) - 1, -1, 0, -1, -1, 0]
        bounds = [Expr(0)] * (2 * self.rank)
        if isinstance(argument, ExprAttr):
            bounds[0] = argument.data.substitute(known)
        else:
            access = argument.data.substitute(known)
            row[1] = self.number("buffers", access.buffer)
            row[2] = ("in", "out", "inout").index(access.mode)
            if access.use is not None:
                row[3] = access.use.value
            if access.guard is not None:
                row[4] = self.number("exprs", access.guard)
            for number, dim in enumerate(access.dims):
                bounds[2 * number : 2 * number + 2] = [dim.lo, dim.end]
                row[5] |= (dim.hi is None) << number
        for number, bound in enumerate(bounds):
            if not bound.is_const:
                at = self.number("exprs", bound - bound.constant)
                self.moving.append([len(self.accesses), number, at])
        self.accesses.append(row + [b.constant for b in bounds])


def flattened(module: ModuleOp) -> ModuleOp:
    schedule = schedule_of(module)
    table = _Flattener(schedule).run()
    for op in list(schedule.body.block.ops):
        if isinstance(op, task.FamilyOp | task.RepeatOp):
            op.detach()
            op.erase()
    schedule.body.block.add_op(table)
    again = parse_module(ir_text(module), "flat.mlir")
    verify_module(again)
    return again


def test_a_model_as_a_table() -> None:
    model = MODELS[0]
    families = model.task_module(3)
    before = expand(schedule_of(families)).table
    machine = TaskMachine(families, model.constants.__getitem__, seed=0)
    wanted = list(machine.run(0, [3, 1, 4], 6))
    flat = flattened(families)
    after = expand(schedule_of(flat)).table
    for table in (before, after):
        assert verify(table).ok
    assert [after.task_name(t) for t in range(3)] == [before.task_name(t) for t in range(3)]
    assert after.n_tasks == before.n_tasks
    again = TaskMachine(flat, model.constants.__getitem__, seed=1)
    assert list(again.run(0, [3, 1, 4], 6)) == wanted
    assert np.array_equal(again.logits, machine.logits, equal_nan=True)
