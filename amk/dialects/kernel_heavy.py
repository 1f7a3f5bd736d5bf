"""The heavy operations of a `tile.kernel`, for which each target has a tuned primitive."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    DenseArrayBase,
    FloatAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    f32,
    i1,
    i32,
    i64,
)
from xdsl.ir import Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from amk.dialects.kernel import YieldOp, out_types, parse_counts, parse_outs, verify_yield
from amk.dialects.memory import integers, memref_of, parse_operands, print_operands

PACKINGS = {"f32": "dot", "bf16": "mma"}


@irdl_op_definition
class ProductOp(IRDLOperation):
    """A streamed matrix-vector product between two regions: out = epilogue(W prologue(x)).

    The prologue maps element k of the input (`^bb0(%k, %x)`) to the operand of the product; a
    second value that it yields is summed over all k into the *statistic*. The epilogue sees `group`
    neighbouring rows at a time (`^bb0(%r, %y0, …, %stat)`: %r counts groups from the first row of
    the region, %stat only where there is a statistic) and yields, for each output in turn, the
    `counts[j]` elements that follow each other at `%r * counts[j]`. With `argmax`, the last two
    yielded values are a candidate (f32) and its index (i32); the largest candidate of the region
    and its index (ties: the smallest) are sent.

    Numerics: columns are cut into steps of 16 (f32) or 32 (bf16), steps into chunks (`chunk c` is
    steps [c*S/n, (c+1)*S/n), n the least multiple of 8 with at most 8 steps a chunk), chunk c
    belongs to slice c mod 8. f32 ("dot" packing): lane t of 4 takes columns 16s+4t..16s+4t+3 and
    sums its products in the order of the slice's chunks, steps and columns, multiply and add
    rounded separately; then (a0+a1)+(a2+a3); then the slices are added in order. bf16 ("mma"
    packing): exact products, float32 accumulation in the order of the matrix unit. The statistic:
    element e of a slice goes to lane (e/4) mod 32, lanes sum in order and meet in a butterfly, then
    slices in order.

    ```mlir
    tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
    ^bb0(%k: index, %v: f32):
      tile.yield %v : f32
    } epilogue {
    ^bb1(%r: index, %s: f32):
      tile.yield %s : f32
    }
    ```
    """

    name = "tile.product"

    weights = operand_def(MemRefType)
    input = operand_def(MemRefType)
    outs = var_operand_def(MemRefType)
    best = var_operand_def(MemRefType)
    group = prop_def(IntegerAttr)
    counts = prop_def(DenseArrayBase)
    prologue = region_def("single_block")
    epilogue = region_def("single_block")

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        weights: SSAValue,
        input_: SSAValue,
        outs: Sequence[SSAValue],
        counts: Sequence[int],
        prologue: Region,
        epilogue: Region,
        *,
        group: int = 1,
        best: Sequence[SSAValue] = (),
    ) -> None:
        super().__init__(
            operands=[weights, input_, list(outs), list(best)],
            properties={
                "group": IntegerAttr(group, i64),
                "counts": DenseArrayBase.from_list(i64, list(counts)),
            },
            regions=[prologue, epilogue],
        )

    @property
    def has_stat(self) -> bool:
        last = self.prologue.block.last_op
        return isinstance(last, YieldOp) and len(last.values) == 2

    @property
    def packing(self) -> str:
        """ "dot" or "mma", by the element type of the weights."""
        return PACKINGS[str(self.weights_type.element_type)]

    @property
    def weights_type(self) -> MemRefType:
        return memref_of(self.weights, "the weights of a product", 2)

    @property
    def out_counts(self) -> tuple[int, ...]:
        return integers(self.counts)

    @classmethod
    def parse(cls, parser: Parser) -> ProductOp:
        weights = parser.parse_operand()
        parser.parse_punctuation(",")
        input_ = parser.parse_operand()
        outs = parse_outs(parser)
        best: list[SSAValue] = []
        if parser.parse_optional_keyword("argmax") is not None:
            best = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_operand)
        attributes = parser.parse_optional_attr_dict()
        counts = parse_counts(parser, attributes)
        group = attributes.pop("group", None)
        if not isinstance(group, IntegerAttr):
            parser.raise_error("expected group = N : i64")
        parser.parse_keyword("prologue")
        prologue = parser.parse_region()
        parser.parse_keyword("epilogue")
        epilogue = parser.parse_region()
        return cls(
            weights, input_, outs, counts, prologue, epilogue, group=group.value.data, best=best
        )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_operands(printer, [self.weights, self.input])
        printer.print_string(" -> ")
        print_operands(printer, self.outs)
        if self.best:
            printer.print_string(" argmax(")
            print_operands(printer, self.best)
            printer.print_string(")")
        printer.print_string(" ")
        printer.print_attr_dict({"group": self.group, "counts": self.counts})
        printer.print_string(" prologue ")
        printer.print_region(self.prologue)
        printer.print_string(" epilogue ")
        printer.print_region(self.epilogue)

    def verify_(self) -> None:
        columns = self.weights_type.get_shape()[1]
        x = memref_of(self.input, "the input of a product", 1)
        if columns <= 0 or x.get_shape() != (columns,):
            raise VerifyException(f"an input of {x} does not fit weights of {self.weights_type}")
        if str(self.weights_type.element_type) not in PACKINGS:
            raise VerifyException(f"weights must be f32 or bf16, got {self.weights_type}")
        if len(self.best) not in (0, 2):
            raise VerifyException("argmax takes the outputs of its value and of its index")
        group = self.group.value.data
        if group not in (1, 2, 4, 8):
            raise VerifyException(f"a group is 1, 2, 4 or 8 rows, got {group}")
        prologue, epilogue = self.prologue.block, self.epilogue.block
        if [a.type for a in prologue.args] != [IndexType(), f32]:
            raise VerifyException("the prologue takes (index, f32)")
        verify_yield(prologue, [f32] * (2 if self.has_stat else 1), "prologue")
        if [a.type for a in epilogue.args] != [IndexType()] + [f32] * (group + self.has_stat):
            raise VerifyException(
                f"the epilogue takes an index, {group} rows"
                + (" and the statistic" if self.has_stat else "")
            )
        expected = out_types(self.outs, self.out_counts) + ([f32, i32] if self.best else [])
        verify_yield(epilogue, expected, "epilogue")


@irdl_op_definition
class AttentionOp(IRDLOperation):
    """One split of the attention of the query heads that share a key/value head.

    Positions are dealt to splits in turn, so a split owns the rows of its part of the cache in
    order. The caches are bound to the rows of earlier positions. Where `append` holds, the new key
    and value are written to `key_row` and `value_row`, which follow those rows in memory, and take
    part. Otherwise the new key and value are not read. Unit z of the `Z` units takes the 32-row
    chunks c with c mod Z = z; it keeps a running maximum m, sum l of exp(score - m) and weighted
    sum o of the values, and writes o, m, l ([group, Z, D + 2]); a unit without rows writes (0,
    -inf, 0). Score: scale times the dot product in four interleaved sums (d mod 4), added as
    (a0+a1)+(a2+a3). Within a chunk, exp(score - m) is summed by a butterfly over 32 lanes and the
    values are added in row order.

    ```mlir
    tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %partial {scale = 1.25e-01 : f64}
    ```
    """

    name = "tile.attention"

    query = operand_def(MemRefType)
    key = operand_def(MemRefType)
    value = operand_def(MemRefType)
    key_cache = operand_def(MemRefType)
    value_cache = operand_def(MemRefType)
    append = operand_def(i1)
    key_row = operand_def(MemRefType)
    value_row = operand_def(MemRefType)
    partial = operand_def(MemRefType)
    scale = prop_def(FloatAttr)

    def __init__(
        self,
        inputs: Sequence[SSAValue],
        append: SSAValue,
        outs: Sequence[SSAValue],
        scale: FloatAttr,
    ) -> None:
        """Inputs: query, key, value and both caches; outs: key row, value row, partial."""
        super().__init__(operands=[*inputs, append, *outs], properties={"scale": scale})

    @classmethod
    def parse(cls, parser: Parser) -> AttentionOp:
        at = parser.pos
        inputs = parse_operands(parser)
        parser.parse_keyword("append")
        append = parser.parse_operand()
        outs = parse_outs(parser)
        if len(inputs) != 5 or len(outs) != 3:
            parser.raise_error("expected 5 inputs and 3 outputs (key row, value row, partial)", at)
        scale = parser.parse_optional_attr_dict().get("scale")
        if not isinstance(scale, FloatAttr):
            parser.raise_error("expected scale = … : f64", at)
        return cls(inputs, append, outs, scale)

    def print(self, printer: Printer) -> None:
        operands = list(self.operands)
        printer.print_string(" ")
        print_operands(printer, operands[:5])
        printer.print_string(" append ")
        printer.print_ssa_value(self.append)
        printer.print_string(" -> ")
        print_operands(printer, operands[6:])
        printer.print_string(" ")
        printer.print_attr_dict({"scale": self.scale})

    @property
    def shape(self) -> tuple[int, int, int]:
        """(query heads of the group, units, head size)."""
        group, units, width = memref_of(self.partial, "the partial result", 3).get_shape()
        return group, units, width - 2

    def verify_(self) -> None:
        group, _, size = self.shape
        if memref_of(self.query, "the query", 1).get_shape() != (group * size,):
            raise VerifyException(f"the query must have {group} * {size} elements")
        for what, value in (("key", self.key), ("value", self.value)):
            if memref_of(value, f"the new {what}", 1).get_shape() != (size,):
                raise VerifyException(f"the new {what} must have {size} elements")
        for what, value in (("key", self.key_row), ("value", self.value_row)):
            if memref_of(value, f"the {what} row", 1).get_shape() != (size,):
                raise VerifyException(f"the {what} row must have {size} elements")
        for what, value in (("key", self.key_cache), ("value", self.value_cache)):
            if memref_of(value, f"the {what} cache", 2).get_shape()[1] != size:
                raise VerifyException(f"the {what} cache must have rows of {size} elements")


@irdl_op_definition
class CombineOp(IRDLOperation):
    """Merges the partial results of all splits for some elements of one head.

    `values` are [P, n] weighted sums, `stats` the [P, 2] maxima and sums. Lane p mod 32 adds its
    parts in order, weighted by exp(m_p - max m), the lanes meet in a butterfly, then numerator over
    denominator. The epilogue (`^bb0(%r, %y)`) maps element r to the outputs.

    ```mlir
    tile.combine %values, %stats -> %o {counts = array<i64: 1>} epilogue {
    ^bb0(%r: index, %y: f32):
      tile.yield %y : f32
    }
    ```
    """

    name = "tile.combine"

    values = operand_def(MemRefType)
    stats = operand_def(MemRefType)
    outs = var_operand_def(MemRefType)
    counts = prop_def(DenseArrayBase)
    epilogue = region_def("single_block")

    def __init__(
        self,
        values: SSAValue,
        stats: SSAValue,
        outs: Sequence[SSAValue],
        counts: Sequence[int],
        epilogue: Region,
    ) -> None:
        super().__init__(
            operands=[values, stats, list(outs)],
            properties={"counts": DenseArrayBase.from_list(i64, list(counts))},
            regions=[epilogue],
        )

    @property
    def out_counts(self) -> tuple[int, ...]:
        return integers(self.counts)

    @classmethod
    def parse(cls, parser: Parser) -> CombineOp:
        values = parser.parse_operand()
        parser.parse_punctuation(",")
        stats = parser.parse_operand()
        outs = parse_outs(parser)
        counts = parse_counts(parser, parser.parse_optional_attr_dict())
        parser.parse_keyword("epilogue")
        return cls(values, stats, outs, counts, parser.parse_region())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_operands(printer, [self.values, self.stats])
        printer.print_string(" -> ")
        print_operands(printer, self.outs)
        printer.print_string(" ")
        printer.print_attr_dict({"counts": self.counts})
        printer.print_string(" epilogue ")
        printer.print_region(self.epilogue)

    def verify_(self) -> None:
        parts = memref_of(self.values, "the values", 2).get_shape()[0]
        if memref_of(self.stats, "the stats", 2).get_shape() != (parts, 2):
            raise VerifyException(f"the stats of {parts} parts must be {parts}x2")
        if [a.type for a in self.epilogue.block.args] != [IndexType(), f32]:
            raise VerifyException("the epilogue takes (index, f32)")
        verify_yield(self.epilogue.block, out_types(self.outs, self.out_counts), "epilogue")
