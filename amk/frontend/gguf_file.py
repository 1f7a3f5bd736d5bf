"""The GGUF container: metadata and where each tensor lies (versions 2 and 3, little endian).

Reading the header here takes a tenth of the time that the `gguf` package needs for a vocabulary of
50,000 tokens (2 s); that package is used for the block formats only.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amk.errors import AmkError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# GGUF value type -> struct code
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip


@dataclass(frozen=True)
class BlockFormat:
    """A tensor format of GGML: blocks of `elements` numbers in `size` bytes."""

    name: str
    elements: int
    size: int


FORMATS = {
    0: BlockFormat("f32", 1, 4),
    1: BlockFormat("f16", 1, 2),
    2: BlockFormat("q4_0", 32, 18),
    3: BlockFormat("q4_1", 32, 20),
    6: BlockFormat("q5_0", 32, 22),
    7: BlockFormat("q5_1", 32, 24),
    8: BlockFormat("q8_0", 32, 34),
    10: BlockFormat("q2_k", 256, 84),
    11: BlockFormat("q3_k", 256, 110),
    12: BlockFormat("q4_k", 256, 144),
    13: BlockFormat("q5_k", 256, 176),
    14: BlockFormat("q6_k", 256, 210),
    30: BlockFormat("bf16", 1, 2),
}
"""The formats that can be read, by GGML type number."""


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor: shape with rows first, GGML type number, and byte offset in the file."""

    shape: tuple[int, ...]
    type_number: int
    offset: int

    @property
    def format(self) -> BlockFormat:
        """How its numbers are stored."""
        return FORMATS[self.type_number]


class GGUFFile:
    """The header of a GGUF file: `metadata` (plain Python values) and `tensors` by name.

    Raises AmkError on a file that is no GGUF, truncated, or holds a tensor format not in FORMATS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, GGUFTensor] = {}
        self.size = path.stat().st_size
        if self.size < 24:
            raise AmkError(f"{path}: not a GGUF file, or truncated ({self.size} bytes)")
        with path.open("rb") as file:
            header = _Header(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with header.data:
            self._read(header)

    def raw(self, name: str) -> np.ndarray:
        """The bytes of tensor `name`: uint8 [rows…, bytes per row], a view of the file."""
        tensor = self.tensors[name]
        *rows, columns = tensor.shape
        row_bytes = columns // tensor.format.elements * tensor.format.size
        return np.memmap(
            self.path, np.uint8, mode="r", offset=tensor.offset, shape=(*rows, row_bytes)
        )

    def _read(self, header: _Header) -> None:
        magic, version = header.take(4), header.scalar("I")
        if magic != _MAGIC:
            raise AmkError(f"{self.path}: not a GGUF file")
        if version not in _VERSIONS:
            raise AmkError(
                f"{self.path}: GGUF version {version} is not supported (supported: 2, 3)"
            )
        tensor_count, value_count = header.scalar("Q"), header.scalar("Q")
        for _ in range(value_count):
            key = header.string()
            self.metadata[key] = header.value(header.scalar("I"))
        found = [self._read_tensor(header) for _ in range(tensor_count)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise AmkError(f"{self.path}: general.alignment must be a positive integer")
        start = -(-header.position // alignment) * alignment
        for name, tensor in found:
            if name in self.tensors:
                raise AmkError(f"{self.path}: tensor {name} occurs twice")
            self.tensors[name] = GGUFTensor(tensor.shape, tensor.type_number, start + tensor.offset)
            self._check_extent(name, self.tensors[name])

    def _read_tensor(self, header: _Header) -> tuple[str, GGUFTensor]:
        name = header.string()
        # GGML lists the fastest-varying dimension first.
        shape = tuple(header.scalar("Q") for _ in range(header.scalar("I")))[::-1]
        type_number, offset = header.scalar("I"), header.scalar("Q")
        if type_number not in FORMATS:
            known = ", ".join(each.name for each in FORMATS.values())
            raise AmkError(
                f"{self.path}: tensor {name} has GGML type {type_number}, supported are {known}"
            )
        if not shape or min(shape) < 1 or shape[-1] % FORMATS[type_number].elements:
            raise AmkError(f"{self.path}: tensor {name} has the impossible shape {shape}")
        return name, GGUFTensor(shape, type_number, offset)

    def _check_extent(self, name: str, tensor: GGUFTensor) -> None:
        blocks = math.prod(tensor.shape) // tensor.format.elements
        end = tensor.offset + blocks * tensor.format.size
        if end > self.size:
            raise AmkError(
                f"{self.path}: truncated: tensor {name} ends at byte {end}, the file at "
                f"{self.size}: fetch it again"
            )


class _Header:
    """A cursor over the header; every read is checked against the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise AmkError(f"{self.path}: truncated in its header: fetch it again")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self.take(self.scalar("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise AmkError(f"{self.path}: unknown GGUF value type {kind}: is the file damaged?")
        return self.scalar(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind not in _SCALARS:
            return [self.value(kind) for _ in range(count)]
        code = f"<{count}{_SCALARS[kind]}"
        if count > len(self.data):
            raise AmkError(f"{self.path}: truncated in its header: fetch it again")
        return list(struct.unpack(code, self.take(struct.calcsize(code))))
