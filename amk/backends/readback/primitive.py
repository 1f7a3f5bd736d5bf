"""What the calls of all of the device layer's primitives have in common.

What a primitive does with its arguments is the contract of the device layer (its README); that the
printed file carries that very text is checked first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from amk.backends.readback import syntax
from amk.backends.readback.body import Body, described
from amk.backends.readback.columns import Column
from amk.backends.readback.expected import Region
from amk.backends.readback.memory import Site
from amk.backends.readback.mismatch import fail, require
from amk.backends.readback.outputs import Output


def arguments_of(
    node: syntax.Expression, name: str, count: int
) -> tuple[tuple[str, ...], tuple[syntax.Expression, ...]]:
    """Template arguments and arguments of a call of `name`, less the first, which is `w`."""
    match node:
        case syntax.Call(function=syntax.Template(name=text, arguments=template)):
            pass
        case syntax.Call(function=syntax.Name(text=text)):
            template = ()
        case _:
            fail(node, f"expected {name}(…)")
    assert isinstance(node, syntax.Call)
    require(text == name, node, f"expected {name}(…), not {text}(…)")
    require(len(node.arguments) == count, node, f"{name}(…) takes {count} arguments")
    require(node.arguments[0] == syntax.Name(0, 0, "w"), node, f"expected {name}(w, …)")
    return template, node.arguments[1:]


def lambda_of(node: syntax.Expression, *parameters: tuple[str, str | None]) -> syntax.Lambda:
    """A lambda with parameters of these types and names."""
    if not isinstance(node, syntax.Lambda):
        fail(node, "expected a lambda")
    found = tuple((p.type, p.name) for p in node.parameters)
    shown = ", ".join(f"{type_} {name or ''}".strip() for type_, name in parameters)
    require(found == parameters, node, f"the parameters are ({shown})")
    return node


def place_of(group: int, copy: int) -> syntax.Expression:
    """The index of a region in its copy of that number: `r / group + copy`."""
    row: syntax.Expression = syntax.Name(0, 0, "r")
    if group > 1:
        row = syntax.Binary(0, 0, "/", row, syntax.Number(0, 0, str(group)))
    return syntax.Binary(0, 0, "+", row, syntax.Number(0, 0, str(copy))) if copy else row


def element_of(name: str, number: int) -> syntax.Subscript:
    """`name[number]`."""
    return syntax.Subscript(0, 0, syntax.Name(0, 0, name), syntax.Number(0, 0, str(number)))


@dataclass
class Primitive:
    """One call, in the body that it stands in, with what the program declared for it."""

    site: Site
    body: Body
    structs: list[syntax.Struct]
    outputs: list[Output]

    def region(self, value: SSAValue) -> Region:
        """What a parameter of the kernel is bound to."""
        return self.site.tasks.regions[value]

    @property
    def functions(self) -> str:
        """Where a primitive takes its exponentials and divisions from."""
        return "amk::Fast" if self.site.tasks.fast else "amk::Exact"

    def copies(self, given: str, group: int, node: syntax.Node) -> int:
        """Copies of a region that one call of its lambda runs: one, or two where pairs are sent."""
        require(given.isdigit(), node, "expected the number of rows of a call")
        require(int(given) in (group, 2 * group), node, f"a call takes {group} rows, or twice that")
        return int(given) // group

    def most(self, column: Column, node: syntax.Node) -> int:
        """The largest of some sizes, which no run-time scalar may change."""
        require(column.is_constant, node, "a size that changes from token to token")
        return int(column.constant.max())

    def whole(self, node: syntax.Node, rows: Column, unit: int) -> None:
        """Mismatch unless the last call of a lambda has as many rows as the others."""
        even = rows.is_constant and not (rows.constant % unit).any()
        require(even, node, f"the rows of a task are no multiple of {unit}")

    def sizes(self, node: syntax.Node, outputs: Sequence[Output], rows: Column, group: int) -> None:
        """Mismatch unless each output has its elements for each group of rows, and no more."""
        for output in outputs:
            region = self.region(output.memory)
            size = self.site.run(node, region)
            right = size.equals(rows.constant // group * output.count)
            require(right, node, f"@{region.buffer.name} has another size than its values")

    def run(
        self,
        statements: list[syntax.Statement],
        body: Body,
        ops: Sequence[Operation],
        at: syntax.Node,
    ) -> None:
        """The operations before a yield, in order; takes their statements from the list."""
        for op in ops[:-1]:
            if not statements:
                fail(at, f"{described(op)} is missing")
            body.define(statements.pop(0), op)
