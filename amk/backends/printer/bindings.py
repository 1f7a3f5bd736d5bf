"""What the parameters of a kernel are bound to, in C++."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from xdsl.dialects.builtin import MemRefType

from amk.backends.printer.expressions import Variables
from amk.backends.printer.text import spell
from amk.dialects import task
from amk.dialects.access import Access
from amk.dialects.memory import is_packet, space_of
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.schedule.expr import Expr

C_TYPES = {"f32": "float", "bf16": "amk::bf16", "i32": "int"}

ENTRY_NAMES = frozenset(("b", "launch", "status", "arguments"))
"""Names that the entry point uses beside those of the buffers."""


def element_name(type_: MemRefType) -> str:
    """f32, bf16 or i32."""
    return str(type_.element_type)


@dataclass(frozen=True)
class Buffer:
    """A buffer of the schedule as the program sees it."""

    op: task.BufferOp
    number: int
    spelling: str
    """Its name in C++."""

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
    def uses(self) -> int:
        """How often a packet slot is used in one iteration."""
        return self.op.uses.value.data if self.op.uses else 1

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
    def size(self) -> int:
        """Elements."""
        return prod(self.type.get_shape())

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
        """An `amk::Packets` view of the region; AmkError where it is ordinary memory."""
        self.check_contiguous()
        epoch = self.epoch()
        view = f"amk::Packets<{C_TYPES[self.buffer.element]}>"
        text = f"{view}{{b.{self.buffer.spelling}, {epoch}, {self.buffer.number}}}"
        offset = self.offset
        return text if offset == 0 else f"{text}.at({self.variables.print(offset)})"

    def epoch(self) -> str:
        """The epoch of the packets of the region; AmkError where it is ordinary memory."""
        use = self.access.use
        if use is None or self.buffer.op.uses is None:
            raise AmkError(
                f"@{self.buffer.name} is used where the printer needs packets",
                location=location_of(self.buffer.op),
            )
        uses = self.buffer.op.uses.value.data
        return f"w.epoch({uses}, {self.variables.print(use)})"

    def pointer(self) -> str:
        """A pointer to the first element of the region."""
        base = (
            f"w.shared<Private>().{self.buffer.spelling}"
            if self.buffer.space == "shared"
            else f"b.{self.buffer.spelling}"
        )
        offset = self.offset
        return base if offset == 0 else f"{base} + ({self.variables.print(offset)})"

    def check_contiguous(self) -> None:
        """A vector that is read or written as a whole is a run of neighbouring elements."""
        if len(self.strides) == 1 and self.strides != (1,):
            raise AmkError(
                f"@{self.buffer.name}[{', '.join(map(str, self.access.dims))}] is no run of "
                f"neighbouring elements: the printer reads those by tile.load only",
                location=location_of(self.buffer.op),
            )

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
    names = _spellings((op.sym_name.data for op in ops), ENTRY_NAMES)
    return {
        name: Buffer(op, number, names[name])
        for number, (op, name) in enumerate(zip(ops, names, strict=True))
    }


def counters_of(schedule: task.ScheduleOp) -> Mapping[str, str]:
    """The counters of a schedule in order, with their names in C++."""
    ops = [op for op in schedule.body.block.ops if isinstance(op, task.CounterOp)]
    taken = {*ENTRY_NAMES, *(buffer.spelling for buffer in buffers_of(schedule).values())}
    return _spellings((op.sym_name.data for op in ops), taken)


def _spellings(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    used = set(taken)
    result: dict[str, str] = {}
    for name in names:
        result[name] = spell(name, used)
        used.add(result[name])
    return result
