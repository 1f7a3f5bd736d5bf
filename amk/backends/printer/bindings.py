"""What the parameters of a kernel are bound to, in C++."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import MemRefType

from amk.backends.printer.expressions import Variables
from amk.dialects import task
from amk.dialects.access import Access
from amk.dialects.memory import is_packet, space_of
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.schedule.expr import Expr

C_TYPES = {"f32": "float", "bf16": "amk::bf16", "i32": "int"}


def element_name(type_: MemRefType) -> str:
    """f32, bf16 or i32."""
    return str(type_.element_type)


@dataclass(frozen=True)
class Buffer:
    """A buffer of the schedule as the program sees it."""

    op: task.BufferOp
    number: int

    @property
    def name(self) -> str:
        return self.op.sym_name.data

    @property
    def type(self) -> MemRefType:
        return self.op.type

    @property
    def space(self) -> str:
        return space_of(self.type)

    @property
    def is_packet(self) -> bool:
        return is_packet(self.type)

    @property
    def is_constant(self) -> bool:
        """Whether no task ever writes it, so that it may be read at any time."""
        return self.op.kind.data in ("constant", "input") and self.space != "host"

    @property
    def element(self) -> str:
        return element_name(self.type)

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours in each dimension."""
        strides: list[int] = []
        step = 1
        for size in reversed(self.type.get_shape()):
            strides.append(step)
            step *= size
        return tuple(reversed(strides))

    @property
    def pointer_type(self) -> str:
        if self.is_packet:
            return "uint64_t*"
        if self.space == "stream":
            return "const unsigned char*"
        const = "const " if self.op.kind.data in ("constant", "input") else ""
        return f"{const}{C_TYPES[self.element]}*"


@dataclass(frozen=True)
class Binding:
    """One memref parameter bound to a region of a buffer."""

    buffer: Buffer
    access: Access
    variables: Variables

    @property
    def offset(self) -> Expr:
        """Elements from the start of the buffer (in shared memory: of the worker's row)."""
        dims = list(zip(self.access.dims, self.buffer.strides, strict=True))
        if self.buffer.space == "shared":
            dims = dims[1:]
        total = Expr.const(0)
        for dim, stride in dims:
            total = total + dim.lo * stride
        return total

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the dimensions that the parameter keeps."""
        return tuple(
            stride
            for dim, stride in zip(self.access.dims, self.buffer.strides, strict=True)
            if dim.hi is not None
        )

    def size(self, dimension: int) -> Expr:
        """Extent of a kept dimension."""
        kept = [dim for dim in self.access.dims if dim.hi is not None]
        return kept[dimension].end - kept[dimension].lo

    def packets(self) -> str:
        """An `amk::Packets` view of the region."""
        use = self.access.use
        assert use is not None
        assert self.buffer.op.uses is not None
        uses = self.buffer.op.uses.value.data
        epoch = f"w.epoch({uses}, {self.variables.print(use)})"
        view = f"amk::Packets<{C_TYPES[self.buffer.element]}>"
        text = f"{view}{{b.{self.buffer.name}, {epoch}, {self.buffer.number}}}"
        offset = self.offset
        return text if offset == 0 else f"{text}.at({self.variables.print(offset)})"

    def pointer(self) -> str:
        """A pointer to the first element of the region."""
        base = (
            f"w.shared<Private>().{self.buffer.name}"
            if self.buffer.space == "shared"
            else f"b.{self.buffer.name}"
        )
        offset = self.offset
        return base if offset == 0 else f"{base} + ({self.variables.print(offset)})"

    def check_owner(self, placement: Expr | None, op: task.FamilyOp | task.TaskOp) -> None:
        """Shared memory is private: a task reaches its own worker's row only."""
        if self.buffer.space != "shared":
            return
        row = self.access.dims[0]
        if row.hi is not None or row.lo != placement:
            raise AmkError(
                f"@{op.sym_name.data}: @{self.buffer.name} is in shared memory, so its first index "
                f"must be the worker of the task",
                location=location_of(op),
            )


def buffers_of(schedule: task.ScheduleOp) -> Mapping[str, Buffer]:
    """The buffers of a schedule by name, numbered in order."""
    ops = [op for op in schedule.body.block.ops if isinstance(op, task.BufferOp)]
    return {op.sym_name.data: Buffer(op, number) for number, op in enumerate(ops)}
