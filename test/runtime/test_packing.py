"""Packing against the formula written out, and its inverse."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amk.backends.program import StreamLayout
from amk.interpreters.numerics import STEP_COLUMNS, chunk_bounds
from amk.runtime.packing import Packer, unpack

STORAGE = {"f32": np.float32, "bf16": np.uint16}


def layout_of(rows: int, columns: int, dtype: str, instances: int) -> StreamLayout:
    return StreamLayout(1, rows, columns, dtype, instances, chunk_bounds(columns, dtype))


def literal_pack(layout: StreamLayout, matrix: np.ndarray) -> np.ndarray:
    """The contract, one 16-byte lane at a time."""
    width = STEP_COLUMNS[layout.dtype]
    padded = np.zeros((layout.blocks * 8, layout.steps * width), matrix.dtype)
    padded[: layout.rows, : layout.columns] = matrix
    out = np.zeros(layout.layer_bytes, np.uint8)
    blocks, instances, steps = layout.blocks, layout.instances, layout.steps
    shortest = blocks // instances
    for i in range(instances):
        lo, hi = i * blocks // instances, (i + 1) * blocks // instances
        for u in range(hi - lo):
            shared = instances if u < shortest else blocks % instances
            slot = i if u < shortest else lo - i * shortest
            for a, b in zip(layout.chunk_bounds, layout.chunk_bounds[1:], strict=False):
                offset = u * instances * steps * 512 + shared * a * 512 + slot * (b - a) * 512
                for s in range(a, b):
                    for row in range(8):
                        for lane in range(4):
                            first = s * width + lane * width // 4
                            data = padded[(lo + u) * 8 + row, first : first + width // 4]
                            out[offset : offset + 16] = data.view(np.uint8)
                            offset += 16
    return out


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 130),
    columns=st.integers(1, 200),
    dtype=st.sampled_from(["f32", "bf16"]),
    instances=st.integers(1, 20),
    split=st.integers(0, 100),
)
def test_packs_as_the_formula_says_and_unpacks(rows, columns, dtype, instances, split):
    layout = layout_of(rows, columns, dtype, instances)
    rng = np.random.default_rng(rows * 1000 + columns)
    matrix = rng.integers(1, 2**16, (rows, columns)).astype(STORAGE[dtype])
    out = np.full(layout.layer_bytes, 0xEE, np.uint8)
    cut = min(split, rows - 1)
    Packer(layout, None).pack([part for part in (matrix[:cut], matrix[cut:]) if len(part)], out)
    np.testing.assert_array_equal(out, literal_pack(layout, matrix))
    np.testing.assert_array_equal(unpack(layout, out), matrix)


def test_applies_the_row_order_to_rows_that_come_in_parts():
    layout = layout_of(20, 70, "f32", 3)
    rng = np.random.default_rng(0)
    order = rng.permutation(20)
    packer = Packer(layout, order)
    for _ in range(2):
        matrix = rng.standard_normal((20, 70)).astype(np.float32)
        out = np.empty(layout.layer_bytes, np.uint8)
        packer.pack([matrix[:1], matrix[1:9], matrix[9:]], out)
        np.testing.assert_array_equal(out, literal_pack(layout, matrix[order]))
        np.testing.assert_array_equal(unpack(layout, out, order), matrix)


def test_every_piece_stands_once():
    layout = layout_of(49, 300, "bf16", 5)
    places = Packer(layout, None).places(0, 56).reshape(-1)
    np.testing.assert_array_equal(np.sort(places), np.arange(layout.layer_bytes // 64))


def test_rows_that_the_sources_leave_are_zero():
    layout = layout_of(24, 16, "f32", 2)
    out = np.full(layout.layer_bytes, 0xEE, np.uint8)
    matrix = np.ones((19, 16), np.float32)
    Packer(layout, np.arange(18, -1, -1)).pack([matrix], out)
    whole = unpack(layout, out)
    np.testing.assert_array_equal(whole[:19], matrix)
    np.testing.assert_array_equal(whole[19:], 0)
