"""The `tile` dialect: fused phases over tiles, and the kernels that they run.

A *kernel* is the code of one kind of task. It is bound to regions of buffers (its memref
parameters, indexed relative to the region) and to indices, and its body is a sequence of heavy
operations, for which each target has a tuned primitive (a streamed product, an attention split and
its combine, an argmax), with regions of scalar operations (`arith`, `math`, `tile.load`) around
them.

A *program* is one decode step: buffers, and phases that run a kernel over an iteration space of
tiles. It does not say which worker runs what, or how it is synchronised.

Memory spaces of kernel parameters and buffers: none (global memory), "stream" (weights, packed and
copied through the ring), "packet" (self-validating 64-bit packets), "shared" (private to a worker),
"host" (mapped host memory), "host_packet" (packets in mapped host memory).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Dialect, Operation, Region
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator, SymbolOpInterface, SymbolTable
from xdsl.utils.exceptions import VerifyException

from amk.dialects.access import (
    Access,
    AccessAttr,
    Argument,
    ExprAttr,
    argument_text,
    parse_argument,
)
from amk.dialects.kernel import (
    ArgmaxOp,
    LoadOp,
    MapOp,
    ReceiveOp,
    StopOp,
    StoreOp,
    YieldOp,
)
from amk.dialects.kernel_heavy import AttentionOp, CombineOp, ProductOp
from amk.dialects.memory import integers, verify_memory
from amk.dialects.repeat import Repeat

BUFFER_KINDS = ("input", "constant", "state", "scratch", "output")
PLACEMENTS = ("owned", "replicated", "reduced")
ROWS_PER_TILE = 8
"""Rows of a weight matrix that one tile of a product covers."""
CONSTANT_KINDS = ("rows", "rope_cos", "rope_sin")


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """How the contents of a constant buffer are made from the parameters of the model.

    `rows`: the rows of the named parameters one after another (`{layer}` in a key is the index of
    the first dimension). `pairs[k] = D` reorders the rows of each head of size D of source k so
    that rotary partners are adjacent (row 2j is dimension j, row 2j+1 is dimension j + D/2), 0
    keeps them. With `interleave`, row n of source k becomes row n * len(sources) + k. `rope_cos`,
    `rope_sin`: [position, D/2], cos and sin of float32(position) * float32(frequency), computed in
    float64 from that float32 product and rounded once.

    ```mlir
    tile.constant @qkv {kind = "rows", sources = ["model.layers.{layer}.self_attn.q_proj.weight"],
                        pairs = array<i64: 64>} : memref<30x576x576xbf16>
    ```
    """

    name = "tile.constant"

    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    sources = opt_prop_def(ArrayAttr[StringAttr])
    pairs = opt_prop_def(DenseArrayBase)
    interleave = opt_prop_def(UnitAttr)
    frequencies = opt_prop_def(DenseIntOrFPElementsAttr)
    type = prop_def(MemRefType)

    traits = traits_def(SymbolOpInterface())
    assembly_format = "$sym_name attr-dict `:` $type"
    irdl_options = (ParsePropInAttrDict(),)

    def __init__(
        self,
        name: str,
        type_: MemRefType,
        *,
        kind: str = "rows",
        sources: Sequence[str] = (),
        pairs: Sequence[int] = (),
        interleave: bool = False,
        frequencies: DenseIntOrFPElementsAttr | None = None,
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "kind": StringAttr(kind),
                "sources": ArrayAttr([StringAttr(s) for s in sources]) if sources else None,
                "pairs": DenseArrayBase.from_list(i64, list(pairs)) if pairs else None,
                "interleave": UnitAttr() if interleave else None,
                "frequencies": frequencies,
                "type": type_,
            }
        )

    @property
    def source_keys(self) -> tuple[str, ...]:
        return tuple(s.data for s in self.sources) if self.sources else ()

    @property
    def source_pairs(self) -> tuple[int, ...]:
        if self.pairs is None:
            return (0,) * len(self.source_keys)
        return integers(self.pairs)

    def verify_(self) -> None:
        if self.kind.data not in CONSTANT_KINDS:
            raise VerifyException(
                f"unknown kind '{self.kind.data}' of constant; known: {', '.join(CONSTANT_KINDS)}"
            )
        verify_memory(self.type)
        if self.kind.data == "rows" and not self.source_keys:
            raise VerifyException("a constant of kind 'rows' needs sources")
        if self.kind.data != "rows" and self.frequencies is None:
            raise VerifyException(f"a constant of kind '{self.kind.data}' needs frequencies")
        if len(self.source_pairs) != len(self.source_keys):
            raise VerifyException("pairs must give one number for each source")


@irdl_op_definition
class KernelOp(IRDLOperation):
    """The code of one kind of task, as a function of the regions and indices it is bound to.

    In a `fast` kernel a GPU may approximate divisions, exponentials and reciprocal roots to a few
    units in the last place; otherwise every target gives the bits of the interpreter in float32.

    ```mlir
    tile.kernel @copy(%a: memref<?xf32>, %b: memref<?xf32>) {
      tile.map -> %b {counts = array<i64: 1>} {
      ^bb0(%i: index):
        %v = tile.load %a[%i]
        tile.yield %v : f32
      }
    }
    ```
    """

    name = "tile.kernel"

    sym_name = prop_def(SymbolNameConstraint())
    fast = opt_prop_def(UnitAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator(), SymbolOpInterface())

    def __init__(self, name: str, body: Region, *, fast: bool = False) -> None:
        super().__init__(
            properties={"sym_name": StringAttr(name), "fast": UnitAttr() if fast else None},
            regions=[body],
        )

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        name = parser.parse_symbol_name()
        arguments = parser.parse_comma_separated_list(
            parser.Delimiter.PAREN, lambda: parser.parse_argument(expect_type=True)
        )
        fast = parser.parse_optional_keyword("fast") is not None
        return cls(name.data, parser.parse_region(arguments), fast=fast)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string("(")
        printer.print_list(self.body.block.args, printer.print_block_argument)
        printer.print_string(") fast " if self.fast else ") ")
        printer.print_region(self.body, print_entry_block_args=False, print_empty_block=False)

    def verify_(self) -> None:
        for argument in self.body.block.args:
            if isinstance(argument.type, IndexType):
                continue
            verify_memory(argument.type)
        for op in self.body.block.ops:
            if op.dialect_name() not in ("tile", "arith", "math"):
                raise VerifyException(f"'{op.name}' cannot stand in a kernel")


@irdl_op_definition
class ProgramOp(IRDLOperation):
    """One decode step: the token at position `pos` in, the next token out.

    `context` is the capacity in positions, `eos` the tokens that end a generation.

    ```mlir
    tile.program @tiny attributes {context = 64 : i64, eos = array<i64: 2>, vocab = 32 : i64} {
      tile.buffer @x scratch : memref<32xf32>
    }
    ```
    """

    name = "tile.program"

    sym_name = prop_def(SymbolNameConstraint())
    context = prop_def(IntegerAttr)
    eos = prop_def(DenseArrayBase)
    vocab = prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator(), SymbolOpInterface(), SymbolTable())
    assembly_format = "$sym_name attr-dict-with-keyword $body"
    irdl_options = (ParsePropInAttrDict(),)

    def __init__(
        self, name: str, context: int, eos: Sequence[int], vocab: int, body: Region
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "context": IntegerAttr(context, i64),
                "eos": DenseArrayBase.from_list(i64, list(eos)),
                "vocab": IntegerAttr(vocab, i64),
            },
            regions=[body],
        )


@irdl_op_definition
class BufferOp(IRDLOperation):
    """A buffer of the program. `source` names the `tile.constant` that fills a constant.

    The placement says how the buffer may be split over workers: `owned`, element n is only ever
    touched by the tile that computes row n (a residual); `replicated`, every worker computes and
    reads its own copy (the current token); `reduced`, one element for each instance of the phase
    that writes it, however many tiles the instance covers (candidates of an argmax).

    ```mlir
    tile.buffer @w constant from @qkv : memref<30x960x576xbf16, "stream">
    ```
    """

    name = "tile.buffer"

    sym_name = prop_def(SymbolNameConstraint())
    kind = prop_def(StringAttr)
    source = opt_prop_def(SymbolRefAttr)
    placement = opt_prop_def(StringAttr)
    type = prop_def(MemRefType)

    traits = traits_def(SymbolOpInterface())

    def __init__(
        self,
        name: str,
        kind: str,
        type_: MemRefType,
        *,
        source: str | None = None,
        placement: str | None = None,
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "kind": StringAttr(kind),
                "source": SymbolRefAttr(source) if source else None,
                "placement": StringAttr(placement) if placement else None,
                "type": type_,
            }
        )

    @classmethod
    def parse(cls, parser: Parser) -> BufferOp:
        name = parser.parse_symbol_name().data
        kind = parser.parse_identifier()
        source = None
        if parser.parse_optional_keyword("from") is not None:
            source = parser.parse_symbol_name().data
        placement = parser.parse_optional_keyword_in(PLACEMENTS)
        parser.parse_punctuation(":")
        at = parser.pos
        type_ = parser.parse_type()
        if not isinstance(type_, MemRefType):
            parser.raise_error("a buffer has a memref type", at)
        return cls(name, kind, type_, source=source, placement=placement)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string(f" {self.kind.data}")
        if self.source is not None:
            printer.print_string(f" from @{self.source.root_reference.data}")
        if self.placement is not None:
            printer.print_string(f" {self.placement.data}")
        printer.print_string(" : ")
        printer.print_attribute(self.type)

    def verify_(self) -> None:
        verify_buffer(self.kind.data, self.type)
        if self.placement is not None and self.placement.data not in PLACEMENTS:
            raise VerifyException(f"unknown placement '{self.placement.data}'")


def verify_buffer(kind: str, type_: MemRefType) -> None:
    """Shared by `tile.buffer` and `task.buffer`."""
    if kind not in BUFFER_KINDS:
        raise VerifyException(f"unknown kind '{kind}' of buffer; known: {', '.join(BUFFER_KINDS)}")
    verify_memory(type_)
    if any(size <= 0 for size in type_.get_shape()):
        raise VerifyException(f"a buffer needs a static, positive shape, got {type_}")


@irdl_op_definition
class PhaseOp(IRDLOperation):
    """Runs a kernel for each tile of an iteration space, in any order.

    With `rows`, neighbouring tiles can run as one instance of the kernel: the regions of tiles t
    and t + 1 follow each other in every dimension that depends on t.

    ```mlir
    tile.phase @down calls @linear for t in 72 rows args [
      in @act[0 : 1536], in @w[l, 8 * t : 8 * t + 8, 0 : 1536], out @x[8 * t : 8 * t + 8]]
    ```
    """

    name = "tile.phase"

    sym_name = prop_def(SymbolNameConstraint())
    kernel = prop_def(SymbolRefAttr)
    tiles = prop_def(IntegerAttr)
    rows = opt_prop_def(UnitAttr)
    args = prop_def(ArrayAttr[AccessAttr | ExprAttr])

    INDEX: ClassVar[str] = "t"

    def __init__(
        self, name: str, kernel: str, tiles: int, args: Sequence[Argument], *, rows: bool
    ) -> None:
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "kernel": SymbolRefAttr(kernel),
                "tiles": IntegerAttr(tiles, i64),
                "rows": UnitAttr() if rows else None,
                "args": ArrayAttr(args),
            }
        )

    @property
    def kernel_name(self) -> str:
        return self.kernel.root_reference.data

    @classmethod
    def parse(cls, parser: Parser) -> PhaseOp:
        name = parser.parse_symbol_name().data
        parser.parse_keyword("calls")
        kernel = parser.parse_symbol_name().data
        parser.parse_keyword("for")
        parser.parse_keyword(cls.INDEX)
        parser.parse_keyword("in")
        tiles = parser.parse_integer()
        rows = parser.parse_optional_keyword("rows") is not None
        parser.parse_keyword("args")
        args = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parse_argument(parser)
        )
        return cls(name, kernel, tiles, args, rows=rows)

    def print(self, printer: Printer) -> None:
        printer.print_string(f" @{self.sym_name.data} calls @{self.kernel_name}")
        printer.print_string(f" for {self.INDEX} in {self.tiles.value.data}")
        printer.print_string(" rows" if self.rows is not None else "")
        print_arguments(printer, self.args.data)

    def verify_(self) -> None:
        if self.tiles.value.data <= 0:
            raise VerifyException("a phase needs at least one tile")
        verify_call(self, self.kernel_name, self.args.data)


def verify_call(op: Operation, kernel_name: str, arguments: Sequence[Argument]) -> None:
    """Whether the arguments fit the kernel of that name, if the module of `op` has one."""
    module = op.get_toplevel_object()
    if not isinstance(module, ModuleOp):
        return
    kernels = (k for k in module.body.block.ops if isinstance(k, KernelOp))
    kernel = next((k for k in kernels if k.sym_name.data == kernel_name), None)
    if kernel is None:
        return
    parameters = kernel.body.block.args
    if len(parameters) != len(arguments):
        raise VerifyException(
            f"kernel @{kernel_name} has {len(parameters)} parameters, got {len(arguments)}"
        )
    for number, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True)):
        if isinstance(argument, ExprAttr) != isinstance(parameter.type, IndexType):
            raise VerifyException(
                f"argument {number} '{argument_text(argument)}' does not fit {parameter.type}"
            )
        if isinstance(argument, AccessAttr) and isinstance(parameter.type, MemRefType):
            _verify_shape(number, argument.data, parameter.type)


def _verify_shape(number: int, access: Access, type_: MemRefType) -> None:
    """Whether a region has the dimensions of a parameter, and the sizes that are known of both."""
    kept = [dim for dim in access.dims if dim.hi is not None]
    if len(kept) != type_.get_num_dims():
        raise VerifyException(
            f"argument {number} '{access}' has {len(kept)} dimensions, the parameter is {type_}"
        )
    for dim, size in zip(kept, type_.get_shape(), strict=True):
        extent = dim.end - dim.lo
        if size != DYNAMIC_INDEX and extent.is_const and extent.value != size:
            raise VerifyException(
                f"argument {number} '{access}' has {extent} elements where the parameter has "
                f"{size}: {type_}"
            )


def print_arguments(printer: Printer, arguments: Sequence[Argument]) -> None:
    """` args [`, one argument a line, `]`."""
    printer.print_string(" args [")
    with printer.indented():
        for number, argument in enumerate(arguments):
            printer.print_string("," if number else "")
            printer._print_new_line()  # pyright: ignore[reportPrivateUsage]
            printer.print_string(argument_text(argument))
    printer.print_string("]")


@irdl_op_definition
class RepeatOp(Repeat):
    """Runs its phases `count` times, in order, with its index counting from 0.

    ```mlir
    tile.repeat l in 30 {
      tile.phase @down calls @linear for t in 72 rows args [in @act[0 : 1536]]
    }
    ```
    """

    name = "tile.repeat"


TILE = Dialect(
    "tile",
    [
        ConstantOp,
        KernelOp,
        ProgramOp,
        BufferOp,
        PhaseOp,
        RepeatOp,
        YieldOp,
        LoadOp,
        StoreOp,
        StopOp,
        ProductOp,
        MapOp,
        AttentionOp,
        CombineOp,
        ArgmaxOp,
        ReceiveOp,
    ],
    [AccessAttr, ExprAttr],
)
