"""Runs the body of a `tile.kernel`, operation by operation, on numpy views of its regions.

The heavy operations are those of `numerics`, so that float32 results equal those of the host and of
the device bit for bit. Regions of scalar operations run once, with arrays for their arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.interpreter import (
    Interpreter,
    PythonValues,
    ReturnedValues,
    TerminatorValue,
    impl,
    impl_terminator,
    register_impls,
)
from xdsl.ir import Operation, Region

from amk.dialects import tile
from amk.errors import AmkError
from amk.interpreters import numerics
from amk.interpreters.memory import View
from amk.interpreters.scalars import ScalarFunctions
from amk.ir.location import location_of

_DTYPE_OF_PACKING = {"dot": "f32", "mma": "bf16"}


class _LastOp(Interpreter.Listener):
    """Remembers which operation runs, for error messages."""

    op: Operation | None = None

    def will_interpret_op(self, op: Operation, args: PythonValues) -> None:
        self.op = op


class Kernels:
    """The kernels of a module, ready to run."""

    def __init__(self, module: ModuleOp) -> None:
        self._kernels = {
            op.sym_name.data: op for op in module.body.block.ops if isinstance(op, tile.KernelOp)
        }
        self._functions = KernelFunctions()
        self._interpreter = Interpreter(module)
        self._interpreter.register_implementations(self._functions)
        self._last = _LastOp()
        self._interpreter.listeners = (self._last,)

    def find(self, name: str) -> tile.KernelOp:
        """The kernel `name`; AmkError if there is none."""
        if name not in self._kernels:
            raise AmkError(f"there is no tile.kernel @{name}")
        return self._kernels[name]

    def decides(self, name: str) -> bool:
        """Whether the kernel decides if the token loop ends."""
        return any(isinstance(op, tile.StopOp) for op in self.find(name).walk())

    def run(self, name: str, arguments: Sequence[View | int]) -> bool | None:
        """Run a kernel on views and indices; what its `tile.stop` decided, None without one.

        Raises AmkError, located, where an operation cannot run.
        """
        kernel = self.find(name)
        expected = len(kernel.body.block.args)
        if len(arguments) != expected:
            raise AmkError(
                f"kernel @{name} has {expected} parameters, but {len(arguments)} arguments",
                location=location_of(kernel),
            )
        self._functions.decision = None
        try:
            with np.errstate(all="ignore"):
                self._interpreter.run_ssacfg_region(kernel.body, tuple(arguments), name)
        except Exception as error:
            # xDSL attaches a print of the whole module to whatever an operation raises.
            op = self._last.op or kernel
            raise AmkError(f"kernel @{name}: {error}", location=location_of(op)) from None
        return self._functions.decision


@register_impls
class KernelFunctions(ScalarFunctions):
    """The `tile` operations; a memref is a `View`, `decision` what tile.stop said."""

    def __init__(self) -> None:
        super().__init__()
        self.decision: bool | None = None

    @impl_terminator(tile.YieldOp)
    def run_yield(
        self, interpreter: Interpreter, op: tile.YieldOp, args: PythonValues
    ) -> tuple[TerminatorValue, PythonValues]:
        return ReturnedValues(args), ()

    @impl(tile.LoadOp)
    def run_load(
        self, interpreter: Interpreter, op: tile.LoadOp, args: PythonValues
    ) -> PythonValues:
        return (args[0].load(args[1:]),)

    @impl(tile.StoreOp)
    def run_store(
        self, interpreter: Interpreter, op: tile.StoreOp, args: PythonValues
    ) -> PythonValues:
        args[1].store(args[2:], args[0])
        return ()

    @impl(tile.StopOp)
    def run_stop(
        self, interpreter: Interpreter, op: tile.StopOp, args: PythonValues
    ) -> PythonValues:
        self.decision = bool(args[0]) or bool(self.decision)
        return ()

    @impl(tile.ReceiveOp)
    def run_receive(
        self, interpreter: Interpreter, op: tile.ReceiveOp, args: PythonValues
    ) -> PythonValues:
        return (args[0].load([0]),)

    @impl(tile.ArgmaxOp)
    def run_argmax(
        self, interpreter: Interpreter, op: tile.ArgmaxOp, args: PythonValues
    ) -> PythonValues:
        return (_best(args[0].read(), args[1].read())[1],)

    @impl(tile.ProductOp)
    def run_product(
        self, interpreter: Interpreter, op: tile.ProductOp, args: PythonValues
    ) -> PythonValues:
        weights, x = args[0].array, args[1].read()
        dtype = _DTYPE_OF_PACKING[op.packing]
        columns = len(x)
        mapped = _run(interpreter, op.prologue, (np.arange(columns), x), "prologue")
        operand, *stat = (_spread(value, columns, np.float32) for value in mapped)
        product = numerics.product_f32 if dtype == "f32" else numerics.product_bf16
        rows = product(weights, operand)
        group = op.group.value.data
        if len(rows) % group:
            raise AmkError(f"{len(rows)} rows are no whole groups of {group}")
        count = len(rows) // group
        groups = rows.reshape(count, group)
        extra = [numerics.stat_reduce(values, dtype) for values in stat]
        inputs = (np.arange(count), *(groups[:, g] for g in range(group)), *extra)
        results = _run(interpreter, op.epilogue, inputs, "epilogue")
        outs = args[2 : 2 + len(op.outs)]
        rest = _write_outs(outs, op.out_counts, results, count)
        if rest:
            value, index = _best(
                _spread(rest[0], count, np.float32), _spread(rest[1], count, np.int32)
            )
            for view, best in zip(args[2 + len(op.outs) :], (value, index), strict=True):
                view.store([0], best)
        return ()

    @impl(tile.MapOp)
    def run_map(self, interpreter: Interpreter, op: tile.MapOp, args: PythonValues) -> PythonValues:
        counts = {len(v.array) // n for v, n in zip(args, op.out_counts, strict=True) if n}
        if len(counts) != 1:
            raise AmkError("the outputs of tile.map have different numbers of elements")
        count = counts.pop()
        results = _run(interpreter, op.body, (np.arange(count),), "map")
        _write_outs(args, op.out_counts, results, count)
        return ()

    @impl(tile.AttentionOp)
    def run_attention(
        self, interpreter: Interpreter, op: tile.AttentionOp, args: PythonValues
    ) -> PythonValues:
        query, key, value, key_cache, value_cache, append, key_row, value_row, partial = args
        keys, values = key_cache.read(), value_cache.read()
        if append:
            # The new row takes part as it is stored: rounded where the cache is bf16.
            key_row.write(key.read())
            value_row.write(value.read())
            keys = np.concatenate([keys, key_row.read()[None]])
            values = np.concatenate([values, value_row.read()[None]])
        group, units, size = op.shape
        queries = query.read().reshape(group, size)
        scale = op.scale.value.data
        parts = [
            numerics.attention_partial(queries, keys, values, scale, unit, units)
            for unit in range(units)
        ]
        partial.write(np.stack(parts, axis=1))
        return ()

    @impl(tile.CombineOp)
    def run_combine(
        self, interpreter: Interpreter, op: tile.CombineOp, args: PythonValues
    ) -> PythonValues:
        merged = numerics.combine(np.concatenate([args[0].read(), args[1].read()], axis=1))
        inputs = (np.arange(len(merged)), merged)
        results = _run(interpreter, op.epilogue, inputs, "epilogue")
        _write_outs(args[2:], op.out_counts, results, len(merged))
        return ()


def _run(
    interpreter: Interpreter, region: Region, inputs: tuple[Any, ...], name: str
) -> PythonValues:
    return interpreter.run_ssacfg_region(region, inputs, name)


def _spread(value: Any, count: int, dtype: type) -> np.ndarray:
    """One value for each element, where a region yielded one for all."""
    return np.broadcast_to(np.asarray(value, dtype), (count,))


def _write_outs(
    outs: Sequence[View], counts: Sequence[int], values: Sequence[Any], groups: int
) -> Sequence[Any]:
    """Store `counts[j]` neighbouring elements of output j for each group; the values left over."""
    at = 0
    for view, count in zip(outs, counts, strict=True):
        columns = [np.broadcast_to(v, (groups,)) for v in values[at : at + count]]
        view.write(np.stack(columns, axis=1).reshape(-1))
        at += count
    return values[at:]


def _best(values: np.ndarray, indices: np.ndarray) -> tuple[Any, Any]:
    """The largest value and the smallest index that goes with it; NaN never wins."""
    comparable = np.where(np.isnan(values), np.float32(-np.inf), values)
    top = comparable.max()
    return top, indices[comparable == top].min()
