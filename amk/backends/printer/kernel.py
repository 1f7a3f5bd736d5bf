"""Prints the body of a `tile.kernel`, bound as one family binds it, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.ir import Block, Operation, SSAValue

from amk.backends.printer.bindings import C_TYPES, Binding
from amk.backends.printer.scalars import (
    float_literal,
    literal,
    scalar_c_type,
    scalar_expression,
)
from amk.backends.printer.text import Writer
from amk.dialects import tile
from amk.errors import AmkError
from amk.ir.location import location_of

INT_MAX = 2**31 - 1


def stream_of(
    op: tile.ProductOp, bindings: Mapping[SSAValue, Binding], instances: int, instance: str
) -> str:
    """The packed weights of one instance, as an `amk::Stream`."""
    binding = bindings[op.weights]
    buffer = binding.buffer
    rows, columns = buffer.type.get_shape()[-2:]
    element = C_TYPES[buffer.element]
    base = f"b.{buffer.spelling}"
    if len(buffer.type.get_shape()) == 3:
        layer = binding.variables.print(binding.access.dims[0].lo)
        layer = layer if layer.isidentifier() or layer.isdigit() else f"({layer})"
        base += f" + {layer} * amk::layer_bytes<{element}, {columns}>({rows})"
    blocks = rows // tile.ROWS_PER_TILE
    return f"amk::Stream<{element}, {columns}>{{{base}, {blocks}, {instances}, {instance}}}"


@dataclass(frozen=True)
class Split:
    """A region in two: what may run before the input of the task has arrived, and the rest."""

    early: list[Operation]
    late: list[Operation]
    captured: list[SSAValue]
    """Early results, constants apart, that the late part needs."""


class KernelPrinter:
    """Prints one kernel for one family.

    `bindings` are those of the memref parameters, `indices` the C++ spelling of the index
    parameters, `instance` that of the index of the family.
    """

    def __init__(
        self,
        writer: Writer,
        bindings: Mapping[SSAValue, Binding],
        indices: Mapping[SSAValue, str],
        instances: int,
        instance: str,
    ) -> None:
        self.writer = writer
        self.bindings = bindings
        self.instances = instances
        self.instance = instance
        self.names: dict[SSAValue, str] = dict(indices)
        self.values = 0
        self.locals: set[str] = set()
        self.fast = False

    def print(self, kernel: tile.KernelOp) -> None:
        self.fast = kernel.fast is not None
        handlers: dict[type[Operation], Callable[..., None]] = {
            tile.ProductOp: self._product,
            tile.MapOp: self._map,
            tile.AttentionOp: self._attention,
            tile.CombineOp: self._combine,
            tile.ArgmaxOp: self._argmax,
            tile.ReceiveOp: self._receive,
            tile.StoreOp: self._store,
            tile.StopOp: self._stop,
        }
        for op in kernel.body.block.ops:
            handler = handlers.get(type(op))
            if handler is not None:
                handler(op)
            else:
                self._scalar(op)

    @property
    def _functions(self) -> str:
        """Where the primitives take their exponentials and divisions from."""
        return "amk::Fast" if self.fast else "amk::Exact"

    # ---- scalar operations -----------------------------------------------------------------

    def _fresh(self) -> str:
        self.values += 1
        return f"v{self.values - 1}"

    def _local(self, name: str) -> str:
        """`name`, or one like it that the task does not use yet."""
        number, result = 1, name
        while result in self.locals:
            number += 1
            result = f"{name}{number}"
        self.locals.add(result)
        return result

    def _scalar(self, op: Operation) -> None:
        """`const T v = …;` (a constant is written where it is used)."""
        if isinstance(op, arith.ConstantOp):
            self.names[op.result] = literal(op)
            return
        name, expression = self._fresh(), self._expression(op)
        result = op.results[0]
        type_ = scalar_c_type(result.type, location_of(op))
        self.writer.line(f"const {type_} {name} = {expression};")
        self.names[result] = name

    def _expression(self, op: Operation) -> str:
        operands = [self.names[v] for v in op.operands if v in self.names]
        if isinstance(op, tile.LoadOp):
            return self._load(op)
        return scalar_expression(op, operands, fast=self.fast)

    def _load(self, op: tile.LoadOp) -> str:
        binding = self.bindings[op.memory]
        wide = binding.buffer.size > INT_MAX
        terms: list[str] = []
        for index, stride in zip(op.indices, binding.strides, strict=True):
            if (name := self.names[index]) != "0":
                name = f"long({name})" if wide else name
                terms.append(name if stride == 1 else f"{name} * {stride}")
        if binding.buffer.space == "host":
            return f"amk::load_host({' + '.join([binding.pointer(), *terms])})"
        element = f"({binding.pointer()})[{' + '.join(terms) or '0'}]"
        return f"amk::to_float({element})" if binding.buffer.element == "bf16" else element

    def _is_early(self, op: Operation, late: set[SSAValue]) -> bool:
        """Whether the operation may run before the task's input has arrived.

        Only constants may be read early: what earlier tasks write may not be there yet.
        """
        if isinstance(op, tile.YieldOp) or any(v in late for v in op.operands):
            return False
        return not isinstance(op, tile.LoadOp) or self.bindings[op.memory].buffer.is_constant

    def _split(self, block: Block, late_arguments: Iterable[SSAValue]) -> Split:
        """The operations of a region that can run early, and the rest."""
        late = set(late_arguments)
        early_ops: list[Operation] = []
        late_ops: list[Operation] = []
        for op in block.ops:
            if self._is_early(op, late):
                early_ops.append(op)
            else:
                late_ops.append(op)
                late.update(op.results)
        used = {v for op in late_ops for v in op.operands}
        captured: list[SSAValue] = [
            op.results[0]
            for op in early_ops
            if not isinstance(op, arith.ConstantOp) and op.results[0] in used
        ]
        return Split(early_ops, late_ops, captured)

    def _declare_early(self, name: str, split: Split, copies: int) -> list[dict[SSAValue, str]]:
        """Declare the struct `name` of what the late part captures; its fields for each copy."""
        fields: list[dict[SSAValue, str]] = []
        declared: list[str] = []
        for _ in range(copies):
            names = {value: self._fresh() for value in split.captured}
            declared += [f"{scalar_c_type(v.type)} {n};" for v, n in names.items()]
            fields.append({value: f"c.{field}" for value, field in names.items()})
        if declared:
            self.writer.line(f"struct {name} {{ {' '.join(declared)} }};")
        return fields

    def _early_lambda(
        self,
        name: str,
        argument: str,
        copies: Sequence[Mapping[SSAValue, str]],
        split: Split,
        fields: Sequence[Mapping[SSAValue, str]],
    ) -> None:
        """Print the lambda that computes what the late part captures, as a struct `name`."""
        if not split.captured:
            self.writer.line("[&](int) { return amk::Nothing{}; },")
            for op in split.early:
                if isinstance(op, arith.ConstantOp):
                    self.names[op.result] = literal(op)
            return
        with self.writer.block(f"[&](int {argument})", "},"):
            self.writer.line(f"{name} c;")
            for arguments, names in zip(copies, fields, strict=True):
                self.names.update(arguments)
                for op in split.early:
                    self._scalar(op)
                for value, field in names.items():
                    self.writer.line(f"{field} = {self.names[value]};")
            self.writer.line("return c;")

    # ---- outputs ---------------------------------------------------------------------------

    def _rows_per_lane(self, outs: Sequence[SSAValue], counts: Sequence[int]) -> int:
        """Copies of a region that one lane runs, so that it fills whole packets."""
        odd_pairs = any(
            self.bindings[out].buffer.is_packet
            and self.bindings[out].buffer.element == "bf16"
            and count % 2
            for out, count in zip(outs, counts, strict=True)
        )
        return 2 if odd_pairs else 1

    def _declare_outputs(self, outs: Sequence[SSAValue]) -> list[str]:
        """Variables for the outputs of a task, so that regions stay short."""
        names: list[str] = []
        for out in outs:
            binding = self.bindings[out]
            binding.check_contiguous()
            name = self._local(f"out_{binding.buffer.spelling}")
            if binding.buffer.is_packet:
                self.writer.line(f"const auto {name} = {binding.packets()};")
            else:
                element = C_TYPES[binding.buffer.element]
                self.writer.line(f"{element}* const {name} = {binding.pointer()};")
            names.append(name)
        return names

    def _write_outputs(
        self,
        outs: Sequence[SSAValue],
        names: Sequence[str],
        counts: Sequence[int],
        copies: Sequence[Sequence[str]],
        first: str,
    ) -> None:
        """Store what the copies of a region yielded; `first` is the first copy's group index."""
        position = 0
        for out, name, count in zip(outs, names, counts, strict=True):
            values = [v for copy in copies for v in copy[position : position + count]]
            position += count
            start = first if count == 1 else f"{first} * {count}"
            self._write(self.bindings[out], name, start, values)

    def _write(self, binding: Binding, name: str, start: str, values: Sequence[str]) -> None:
        element = binding.buffer.element
        if not binding.buffer.is_packet:
            for offset, value in enumerate(values):
                index = start if offset == 0 else f"{start} + {offset}"
                stored = f"amk::from_float<amk::bf16>({value})" if element == "bf16" else value
                self.writer.line(f"{name}[{index}] = {stored};")
            return
        width = 2 if element == "bf16" else 1
        for offset in range(0, len(values), width):
            index = start if offset == 0 else f"{start} + {offset}"
            payload = ", ".join(values[offset : offset + width])
            self.writer.line(f"amk::send({name}, {index}, {payload});")

    def _run_copy(self, ops: Sequence[Operation], arguments: Mapping[SSAValue, str]) -> list[str]:
        """Print one copy of (the late part of) a region; the spelling of what it yields."""
        self.names.update(arguments)
        for op in ops:
            if isinstance(op, tile.YieldOp):
                return [self.names[v] for v in op.values]
            self._scalar(op)
        return []

    # ---- heavy operations ------------------------------------------------------------------

    def _input(self, value: SSAValue) -> str:
        binding = self.bindings[value]
        if binding.buffer.is_packet:
            return binding.packets()
        binding.check_contiguous()
        element = C_TYPES[binding.buffer.element]
        return f"amk::Plain<{element}>{{{binding.pointer()}}}"

    def _product(self, op: tile.ProductOp) -> None:
        group = op.group.value.data
        copies = self._rows_per_lane(op.outs, op.out_counts)
        weights = self.bindings[op.weights]
        element = C_TYPES[weights.buffer.element]
        columns = weights.buffer.type.get_shape()[-1]
        rows = weights.variables.print(weights.size(0))
        outs = self._declare_outputs(op.outs)
        best = self._declare_best(op)
        stream = self._stream(op)
        argmax = "true" if best else "false"
        columns_split = self._split(op.prologue.block, op.prologue.block.args[1:])
        rows_split = self._split(op.epilogue.block, op.epilogue.block.args[1:])
        column_type, row_type = self._local("AtColumn"), self._local("AtRow")
        at_column = self._declare_early(column_type, columns_split, 1)
        at_row = self._declare_early(row_type, rows_split, copies)
        self.writer.line(
            f"amk::product<{element}, {columns}, {group * copies}, {argmax}>(w, {stream},"
        )
        self.writer.depth += 2
        self.writer.line(f"{self._input(op.input)}, {rows},")
        self._prologue(op, column_type, columns_split, at_column)
        self._epilogue(op, outs, row_type, rows_split, at_row)
        self._finish(best)
        self.writer.depth -= 2

    def _stream(self, op: tile.ProductOp) -> str:
        return stream_of(op, self.bindings, self.instances, self.instance)

    def _declare_best(self, op: tile.ProductOp) -> list[str]:
        """Variables for the packets of the best value and of its index."""
        for out in op.best:
            self.bindings[out].packets()  # an error where they are none
        return self._declare_outputs(op.best)

    def _prologue(
        self,
        op: tile.ProductOp,
        early: str,
        split: Split,
        fields: Sequence[Mapping[SSAValue, str]],
    ) -> None:
        k, x = op.prologue.block.args
        self._early_lambda(early, "k", [{k: "k"}], split, fields)
        capture = f"const {early}& c" if split.captured else "amk::Nothing"
        stat = "float& stat" if op.has_stat else "float&"
        with self.writer.block(f"[&](int k, float x, {capture}, {stat}) -> float", "},"):
            values = self._run_copy(split.late, {k: "k", x: "x", **fields[0]})
            if op.has_stat:
                self.writer.line(f"stat = amk::add(stat, {values[1]});")
            self.writer.line(f"return {values[0]};")

    def _epilogue(
        self,
        op: tile.ProductOp,
        outs: Sequence[str],
        early: str,
        split: Split,
        fields: Sequence[Mapping[SSAValue, str]],
    ) -> None:
        r, *rest = op.epilogue.block.args
        group, copies = op.group.value.data, len(fields)
        index = "r" if group == 1 else f"(r / {group})"
        places: list[dict[SSAValue, str]] = [
            {r: f"({index} + {j})" if j else index} for j in range(copies)
        ]
        self._early_lambda(early, "r", places, split, fields)
        capture = f"const {early}& c" if split.captured else "amk::Nothing"
        best = "amk::Best& best" if op.best else "amk::Best&"
        head = f"[&](int r, const float (&y)[{group * copies}], float stat, {capture}, {best})"
        with self.writer.block(head, "},"):
            yielded: list[list[str]] = []
            for j, (place, names) in enumerate(zip(places, fields, strict=True)):
                arguments = {**place, **names}
                arguments |= {rest[e]: f"y[{j * group + e}]" for e in range(group)}
                if op.has_stat:
                    arguments[rest[group]] = "stat"
                values = self._run_copy(split.late, arguments)
                if op.best:
                    self.writer.line(f"best.take({values[-2]}, {values[-1]});")
                yielded.append(values)
            self._write_outputs(op.outs, outs, op.out_counts, yielded, index)

    def _finish(self, best: Sequence[str]) -> None:
        if not best:
            self.writer.line("[&](amk::Best) {});")
            return
        with self.writer.block("[&](amk::Best best)", "});"):
            self.writer.line(f"amk::send({best[0]}, 0, best.value);")
            self.writer.line(f"amk::send({best[1]}, 0, best.index);")

    def _map(self, op: tile.MapOp) -> None:
        copies = self._rows_per_lane(op.outs, op.out_counts)
        outs = self._declare_outputs(op.outs)
        binding = self.bindings[op.outs[0]]
        count = binding.variables.print(binding.size(0) // op.out_counts[0])
        (i,) = op.body.block.args
        with self.writer.block(f"amk::map<{copies}>(w, {count}, [&](int r)", "});"):
            places = [f"(r + {j})" if j else "r" for j in range(copies)]
            yielded = [self._run_copy(list(op.body.block.ops), {i: place}) for place in places]
            self._write_outputs(op.outs, outs, op.out_counts, yielded, "r")

    def _attention(self, op: tile.AttentionOp) -> None:
        group, units, size = op.shape
        if self.bindings[op.query].buffer.element == "bf16" and size % 4:
            raise AmkError(
                f"bf16 packets of a head of {size} elements do not start at 16 bytes: lower with "
                f"exchange=f32, or use dtype f32",
                location=location_of(op),
            )
        partial = self.bindings[op.partial]
        caches = [self.bindings[v] for v in (op.key_cache, op.value_cache)]
        parts = partial.buffer.type.get_shape()[1]
        storage = C_TYPES[caches[0].buffer.element]
        rows = caches[0].variables.print(caches[0].size(0))
        template = f"{storage}, {size}, {group}, {units}, {parts // units}, {self._functions}"
        self.writer.line(f"amk::attention<{template}>(w,")
        self.writer.depth += 2
        for value in (op.query, op.key, op.value):
            self.writer.line(f"{self.bindings[value].packets()},")
        self.writer.line(f"{self.names[op.append]},")
        for cache in caches:
            self.writer.line(f"{cache.pointer()},")
        self.writer.line(f"{rows}, {float_literal(op.scale.value.data)}, {partial.packets()});")
        self.writer.depth -= 2

    def _combine(self, op: tile.CombineOp) -> None:
        values = self.bindings[op.values]
        _, parts, width = values.buffer.type.get_shape()
        head, _, columns = values.access.dims
        copies = self._rows_per_lane(op.outs, op.out_counts)
        outs = self._declare_outputs(op.outs)
        first = values.variables.print(head.lo * (width - 2) + columns.lo)
        size = values.size(1)
        count = values.variables.print(size)
        about = size.value if size.is_const else width - 2
        epoch = values.epoch()
        partial = (
            f"amk::Packets<float>{{b.{values.buffer.spelling}, {epoch}, {values.buffer.number}}}"
        )
        self.writer.line(
            f"amk::combine<{width - 2}, {parts}, {copies}, {about}, {self._functions}>"
            f"(w, {partial}, {first}, {count},"
        )
        self.writer.depth += 2
        r, y = op.epilogue.block.args
        with self.writer.block(f"[&](int r, const float (&y)[{copies}])", "});"):
            yielded = [
                self._run_copy(
                    list(op.epilogue.block.ops), {r: f"(r + {j})" if j else "r", y: f"y[{j}]"}
                )
                for j in range(copies)
            ]
            self._write_outputs(op.outs, outs, op.out_counts, yielded, "r")
        self.writer.depth -= 2

    def _argmax(self, op: tile.ArgmaxOp) -> None:
        values = self.bindings[op.values]
        name = self._fresh()
        count = values.variables.print(values.size(0))
        self.writer.line(
            f"const int {name} = amk::argmax(w, {values.packets()}, "
            f"{self.bindings[op.indices].packets()}, {count});"
        )
        self.names[op.result] = name

    def _receive(self, op: tile.ReceiveOp) -> None:
        name = self._fresh()
        type_ = scalar_c_type(op.result.type, location_of(op))
        view = self.bindings[op.memory].packets()
        self.writer.line(f"const {type_} {name} = amk::receive(w, {view});")
        self.names[op.result] = name

    def _store(self, op: tile.StoreOp) -> None:
        binding = self.bindings[op.memory]
        if len(op.indices) != 1:
            raise AmkError("the printer stores to vectors only", location=location_of(op))
        binding.check_contiguous()
        index, value = self.names[op.indices[0]], self.names[op.value]
        if binding.buffer.is_packet:
            function = "send_host" if binding.buffer.space == "host_packet" else "send"
            statement = f"amk::{function}({binding.packets()}, {index}, {value});"
        else:
            if binding.buffer.element == "bf16":
                raise AmkError("tile.store of bf16 is not supported", location=location_of(op))
            statement = f"({binding.pointer()})[{index}] = {value};"
        self.writer.line(f"if (w.leader()) {statement}")

    def _stop(self, op: tile.StopOp) -> None:
        self.writer.line(f"w.stop({self.names[op.condition]});")
