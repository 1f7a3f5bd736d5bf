"""Memory spaces and element types of the memrefs that kernels and buffers have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseArrayBase,
    Float32Type,
    IntegerType,
    MemRefType,
    NoneAttr,
    StringAttr,
    f32,
    i32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

SPACES = ("", "stream", "packet", "shared", "host", "host_packet")


def space_of(type_: Attribute) -> str:
    """The memory space of a memref type, "" for global memory."""
    assert isinstance(type_, MemRefType)
    space = type_.memory_space
    return space.data if isinstance(space, StringAttr) else ""


def element_bytes(type_: MemRefType) -> int:
    """Bytes of one element as it is stored, packets apart."""
    return 2 if isinstance(type_.element_type, BFloat16Type) else 4


def integers(array: DenseArrayBase) -> tuple[int, ...]:
    """The values of an `array<i64: …>` attribute."""
    return tuple(int(v) for v in cast(DenseArrayBase[IntegerType], array).get_values())


def in_space(type_: MemRefType, space: str) -> MemRefType:
    """The same memref type in another memory space."""
    return MemRefType(
        type_.element_type, type_.shape, NoneAttr(), StringAttr(space) if space else NoneAttr()
    )


def is_packet(type_: Attribute) -> bool:
    """Whether the elements of this memref travel as packets."""
    return space_of(type_) in ("packet", "host_packet")


def scalar_type(element: Attribute) -> Attribute:
    """The type that a loaded element has in a region: bf16 is computed with as f32."""
    return f32 if isinstance(element, BFloat16Type) else element


def memref_of(value: SSAValue, what: str, rank: int | None = None) -> MemRefType:
    type_ = value.type
    if not isinstance(type_, MemRefType):
        raise VerifyException(f"{what} must be a memref, got {type_}")
    if rank is not None and type_.get_num_dims() != rank:
        raise VerifyException(f"{what} must have rank {rank}, got {type_}")
    return type_


def parse_operands(parser: Parser) -> list[SSAValue]:
    return parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_operand)


def print_operands(printer: Printer, operands: Sequence[SSAValue]) -> None:
    printer.print_list(operands, printer.print_ssa_value)


def verify_memory(type_: Attribute) -> None:
    """A memref of f32, bf16 or i32 in a known memory space."""
    if not isinstance(type_, MemRefType):
        raise VerifyException(f"expected a memref type, got {type_}")
    if not isinstance(type_.element_type, Float32Type | BFloat16Type) and type_.element_type != i32:
        raise VerifyException(f"elements must be f32, bf16 or i32, got {type_.element_type}")
    space = type_.memory_space
    name = space.data if isinstance(space, StringAttr) else ""
    if not isinstance(space, StringAttr | NoneAttr) or name not in SPACES:
        raise VerifyException(f"unknown memory space {space}; known: {', '.join(SPACES[1:])}")
