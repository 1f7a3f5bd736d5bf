"""Lowers attention to splits over the positions and a phase that combines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, f32
from xdsl.ir import Attribute, SSAValue

from amk.dialects import nn, tile
from amk.dialects.access import Access, Dim
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.passes.tiling.program import POSITION, TileProgram, read, span, whole, write
from amk.passes.tiling.scalars import INDEX, KernelBuilder, Scalars, scalar_region
from amk.schedule.expr import Expr

TARGET_TASKS = 128
"""Splits are chosen so that about this many tasks share the cache: most of a large GPU."""
MAX_PARTS = 32
"""Partial results for each head; the combine reads one in each lane of a warp."""
WARPS = 8
MOST_UNITS = 2
"""Units of 32 rows that are in shared memory at a time: more would take it from the ring."""
CACHE_ROW = 8
"""Rows of a cache are padded to so many elements: whole pieces of 16 bytes in any type."""


@dataclass(frozen=True)
class Splits:
    """How the positions of one key/value head are dealt: `splits` tasks of `units` warps a head."""

    splits: int
    units: int

    @staticmethod
    def choose(heads: int, kv_heads: int, context: int) -> Splits:
        """Enough tasks for a large GPU, at most `MAX_PARTS` partial results a head."""
        units = max(1, min(WARPS // (heads // kv_heads), MOST_UNITS))
        splits = min(TARGET_TASKS // kv_heads, MAX_PARTS // units, context)
        return Splits(max(1, splits), units)

    @property
    def parts(self) -> int:
        return self.splits * self.units


@dataclass(frozen=True)
class Operand:
    """A vector in an exchange buffer, from `offset` on."""

    buffer: str
    element: Attribute
    offset: int


def lower_attention(
    program: TileProgram,
    op: nn.AttentionOp,
    inputs: Sequence[Operand],
    out: str,
    splits: Splits,
    combined: int | None,
) -> None:
    """Append the attention phase and the combine phase, which writes the vector `out`.

    A combine task writes `combined` elements of a head, by default as many as `_combined` says.
    """
    partial = program.buffer(
        program.unique("partial"),
        "scratch",
        MemRefType(f32, [op.heads.value.data, splits.parts, op.head_dim.value.data + 2]),
    )
    _attention_phase(program, op, inputs, partial, splits)
    _combine_phase(program, op, partial, out, splits, combined)


def _attention_phase(
    program: TileProgram,
    op: nn.AttentionOp,
    inputs: Sequence[Operand],
    partial: str,
    splits: Splits,
) -> None:
    kv_heads, size = op.kv_heads.value.data, op.head_dim.value.data
    group = op.heads.value.data // kv_heads
    tile_index, position = Expr.var(tile.PhaseOp.INDEX), Expr.var(POSITION)
    head, split = tile_index // splits.splits, tile_index % splits.splits
    # The split that owns the position appends; this is 0 there.
    away = (position + splits.splits - split) % splits.splits

    kernel = KernelBuilder(program.unique("attention"))
    query, key, value = inputs

    def vector(source: Operand, heads: int, guard: Expr | None = None) -> SSAValue:
        dim = span(head * (heads * size) + source.offset, heads * size)
        return kernel.parameter(
            MemRefType(source.element, [heads * size]), read(source.buffer, dim, guard=guard)
        )

    vectors = [vector(query, group), vector(key, 1, away), vector(value, 1, away)]
    caches = [_cache(program, name, op, splits) for name in ("keys", "values")]
    older = Dim(Expr.const(0), (position + (splits.splits - 1) - split) // splits.splits)
    at_split = (*program.layer_dims, Dim(head), Dim(split))
    rows = [
        kernel.parameter(
            MemRefType(program.storage, [DYNAMIC_INDEX, size]),
            read(cache, *at_split, older, whole(size)),
        )
        for cache in caches
    ]
    new_rows = [
        kernel.parameter(
            MemRefType(program.storage, [size]),
            Access(
                "out", cache, (*at_split, Dim(position // splits.splits), whole(size)), guard=away
            ),
        )
        for cache in caches
    ]
    result = kernel.parameter(
        MemRefType(f32, [group, splits.units, size + 2]),
        write(
            partial,
            span(head * group, group),
            span(split * splits.units, splits.units),
            whole(size + 2),
        ),
    )
    distance = kernel.index_parameter(away)
    own = kernel.compare("eq", distance, kernel.index(0))
    kernel.block.add_op(tile.AttentionOp([*vectors, *rows], own, [*new_rows, result], op.scale))
    program.phase(kernel, kv_heads * splits.splits, rows=False)


def _cache(program: TileProgram, name: str, op: nn.AttentionOp, splits: Splits) -> str:
    rows = -(-program.model.context.value.data // splits.splits)
    width = -(-op.head_dim.value.data // CACHE_ROW) * CACHE_ROW
    shape = [op.kv_heads.value.data, splits.splits, rows, width]
    type_ = MemRefType(program.storage, [*program.layer_shape, *shape])
    return program.buffer(program.unique(name), "state", type_)


def _combine_phase(
    program: TileProgram,
    op: nn.AttentionOp,
    partial: str,
    out: str,
    splits: Splits,
    combined: int | None,
) -> None:
    heads, size = op.heads.value.data, op.head_dim.value.data
    block = _combined(heads, size) if combined is None else combined
    if block % 2 or block < 2 or size % block:
        raise AmkError(
            f"lower-to-tiles: combine must be even and divide the {size} elements of a head,"
            f" got {block}",
            location=location_of(op),
        )
    per_head = size // block
    index = Expr.var(tile.PhaseOp.INDEX)
    head, first = index // per_head, index % per_head * block
    kernel = KernelBuilder(program.unique("combine"))
    parts = splits.parts
    values = kernel.parameter(
        MemRefType(f32, [parts, block]),
        read(partial, Dim(head), whole(parts), span(first, block)),
    )
    stats = kernel.parameter(
        MemRefType(f32, [parts, 2]),
        read(partial, Dim(head), whole(parts), span(Expr.const(size), 2)),
    )
    result = kernel.parameter(
        MemRefType(program.exchange, [block]), write(out, span(index * block, block))
    )

    def identity(s: Scalars, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return [args[1]]

    kernel.block.add_op(
        tile.CombineOp(values, stats, [result], [1], scalar_region([INDEX, f32], identity))
    )
    program.phase(kernel, heads * per_head, rows=False)


def _combined(heads: int, size: int) -> int:
    """Elements of a head that one combine task writes: an even divisor of `size`.

    At least about eight, and so many that no worker of a large GPU has two tasks, one behind the
    other.
    """
    divisors = [b for b in range(2, size + 1, 2) if size % b == 0]
    enough = [b for b in divisors if heads * (size // b) <= TARGET_TASKS and b >= 6]
    return enough[0] if enough else divisors[-1]
