"""Counters in the place of packets: models whose exchanges are plain memory."""

from __future__ import annotations

from dataclasses import replace

from xdsl.dialects.builtin import MemRefType, ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import Rewriter

from amk.dialects import task, tile
from amk.dialects.access import Access, AccessAttr
from amk.dialects.memory import in_space, is_packet
from amk.ir.expand import schedule_of
from amk.ir.module import verify_module
from amk.schedule.expr import Expr


def counted(module: ModuleOp) -> ModuleOp:
    """A copy of a lowered `module` in which whatever only products read is in plain memory.

    Each such buffer gets a counter, which its writers signal once for each use; the readers of use
    u wait until all writers of the uses up to u have done so.
    """
    copy = module.clone()
    schedule = schedule_of(copy)
    kernels = {op.sym_name.data: op for op in copy.walk() if isinstance(op, tile.KernelOp)}
    families = [op for op in schedule.walk() if isinstance(op, task.FamilyOp)]
    for buffer in [op for op in schedule.walk() if isinstance(op, task.BufferOp)]:
        users = [(op, n, a) for op in families for n, a in _accesses(op, buffer.sym_name.data)]
        parameters = [kernels[op.kernel_name or ""].body.block.args[n] for op, n, _ in users]
        read = [p for p, (_, _, a) in zip(parameters, users, strict=True) if a.reads]
        if buffer.kind.data != "scratch" or not is_packet(buffer.type):
            continue
        if not all(_is_input_of_product(parameter) for parameter in read):
            continue
        (writers,) = {op.instances for op, _, access in users if access.writes}
        _count(schedule, buffer, writers, users)
        for parameter in parameters:
            assert isinstance(parameter.type, MemRefType)
            Rewriter.replace_value_with_new_type(parameter, in_space(parameter.type, ""))
    verify_module(copy)
    return copy


def _accesses(op: task.FamilyOp, buffer: str) -> list[tuple[int, Access]]:
    found = [(n, a.data) for n, a in enumerate(op.args) if isinstance(a, AccessAttr)]
    return [(n, access) for n, access in found if access.buffer == buffer]


def _is_input_of_product(parameter: SSAValue) -> bool:
    users = [use.operation for use in parameter.uses]
    return all(isinstance(op, tile.ProductOp) and op.input is parameter for op in users)


def _count(
    schedule: task.ScheduleOp,
    buffer: task.BufferOp,
    writers: int,
    users: list[tuple[task.FamilyOp, int, Access]],
) -> None:
    """Make `buffer` plain memory, with a counter for its `users`; `writers` signal each use."""
    name = buffer.sym_name.data
    counter = task.CounterOp(f"{name}_uses")
    plain = task.BufferOp(name, buffer.kind.data, in_space(buffer.type, ""))
    block = schedule.body.block
    block.insert_ops_before([plain, counter], buffer)
    block.erase_op(buffer)
    for op, number, access in users:
        assert access.use is not None
        arguments = list(op.args)
        arguments[number] = AccessAttr(replace(access, use=None))
        waits, signals = op.waits, op.signals
        if access.reads:
            waits = [*waits, (counter.sym_name.data, (access.use + 1) * writers)]
        else:
            signals = [*signals, (counter.sym_name.data, Expr.const(1))]
        changed = task.FamilyOp(
            op.sym_name.data, op.kernel_name, op.instances, op.placement, arguments,
            index=op.index_name, waits=waits, signals=signals,
        )  # fmt: skip
        op.properties.update(changed.properties)
