"""The values of `tile.constant` ops, computed from a checkpoint one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from xdsl.dialects.builtin import BFloat16Type, ModuleOp

from amk.dialects.tile import ROWS_PER_TILE, ConstantOp
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16
from amk.frontend.checkpoint import Checkpoint
from amk.interpreters.nn import rope_table


class Weights(Protocol):
    """The part of a checkpoint that constants are made from."""

    def read(self, key: str) -> np.ndarray:
        """Values in float32."""
        ...

    def read_bf16(self, key: str) -> np.ndarray:
        """Values as bfloat16 bit patterns (uint16); wider ones are rounded to nearest even."""
        ...


def constants_of(module: ModuleOp) -> dict[str, ConstantOp]:
    """Every `tile.constant` of `module` by its symbol name."""
    return {op.sym_name.data: op for op in module.walk() if isinstance(op, ConstantOp)}


def is_layered(op: ConstantOp) -> bool:
    """Whether the first dimension of the constant counts layers."""
    return any("{layer}" in key for key in op.source_keys)


def layer_count(op: ConstantOp) -> int:
    """How many layers the constant has; 1 where its sources do not depend on a layer."""
    return op.type.get_shape()[0] if is_layered(op) else 1


def layer_shape(op: ConstantOp) -> tuple[int, ...]:
    """The shape of one layer: that of the constant without its layer dimension."""
    shape = op.type.get_shape()
    return shape[1:] if is_layered(op) else shape


def layer_values(op: ConstantOp, weights: Weights, layer: int) -> np.ndarray:
    """Layer `layer`, of shape `layer_shape(op)`: float32, or bfloat16 bit patterns as uint16.

    Raises AmkError where the parameters do not have the shape that the constant declares.
    """
    if op.kind.data != "rows":
        return _rope_values(op)
    sources = list(source_values(op, weights, layer))
    order = row_order(op, [len(source) for source in sources])
    rows = sources[0] if len(sources) == 1 else np.concatenate(sources)
    if order is not None:
        rows = rows[order]
    shape = layer_shape(op)
    if len(rows) < shape[0]:
        padding = np.zeros((shape[0] - len(rows), *rows.shape[1:]), rows.dtype)
        rows = np.concatenate([rows, padding])
    return rows


def source_values(
    op: ConstantOp, weights: Weights, layer: int, *, stored: bool = False
) -> Iterator[np.ndarray]:
    """The parameters of one layer in the storage type of the constant, rows not reordered.

    Each is read when it is asked for. The constant may have a few rows more, up to whole tiles:
    those are zero. With `stored`, the parameters of a checkpoint come in its own type, for
    `in_storage_type`. Raises AmkError where the rows, or the columns of a parameter, do not fit.
    """
    read = weights.read_bf16 if _is_bf16(op) else weights.read
    if stored and isinstance(weights, Checkpoint):
        read = weights.stored
    rows, *columns = layer_shape(op)
    seen = 0
    for key in op.source_keys:
        values = read(key.replace("{layer}", str(layer)))
        seen += len(values)
        if list(values.shape[1:]) != columns or seen > rows:
            raise _misfit(op, key, layer, values.shape)
        yield values
    if rows not in (seen, -(-seen // ROWS_PER_TILE) * ROWS_PER_TILE):
        raise _misfit(op, op.source_keys[-1], layer, (seen, *columns))


def in_storage_type(op: ConstantOp, values: Any, xp: Any) -> Any:
    """Rows in float32, float16 or bf16 bit patterns, in the storage type of the constant.

    The same bits as `Weights.read` and `read_bf16` give; `xp` is the array module of `values`.
    """
    if _is_bf16(op):
        return values if values.dtype == np.uint16 else to_bf16(values, xp)
    if values.dtype == np.uint16:
        return from_bf16(values, xp)
    return values if values.dtype == np.float32 else values.astype(np.float32)


def _is_bf16(op: ConstantOp) -> bool:
    return isinstance(op.type.element_type, BFloat16Type)


def row_order(op: ConstantOp, counts: list[int]) -> np.ndarray | None:
    """For each row of a layer, its place among the rows of the sources one after another.

    `counts` are the rows of the sources. None where the order is kept.
    """
    if op.interleave is None and not any(op.source_pairs):
        return None
    starts = np.cumsum([0, *counts[:-1]])
    orders = [
        start + _paired(count, head) if head else start + np.arange(count)
        for start, count, head in zip(starts, counts, op.source_pairs, strict=True)
    ]
    if op.interleave is None:
        return np.concatenate(orders)
    if len(set(counts)) != 1:
        raise AmkError(f"constant '{op.sym_name.data}' interleaves sources of different sizes")
    return np.stack(orders, axis=1).reshape(-1)


def _paired(rows: int, head: int) -> np.ndarray:
    """Rows of heads of size `head` with rotary partners (d, d + head/2) next to each other."""
    if rows % head or head % 2:
        raise AmkError(f"{rows} rows cannot be paired within heads of {head}")
    return np.arange(rows).reshape(-1, 2, head // 2).swapaxes(1, 2).reshape(-1)


def _rope_values(op: ConstantOp) -> np.ndarray:
    positions, _ = op.type.get_shape()
    assert op.frequencies is not None
    frequencies = np.array(list(op.frequencies.get_values()), np.float64).astype(np.float32)
    cos, sin = rope_table(frequencies, 0, positions)
    return cos if op.kind.data == "rope_cos" else sin


def _misfit(op: ConstantOp, key: str, layer: int, shape: tuple[int, ...]) -> AmkError:
    wanted = "x".join(map(str, layer_shape(op)))
    got = "x".join(map(str, shape))
    return AmkError(
        f"parameter '{key.replace('{layer}', str(layer))}' ({got}) does not fit constant"
        f" '{op.sym_name.data}', which holds {wanted} values a layer"
    )
