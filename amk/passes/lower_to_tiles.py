"""`lower-to-tiles`: from whole-tensor operations to fused phases over tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, ModuleOp, bf16, f32, i32
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from amk.dialects import nn, tile
from amk.dialects.access import Dim
from amk.errors import AmkError
from amk.ir.levels import Level
from amk.ir.location import location_of
from amk.passes.tiling.attention import Operand, Splits, lower_attention
from amk.passes.tiling.fusion import Component, components, siblings
from amk.passes.tiling.product import Output, ProductPhase, Source, exchange_output, phase_name
from amk.passes.tiling.program import LAYER, POSITION, TileProgram, padded, read, write
from amk.passes.tiling.token import (
    declare_token_buffers,
    lower_embedding,
    lower_next_token,
    lower_stop_flag,
)
from amk.schedule.expr import Expr


@dataclass(frozen=True)
class Home:
    """Where a value lives: an exchange buffer for other tiles, a residual buffer for its owner."""

    exchange: str | None = None
    offset: int = 0
    owned: str | None = None


class Lowering:
    """Lowers one `nn.model`, operation by operation, in program order."""

    def __init__(
        self,
        model: nn.ModelOp,
        exchange: Attribute,
        splits: Splits | None,
        combined: int | None,
        slots: int,
    ):
        self.program = TileProgram(model, model.dtype, exchange, fast=exchange == bf16)
        self.model = model
        self.splits = splits
        self.combined = combined
        self.slots = slots
        self.homes: dict[SSAValue, Home] = {}
        self.norms: dict[SSAValue, nn.RMSNormOp] = {}
        self.done: set[Operation] = set()
        self.rotated: set[SSAValue] = set()
        """Values whose elements are in the order of rotary pairs, not in that of the model."""

    def run(self) -> list[Operation]:
        declare_token_buffers(self.program)
        self._block(self.model.body.block)
        lower_next_token(self.program, "best_value", "best_index")
        return self.program.operations()

    def _block(self, block: Block) -> None:
        for op in block.ops:
            if op in self.done:
                continue
            self.program.origin = op
            match op:
                case nn.ParamOp() | nn.ReturnOp() | nn.YieldOp() | nn.ArgmaxOp():
                    continue
                case nn.RMSNormOp():
                    self.norms[op.result] = op
                case nn.EmbeddingOp():
                    self._embedding(op)
                case nn.LinearOp():
                    self._products(op)
                case nn.AttentionOp():
                    self._attention(op)
                case nn.RepeatOp():
                    self._repeat(op)
                case _:
                    raise AmkError(
                        f"lower-to-tiles: {op.name} cannot be fused with the product before it",
                        location=location_of(op),
                    )

    # ---- values ----------------------------------------------------------------------------

    def _home(self, value: SSAValue, name: str) -> Home:
        """The home of a value, declared on first use by what the value is used for."""
        if value in self.homes:
            return self.homes[value]
        aliases = self._aliases(value)
        uses = [use.operation for alias in aliases for use in alias.uses]
        whole_vector = any(isinstance(u, nn.RMSNormOp | nn.LinearOp | nn.AttentionOp) for u in uses)
        elements = any(isinstance(u, nn.AddOp | nn.MulOp) for u in uses)
        size = padded(nn.tensor_of(value, "value").get_shape()[0])
        program = self.program
        exchange = owned = None
        if whole_vector:
            type_ = MemRefType(program.exchange, [size])
            exchange = program.buffer(program.unique(name), "scratch", type_)
        if elements:
            owned = program.buffer(
                program.unique(f"{name}_own"), "scratch", MemRefType(f32, [size]), placement="owned"
            )
        home = Home(exchange, 0, owned)
        self.homes.update(dict.fromkeys(aliases, home))
        return home

    def _aliases(self, value: SSAValue) -> list[SSAValue]:
        """The values that a repeat carries in the same place as `value`, itself included."""
        for use in value.uses:
            if isinstance(use.operation, nn.RepeatOp):
                return _carried(use.operation, use.index)
            if isinstance(use.operation, nn.YieldOp):
                repeat = use.operation.parent_op()
                assert isinstance(repeat, nn.RepeatOp)
                return _carried(repeat, use.index)
        return [value]

    def _outputs(self, home: Home, dim: Dim) -> list[Output]:
        """The parameters through which a phase writes a value to its home."""
        outputs: list[Output] = []
        if home.owned is not None:
            outputs.append(Output(write(home.owned, dim), MemRefType(f32, [DYNAMIC_INDEX])))
        if home.exchange is not None:
            outputs.append(exchange_output(home.exchange, self.program.exchange, dim))
        return outputs

    def _source(self, value: SSAValue) -> Source:
        norm = self.norms.get(value)
        vector = norm.x if norm is not None else value
        home = self.homes.get(vector)
        if home is None or home.exchange is None:
            owner = vector.owner
            raise AmkError(
                "lower-to-tiles: a product reads a vector that no phase writes",
                location=location_of(owner) if isinstance(owner, Operation) else None,
            )
        self._check_order(vector)
        size = nn.tensor_of(vector, "x").get_shape()[0]
        return Source(home.exchange, self.program.exchange, home.offset, size, norm)

    # ---- operations ------------------------------------------------------------------------

    def _embedding(self, op: nn.EmbeddingOp) -> None:
        home = self._home(op.result, "x")
        lo = Expr.var(tile.PhaseOp.INDEX) * tile.ROWS_PER_TILE
        lower_embedding(self.program, op, self._outputs(home, Dim(lo, lo + tile.ROWS_PER_TILE)))

    def _products(self, first: nn.LinearOp) -> None:
        """Lower the products of one vector: simple ones together, joined ones on their own."""
        group = siblings(first)
        parts = components(group, self.homes.keys())
        source = self._source(first.x)
        together = [part for part in parts if self._is_simple(part)]
        if together:
            self._concatenated(together, source)
        for part in parts:
            if part not in together:
                self._single(part, source)
        for part in parts:
            self.done.update(part.products, part.epilogue)
            if part.rope:
                self.rotated.update(part.outputs)

    def _is_simple(self, part: Component) -> bool:
        """One product, one output that only other tiles read, no residual: can share a phase."""
        if len(part.products) != 1 or len(part.outputs) != 1 or part.outside_operands():
            return False
        users = [use.operation for use in part.outputs[0].uses]
        return all(isinstance(user, nn.AttentionOp | nn.LinearOp) for user in users)

    def _concatenated(self, parts: list[Component], source: Source) -> None:
        rope = [part for part in parts if part.rope]
        ordered = rope + [part for part in parts if not part.rope]
        name = phase_name([op for part in parts for op in part.products])
        phase = ProductPhase(self.program, name, ordered, source)
        type_ = MemRefType(self.program.exchange, [phase.output_rows])
        buffer = self.program.buffer(self.program.unique(f"{name}_out"), "scratch", type_)
        offset = 0
        for part in ordered:
            self.homes[part.outputs[0]] = Home(buffer, offset)
            offset += part.rows
        output = exchange_output(buffer, self.program.exchange, phase.output_dim())
        phase.emit([(output, None)], {})

    def _single(self, part: Component, source: Source) -> None:
        is_head = any(self._is_logits(value) for value in part.outputs)
        name = "lm_head" if is_head else phase_name(part.products)
        phase = ProductPhase(self.program, name, [part], source)
        residuals: dict[SSAValue, Output] = {}
        for value in part.outside_operands():
            home = self.homes.get(value)
            self._check_order(value)
            if home is not None and home.owned is not None:
                access = read(home.owned, phase.output_dim())
                residuals[value] = Output(access, MemRefType(f32, [DYNAMIC_INDEX]))
        if is_head:
            self._logits(phase, part.outputs[0])
            return
        outputs: list[tuple[Output, SSAValue | None]] = []
        for value in part.outputs:
            home = self._home(value, f"{name}_out")
            outputs += [(out, value) for out in self._outputs(home, phase.output_dim())]
        phase.emit(outputs, residuals)

    def _is_logits(self, value: SSAValue) -> bool:
        return any(isinstance(use.operation, nn.ReturnOp | nn.ArgmaxOp) for use in value.uses)

    def _logits(self, phase: ProductPhase, value: SSAValue) -> None:
        """Logits go to a ring of `slots` rows, and the best of each tile to the candidates."""
        program, rows = self.program, phase.output_rows
        lower_stop_flag(program)  # before the head, whose time hides the host's memory
        tiles = rows // tile.ROWS_PER_TILE
        program.buffer("logits", "output", MemRefType(f32, [self.slots, rows]))
        program.buffer("best_value", "scratch", MemRefType(f32, [tiles]), placement="reduced")
        program.buffer("best_index", "scratch", MemRefType(i32, [tiles]), placement="reduced")
        slot = Dim(Expr.var(POSITION) % self.slots)
        logits = Output(write("logits", slot, phase.output_dim()), MemRefType(f32, [DYNAMIC_INDEX]))
        here = Expr.var(tile.PhaseOp.INDEX)
        best = [
            Output(write(name, Dim(here, here + 1)), MemRefType(element, [1]))
            for name, element in (("best_value", f32), ("best_index", i32))
        ]
        phase.emit([(logits, value)], {}, best=best)

    def _check_order(self, value: SSAValue) -> None:
        if value in self.rotated:
            owner = value.owner
            raise AmkError(
                "lower-to-tiles: a rotated vector can only be the query or the key of an attention",
                location=location_of(owner) if isinstance(owner, Operation) else None,
            )

    def _attention(self, op: nn.AttentionOp) -> None:
        self._check_order(op.v)
        if (op.q in self.rotated) != (op.k in self.rotated):
            raise AmkError(
                "lower-to-tiles: the query and the key of an attention must both be rotated, or "
                "neither",
                location=location_of(op),
            )
        inputs: list[Operand] = []
        for value in (op.q, op.k, op.v):
            home = self.homes.get(value)
            if home is None or home.exchange is None:
                raise AmkError(
                    "lower-to-tiles: attention reads a vector that no phase writes",
                    location=location_of(op),
                )
            inputs.append(Operand(home.exchange, self.program.exchange, home.offset))
        heads, kv_heads = op.heads.value.data, op.kv_heads.value.data
        context = self.model.context.value.data
        splits = self.splits or Splits.choose(heads, kv_heads, context)
        out = self._home(op.result, "attention_out").exchange
        if out is None:
            raise AmkError(
                "lower-to-tiles: the result of an attention must be the input of a product",
                location=location_of(op),
            )
        lower_attention(self.program, op, inputs, out, splits, self.combined)

    def _repeat(self, op: nn.RepeatOp) -> None:
        program = self.program
        outer, program.block, program.layers = program.block, Block(), op.count.value.data
        self._block(op.body.block)
        outer.add_op(tile.RepeatOp(LAYER, op.count.value.data, Region(program.block)))
        program.block, program.layers = outer, None


def _carried(repeat: nn.RepeatOp, index: int) -> list[SSAValue]:
    end = repeat.body.block.last_op
    assert isinstance(end, nn.YieldOp)
    return [
        repeat.initial[index],
        repeat.body.block.args[index + 1],
        end.operands[index],
        repeat.results[index],
    ]


def _fits_pairs(model: nn.ModelOp) -> bool:
    """Whether elements can travel in pairs: two pairs to a head, whole pairs to a vector."""
    heads = [op.head_dim.value.data for op in model.walk() if isinstance(op, nn.AttentionOp)]
    vectors = [
        nn.tensor_of(op.x, "x").get_shape()[0] for op in model.walk() if isinstance(op, nn.LinearOp)
    ]
    return not any(size % 4 for size in heads) and not any(size % 2 for size in vectors)


@dataclass(frozen=True)
class LowerToTilesPass(ModulePass):
    """Fuse the operations of a model into phases over tiles.

    Before: one `nn.model`. After: one `tile.program` with its kernels and constants; each product
    carries its norm as a prologue and its element-wise operations as an epilogue, attention is
    split over the positions. Guarantee: the program computes what the model computes, up to
    rounding.

    Options: `exchange` (f32 or bf16), the type of activations that travel between tiles, by default
    the storage type of the model, but f32 where pairs of bf16 do not fit (kernels of a program that
    rounds them to bf16 are `fast`); `splits` and
    `units`, the tasks and the warps of a task that share the positions of a key/value head;
    `combine`, the elements of a head that one task makes of their results; `slots`, the rows of the
    ring of logits.
    """

    name = "lower-to-tiles"
    consumes: ClassVar = Level.NN
    produces: ClassVar = Level.TILE

    exchange: str | None = None
    splits: int | None = None
    units: int = 1
    slots: int = 1
    combine: int | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        models = [m for m in op.body.block.ops if isinstance(m, nn.ModelOp)]
        if len(models) != 1:
            raise AmkError(f"lower-to-tiles needs one nn.model, the module has {len(models)}")
        model = models[0]
        lowering = Lowering(model, self._exchange(model), self._splits(), self.combine, self.slots)
        operations = lowering.run()
        block = op.body.block
        for new in operations:
            block.insert_op_before(new, model)
        model.detach()
        model.erase()

    def _exchange(self, model: nn.ModelOp) -> Attribute:
        if self.exchange is None:
            return model.dtype if _fits_pairs(model) else f32
        known = {"f32": f32, "bf16": bf16}
        if self.exchange not in known:
            raise AmkError(f"lower-to-tiles: exchange must be f32 or bf16, got {self.exchange}")
        return known[self.exchange]

    def _splits(self) -> Splits | None:
        if self.slots < 1 or self.units < 1 or (self.splits is not None and self.splits < 1):
            raise AmkError("lower-to-tiles: splits, units and slots must be positive")
        return None if self.splits is None else Splits(self.splits, self.units)
