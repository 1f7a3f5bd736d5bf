"""Packing in blocks against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest

from amk.backends.program import StreamLayout
from amk.interpreters.numerics import STEP_COLUMNS, chunk_bounds
from amk.runtime.block_packing import packer_of

STORAGE = {"f32": np.float32, "bf16": np.uint16}


def layout_of(rows: int, columns: int, dtype: str) -> StreamLayout:
    bounds = chunk_bounds(columns, dtype)
    return StreamLayout(1, rows, columns, dtype, 3, bounds, packing="blocks")


def literal_pack(layout: StreamLayout, matrix: np.ndarray) -> np.ndarray:
    """The contract, one value at a time."""
    width = STEP_COLUMNS[layout.dtype]
    padded = np.zeros((layout.blocks * 8, layout.steps * width), matrix.dtype)
    padded[: len(matrix), : layout.columns] = matrix
    values = [
        padded[block * 8 + row, step * width + lane * (width // 4) + column]
        for block in range(layout.blocks)
        for step in range(layout.steps)
        for column in range(width // 4)
        for lane in range(4)
        for row in range(8)
    ]
    return np.array(values, matrix.dtype)


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 16), (21, 70), (64, 33), (530, 40)])
def test_packs_as_the_formula_says(rows: int, columns: int, dtype: str) -> None:
    layout = layout_of(rows, columns, dtype)
    rng = np.random.default_rng(rows)
    order = rng.permutation(rows)
    for chosen in (None, order):
        packer = packer_of(layout, chosen, np)
        for _ in range(2):  # a packer is used for layer after layer
            matrix = rng.integers(1, 2**16, (rows, columns)).astype(STORAGE[dtype])
            out = np.full(layout.layer_bytes, 0xEE, np.uint8)
            packer.pack([matrix[: rows // 3], matrix[rows // 3 :]], out)
            expected = matrix if chosen is None else matrix[chosen]
            np.testing.assert_array_equal(out.view(STORAGE[dtype]), literal_pack(layout, expected))


def test_rows_that_the_sources_leave_are_zero() -> None:
    layout = layout_of(24, 16, "f32")
    out = np.full(layout.layer_bytes, 0xEE, np.uint8)
    matrix = np.ones((19, 16), np.float32)
    packer_of(layout, np.arange(18, -1, -1), np).pack([matrix], out)
    padded = np.concatenate([matrix, np.zeros((5, 16), np.float32)])
    np.testing.assert_array_equal(out.view(np.float32), literal_pack(layout, padded))
