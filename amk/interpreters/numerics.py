"""The float semantics of AMK in numpy: what every target computes, bit for bit in float32.

Nothing here is a close approximation of the generated kernels: the order of each sum, the
rounding of each step and the polynomial of ``exp`` are the definition, and the device layer
(``amk/backends/device``) repeats them. Multiplication and addition are always rounded one by one.

Shapes: N rows, K columns, D head size, P partial results. All arrays are float32 unless noted.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
Weights = NDArray[np.float32] | NDArray[np.uint16]

SLICES = 8
"""Column slices of a product: the consumer warps of a worker."""
LANES = 32
"""Lanes of a warp, over which statistics and attention reduce."""
STEP_COLUMNS = {"f32": 16, "bf16": 32}
"""Columns of one step: four lanes of 16 bytes."""
MAX_STEPS = 8
"""Steps of the longest chunk (one ring stage)."""
_ROW_BLOCK = 256

_LOG2E = np.float32(1.44269504088896341)
_LN2_HI = np.float32(0.693359375)
_LN2_LO = np.float32(-2.12194440e-4)
_EXP_COEFFICIENTS = tuple(np.float32(c) for c in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0))


def exp(x: ArrayLike) -> F32:
    """e^x by the polynomial of AMK: 0 below -87, inf above 88, NaN for NaN."""
    x = np.asarray(x, np.float32)
    inside = np.where((x >= -87) & (x <= 88), x, np.float32(0))
    n = np.rint(inside * _LOG2E)
    r = (inside - n * _LN2_HI) - n * _LN2_LO
    p = np.full_like(r, _EXP_COEFFICIENTS[0])
    for c in _EXP_COEFFICIENTS[1:]:
        p = p * r + c
    scale = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    y = np.where(x < -87, np.float32(0), np.where(x > 88, np.float32(np.inf), p * scale))
    return np.where(np.isnan(x), x, y)


def rsqrt(x: ArrayLike) -> F32:
    """1/sqrt(x), each operation rounded once (IEEE)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.float32(1) / np.sqrt(np.asarray(x, np.float32))).astype(np.float32)


def to_bf16(x: ArrayLike) -> NDArray[np.uint16]:
    """Bit patterns of x rounded to bfloat16, to nearest even; a NaN becomes 0x7fff."""
    x = np.asarray(x, np.float32)
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_bf16(bits: ArrayLike) -> F32:
    """Values of bfloat16 bit patterns."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_bf16(x: ArrayLike) -> F32:
    """x rounded to bfloat16 and back."""
    return from_bf16(to_bf16(x))


def step_count(columns: int, dtype: str) -> int:
    """Steps that cover so many columns (the last one zero-padded)."""
    return -(-columns // STEP_COLUMNS[dtype])


@functools.cache
def chunk_bounds(columns: int, dtype: str) -> tuple[int, ...]:
    """Step bounds of the chunks: chunk c is the steps [b[c], b[c+1]) and belongs to slice c % 8.

    A chunk may be empty (few columns); no chunk has more than ``MAX_STEPS`` steps.
    """
    steps = step_count(columns, dtype)
    chunks = SLICES
    while -(-steps // chunks) > MAX_STEPS:
        chunks += SLICES
    return tuple(c * steps // chunks for c in range(chunks + 1))


@functools.cache
def slice_steps(columns: int, dtype: str) -> tuple[tuple[int, ...], ...]:
    """For each slice, its steps in the order in which it consumes them."""
    bounds = chunk_bounds(columns, dtype)
    chunks = len(bounds) - 1
    return tuple(
        tuple(s for c in range(w, chunks, SLICES) for s in range(bounds[c], bounds[c + 1]))
        for w in range(SLICES)
    )


def product_f32(weights: NDArray[np.float32], x: F32) -> F32:
    """y = weights x, float32, [N, K] by [K]: the sums in the order of the contract."""
    return _product(weights, x, "f32")


def product_bf16(weights: Weights, x: F32) -> F32:
    """y = weights x with bfloat16 operands: exact products, float32 sums in the order of the host.

    weights [N, K] are bfloat16 bit patterns or values that bfloat16 holds; x [K] is rounded to
    bfloat16 first. A GPU adds in another order (``mma``), so compare its results with a tolerance.
    """
    return _product(weights, round_bf16(x), "bf16")


def _product(weights: Weights, x: F32, dtype: str) -> F32:
    rows = len(weights)
    out = np.empty(rows, np.float32)
    for lo in range(0, rows, _ROW_BLOCK):
        block = weights[lo : lo + _ROW_BLOCK]
        values = from_bf16(block) if block.dtype == np.uint16 else np.asarray(block, np.float32)
        out[lo : lo + _ROW_BLOCK] = _product_block(values, x, dtype)
    return out


def _product_block(weights: F32, x: F32, dtype: str) -> F32:
    """Rows of one block; every product is formed first, then added in order."""
    rows, columns = weights.shape
    steps = step_count(columns, dtype)
    width = STEP_COLUMNS[dtype]
    products = np.zeros((rows, steps * width), np.float32)
    np.multiply(weights, np.asarray(x, np.float32), out=products[:, :columns])
    # Column-major per step: [step, column of a lane, lane, row], so that every addition is dense.
    products = np.ascontiguousarray(
        products.reshape(rows, steps, 4, width // 4).transpose(1, 3, 2, 0)
    )
    total = np.zeros(rows, np.float32)
    for w, mine in enumerate(slice_steps(columns, dtype)):
        acc = np.zeros((4, rows), np.float32)
        for s in mine:
            for column in products[s]:
                acc += column
        lanes = (acc[0] + acc[1]) + (acc[2] + acc[3])
        total = lanes if w == 0 else total + lanes
    return total


def butterfly(values: NDArray[np.float32]) -> F32:
    """Sum over the last axis of 32 lanes by the tree xor 16, 8, 4, 2, 1."""
    width = LANES
    while width > 1:
        width //= 2
        values = values[..., :width] + values[..., width:]
    return values[..., 0]


def stat_reduce(values: ArrayLike, dtype: str = "f32") -> np.float32:
    """Sum of one value per column, in the order of a product's prologue.

    ``dtype`` is the storage type of the product's weights, which fixes the chunks.
    """
    values = np.asarray(values, np.float32)
    columns, width = len(values), STEP_COLUMNS[dtype]
    padded = np.zeros(step_count(columns, dtype) * width, np.float32)
    padded[:columns] = values
    by_step = padded.reshape(-1, width)
    total = np.float32(0)
    for w, mine in enumerate(slice_steps(columns, dtype)):
        partial = _lane_sum(by_step[list(mine)].reshape(-1))
        total = partial if w == 0 else np.float32(total + partial)
    return total


def _lane_sum(elements: F32) -> np.float32:
    """Element e goes to lane (e // 4) % 32, which adds in order; then the butterfly."""
    rounds = -(-len(elements) // (4 * LANES))
    padded = np.zeros(rounds * 4 * LANES, np.float32)
    padded[: len(elements)] = elements
    lanes = np.zeros(LANES, np.float32)
    for quad in padded.reshape(rounds, LANES, 4):
        for j in range(4):
            lanes = lanes + quad[:, j]
    return np.float32(butterfly(lanes))


def attention_partial(
    q: F32, keys: F32, values: F32, scale: float, unit: int = 0, units: int = 1
) -> F32:
    """What one unit of a split contributes: [G, D+2] = per query head D sums, maximum, weight.

    q [G, D]; keys, values [rows, D] of the split (every ``S``-th position, oldest first). Unit
    ``unit`` of ``units`` covers the rows r with (r // 32) % units == unit. A unit without rows
    gives (0, -inf, 0).
    """
    heads = len(q)
    out = np.zeros(q.shape, np.float32)
    m = np.full(heads, -np.inf, np.float32)
    weight = np.zeros(heads, np.float32)
    for first in range(unit * LANES, len(keys), units * LANES):
        k, v = keys[first : first + LANES], values[first : first + LANES]
        p, f, m = _attention_chunk(q, k, m, np.float32(scale))
        weight = weight * f + butterfly(p)
        out = out * f[:, None]
        for i in range(len(k)):
            out = out + p[:, i, None] * v[i]
    return np.concatenate([out, m[:, None], weight[:, None]], axis=1)


def _attention_chunk(q: F32, k: F32, m: F32, scale: np.float32) -> tuple[F32, F32, F32]:
    """Weights p [G, 32], factor f [G] for the older sums, new maximum [G] of up to 32 rows."""
    heads, rows = len(q), len(k)
    sums = np.zeros((heads, rows, 4), np.float32)
    for d in range(0, q.shape[1], 4):
        products = q[:, None, d : d + 4] * k[None, :, d : d + 4]
        sums[..., : products.shape[-1]] += products
    score = ((sums[..., 0] + sums[..., 1]) + (sums[..., 2] + sums[..., 3])) * scale
    top = np.maximum(m, score.max(axis=1))
    p = np.zeros((heads, LANES), np.float32)
    p[:, :rows] = exp(score - top[:, None])
    with np.errstate(invalid="ignore"):
        f = np.where(np.isneginf(m), np.float32(0), exp(m - top))
    return p, f, top


def combine(partials: F32) -> F32:
    """Attention output [..., D] of the partial results [..., P, D+2] (heads in front)."""
    sums, m, weight = partials[..., :-2], partials[..., -2], partials[..., -1]
    count = sums.shape[-2]
    top = m.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        w = np.where(np.isneginf(m), np.float32(0), exp(m - top))
    rounds = -(-count // LANES)
    num = np.zeros((*sums.shape[:-2], sums.shape[-1], LANES), np.float32)
    den = np.zeros((*sums.shape[:-2], LANES), np.float32)
    for first in range(0, rounds * LANES, LANES):
        part = slice(first, min(first + LANES, count))
        lanes = slice(0, part.stop - first)
        den[..., lanes] = den[..., lanes] + w[..., part] * weight[..., part]
        num[..., lanes] = num[..., lanes] + np.swapaxes(
            w[..., part, None] * sums[..., part, :], -1, -2
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        return butterfly(num) / butterfly(den)[..., None]
