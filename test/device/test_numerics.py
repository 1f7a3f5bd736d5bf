"""The float semantics in numpy, against plain loops and float64."""

from __future__ import annotations

import numpy as np
import pytest

from amk.interpreters import numerics


def test_exp_is_accurate_and_ends_where_it_says() -> None:
    x = np.linspace(-87, 88, 200_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(numerics.exp(x) - exact) / exact) < 3e-7
    special = numerics.exp(np.array([-np.inf, -87.5, 0, 88.5, np.inf, np.nan]))
    np.testing.assert_array_equal(special, np.array([0, 0, 1, np.inf, np.inf, np.nan]))
    assert float(numerics.exp(1.0)) == pytest.approx(np.e)


def test_bf16_rounds_to_nearest_even() -> None:
    one = 0x3F800000
    bits = np.array([one, one + 0x7FFF, one + 0x8000, one + 0x18000, 0x7FC00001], np.uint32)
    rounded = numerics.to_bf16(bits.view(np.float32))
    assert rounded.tolist() == [0x3F80, 0x3F80, 0x3F80, 0x3F82, 0x7FFF]
    np.testing.assert_array_equal(numerics.from_bf16(rounded[:1]), [1.0])


@pytest.mark.parametrize(
    ("columns", "dtype", "chunks", "steps"),
    [(576, "f32", 8, 36), (576, "bf16", 8, 18), (8192, "f32", 64, 512), (20, "f32", 8, 2)],
)
def test_chunks_cover_the_steps(columns: int, dtype: str, chunks: int, steps: int) -> None:
    bounds = numerics.chunk_bounds(columns, dtype)
    sizes = np.diff(bounds)
    assert (len(sizes), bounds[0], bounds[-1]) == (chunks, 0, steps)
    assert sizes.max() <= 8
    assert sizes.max() - sizes.min() <= 1
    owned = sorted(s for mine in numerics.slice_steps(columns, dtype) for s in mine)
    assert owned == list(range(steps))


def loop_product(row: np.ndarray, x: np.ndarray, dtype: str) -> np.float32:
    """The order of the sums, one operation at a time."""
    width, total = numerics.STEP_COLUMNS[dtype] // 4, None
    for mine in numerics.slice_steps(len(x), dtype):
        acc = np.zeros(4, np.float32)
        for step in mine:
            for lane in range(4):
                first = (step * 4 + lane) * width
                for k in range(first, min(first + width, len(x))):
                    acc[lane] = acc[lane] + np.float32(row[k] * x[k])
        lanes = np.float32((acc[0] + acc[1]) + (acc[2] + acc[3]))
        total = lanes if total is None else np.float32(total + lanes)
    assert total is not None
    return total


@pytest.mark.parametrize("columns", [100, 576, 1536, 2056])
def test_product_adds_in_order(columns: int) -> None:
    rng = np.random.default_rng(columns)
    weights = rng.standard_normal((3, columns)).astype(np.float32)
    x = rng.standard_normal(columns).astype(np.float32)
    y = numerics.product_f32(weights, x)
    assert y.tolist() == [loop_product(row, x, "f32") for row in weights]

    bits, rounded = numerics.to_bf16(weights), numerics.round_bf16(x)
    y = numerics.product_bf16(bits, x)
    values = numerics.from_bf16(bits)
    assert y.tolist() == [loop_product(row, rounded, "bf16") for row in values]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_stat_adds_in_order(dtype: str) -> None:
    values = np.random.default_rng(1).standard_normal(1544).astype(np.float32)
    width, total = numerics.STEP_COLUMNS[dtype], None
    for mine in numerics.slice_steps(len(values), dtype):
        columns = [k for s in mine for k in range(s * width, (s + 1) * width) if k < len(values)]
        lanes = np.zeros(32, np.float32)
        for element, k in enumerate(columns):
            lanes[element // 4 % 32] += values[k]
        for distance in (16, 8, 4, 2, 1):
            lanes = lanes + lanes[np.arange(32) ^ distance]
        assert len(set(lanes.tolist())) == 1
        total = lanes[0] if total is None else np.float32(total + lanes[0])
    assert numerics.stat_reduce(values, dtype) == total


def test_attention_equals_softmax() -> None:
    rng, heads, rows, size = np.random.default_rng(2), 3, 157, 64
    q = rng.standard_normal((heads, size)).astype(np.float32)
    keys, values = rng.standard_normal((2, rows, size)).astype(np.float32)
    partials = [
        numerics.attention_partial(q, keys[s::4], values[s::4], 0.125, z, 2)
        for s in range(4)
        for z in range(2)
    ]
    score = (q @ keys.T).astype(np.float64) * 0.125
    p = np.exp(score - score.max(axis=1, keepdims=True))
    exact = p / p.sum(axis=1, keepdims=True) @ values
    out = numerics.combine(np.stack(partials, axis=1))
    np.testing.assert_allclose(out, exact, rtol=0, atol=1e-6)


def test_an_empty_unit_is_neutral() -> None:
    q, row = np.ones((2, 8), np.float32), np.ones((1, 8), np.float32)
    empty = numerics.attention_partial(q, row[:0], row[:0], 1.0)
    assert empty[0].tolist() == [0] * 8 + [-np.inf, 0]
    full = numerics.attention_partial(q, row, row * 3, 1.0)
    np.testing.assert_array_equal(
        numerics.combine(np.stack([empty, full, empty], axis=1)), np.full((2, 8), 3, np.float32)
    )
