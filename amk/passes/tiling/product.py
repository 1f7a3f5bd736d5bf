"""Lowers products with their norm before them and their element-wise operations behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, f32, i32
from xdsl.ir import Attribute, Block, SSAValue

from amk.dialects import nn, tile
from amk.dialects.access import Access, Dim
from amk.errors import AmkError
from amk.ir.location import location_of
from amk.passes.tiling.fusion import Component
from amk.passes.tiling.program import (
    POSITION,
    ROWS,
    TileProgram,
    padded,
    read,
    tile_rows,
    whole,
    write,
)
from amk.passes.tiling.scalars import INDEX, KernelBuilder, Scalars, scalar_region
from amk.schedule.expr import Expr


@dataclass(frozen=True)
class Output:
    """A parameter that a phase writes: one element for each output row."""

    access: Access
    type: MemRefType


@dataclass(frozen=True)
class Source:
    """Where the input vector of a product is: a buffer, from `offset` on."""

    buffer: str
    element: Attribute
    offset: int
    size: int
    norm: nn.RMSNormOp | None


def phase_name(products: Sequence[nn.LinearOp]) -> str:
    """A name made of the keys of the parameters: "gate_up" of gate_proj and up_proj."""
    parts: list[str] = []
    for op in products:
        parts.append(stem(key_of(op.weight)).removesuffix("_proj"))
    return "_".join(parts)


def stem(key: str) -> str:
    """The module's name in a parameter key: "q_proj" of "….self_attn.q_proj.weight"."""
    names = [n for n in key.split(".") if n not in ("weight", "bias")]
    return names[-1].replace("{layer}", "layer")


def key_of(value: SSAValue) -> str:
    """The key of the parameter that `value` is."""
    owner = value.owner
    if not isinstance(owner, nn.ParamOp):
        raise AmkError("lower-to-tiles: a matrix must be an nn.param")
    return owner.key.data


class ProductPhase:
    """Builds the kernel and the phase of one or several components that read the same vector."""

    def __init__(
        self, program: TileProgram, name: str, parts: Sequence[Component], source: Source
    ) -> None:
        self.program = program
        self.parts = parts
        self.source = source
        self.kernel = KernelBuilder(program.unique(name))
        self.interleaved = len(parts[0].products)
        """Products whose rows alternate; 1 where parts follow each other."""
        has_rope = any(part.rope for part in parts)
        if has_rope and self.interleaved > 1:
            raise AmkError(
                "lower-to-tiles: a rotation of joined products is not supported",
                location=location_of(parts[0].products[0]),
            )
        self.group = 2 if has_rope else self.interleaved
        self.outputs_per_group = 2 if has_rope else 1
        self.rows = sum(part.rows * self.interleaved for part in parts)
        self.loads: dict[SSAValue, SSAValue] = {}
        self.tables: tuple[SSAValue, SSAValue, int] | None = None
        self.first_group: SSAValue | None = None

    @property
    def output_rows(self) -> int:
        """Elements of an output buffer: those of all parts, rounded up to whole tiles."""
        return padded(self.rows) * self.outputs_per_group // self.group

    def output_dim(self, offset: int = 0) -> Dim:
        """The output elements of one tile."""
        per_tile = ROWS * self.outputs_per_group // self.group
        lo = Expr.var(tile.PhaseOp.INDEX) * per_tile + offset
        return Dim(lo, lo + per_tile)

    def emit(
        self,
        outputs: Sequence[tuple[Output, SSAValue | None]],
        residuals: dict[SSAValue, Output],
        *,
        best: Sequence[Output] = (),
    ) -> None:
        """Append the phase.

        Each output takes the elements of its value, or, where the value is None, those of the parts
        one after another. `residuals` tells which buffer holds a value that the epilogue reads.
        With `best`, the largest output element and its index are sent.
        """
        weights = self._weights()
        x = self._input()
        gain = self._gain()
        for value in dict.fromkeys(v for part in self.parts for v in part.outside_operands()):
            self.loads[value] = self._operand(value, residuals)
        self.tables = self._rope_tables()
        if self.tables or best or len(self.parts) > 1:
            self.first_group = self.kernel.index_parameter(
                Expr.var(tile.PhaseOp.INDEX) * (ROWS // self.group)
            )
        outs = [self.kernel.parameter(out.type, out.access) for out, _ in outputs]
        bests = [self.kernel.parameter(out.type, out.access) for out in best]
        op = tile.ProductOp(
            weights,
            x,
            outs,
            [self.outputs_per_group] * len(outs),
            self._prologue(gain),
            self._epilogue([value for _, value in outputs], best=bool(best)),
            group=self.group,
            best=bests,
        )
        self.kernel.block.add_op(op)
        self.program.phase(self.kernel, padded(self.rows) // ROWS, rows=True)

    def _weights(self) -> SSAValue:
        program, products = self.program, [op for part in self.parts for op in part.products]
        pairs = [
            part.rope.head_dim.value.data if part.rope else 0
            for part in self.parts
            for _ in part.products
        ]
        keys = [key_of(op.weight) for op in products]
        buffer, type_ = program.constant(
            program.unique(f"w_{self.kernel.name}"),
            keys,
            (padded(self.rows), self.source.size),
            program.storage,
            space="stream",
            pairs=pairs if any(pairs) else (),
            interleave=self.interleaved > 1,
        )
        dims = (*program.parameter_dims(keys), tile_rows(), whole(self.source.size))
        local = MemRefType(
            type_.element_type, [DYNAMIC_INDEX, self.source.size], memory_space=type_.memory_space
        )
        return self.kernel.parameter(local, read(buffer, *dims))

    def _input(self) -> SSAValue:
        source = self.source
        lo = Expr.const(source.offset)
        return self.kernel.parameter(
            MemRefType(source.element, [source.size]),
            read(source.buffer, Dim(lo, lo + source.size)),
        )

    def _gain(self) -> SSAValue | None:
        norm = self.source.norm
        if norm is None:
            return None
        return self._vector(key_of(norm.gain), whole(self.source.size), self.source.size)

    def _vector(self, key: str, dim: Dim, size: int, pairs: Sequence[int] = ()) -> SSAValue:
        """A parameter bound to (part of) a vector of the model."""
        length = padded(size) if dim != whole(size) else size
        name = key.removesuffix(".weight").replace("model.", "").replace("layers.{layer}.", "")
        name = name.replace(".", "_")
        buffer, _ = self.program.constant(name, [key], (length,), f32, pairs=pairs)
        local = MemRefType(f32, [size if dim == whole(size) else DYNAMIC_INDEX])
        dims = (*self.program.parameter_dims([key]), dim)
        return self.kernel.parameter(local, read(buffer, *dims))

    def _operand(self, value: SSAValue, residuals: dict[SSAValue, Output]) -> SSAValue:
        """A value that the epilogue reads element by element: a residual or a bias."""
        if value in residuals:
            home = residuals[value]
            return self.kernel.parameter(home.type, home.access)
        if isinstance(value.owner, nn.ParamOp) and len(self.parts) == 1:
            part = self.parts[0]
            # It is added to rows that are in the order of the rotation.
            pairs = (part.rope.head_dim.value.data,) if part.rope else ()
            return self._vector(value.owner.key.data, self.output_dim(), part.rows, pairs)
        raise AmkError(
            "lower-to-tiles: an element-wise operation reads a value that is not in a buffer",
            location=location_of(self.parts[0].products[0]),
        )

    def _rope_tables(self) -> tuple[SSAValue, SSAValue, int] | None:
        rotations = [part.rope for part in self.parts if part.rope]
        if not rotations:
            return None
        first = rotations[0]
        if any(r.frequencies != first.frequencies for r in rotations):
            raise AmkError(
                "lower-to-tiles: rotations of one phase must have the same frequencies",
                location=location_of(first),
            )
        values: list[SSAValue] = []
        columns = 0
        for kind in ("rope_cos", "rope_sin"):
            buffer, columns = self.program.rope_table(kind, first.frequencies)
            access = read(buffer, Dim(Expr.var(POSITION)), whole(columns))
            values.append(self.kernel.parameter(MemRefType(f32, [columns]), access))
        return values[0], values[1], columns

    def _prologue(self, gain: SSAValue | None):
        def emit(s: Scalars, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            k, x = args
            if gain is None:
                return [x]
            return [s.mul(x, s.load(gain, k)), s.mul(x, x)]

        return scalar_region([INDEX, f32], emit)

    def _epilogue(self, outputs: Sequence[SSAValue | None], *, best: bool):
        has_stat = self.source.norm is not None
        types = [INDEX, *([f32] * (self.group + has_stat))]

        def emit(s: Scalars, args: Sequence[SSAValue]) -> Sequence[SSAValue]:
            rows = list(args[1 : 1 + self.group])
            if self.source.norm is not None:
                rows = self._normalised(s, rows, args[-1], self.source.norm)
            body = EpilogueBody(self, s, args[0], rows)
            values = [e for value in outputs for e in body.elements(value)]
            return [*values, *body.candidate(values[0])] if best else values

        return scalar_region(types, emit)

    def _normalised(
        self, s: Scalars, rows: list[SSAValue], stat: SSAValue, norm: nn.RMSNormOp
    ) -> list[SSAValue]:
        """RMSNorm as one factor: W (x * gain) / sqrt(mean x^2 + eps)."""
        mean = s.div(stat, s.float(float(self.source.size)))
        factor = s.rsqrt(s.add(mean, s.float(norm.eps.value.data)))
        return [s.mul(row, factor) for row in rows]


class EpilogueBody:
    """Emits the element-wise operations for one group of rows."""

    def __init__(
        self, phase: ProductPhase, scalars: Scalars, r: SSAValue, rows: Sequence[SSAValue]
    ) -> None:
        self.phase = phase
        self.s = scalars
        self.r = r
        self.rows = rows
        self.known: dict[tuple[object, int], SSAValue] = {}
        self._group_index: SSAValue | None = None

    @property
    def group_index(self) -> SSAValue:
        """Groups of rows before this one, counted over the whole matrix."""
        if self._group_index is None:
            assert self.phase.first_group is not None
            self._group_index = self.s.add_index(self.phase.first_group, self.r)
        return self._group_index

    def elements(self, value: SSAValue | None) -> list[SSAValue]:
        """The output elements of this group of rows."""
        count = range(self.phase.outputs_per_group)
        if value is not None:
            return [self.element(value, e) for e in count]
        parts = self.phase.parts
        result = [[self.element(part.outputs[0], e) for e in count] for part in parts]
        merged, end = result[-1], self.phase.rows
        for position in range(len(parts) - 2, -1, -1):
            elements, end = result[position], end - parts[position + 1].rows
            if elements == result[position + 1]:
                continue
            inside = self.s.compare("ult", self.group_index, self.s.index(end // self.phase.group))
            merged = [self.s.select(inside, a, b) for a, b in zip(elements, merged, strict=True)]
        return merged

    def candidate(self, value: SSAValue) -> list[SSAValue]:
        """(value, index) of an argmax; padding rows never win."""
        s, phase = self.s, self.phase
        if padded(phase.rows) != phase.rows:
            inside = s.compare("ult", self.group_index, s.index(phase.rows // phase.group))
            value = s.select(inside, value, s.float(float("-inf")))
        return [value, s.cast(self.group_index, i32)]

    def element(self, value: SSAValue, e: int) -> SSAValue:
        """Element e of the group's part of `value`."""
        key = (self._signature(value), e)
        if key not in self.known:
            self.known[key] = self._compute(value, e)
        return self.known[key]

    def _signature(self, value: SSAValue) -> object:
        """Equal for values that are computed alike from the rows of the group."""
        op = value.owner
        if value in self.phase.loads:
            return value
        if isinstance(op, nn.LinearOp):
            return self._product_index(op) if self.phase.interleaved > 1 else "row"
        if isinstance(op, nn.RopeOp):
            return op.name, self._signature(op.x)
        assert not isinstance(op, Block)
        return op.name, *(self._signature(operand) for operand in op.operands)

    def _compute(self, value: SSAValue, e: int) -> SSAValue:
        s, op = self.s, value.owner
        if value in self.phase.loads:
            base = s.mul_index(self.r, self.phase.outputs_per_group)
            index = s.add_index(base, s.index(e)) if e else base
            return s.load(self.phase.loads[value], index)
        match op:
            case nn.LinearOp():
                return self.rows[self._product_index(op) if self.phase.interleaved > 1 else e]
            case nn.AddOp():
                return s.add(self.element(op.lhs, e), self.element(op.rhs, e))
            case nn.MulOp():
                return s.mul(self.element(op.lhs, e), self.element(op.rhs, e))
            case nn.SiluOp():
                x = self.element(op.x, e)
                return s.sigmoid_times(x, x)
            case nn.GeluOp():
                return self._gelu(self.element(op.x, e))
            case nn.RopeOp():
                return self._rotated(op, e)
        raise AmkError(f"lower-to-tiles: {op} cannot stand in an epilogue")

    def _product_index(self, op: nn.LinearOp) -> int:
        return self.phase.parts[0].products.index(op)

    def _gelu(self, x: SSAValue) -> SSAValue:
        """The tanh form: 0.5 x (1 + tanh u) = x / (1 + exp(-2u))."""
        s = self.s
        cube = s.mul(s.mul(x, x), x)
        inner = s.add(x, s.mul(s.float(0.044715), cube))
        return s.sigmoid_times(x, s.mul(s.float(1.5957691216057308), inner))

    def _rotated(self, op: nn.RopeOp, e: int) -> SSAValue:
        """One element of a rotated pair; partners are neighbouring rows."""
        s = self.s
        assert self.phase.tables is not None
        cos, sin, columns = self.phase.tables
        if ("cos", 0) not in self.known:
            pair = s.mod_index(self.group_index, columns)
            self.known["cos", 0] = s.load(cos, pair)
            self.known["sin", 0] = s.load(sin, pair)
        c, n = self.known["cos", 0], self.known["sin", 0]
        even, odd = self.element(op.x, 0), self.element(op.x, 1)
        if e == 0:
            return s.sub(s.mul(even, c), s.mul(odd, n))
        return s.add(s.mul(odd, c), s.mul(even, n))


def exchange_output(buffer: str, element: Attribute, dim: Dim) -> Output:
    """An output that other tiles read."""
    return Output(write(buffer, dim), MemRefType(element, [DYNAMIC_INDEX]))
