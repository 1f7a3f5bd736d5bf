"""Packing of streamed weights in blocks of eight rows, the order of the host target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from amk.backends.program import ROW_BLOCK, StreamLayout
from amk.runtime.packing import Packer

_STORAGE = {"f32": np.dtype(np.float32), "bf16": np.dtype(np.uint16)}
_LANES = 4
_AXES = (0, 2, 4, 3, 1)
"""(block, row, step, lane, column of a lane) in the order (block, step, column, lane, row)."""
_BLOCKS_AT_ONCE = 64
"""Few enough that they stay in a cache."""


class BlockPacker:
    """Packs the layers of one streamed constant; holds one padded layer."""

    def __init__(self, layout: StreamLayout, order: np.ndarray | None) -> None:
        """`order` is the `row_order` of the constant."""
        rows, dtype = layout.blocks * ROW_BLOCK, _STORAGE[layout.dtype]
        width = 64 // dtype.itemsize  # columns of a step
        self._places = np.arange(rows)
        if order is not None:
            self._places[order] = np.arange(len(order))
        self._matrix = np.zeros((rows, layout.steps * width), dtype)
        self._shape = (layout.blocks, ROW_BLOCK, layout.steps, _LANES, width // _LANES)

    def pack(self, parts: Iterable[np.ndarray], out: np.ndarray) -> None:
        """Pack one layer into `out` (uint8 [layer_bytes]).

        `parts` are consecutive rows of the sources in the storage type; every call gives the same
        number of rows, and those that are left at the end are zero.
        """
        row = 0
        for values in parts:
            self._matrix[self._places[row : row + len(values)], : values.shape[1]] = values
            row += len(values)
        tiles = self._matrix.reshape(self._shape)
        target = out.view(tiles.dtype).reshape([self._shape[axis] for axis in _AXES])
        for first in range(0, len(tiles), _BLOCKS_AT_ONCE):
            some = slice(first, first + _BLOCKS_AT_ONCE)
            target[some] = tiles[some].transpose(_AXES)


def packer_of(layout: StreamLayout, order: np.ndarray | None, xp: Any) -> Packer | BlockPacker:
    """What packs a constant of this layout; `xp` is the array module of the device."""
    return BlockPacker(layout, order) if layout.packing == "blocks" else Packer(layout, order, xp)
