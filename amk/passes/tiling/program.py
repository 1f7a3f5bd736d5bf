"""The tile program under construction: buffers, constants, kernels and phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, MemRefType, f32
from xdsl.ir import Attribute, Block, Operation, Region

from amk.dialects import nn, tile
from amk.dialects.access import Access, Dim
from amk.dialects.memory import in_space
from amk.ir.location import inherit_location
from amk.passes.tiling.scalars import KernelBuilder
from amk.schedule.expr import Expr

ROWS = tile.ROWS_PER_TILE
LAYER = "l"
POSITION = "pos"


def padded(rows: int) -> int:
    """Rows rounded up to whole tiles."""
    return -(-rows // ROWS) * ROWS


def whole(size: int) -> Dim:
    """All of a dimension."""
    return Dim(Expr.const(0), Expr.const(size))


def span(lo: Expr, size: int) -> Dim:
    """`size` elements from `lo`."""
    return Dim(lo, lo + size)


def tile_rows(offset: int = 0) -> Dim:
    """The rows of one tile."""
    return span(Expr.var(tile.PhaseOp.INDEX) * ROWS + offset, ROWS)


@dataclass
class TileProgram:
    """Collects the operations of a `tile.program` and of the module around it."""

    model: nn.ModelOp
    storage: Attribute
    """Element type of matrices and caches."""
    exchange: Attribute
    """Element type of activations that travel between tiles."""
    fast: bool
    """Whether kernels may approximate what is rounded to bf16 anyway."""
    constants: dict[str, tile.ConstantOp] = field(default_factory=dict)
    kernels: list[tile.KernelOp] = field(default_factory=list)
    buffers: dict[str, tile.BufferOp] = field(default_factory=dict)
    top: Block = field(default_factory=Block)
    layers: int | None = None
    """Count of the repeat that is being lowered; None outside."""

    def __post_init__(self) -> None:
        self.block = self.top
        self.origin: Operation = self.model
        """The operation that is being lowered: phases take its location."""

    @property
    def layer_dims(self) -> tuple[Dim, ...]:
        """The leading dimension of a buffer with one part for each layer."""
        return () if self.layers is None else (Dim(Expr.var(LAYER)),)

    @property
    def layer_shape(self) -> tuple[int, ...]:
        return () if self.layers is None else (self.layers,)

    def parameter_dims(self, sources: Sequence[str]) -> tuple[Dim, ...]:
        """The leading dimension of a constant: none where all layers share its parameters."""
        return self.layer_dims if any("{layer}" in key for key in sources) else ()

    def unique(self, name: str) -> str:
        """`name`, with a number where it is taken."""
        taken = {k.sym_name.data for k in self.kernels} | self.buffers.keys()
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def buffer(
        self,
        name: str,
        kind: str,
        type_: MemRefType,
        *,
        source: str | None = None,
        placement: str | None = None,
    ) -> str:
        """Declare a buffer (a name that is declared stays as it is); its name."""
        if name not in self.buffers:
            self.buffers[name] = tile.BufferOp(
                name, kind, type_, source=source, placement=placement
            )
        return name

    def constant(
        self,
        name: str,
        sources: Sequence[str],
        shape: Sequence[int],
        element: Attribute,
        *,
        space: str = "",
        pairs: Sequence[int] = (),
        interleave: bool = False,
    ) -> tuple[str, MemRefType]:
        """A constant buffer made of parameters, one part for each layer; its name and type.

        A name that is taken by other parameters gets a number.
        """
        leading = self.layer_shape if self.parameter_dims(sources) else ()
        type_ = MemRefType(element, [*leading, *shape])
        made = tile.ConstantOp(name, type_, sources=sources, pairs=pairs, interleave=interleave)
        known = self.constants.get(name)
        if known is not None and known.properties != made.properties:
            return self.constant(
                self.unique(name),
                sources,
                shape,
                element,
                space=space,
                pairs=pairs,
                interleave=interleave,
            )
        if known is None:
            self.constants[name] = made
        type_ = in_space(type_, space)
        return self.buffer(name, "constant", type_, source=name), type_

    def rope_table(self, kind: str, frequencies: DenseIntOrFPElementsAttr) -> tuple[str, int]:
        """The cos or sin table for these frequencies: buffer name and columns."""
        columns = len(frequencies)
        for name, op in self.constants.items():
            if op.kind.data == kind and op.frequencies == frequencies:
                return name, columns
        name = self.unique(kind)
        type_ = MemRefType(f32, [self.model.context.value.data, columns])
        self.constants[name] = tile.ConstantOp(name, type_, kind=kind, frequencies=frequencies)
        return self.buffer(name, "constant", type_, source=name), columns

    def phase(self, kernel: KernelBuilder, tiles: int, *, rows: bool) -> None:
        """Finish a kernel and append the phase that runs it."""
        code = kernel.build(fast=self.fast)
        phase = tile.PhaseOp(kernel.name, kernel.name, tiles, kernel.arguments, rows=rows)
        inherit_location(self.origin, [code, phase])
        self.kernels.append(code)
        self.block.add_op(phase)

    def operations(self) -> list[Operation]:
        """The operations of the lowered module."""
        for op in reversed(list(self.buffers.values())):
            first = self.top.first_op
            if first is None:
                self.top.add_op(op)
            else:
                self.top.insert_op_before(op, first)
        eos = [int(v) for v in self.model.eos.get_values()]
        program = tile.ProgramOp(
            self.model.sym_name.data,
            self.model.context.value.data,
            eos,
            self.model.vocabulary,
            Region(self.top),
        )
        return [*self.constants.values(), *self.kernels, program]


def read(buffer: str, *dims: Dim, guard: Expr | None = None) -> Access:
    return Access("in", buffer, dims, guard=guard)


def write(buffer: str, *dims: Dim, guard: Expr | None = None) -> Access:
    return Access("out", buffer, dims, guard=guard)
