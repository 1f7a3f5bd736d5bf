"""Values of `tile.constant` ops."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import (
    DenseIntOrFPElementsAttr,
    MemRefType,
    ModuleOp,
    TensorType,
    bf16,
    f32,
)

from amk.dialects.tile import ConstantOp
from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16, to_bf16
from amk.runtime.constants import (
    constants_of,
    layer_count,
    layer_shape,
    layer_values,
    row_order,
    source_values,
)


class Arrays(dict[str, np.ndarray]):
    """Weights from a dictionary."""

    def read(self, key: str) -> np.ndarray:
        return self[key]

    def read_bf16(self, key: str) -> np.ndarray:
        return to_bf16(self[key])


@pytest.fixture
def weights() -> Arrays:
    rng = np.random.default_rng(0)
    shapes = {"q": (8, 6), "k": (4, 6), "g": (5, 6), "u": (5, 6), "n": (6,)}
    return Arrays(
        {
            f"layers.{layer}.{name}": rng.standard_normal(shape).astype(np.float32)
            for layer in range(2)
            for name, shape in shapes.items()
        }
    )


def test_concatenates_sources_with_rotary_partners_adjacent(weights):
    op = ConstantOp(
        "qk",
        MemRefType(f32, [2, 12, 6]),
        sources=["layers.{layer}.q", "layers.{layer}.k"],
        pairs=[4, 0],
    )
    assert layer_count(op) == 2
    assert layer_shape(op) == (12, 6)
    q, k = weights["layers.1.q"], weights["layers.1.k"]
    expected = [q[0], q[2], q[1], q[3], q[4], q[6], q[5], q[7], *k]
    np.testing.assert_array_equal(layer_values(op, weights, 1), np.array(expected))


def test_interleaves_in_bf16(weights):
    op = ConstantOp(
        "gu",
        MemRefType(bf16, [2, 10, 6]),
        sources=["layers.{layer}.g", "layers.{layer}.u"],
        interleave=True,
    )
    values = layer_values(op, weights, 0)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values[0::2], to_bf16(weights["layers.0.g"]))
    np.testing.assert_array_equal(
        from_bf16(values[7]), from_bf16(to_bf16(weights["layers.0.u"])[3])
    )


def test_pairs_apply_before_interleave(weights):
    op = ConstantOp(
        "x",
        MemRefType(f32, [8, 6]),
        sources=["layers.0.k", "layers.1.k"],
        pairs=[4, 4],
        interleave=True,
    )
    a, b = weights["layers.0.k"], weights["layers.1.k"]
    expected = [a[0], b[0], a[2], b[2], a[1], b[1], a[3], b[3]]
    np.testing.assert_array_equal(layer_values(op, weights, 0), np.array(expected))
    assert layer_count(op) == 1


def test_vectors_are_rows_of_one_value(weights):
    op = ConstantOp("n", MemRefType(f32, [2, 6]), sources=["layers.{layer}.n"])
    assert row_order(op, [6]) is None
    np.testing.assert_array_equal(layer_values(op, weights, 1), weights["layers.1.n"])


def test_rows_up_to_a_whole_tile_are_zero(weights):
    op = ConstantOp("k", MemRefType(f32, [2, 8, 6]), sources=["layers.{layer}.k"], pairs=[4])
    values = layer_values(op, weights, 0)
    k = weights["layers.0.k"]
    np.testing.assert_array_equal(values[:4], np.array([k[0], k[2], k[1], k[3]]))
    np.testing.assert_array_equal(values[4:], 0)


def test_rope_tables_round_the_angle_to_float32_first():
    frequencies = np.array([1.0, 0.1, 0.00123], np.float32)
    attr = DenseIntOrFPElementsAttr.from_list(TensorType(f32, [3]), [float(f) for f in frequencies])
    tables = {
        kind: layer_values(
            ConstantOp("t", MemRefType(f32, [2000, 3]), kind=kind, frequencies=attr), Arrays(), 0
        )
        for kind in ("rope_cos", "rope_sin")
    }
    angle = np.float64(np.float32(1999) * frequencies[1])
    assert tables["rope_cos"].shape == (2000, 3)
    assert tables["rope_cos"].dtype == np.float32
    assert tables["rope_cos"][1999, 1] == np.float32(np.cos(angle))
    assert tables["rope_sin"][1999, 1] == np.float32(np.sin(angle))


def test_a_parameter_of_another_shape_is_named(weights):
    wide = ConstantOp("w", MemRefType(f32, [2, 8, 7]), sources=["layers.{layer}.q"])
    with pytest.raises(AmkError, match=r"'layers\.1\.q' \(8x6\) does not fit constant 'w', .* 8x7"):
        layer_values(wide, weights, 1)
    tall = ConstantOp("w", MemRefType(f32, [2, 9, 6]), sources=["layers.{layer}.q"])
    with pytest.raises(AmkError, match="does not fit"):
        list(source_values(tall, weights, 0))


def test_finds_the_constants_of_a_module(weights):
    op = ConstantOp("n", MemRefType(f32, [2, 6]), sources=["layers.{layer}.n"])
    assert constants_of(ModuleOp([op])) == {"n": op}
