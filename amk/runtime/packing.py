"""Packing of streamed weights: each instance's bytes in the order in which it consumes them.

The unit is a *piece*: the 64 bytes of one row and one step (4 lanes of 16 bytes). A packed layer is
a permutation of the pieces of the zero-padded matrix. Where a piece goes is a sum of a term of its
row, a term of its step and products of the two, so rows can be packed as they come, some at a time,
by arithmetic on the device alone. Works on numpy and CuPy arrays alike (`xp` is the array module).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from amk.backends.program import ROW_BLOCK, STEP_BYTES, StreamLayout
from amk.errors import AmkError

PIECE_BYTES = STEP_BYTES // ROW_BLOCK
"""One row of one step."""
_WORDS = PIECE_BYTES // 8
_STORAGE = {"f32": np.dtype(np.float32), "bf16": np.dtype(np.uint16)}


class Packer:
    """Packs the layers of one streamed constant, some rows at a time.

    Holds three numbers for each row and each step; `xp` is numpy, or cupy to pack on the GPU.
    """

    def __init__(self, layout: StreamLayout, order: np.ndarray | None, xp: Any = np) -> None:
        """`order` is the `row_order` of the constant."""
        if layout.layer_bytes // PIECE_BYTES >= 2**31:
            raise AmkError(f"a layer of {layout.rows}x{layout.columns} is too large to pack")
        self._xp = xp
        self._rows = layout.blocks * ROW_BLOCK
        self._dtype = _STORAGE[layout.dtype]
        self._width = layout.steps * PIECE_BYTES // self._dtype.itemsize
        self._first, self._shared, self._slot = (
            xp.asarray(term.reshape(-1, 1)) for term in _row_terms(layout, order)
        )
        self._within, self._before, self._length = (
            xp.asarray(term) for term in _step_terms(layout)
        )

    def pack(self, parts: Iterable[Any], out: Any) -> None:
        """Pack one layer into `out` (uint8 [layer_bytes] of `xp`).

        `parts` are consecutive rows of the sources, [rows, columns] of `xp` in the storage type;
        rows that they leave at the end are zero.
        """
        row = 0
        for values in parts:
            self._place(row, values, out)
            row += len(values)
        if row < self._rows:
            self._place(row, self._xp.zeros((self._rows - row, self._width), self._dtype), out)

    def _place(self, row: int, values: Any, out: Any) -> None:
        rows, columns = values.shape
        if columns != self._width:
            padded = self._xp.zeros((rows, self._width), self._dtype)
            padded[:, :columns] = values
            values = padded
        pieces = self._xp.ascontiguousarray(values).view(np.uint64).reshape(-1, _WORDS)
        out.view(np.uint64).reshape(-1, _WORDS)[self.places(row, rows).reshape(-1)] = pieces

    def places(self, row: int, rows: int) -> Any:
        """Where the pieces of `rows` rows of the sources from `row` on go: int32 [rows, steps]."""
        mine = slice(row, row + rows)
        chunks = self._shared[mine] * self._before + self._slot[mine] * self._length
        return self._first[mine] + self._within + chunks


def _row_terms(layout: StreamLayout, order: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """For each row of the sources (int32): its piece of step 0 if there were one chunk only, how
    many instances have a block at the same depth, and which of those it belongs to."""
    blocks, instances = layout.blocks, layout.instances
    lo = np.arange(instances + 1, dtype=np.int64) * blocks // instances
    shortest = blocks // instances
    block = np.arange(blocks)
    instance = np.searchsorted(lo, block, side="right") - 1
    depth = block - lo[instance]
    full = depth < shortest
    shared = np.where(full, instances, blocks % instances)
    slot = np.where(full, instance, lo[instance] - instance * shortest)
    start = depth * instances * layout.steps * ROW_BLOCK
    rows = np.arange(blocks * ROW_BLOCK)
    if order is not None:
        # Row d of the product is row order[d] of the sources.
        rows[order] = np.arange(len(order))
    terms = start[rows // ROW_BLOCK] + rows % ROW_BLOCK, shared[rows // 8], slot[rows // 8]
    return tuple(term.astype(np.int32) for term in terms)


def _step_terms(layout: StreamLayout) -> tuple[np.ndarray, ...]:
    """For each step, in pieces (int32): from the start of its chunk to it, from the first chunk to
    its chunk for one instance, and the length of its chunk."""
    bounds = np.array(layout.chunk_bounds, np.int64)
    lengths = np.diff(bounds)
    before = np.repeat(bounds[:-1], lengths)
    terms = np.arange(layout.steps) - before, before, np.repeat(lengths, lengths)
    return tuple((term * ROW_BLOCK).astype(np.int32) for term in terms)


def unpack(layout: StreamLayout, packed: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """The inverse: the rows of the sources (float32, or bfloat16 bits) of one packed layer."""
    places = Packer(layout, order).places(0, layout.blocks * ROW_BLOCK)
    pieces = packed.view(np.uint64).reshape(-1, _WORDS)[places.reshape(-1)]
    matrix = pieces.view(_STORAGE[layout.dtype]).reshape(layout.blocks * ROW_BLOCK, -1)
    return matrix[: layout.rows, : layout.columns]
