"""bfloat16 as bit patterns: numpy has no such type."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_bf16(values: Any, xp: Any = np) -> Any:
    """Bit patterns (uint16) of float32 `values` rounded to bf16, to nearest, ties to even.

    Infinities and the sign of zero are kept; values that round past the largest bf16 become
    infinite, and every NaN stays a NaN. `xp` is the array module: numpy or cupy.
    """
    bits = xp.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(
        16
    )
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    if is_nan.any():
        rounded = xp.where(is_nan, (bits >> np.uint32(16)) | np.uint32(0x40), rounded)
    return rounded.astype(np.uint16)


def from_bf16(bits: Any, xp: Any = np) -> Any:
    """The float32 values of bf16 bit patterns (uint16), exactly; `xp` is the array module."""
    return (xp.asarray(bits, dtype=np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
