"""What a region of a heavy operation writes: each element of each output, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from amk.backends.readback import syntax
from amk.backends.readback.body import Body
from amk.backends.readback.integers import INT, Scope, Value
from amk.backends.readback.memory import PACKED, Site
from amk.backends.readback.mismatch import fail, require
from amk.schedule.expr import Expr


@dataclass(frozen=True)
class Output:
    """A view of an output that the program declares under a name, and its values for one index."""

    name: str
    memory: SSAValue
    count: int


@dataclass(frozen=True)
class Writes:
    """The writes of the copies of a region that one call of its lambda runs.

    The call for row r runs the region for the indices r / `group`, + 1, … of `copies`; index g owns
    elements g * count … of an output. r is a multiple of `group * copies` below `rows`.
    """

    site: Site
    outputs: Sequence[Output]
    group: int
    copies: int
    rows: int

    @property
    def steps(self) -> np.ndarray:
        """The values of r."""
        return np.arange(0, max(self.rows, 1), self.group * self.copies)

    def check(
        self,
        statements: Sequence[syntax.Statement],
        values: Sequence[Sequence[SSAValue]],
        bodies: Sequence[Body],
        at: syntax.Node,
    ) -> None:
        """Mismatch unless the statements write `values[copy]` and nothing else.

        `bodies[copy]` knows the names of that copy's values.
        """
        written: dict[tuple[str, int], syntax.Expression] = {}
        for statement in statements:
            name, first, stored = self._write(statement)
            output = next((o for o in self.outputs if o.name == name), None)
            if output is None:
                fail(statement, f"'{name}' is no output of the task")
            start = self._element(first, output)
            self._fits(statement, output, start, len(stored))
            if isinstance(statement, syntax.Assignment):
                element = self.site.tasks.regions[output.memory].buffer.element
                stored = (stored_value(stored[0], element),)
            for offset, node in enumerate(stored):
                key = (name, start + offset)
                require(key not in written, statement, "an element is written twice")
                written[key] = node
        position = 0
        for output in self.outputs:
            for copy, names in enumerate(bodies):
                for element in range(output.count):
                    node = written.pop((output.name, copy * output.count + element), None)
                    if node is None:
                        fail(at, f"an element of '{output.name}' is not written")
                    value = values[copy][position + element]
                    right = names.means(node, value)
                    require(right, node, f"another value belongs into '{output.name}'")
            position += output.count
        if written:
            fail(next(iter(written.values())), "this element belongs to another call")

    def _write(
        self, statement: syntax.Statement
    ) -> tuple[str, syntax.Expression, tuple[syntax.Expression, ...]]:
        """The view, the first element, and the values of a write."""
        match statement:
            case syntax.Evaluation(
                value=syntax.Call(
                    function=syntax.Name(text="amk::send"),
                    arguments=(syntax.Name(text=name), first, *values),
                )
            ) if values:
                return name, first, tuple(values)
            case syntax.Assignment(
                target=syntax.Subscript(object=syntax.Name(text=name), index=first), value=value
            ):
                return name, first, (value,)
            case _:
                return fail(statement, "expected a write to an output")

    def _element(self, node: syntax.Expression, output: Output) -> int:
        """The element that an index names, relative to that of the first copy's first element."""
        scope = Scope({"r": Value(Expr.var("r"), (0, max(self.rows - 1, 0)))})
        found = np.asarray(scope.read(node).expr.evaluate({"r": self.steps}))
        base = self.steps // self.group * output.count
        offsets = np.unique(found - base)
        require(len(offsets) == 1, node, "the elements do not follow the rows")
        return int(offsets[0])

    def _fits(self, node: syntax.Node, output: Output, start: int, count: int) -> None:
        """Whether the form of a write is that of the output's memory."""
        region = self.site.tasks.regions[output.memory]
        buffer = region.buffer
        is_send = isinstance(node, syntax.Evaluation)
        require(is_send == buffer.packet, node, f"@{buffer.name} is not written like this")
        require(start + count <= INT[1], node, "an element that does not fit")
        if not buffer.packet:
            return
        packed = PACKED[buffer.element]
        if packed > 1:
            require(count == packed, node, f"a packet of @{buffer.name} carries {packed} elements")
            base = self.steps // self.group * output.count + start
            require(not (base % packed).any(), node, "a packet starts at its first element")
        else:
            require(count == 1, node, f"a packet of @{buffer.name} carries one element")


def stored_value(node: syntax.Expression, element: str) -> syntax.Expression:
    """What is stored into plain memory of this element type."""
    if element != "amk::bf16":
        return node
    match node:
        case syntax.Call(
            function=syntax.Template(name="amk::from_float", arguments=("amk::bf16",)),
            arguments=(value,),
        ):
            return value
        case _:
            return fail(node, "expected amk::from_float<amk::bf16>(…)")
