"""Random weights of a given shape, the same bits on the host and on a GPU.

An element is a hash of its index and of its tensor's key, so any run of rows can be made anywhere,
in any order, without keeping the rest. Matrices are uniform with variance 1 / columns, as a usual
initialisation has them, and gains lie around 1; all are rounded to bf16, whatever is stored.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16
from amk.frontend.checkpoint import Checkpoint, TensorInfo
from amk.frontend.config import parse_config
from amk.frontend.import_model import parameter_shapes
from amk.frontend.tokenizer import Tokenizer


class RandomCheckpoint(Checkpoint):
    """A checkpoint of a config, with random bf16 weights."""

    def __init__(self, config: Mapping[str, Any], name: str, seed: int = 0) -> None:
        """`name` is what to call it; raises AmkError on a config that AMK does not implement."""
        self.name = name
        self.config = dict(config)
        self._seed = seed
        shapes = parameter_shapes(parse_config(config, name))
        self._tensors = {key: TensorInfo(shape, "bf16") for key, shape in shapes.items()}

    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, key: str) -> np.ndarray:
        return from_bf16(self.read_bf16(key))

    def read_bf16(self, key: str) -> np.ndarray:
        return self.rows(key, np)[:]

    def rows(self, key: str, xp: Any, as_float: bool = False) -> RandomRows:
        """The tensor as rows that are made when they are asked for, on the device of `xp`."""
        return RandomRows(self.info(key).shape, key, self._seed, xp, as_float)

    def fingerprint(self) -> str:
        described = json.dumps([self.config, self._seed], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def tokenizer(self) -> Tokenizer:
        raise AmkError(f"{self.name} has random weights and no tokenizer")


class RandomOnDevice:
    """The weights of a `RandomCheckpoint` where `xp` (numpy or cupy) has its arrays."""

    def __init__(self, checkpoint: RandomCheckpoint, xp: Any) -> None:
        self._checkpoint, self._xp = checkpoint, xp

    def read(self, key: str) -> Any:
        """Rows in float32."""
        return self._checkpoint.rows(key, self._xp, as_float=True)

    def read_bf16(self, key: str) -> Any:
        """Rows as bfloat16 bit patterns (uint16)."""
        return self._checkpoint.rows(key, self._xp)


class RandomRows:
    """A tensor of which runs of rows can be taken by slices."""

    def __init__(
        self, shape: tuple[int, ...], key: str, seed: int, xp: Any, as_float: bool
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.float32 if as_float else np.uint16)
        self._salt = np.uint32(zlib.crc32(f"{seed} {key}".encode()))
        self._xp, self._as_float = xp, as_float
        self._is_gain = len(shape) == 1
        self._width = 0.2 if self._is_gain else (12 / shape[-1]) ** 0.5

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Any:
        """Rows [n, …] of `xp`: float32, or bfloat16 bit patterns."""
        first, last, _ = rows.indices(len(self))
        columns = int(np.prod(self.shape[1:], dtype=np.int64))
        bits = self._bits(first * columns, (last - first) * columns)
        bits = bits.reshape(last - first, *self.shape[1:])
        if not self._as_float:
            return bits.astype(np.uint16)
        return (bits << np.uint32(16)).view(np.float32)

    def _bits(self, first: int, count: int) -> Any:
        """bfloat16 bit patterns (uint32) of elements first .. first + count."""
        mixed = self._xp.arange(first, first + count, dtype=np.uint32) ^ self._salt
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
        mixed = mixed ^ (mixed >> np.uint32(16))
        unit = (mixed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        values = (unit - np.float32(0.5)) * np.float32(self._width)
        if self._is_gain:
            values = values + np.float32(1.0)
        bits = values.view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return (bits + odd + np.uint32(0x7FFF)) >> np.uint32(16)
