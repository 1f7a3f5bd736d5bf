"""Packet views, pointers and streams of the printed program against the regions of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from amk.backends.readback import syntax
from amk.backends.readback.columns import Column
from amk.backends.readback.expected import BufferFacts, Region, Tasks
from amk.backends.readback.integers import Scope, Value
from amk.backends.readback.lanes import Lanes
from amk.backends.readback.mismatch import fail, require
from amk.dialects.tile import ROWS_PER_TILE
from amk.schedule.expr import Expr

PACKED = {"float": 1, "int": 1, "amk::bf16": 2}
"""Elements that one packet carries."""
BYTES = {"float": 4, "int": 4, "amk::bf16": 2}


@dataclass(frozen=True)
class Names:
    """What the members of `b` and of `w.shared<Private>()` are."""

    buffers: Mapping[str, BufferFacts]
    counters: Mapping[str, str]
    private: Mapping[str, BufferFacts]


@dataclass(frozen=True)
class Site:
    """A place of the program with the tasks that it executes: one for each lane."""

    names: Names
    lanes: Lanes
    tasks: Tasks

    @property
    def scope(self) -> Scope:
        return self.lanes.scope

    def agree(self, node: syntax.Node, value: Value, column: Column, what: str) -> None:
        """Mismatch unless an integer of the program is that of the table in every task."""
        lanes = self.lanes
        lane = self.tasks.expected.comparer.differing(value, lanes.columns, column, lanes.moving)
        if lane is not None:
            name = self.tasks.expected.table.task_name(int(self.tasks.ids[lane]))
            fail(node, f"{what} is not that of {name}")

    def same(self, node: syntax.Expression, column: Column, what: str) -> None:
        """`agree` for an expression."""
        self.agree(node, self.scope.read(node), column, what)

    def multiple(self, node: syntax.Node, value: Value, unit: int, what: str) -> None:
        """Mismatch unless a number is a multiple of `unit`, whatever the task and the scalars."""
        rest = Value(value.expr % unit, (0, unit - 1))
        self.agree(node, rest, Column.of(0, len(self.tasks)), f"{what}: no multiple of {unit}, it")

    # ---- packets ---------------------------------------------------------------------------

    def always(self, node: syntax.Node, region: Region) -> None:
        """Mismatch if the table has the access only under a guard."""
        name = region.buffer.name
        always = bool((region.guard < 0).all())
        require(always, node, f"@{name} is accessed whenever the task runs, the IR has a guard")

    def packets(
        self,
        node: syntax.Expression,
        region: Region,
        *,
        aligned: bool = False,
        guarded: bool = False,
    ) -> None:
        """`amk::Packets<T>{b.x, w.epoch(uses, use), number}.at(offset)` is a region's packets.

        With `aligned` they start at a multiple of 16 bytes, as pairs of packets are read; with
        `guarded` the caller compares the guard.
        """
        if not guarded:
            self.always(node, region)
        match node:
            case syntax.Call(function=syntax.Member(object=view, name="at"), arguments=(offset,)):
                value = self.scope.read(offset)
            case _:
                view, value = node, Value(Expr.const(0), (0, 0))
        self.view(view, region)
        self.agree(node, value, region.offset, f"the place in @{region.buffer.name}")
        packed = PACKED[region.buffer.element]
        unit = packed * (2 if aligned else 1)
        if unit > 1:
            self.multiple(node, value, unit, "the first element of the packets")

    def view(self, node: syntax.Expression, region: Region) -> None:
        """`amk::Packets<T>{b.x, w.epoch(uses, use), number}`: a whole buffer under one use."""
        buffer = region.buffer
        match node:
            case syntax.Braces(
                type=syntax.Template(name="amk::Packets", arguments=(element,)),
                values=(member, epoch, syntax.Number(text=number)),
            ):
                require(element == buffer.element, node, f"@{buffer.name} holds {buffer.element}")
                require(self.buffer(member) == buffer, member, f"expected @{buffer.name} here")
                require(buffer.packet, node, f"@{buffer.name} holds no packets")
                require(number == str(buffer.number), values_end(node), "the number of the buffer")
            case _:
                fail(node, f"expected the packets of @{buffer.name}")
        self.epoch(epoch, buffer.uses, region.use, f"the use of @{buffer.name}")

    def epoch(self, node: syntax.Expression, uses: int, use: Column, what: str) -> None:
        """`w.epoch(uses, use)`."""
        match node:
            case syntax.Call(
                function=syntax.Member(object=syntax.Name(text="w"), name="epoch"),
                arguments=(syntax.Number(text=count), value),
            ):
                require(count == str(uses), node, f"an iteration has {uses} of these, not {count}")
                self.same(value, use, what)
            case _:
                fail(node, "expected w.epoch(…)")

    # ---- plain memory ----------------------------------------------------------------------

    def buffer(self, node: syntax.Expression) -> BufferFacts | None:
        """The buffer that `b.x` or `w.shared<Private>().x` names."""
        match node:
            case syntax.Member(object=syntax.Name(text="b"), name=name):
                return self.names.buffers.get(name)
            case syntax.Member(
                object=syntax.Call(
                    function=syntax.Member(object=syntax.Name(text="w"), name="shared<Private>"),
                    arguments=(),
                ),
                name=name,
            ):
                return self.names.private.get(name)
            case _:
                return None

    def pointer(self, node: syntax.Expression, region: Region) -> None:
        """`b.x + offset`: the first element of a region of plain memory."""
        buffer = region.buffer
        self.always(node, region)
        base, value = node, Value(Expr.const(0), (0, 0))
        if isinstance(node, syntax.Binary) and node.operator == "+":
            base, value = node.left, self.scope.read(node.right)
        require(self.buffer(base) == buffer, base, f"expected a pointer into @{buffer.name}")
        require(not buffer.packet, node, f"@{buffer.name} holds packets")
        if buffer.space == "shared":
            require(region.private, node, f"@{buffer.name} is reached in another worker's row")
        self.agree(node, value, region.offset, f"the place in @{buffer.name}")

    def run(self, node: syntax.Node, region: Region) -> Column:
        """The number of neighbouring elements that a region is; Mismatch if it is no run."""
        run = region.run
        if run is None:
            return fail(node, f"the region of @{region.buffer.name} is no run of elements")
        return run

    # ---- streams ---------------------------------------------------------------------------

    def stream(self, node: syntax.Expression, region: Region, index: np.ndarray) -> None:
        """`amk::Stream<T, K>{b.w + layer * layer_bytes, blocks, instances, instance}`.

        The device layer gives instance i the row blocks from i * blocks / instances on up to those
        of the next; these have to be the rows of the region, whole.
        """
        buffer = region.buffer
        *layers, rows, columns = buffer.shape
        blocks = rows // ROWS_PER_TILE
        instances = self.tasks.op.instances
        require(buffer.constant, node, f"@{buffer.name} is streamed ahead, but it is no constant")
        require(rows % ROWS_PER_TILE == 0, node, f"@{buffer.name} has no whole blocks of rows")
        match node:
            case syntax.Braces(
                type=syntax.Template(name="amk::Stream", arguments=arguments),
                values=(base, syntax.Number(text=dealt), syntax.Number(text=among), instance),
            ):
                pass
            case _:
                fail(node, "expected the stream of a product")
        require(
            arguments == (buffer.element, str(columns)), node, f"@{buffer.name} is not like this"
        )
        require(dealt == str(blocks), node, f"@{buffer.name} has {blocks} blocks of rows")
        require(among == str(instances), node, f"the family has {instances} instances")
        require(blocks * (instances + 1) < 2**31, node, "the blocks before an instance overflow")
        self.same(instance, Column.of(index, len(self.tasks)), "the instance")
        self._layer(base, region, bool(layers))
        spans = [region.spans(len(layers) + 1, columns)]
        for bound, place in ((region.low, index), (region.high, index + 1)):
            spans.append(bound(len(layers)).equals(place * blocks // instances * ROWS_PER_TILE))
        require(all(spans), node, f"the rows of @{buffer.name} are not dealt evenly")

    def _layer(self, node: syntax.Expression, region: Region, layered: bool) -> None:
        buffer = region.buffer
        *_, rows, columns = buffer.shape
        base, layer = node, Value(Expr.const(0), (0, 0))
        match node:
            case syntax.Binary(
                operator="+",
                left=base,
                right=syntax.Binary(
                    operator="*",
                    left=number,
                    right=syntax.Call(
                        function=syntax.Template(name="amk::layer_bytes", arguments=arguments),
                        arguments=(syntax.Number(text=height),),
                    ),
                ),
            ) if layered:
                alike = arguments == (buffer.element, str(columns)) and height == str(rows)
                require(alike, node, f"a layer of @{buffer.name} is not as large as this")
                layer = self.scope.read(number)
            case _:
                require(not layered, node, f"expected a layer of @{buffer.name}")
        require(self.buffer(base) == buffer, base, f"expected @{buffer.name} here")
        wanted = region.low(0) if layered else Column.of(0, len(self.tasks))
        self.agree(node, layer, wanted, f"the layer of @{buffer.name}")


def values_end(node: syntax.Braces) -> syntax.Node:
    """The last value in braces."""
    return node.values[-1]
