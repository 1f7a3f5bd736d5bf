"""`amk::map`, `amk::combine` and `amk::attention` against their operations."""

from __future__ import annotations

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Block, SSAValue

from amk.backends.device import cache_row
from amk.backends.readback import syntax
from amk.backends.readback.body import Body, scalar_ops
from amk.backends.readback.columns import Column
from amk.backends.readback.expected import Region
from amk.backends.readback.mismatch import fail, require
from amk.backends.readback.outputs import Writes
from amk.backends.readback.primitive import (
    Primitive,
    arguments_of,
    element_of,
    lambda_of,
    place_of,
)
from amk.backends.readback.scalars import float_value, is_literal
from amk.dialects import tile
from amk.schedule.expr import Expr


class Rows(Primitive):
    """A primitive that runs a lambda for one element after the other."""

    def rows(
        self, inner: syntax.Lambda, block: Block, copies: int, rows: int, y: SSAValue | None
    ) -> None:
        """A lambda that runs copies of a region for neighbouring elements, `y` its input."""
        require(inner.result is None, inner, "this lambda returns nothing")
        statements = list(inner.body)
        ops = scalar_ops(block.ops)
        finished: list[Body] = []
        taken: set[str] = set()
        for copy in range(copies):
            body = self.body.inner(inner, [p.name for p in inner.parameters])
            body.taken |= taken
            body.values[place_of(1, copy)] = block.args[0]
            if y is not None:
                body.values[element_of("y", copy)] = y
            self.run(statements, body, ops, inner)
            taken = body.taken
            finished.append(body)
        writes = Writes(self.site, self.outputs, 1, copies, rows)
        writes.check(statements, [list(ops[-1].operands)] * copies, finished, inner)


class Map(Rows):
    """A call of `amk::map`."""

    def check(self, node: syntax.Expression, op: tile.MapOp) -> None:
        """Mismatch unless the call is the operation."""
        template, (count, function) = arguments_of(node, "amk::map", 3)
        copies = self.copies(template[0] if len(template) == 1 else "", 1, node)
        first = self.site.run(node, self.region(op.outs[0]))
        number = Column(first.constant // op.out_counts[0], first.parts)
        rows = self.most(number, count)
        self.site.same(count, number, "the number of elements")
        self.whole(count, number, copies)
        self.sizes(node, self.outputs, number, 1)
        inner = lambda_of(function, ("int", "r"))
        self.rows(inner, op.body.block, copies, rows, None)


class Combine(Rows):
    """A call of `amk::combine`."""

    def check(self, node: syntax.Expression, op: tile.CombineOp) -> None:
        """Mismatch unless the call is the operation."""
        template, (partial, first, count, function) = arguments_of(node, "amk::combine", 5)
        values, stats = self.region(op.values), self.region(op.stats)
        _, parts, width = values.buffer.shape
        copies = self.copies(template[2] if len(template) == 5 else "", 1, node)
        number = values.extent(2)
        rows = self.most(number, count)
        about = rows if isinstance(count, syntax.Number) else width - 2
        wanted = (*map(str, (width - 2, parts, copies, about)), self.functions)
        require(template == wanted, node, f"expected amk::combine<{', '.join(wanted)}>")
        self.site.view(partial, values)
        self.site.always(partial, values)
        self.site.always(partial, stats)
        start = values.low(0) * (width - 2) + values.low(2)
        self.site.same(first, start, "the first element")
        self.site.same(count, number, "the number of elements")
        self._one_head(node, values, stats)
        self.whole(count, number, copies)
        self.sizes(node, self.outputs, number, 1)
        inner = lambda_of(function, ("int", "r"), (f"const float (&)[{copies}]", "y"))
        self.rows(inner, op.epilogue.block, copies, rows, op.epilogue.block.args[1])

    def _one_head(self, node: syntax.Node, values: Region, stats: Region) -> None:
        """The device layer reads all parts of one head, with their maxima and weights."""
        _, parts, width = values.buffer.shape
        simplified = self.site.tasks.expected.comparer.simplified
        alike = (
            values.buffer == stats.buffer
            and values.buffer.element == "float"
            and bool((values.use.constant == stats.use.constant).all())
            and simplified(values.low(0) - stats.low(0)).equals(0)
            and values.extent(0).equals(1)
            and stats.extent(0).equals(1)
            and values.spans(1, parts)
            and stats.spans(1, parts)
            and stats.low(2).equals(width - 2)
            and stats.high(2).equals(width)
        )
        require(alike, node, "the partial results are not those of one head")


class Attention(Primitive):
    """A call of `amk::attention`."""

    def check(self, node: syntax.Expression, op: tile.AttentionOp) -> None:
        """Mismatch unless the call is the operation."""
        _, arguments = arguments_of(node, "amk::attention", 10)
        *vectors, own, keys, values, rows, scale, partial = arguments
        group, _, size = op.shape
        self._template(node, op)
        lengths = (group * size, size, size)
        inputs = zip(vectors, (op.query, op.key, op.value), lengths, strict=True)
        for vector, operand, length in inputs:
            region = self.region(operand)
            right = self.site.run(vector, region).equals(length)
            require(right, vector, f"@{region.buffer.name}: not {length} elements")
            guarded = operand is not op.query
            self.site.packets(vector, region, aligned=True, guarded=guarded)
        require(self.body.means(own, op.append), own, "whether the new row is appended")
        for pointer, cache, row in (
            (keys, op.key_cache, op.key_row),
            (values, op.value_cache, op.value_row),
        ):
            self._cache(pointer, self.region(cache), size)
            self._row(pointer, self.region(cache), self.region(row), size)
        for operand in (op.key, op.value, op.key_row, op.value_row):
            self._guard(own, self.region(operand), op.append)
        old = [self.region(cache) for cache in (op.key_cache, op.value_cache)]
        extents = [region.extent(region.kept[0]) for region in old]
        same = self.site.tasks.expected.comparer.simplified(extents[0] - extents[1]).equals(0)
        require(same, rows, "there are as many old keys as values")
        self.site.same(rows, extents[0], "the number of old rows")
        expected, found = np.float32(op.scale.value.data), float_value(scale)
        right = found is not None and found.tobytes() == expected.tobytes()
        require(right, scale, f"the scale is {expected}")
        self._partial(partial, op)

    def _template(self, node: syntax.Expression, op: tile.AttentionOp) -> None:
        group, units, size = op.shape
        cache, parts = self.region(op.key_cache).buffer, self.region(op.partial).buffer.shape[1]
        require(parts % units == 0, node, "the units do not divide the partial results")
        wanted = (cache.element, *map(str, (size, group, units, parts // units)), self.functions)
        match node:
            case syntax.Call(function=syntax.Template(arguments=template)) if template == wanted:
                pass
            case _:
                fail(node, f"expected amk::attention<{', '.join(wanted)}>")

    def _cache(self, node: syntax.Expression, region: Region, size: int) -> None:
        """Old rows of a cache from its first on, laid out as the device layer has them."""
        buffer = region.buffer
        last = len(buffer.shape) - 1
        alike = region.kept == [last - 1, last] and buffer.shape[last] == cache_row(size)
        require(alike, node, f"the rows of @{buffer.name} are not laid out like this")
        require(region.low(last).equals(0), node, f"the rows of @{buffer.name} start elsewhere")
        require(region.low(last - 1).equals(0), node, f"@{buffer.name} is read from row 0 on")
        whole = region.extent(last).equals(size)
        require(whole, node, f"a row of @{buffer.name} is {size} elements")
        self.site.pointer(node, region)

    def _row(self, node: syntax.Node, cache: Region, row: Region, size: int) -> None:
        """The device layer appends right behind the old rows, where it appends at all."""
        comparer = self.site.tasks.expected.comparer
        last = len(cache.buffer.shape) - 1
        behind = cache.offset + cache.extent(last - 1) * cache.buffer.strides[last - 1]
        right = row.buffer == cache.buffer and row.extent(last).equals(size)
        right = right and self.site.run(node, row).equals(size)
        right = right and comparer.equal_where(row.offset - behind, row.guard)
        require(right, node, f"the new row of @{row.buffer.name} does not follow the old ones")

    def _guard(self, node: syntax.Node, region: Region, append: SSAValue) -> None:
        """What the device layer does only where it appends is what the IR guards by the same."""
        op = append.owner
        name = region.buffer.name
        if isinstance(op, arith.ConstantOp):
            always = is_literal(syntax.Truth(0, 0, True), op) and bool((region.guard < 0).all())
            require(always, node, f"@{name} is not accessed in every task")
            return
        tasks = self.site.tasks
        values = dict(tasks.index_arguments)
        equal = isinstance(op, arith.CmpiOp) and op.predicate.value.data == 0
        require(equal, node, "a row is appended under a comparison with ==")
        assert isinstance(op, arith.CmpiOp)
        left, right = (values.get(side, _constant(side)) for side in (op.lhs, op.rhs))
        if left is None or right is None:
            fail(node, "a row is appended by the index of the task")
        condition = left - right
        same = tasks.expected.comparer.same_zeros(condition, tasks.indices, region.guard)
        require(same, node, f"@{name} is accessed under another condition")

    def _partial(self, node: syntax.Expression, op: tile.AttentionOp) -> None:
        region = self.region(op.partial)
        group, units, size = op.shape
        self.site.packets(node, region, aligned=True)
        box = [region.extent(d).equals(n) for d, n in enumerate((group, units, size + 2))]
        right = all(box) and region.spans(2, region.buffer.shape[2])
        right = right and region.buffer.element == "float"
        require(right, node, "the partial results have another shape")


def _constant(value: SSAValue) -> Expr | None:
    constant = value.owner.value if isinstance(value.owner, arith.ConstantOp) else None
    return Expr.const(constant.value.data) if isinstance(constant, IntegerAttr) else None
