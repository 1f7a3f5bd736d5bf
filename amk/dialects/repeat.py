"""The loop over layers, shared by the `tile` and the `task` level."""

from __future__ import annotations

from typing import Self

from xdsl.dialects.builtin import IntegerAttr, StringAttr, i64
from xdsl.ir import Region
from xdsl.irdl import IRDLOperation, prop_def, region_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator
from xdsl.utils.exceptions import VerifyException


class Repeat(IRDLOperation):
    """Runs its body `count` times, in order, with its index counting from 0."""

    index = prop_def(StringAttr)
    count = prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(NoTerminator())

    def __init__(self, index: str, count: int, body: Region) -> None:
        super().__init__(
            properties={"index": StringAttr(index), "count": IntegerAttr(count, i64)},
            regions=[body],
        )

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        index = parser.parse_identifier()
        parser.parse_keyword("in")
        return cls(index, parser.parse_integer(), parser.parse_region())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.index.data} in {self.count.value.data} ")
        printer.print_region(self.body)

    def verify_(self) -> None:
        if self.count.value.data <= 0:
            raise VerifyException("a repeat needs a positive count")
