"""Frequencies of rotary position embeddings, as Hugging Face computes them (in float32)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ONE = np.float32(1)


@dataclass(frozen=True)
class Llama3Scaling:
    """The `llama3` rope scaling: low frequencies are divided by `factor`, middle ones blended.

    A frequency is low where its wavelength is over `original_context / low_frequency_factor`
    positions, and stays as it is where it is under `original_context / high_frequency_factor`.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


def rope_frequencies(
    head_dim: int,
    theta: float,
    scaling: Llama3Scaling | None = None,
    divisors: Sequence[float] | None = None,
) -> np.ndarray:
    """Radians per position of the `head_dim` / 2 rotary pairs, float32.

    The power is rounded correctly; Hugging Face's differs from it by one unit in the last place in
    about one frequency of two hundred. `divisors` are per-pair divisors, as a GGUF file stores them
    in place of a scaling.
    """
    exponents = np.arange(0, head_dim, 2).astype(np.float32) / np.float32(head_dim)
    powers = np.power(np.float64(np.float32(theta)), exponents.astype(np.float64))
    frequencies = _ONE / powers.astype(np.float32)
    if scaling is not None:
        frequencies = _scaled(frequencies, scaling)
    if divisors is not None:
        frequencies = frequencies / np.array(divisors, np.float32)
    return frequencies


def _scaled(frequencies: np.ndarray, scaling: Llama3Scaling) -> np.ndarray:
    # Every step in float32 and in Hugging Face's order, so that the roundings are the same.
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    factor, context = np.float32(scaling.factor), np.float32(scaling.original_context)
    wavelengths = np.float32(2 * math.pi) / frequencies
    is_low = wavelengths > np.float32(scaling.original_context / low)
    is_high = wavelengths < np.float32(scaling.original_context / high)
    scaled = np.where(is_low, frequencies / factor, frequencies)
    smooth = (context / wavelengths - np.float32(low)) / np.float32(high - low)
    blended = (_ONE - smooth) * scaled / factor + smooth * scaled
    return np.where(~is_low & ~is_high, blended, scaled).astype(np.float32)
