"""Packing of streamed weights: each instance's bytes in the order in which it consumes them.

The unit is a *piece*: the 64 bytes of one row and one step (4 lanes of 16 bytes). A packed layer is
a permutation of the pieces of the zero-padded matrix, so packing is one gather with an index that
all layers share. Works on numpy and CuPy arrays alike (`xp` is the array module).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from amk.backends.program import ROW_BLOCK, STEP_BYTES, StreamLayout
from amk.errors import AmkError

PIECE_BYTES = STEP_BYTES // ROW_BLOCK
"""One row of one step."""
_WORDS = PIECE_BYTES // 8
_STORAGE = {"f32": np.dtype(np.float32), "bf16": np.dtype(np.uint16)}


def piece_index(layout: StreamLayout, order: np.ndarray | None = None) -> np.ndarray:
    """For each piece of a packed layer, its index (int32) in the padded matrix: row * steps + step.

    `order` names, for each row of the product, the row of the matrix that it is read from.
    """
    rows = np.arange(layout.blocks * ROW_BLOCK, dtype=np.int64)
    if order is not None:
        rows[: len(order)] = order
    if len(rows) * layout.steps >= 2**31:
        raise AmkError(f"a layer of {layout.rows}x{layout.columns} is too large to pack")
    first = (rows * layout.steps).astype(np.int32).reshape(-1, ROW_BLOCK)
    lo = np.arange(layout.instances + 1, dtype=np.int64) * layout.blocks // layout.instances
    depth = layout.blocks // layout.instances
    everyone = lo[None, :-1] + np.arange(depth)[:, None]
    longer = lo[:-1][np.diff(lo) > depth] + depth
    return np.concatenate(
        [_by_chunk(first[blocks], layout.chunk_bounds) for blocks in (everyone, longer[None, :])]
    )


def _by_chunk(first: np.ndarray, bounds: tuple[int, ...]) -> np.ndarray:
    """Pieces in the order depth, chunk, instance, step, row.

    `first` [depth, instance, row] holds the pieces of step 0.
    """
    depth, instances, rows = first.shape
    parts = [
        (first[:, :, None, :] + np.arange(a, b, dtype=np.int32)[:, None]).reshape(
            depth, instances * rows * (b - a)
        )
        for a, b in pairwise(bounds)
    ]
    return np.concatenate(parts, axis=1).reshape(-1)


class Packer:
    """Packs the layers of one streamed constant, one tensor and one layer at a time.

    Holds one padded layer and the index; `xp` is numpy, or cupy to pack on the GPU.
    """

    def __init__(self, layout: StreamLayout, order: np.ndarray | None, xp: Any = np) -> None:
        """`order` is the `row_order` of the constant."""
        self._xp = xp
        self._index = xp.asarray(piece_index(layout, order))
        dtype = _STORAGE[layout.dtype]
        width = layout.steps * PIECE_BYTES // dtype.itemsize
        self._matrix = xp.zeros((layout.blocks * ROW_BLOCK, width), dtype)

    def pack(self, sources: Iterable[np.ndarray], out: Any) -> None:
        """Pack the matrices `sources` of one layer into `out` (uint8 [layer_bytes] of `xp`).

        Every call gives the same shapes; rows that they leave at the end are zero.
        """
        row = 0
        for values in sources:
            self._place(row, values)
            row += len(values)
        pieces = self._matrix.view(np.uint64).reshape(-1, _WORDS)
        target = out.view(np.uint64).reshape(-1, _WORDS)
        if self._xp is np:
            # Without a mode, numpy gathers into a temporary first.
            np.take(pieces, self._index, axis=0, out=target, mode="clip")
        else:
            self._xp.take(pieces, self._index, axis=0, out=target)

    def _place(self, row: int, values: np.ndarray) -> None:
        rows, columns = values.shape
        target = self._matrix[row : row + rows]
        if self._xp is not np and columns == target.shape[1]:
            target.set(np.ascontiguousarray(values))  # straight from host memory, no temporary
        else:
            target[:, :columns] = self._xp.asarray(values)


def unpack(layout: StreamLayout, packed: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """The inverse: the matrix [rows, columns] (float32, or bfloat16 bits) of one packed layer."""
    dtype = _STORAGE[layout.dtype]
    pieces = np.empty((layout.blocks * ROW_BLOCK * layout.steps, _WORDS), np.uint64)
    pieces[piece_index(layout, order)] = packed.view(np.uint64).reshape(-1, _WORDS)
    matrix = pieces.view(dtype).reshape(layout.blocks * ROW_BLOCK, -1)
    return matrix[: layout.rows, : layout.columns]
