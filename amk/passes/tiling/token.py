"""The phases around the layers: the stop flag, the embedding, the next token."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr, MemRefType, f32, i1, i32
from xdsl.ir import SSAValue

from amk.dialects import nn, tile
from amk.dialects.access import Access, Dim
from amk.dialects.memory import in_space
from amk.passes.tiling.product import Output, key_of, stem
from amk.passes.tiling.program import (
    POSITION,
    ROWS,
    TileProgram,
    padded,
    read,
    whole,
    write,
)
from amk.passes.tiling.scalars import INDEX, KernelBuilder, Scalars, scalar_region
from amk.schedule.expr import Expr

ONE = whole(1)


def _token_type(space: str = "") -> MemRefType:

    return in_space(MemRefType(i32, [1]), space)


def declare_token_buffers(program: TileProgram) -> None:
    """`token` and the buffers through which a launch talks to the host."""

    context = program.model.context.value.data
    program.buffer("token", "state", MemRefType(i32, [1]), placement="replicated")
    program.buffer("forced", "input", MemRefType(i32, [context + 1]))
    program.buffer("stop", "input", in_space(MemRefType(i32, [1]), "host"))
    program.buffer("stopping", "scratch", MemRefType(i32, [1]))
    program.buffer("tokens", "output", in_space(MemRefType(i32, [context]), "host_packet"))


def lower_stop_flag(program: TileProgram) -> None:
    """One tile reads the host's stop flag, once an iteration, so that all workers see one value.

    It stands behind the layers: by then every worker has read the value of the iteration before.
    """
    kernel = KernelBuilder("poll")
    flag = kernel.parameter(_token_type("host"), read("stop", ONE))
    stop = kernel.parameter(_token_type(), write("stopping", ONE))
    zero = kernel.index(0)
    kernel.block.add_op(tile.StoreOp(kernel.load(flag, zero), stop, [zero]))
    program.phase(kernel, 1, rows=False)


def lower_embedding(program: TileProgram, op: nn.EmbeddingOp, outputs: Sequence[Output]) -> None:
    """The row of the token: the forced one at this position, else the one chosen before."""
    vocabulary, size = nn.tensor_of(op.table, "table").get_shape()
    key = key_of(op.table)
    table, type_ = program.constant(stem(key), [key], (vocabulary, size), program.storage)
    kernel = KernelBuilder(program.unique("embed"))
    rows = kernel.parameter(type_, read(table, whole(vocabulary), whole(size)))
    forced = kernel.parameter(_token_type(), read("forced", _at(Expr.var(POSITION))))
    token = kernel.parameter(_token_type(), read("token", ONE))
    column = kernel.index_parameter(Expr.var(tile.PhaseOp.INDEX) * ROWS)
    outs = [kernel.parameter(out.type, out.access) for out in outputs]
    zero = kernel.index(0)
    given = kernel.load(forced, zero)
    is_forced = kernel.compare("sge", given, kernel.integer(0))
    row = kernel.cast(kernel.select(is_forced, given, kernel.load(token, zero)), INDEX)

    def body(s: Scalars, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
        at = s.add_index(column, args[0])
        if padded(size) != size:
            # The last tile is padded: repeat column 0 there.
            at = s.select(s.compare("ult", at, s.index(size)), at, s.index(0))
        return [s.load(rows, row, at)] * len(outs)

    region = scalar_region([INDEX], body)
    kernel.block.add_op(tile.MapOp(outs, [1] * len(outs), region))
    program.phase(kernel, padded(size) // ROWS, rows=True)


def _at(expr: Expr) -> Dim:
    return Dim(expr, expr + 1)


def lower_next_token(program: TileProgram, values: str, indices: str) -> None:
    """Every worker picks the best candidate and decides whether to stop; one tells the host."""
    tiles = program.buffers[values].type.get_shape()[0]
    kernel = KernelBuilder("select")
    best_value = kernel.parameter(MemRefType(f32, [tiles]), read(values, whole(tiles)))
    best_index = kernel.parameter(MemRefType(i32, [tiles]), read(indices, whole(tiles)))
    stop = kernel.parameter(_token_type(), read("stopping", ONE))
    forced = kernel.parameter(_token_type(), read("forced", _at(Expr.var(POSITION) + 1)))
    token = kernel.parameter(_token_type(), write("token", ONE))
    zero = kernel.index(0)
    best = kernel.add_op(tile.ArgmaxOp(best_value, best_index))
    kernel.block.add_op(tile.StoreOp(best, token, [zero]))
    asked = kernel.compare("ne", kernel.add_op(tile.ReceiveOp(stop)), kernel.integer(0))
    free = kernel.compare("slt", kernel.load(forced, zero), kernel.integer(0))
    ends = kernel.add_op(arith.ConstantOp(IntegerAttr(0, i1)))
    for eos in program.model.eos.get_values():
        same = kernel.compare("eq", best, kernel.integer(int(eos)))
        ends = kernel.either(ends, same)
    kernel.block.add_op(tile.StopOp(kernel.either(asked, kernel.both(ends, free))))
    program.phase(kernel, 1, rows=False)

    kernel = KernelBuilder("emit")
    token = kernel.parameter(_token_type(), read("token", ONE))
    ring = kernel.parameter(
        _token_type("host_packet"), Access("out", "tokens", (_at(Expr.var(POSITION)),))
    )
    zero = kernel.index(0)
    kernel.block.add_op(tile.StoreOp(kernel.load(token, zero), ring, [zero]))
    program.phase(kernel, 1, rows=False)
