"""Operations of the `tile` dialect that stand in the body of a `tile.kernel`."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IndexType,
    IntegerType,
    MemRefType,
    f32,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsTerminator
from xdsl.utils.exceptions import VerifyException

from amk.dialects.memory import (
    integers,
    memref_of,
    parse_operands,
    print_operands,
    scalar_type,
    space_of,
)


@irdl_op_definition
class YieldOp(IRDLOperation):
    """The values that a region of scalar operations hands to the operation around it.

    ```mlir
    tile.yield %a, %b : f32, f32
    ```
    """

    name = "tile.yield"

    values = var_operand_def()
    traits = traits_def(IsTerminator())
    assembly_format = "attr-dict ($values^ `:` type($values))?"

    def __init__(self, *values: SSAValue) -> None:
        super().__init__(operands=[list(values)])


@irdl_op_definition
class LoadOp(IRDLOperation):
    """One element of a parameter, relative to its region. bf16 is read as f32.

    ```mlir
    %v = tile.load %g[%k]
    ```
    """

    name = "tile.load"

    memory = operand_def(MemRefType)
    indices = var_operand_def(IndexType)
    result = result_def()

    def __init__(self, memory: SSAValue, indices: Sequence[SSAValue]) -> None:
        type_ = memory.type
        assert isinstance(type_, MemRefType)
        super().__init__(
            operands=[memory, list(indices)], result_types=[scalar_type(type_.element_type)]
        )

    @classmethod
    def parse(cls, parser: Parser) -> LoadOp:
        at = parser.pos
        memory = parser.parse_operand()
        if not isinstance(memory.type, MemRefType):
            parser.raise_error("tile.load reads a memref", at)
        indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_operand)
        return cls(memory, indices)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.memory)
        printer.print_string("[")
        print_operands(printer, self.indices)
        printer.print_string("]")

    def verify_(self) -> None:
        type_ = memref_of(self.memory, "what tile.load reads", len(self.indices))
        if space_of(type_) in ("stream", "packet", "host_packet"):
            raise VerifyException(f"tile.load cannot read memory space '{space_of(type_)}'")
        if self.result.type != scalar_type(type_.element_type):
            raise VerifyException(f"tile.load of {type_} cannot give {self.result.type}")


@irdl_op_definition
class StoreOp(IRDLOperation):
    """Writes one element of a parameter, once a task (in a kernel's body, not in a region).

    ```mlir
    tile.store %token, %out[%zero]
    ```
    """

    name = "tile.store"

    value = operand_def()
    memory = operand_def(MemRefType)
    indices = var_operand_def(IndexType)

    def __init__(self, value: SSAValue, memory: SSAValue, indices: Sequence[SSAValue]) -> None:
        super().__init__(operands=[value, memory, list(indices)])

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        value = parser.parse_operand()
        parser.parse_punctuation(",")
        memory = parser.parse_operand()
        indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_operand)
        return cls(value, memory, indices)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_operands(printer, [self.value, self.memory])
        printer.print_string("[")
        print_operands(printer, self.indices)
        printer.print_string("]")

    def verify_(self) -> None:
        type_ = memref_of(self.memory, "what tile.store writes", len(self.indices))
        if self.value.type != scalar_type(type_.element_type):
            raise VerifyException(f"tile.store of {self.value.type} into {type_}")
        parent = self.parent_op()
        if parent is None or parent.name != "tile.kernel":
            raise VerifyException("tile.store stands in the body of a kernel; a region yields")


@irdl_op_definition
class StopOp(IRDLOperation):
    """Ends the token loop after this iteration if the condition holds.

    Every worker has to reach the same decision in the same iteration.

    ```mlir
    tile.stop %done
    ```
    """

    name = "tile.stop"

    condition = operand_def(i1)
    assembly_format = "$condition attr-dict"

    def __init__(self, condition: SSAValue) -> None:
        super().__init__(operands=[condition])


def parse_outs(parser: Parser) -> list[SSAValue]:
    parser.parse_punctuation("->")
    return parse_operands(parser)


def parse_counts(parser: Parser, attributes: dict[str, Attribute]) -> list[int]:
    counts = attributes.pop("counts", None)
    if not isinstance(counts, DenseArrayBase):
        parser.raise_error("expected counts = array<i64: …>, the values that each output takes")
    return list(integers(counts))


def verify_yield(block: Block, expected: Sequence[Attribute], what: str) -> None:
    last = block.last_op
    if not isinstance(last, YieldOp):
        raise VerifyException(f"the {what} must end in tile.yield")
    types = [v.type for v in last.values]
    if types != list(expected):
        wanted, got = ", ".join(map(str, expected)), ", ".join(map(str, types))
        raise VerifyException(f"the {what} must yield ({wanted}), it yields ({got})")


def out_types(outs: Sequence[SSAValue], counts: Sequence[int]) -> list[Attribute]:
    if len(counts) != len(outs):
        raise VerifyException("counts must give one number for each output")
    types: list[Attribute] = []
    for out, count in zip(outs, counts, strict=True):
        element = scalar_type(memref_of(out, "an output", 1).element_type)
        types += [element] * count
    return types


@irdl_op_definition
class MapOp(IRDLOperation):
    """Computes the elements of its outputs one by one: `counts[j]` of output j for each index.

    ```mlir
    tile.map -> %h, %x {counts = array<i64: 1, 1>} {
    ^bb0(%i: index):
      %v = tile.load %table[%i]
      tile.yield %v, %v : f32, f32
    }
    ```
    """

    name = "tile.map"

    outs = var_operand_def(MemRefType)
    counts = prop_def(DenseArrayBase)
    body = region_def("single_block")

    def __init__(self, outs: Sequence[SSAValue], counts: Sequence[int], body: Region) -> None:
        super().__init__(
            operands=[list(outs)],
            properties={"counts": DenseArrayBase.from_list(i64, list(counts))},
            regions=[body],
        )

    @property
    def out_counts(self) -> tuple[int, ...]:
        return integers(self.counts)

    @classmethod
    def parse(cls, parser: Parser) -> MapOp:
        outs = parse_outs(parser)
        counts = parse_counts(parser, parser.parse_optional_attr_dict())
        return cls(outs, counts, parser.parse_region())

    def print(self, printer: Printer) -> None:
        printer.print_string(" -> ")
        print_operands(printer, self.outs)
        printer.print_string(" ")
        printer.print_attr_dict({"counts": self.counts})
        printer.print_string(" ")
        printer.print_region(self.body)

    def verify_(self) -> None:
        if [a.type for a in self.body.block.args] != [IndexType()]:
            raise VerifyException("the body of tile.map takes one index")
        verify_yield(self.body.block, out_types(self.outs, self.out_counts), "body")


@irdl_op_definition
class ArgmaxOp(IRDLOperation):
    """The index that goes with the largest value (ties: the smallest index).

    ```mlir
    %token = tile.argmax %values, %indices
    ```
    """

    name = "tile.argmax"

    values = operand_def(MemRefType)
    indices = operand_def(MemRefType)
    result = result_def(IntegerType)

    def __init__(self, values: SSAValue, indices: SSAValue) -> None:
        super().__init__(operands=[values, indices], result_types=[i32])

    @classmethod
    def parse(cls, parser: Parser) -> ArgmaxOp:
        values = parser.parse_operand()
        parser.parse_punctuation(",")
        return cls(values, parser.parse_operand())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_operands(printer, [self.values, self.indices])

    def verify_(self) -> None:
        values = memref_of(self.values, "the values", 1)
        indices = memref_of(self.indices, "the indices", 1)
        if values.element_type != f32 or indices.element_type != i32:
            raise VerifyException("tile.argmax takes f32 values and i32 indices")
        if values.get_shape() != indices.get_shape():
            raise VerifyException("tile.argmax needs as many values as indices")


@irdl_op_definition
class ReceiveOp(IRDLOperation):
    """Waits for one packet and gives its payload.

    ```mlir
    %flag = tile.receive %stop
    ```
    """

    name = "tile.receive"

    memory = operand_def(MemRefType)
    result = result_def()

    def __init__(self, memory: SSAValue) -> None:
        type_ = memory.type
        assert isinstance(type_, MemRefType)
        super().__init__(operands=[memory], result_types=[type_.element_type])

    @classmethod
    def parse(cls, parser: Parser) -> ReceiveOp:
        at = parser.pos
        memory = parser.parse_operand()
        if not isinstance(memory.type, MemRefType):
            parser.raise_error("tile.receive reads a memref", at)
        return cls(memory)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.memory)

    def verify_(self) -> None:
        if memref_of(self.memory, "what tile.receive reads", 1).get_shape() != (1,):
            raise VerifyException("tile.receive reads one packet")
