"""Hugging Face model directories: config.json and safetensors files, read without libraries.

A safetensors file is: the length of the header (8 bytes, little endian), a JSON header
{name: {dtype, shape, data_offsets}}, and the tensors' bytes. Pickled files are never opened.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.bf16 import from_bf16
from amk.frontend.checkpoint import Checkpoint, TensorInfo

if TYPE_CHECKING:
    from amk.frontend.tokenizer import Tokenizer

_DTYPES = {"F32": ("f32", np.float32), "F16": ("f16", np.float16), "BF16": ("bf16", np.uint16)}
_MAX_HEADER = 100_000_000
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


@dataclass(frozen=True)
class _Location:
    path: Path
    offset: int
    info: TensorInfo


class HFDirectory(Checkpoint):
    """A directory with config.json and either safetensors files or no weights at all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = str(directory)
        if not (directory / "config.json").exists():
            raise AmkError(f"{directory} is no model directory: it has no config.json")
        self.config = read_json_object(directory / "config.json")
        generation = directory / "generation_config.json"
        if (
            generation.exists()
            and (eos := read_json_object(generation).get("eos_token_id")) is not None
        ):
            self.config["eos_token_id"] = eos
        self._files = _weight_files(directory)
        self._locations: dict[str, _Location] = {}
        for path in self._files:
            found = _read_header(path)
            if twice := sorted(self._locations.keys() & found.keys()):
                raise AmkError(f"{path}: tensor {twice[0]} is in another shard as well")
            self._locations |= found
        self._tensors = {key: location.info for key, location in self._locations.items()}

    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._tensors

    def read(self, key: str) -> np.ndarray:
        raw = self.stored(key)
        return from_bf16(raw) if raw.dtype == np.uint16 else raw.astype(np.float32, copy=False)

    def read_bf16(self, key: str) -> np.ndarray:
        raw = self.stored(key)
        return raw if raw.dtype == np.uint16 else super().read_bf16(key)

    def stored(self, key: str) -> np.ndarray:
        info = self.info(key)
        location = self._locations[key]
        numpy_type = next(numpy_type for name, numpy_type in _DTYPES.values() if name == info.dtype)
        try:
            return np.memmap(
                location.path, numpy_type, mode="r", offset=location.offset, shape=info.shape
            )
        except (OSError, ValueError) as error:
            raise AmkError(f"{location.path}: cannot read {key}: {error}") from error

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for key, location in sorted(self._locations.items()):
            digest.update(
                f"{key} {location.path.name} {location.offset} {location.info}\n".encode()
            )
        for path in self._files:
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def tokenizer(self) -> Tokenizer:
        from amk.frontend.tokenizer import tokenizer_of_directory

        return tokenizer_of_directory(self.directory, self.config)


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in file `path`; AmkError where it cannot be read or is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AmkError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise AmkError(
            f"{path}: not valid JSON at line {error.lineno}: {error.msg}; is the file truncated?"
        ) from error
    if not isinstance(value, dict):
        raise AmkError(f"{path}: must be a JSON object")
    return value


def _weight_files(directory: Path) -> list[Path]:
    if (directory / _INDEX).exists():
        return _shards(directory)
    if (directory / _SINGLE).exists():
        return [directory / _SINGLE]
    for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf"):
        found = sorted(directory.glob(pattern))
        if found and pattern == "*.gguf":
            raise AmkError(f"{directory} holds {found[0].name}: give that file itself")
        if found and pattern == "*.safetensors":
            raise AmkError(f"{directory} holds {found[0].name} but neither {_SINGLE} nor {_INDEX}")
        if found:
            raise AmkError(
                f"{directory} holds {found[0].name}, a pickled file, which AMK does not open: "
                "save the model as safetensors"
            )
    return []


def _shards(directory: Path) -> list[Path]:
    weight_map = read_json_object(directory / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise AmkError(f"{directory / _INDEX}: has no weight_map")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise AmkError(f'{directory / _INDEX}: "{name}" is not a plain file name')
        if not (directory / name).exists():
            raise AmkError(
                f"{directory / name} is missing, though {_INDEX} names it: fetch it again"
            )
    return [directory / name for name in names]


def _read_header(path: Path) -> dict[str, _Location]:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
            raise AmkError(f"{path}: not a safetensors file, or truncated ({size} bytes)")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise AmkError(f"{path}: the header is not JSON: not a safetensors file") from error
    if not isinstance(header, dict):
        raise AmkError(f"{path}: the header is not a JSON object: not a safetensors file")
    entries = {key: value for key, value in header.items() if key != "__metadata__"}
    return {key: _locate(path, key, value, 8 + length, size) for key, value in entries.items()}


def _locate(path: Path, key: str, entry: Any, start: int, size: int) -> _Location:
    try:
        dtype, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
        first, last = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise AmkError(f"{path}: the header entry of {key} is malformed") from error
    if dtype not in _DTYPES:
        raise AmkError(f"{path}: {key} has type {dtype}, supported are {', '.join(_DTYPES)}")
    name, numpy_type = _DTYPES[dtype]
    needed = math.prod(shape) * np.dtype(numpy_type).itemsize
    if min(shape, default=1) < 1 or first < 0 or last - first != needed:
        raise AmkError(f"{path}: {key} of shape {shape} has {last - first} bytes, needs {needed}")
    if start + last > size:
        raise AmkError(
            f"{path}: truncated: {key} ends at byte {start + last}, the file at {size}: "
            "fetch it again"
        )
    return _Location(path, start + first, TensorInfo(shape, name))
