"""What a checkpoint is to the rest of AMK: a config, named tensors, and a tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amk.errors import AmkError
from amk.frontend.bf16 import to_bf16

if TYPE_CHECKING:
    from amk.frontend.tokenizer import Tokenizer


@dataclass(frozen=True)
class TensorInfo:
    """Shape (rows first) and storage type of a tensor: "f32", "bf16", "f16", "q4_1", "q8_0", …"""

    shape: tuple[int, ...]
    dtype: str


class Checkpoint(ABC):
    """Weights under Hugging Face's key names, read on demand; nothing of them is kept in memory.

    `name` is what to call the checkpoint in messages, `config` the content of config.json (made
    from the metadata for a .gguf file), with the eos tokens of generation_config.json if any.
    """

    name: str
    config: dict[str, Any]

    @abstractmethod
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every tensor by key; empty where the checkpoint is a config.json alone."""

    @abstractmethod
    def read(self, key: str) -> np.ndarray:
        """The tensor as float32, in Hugging Face's row order; maybe a read-only view of a file.

        Raises AmkError where there is no such tensor.
        """

    def stored(self, key: str) -> np.ndarray:
        """The tensor in a type near to how it is stored: float32, float16, or bf16 bit patterns
        (uint16). What `read` and `read_bf16` give follows from it by `from_bf16` and `to_bf16`."""
        return self.read(key)

    def read_bf16(self, key: str) -> np.ndarray:
        """The tensor as bf16 bit patterns (uint16); wider numbers are rounded to nearest even."""
        return to_bf16(self.read(key))

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest that changes when the checkpoint does: for keys of caches.

        It covers config, tensor names, types, shapes and offsets, and the size and modification
        time of each file; it does not read the weights.
        """

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that comes with the weights; AmkError if it is missing or unknown."""

    def info(self, key: str) -> TensorInfo:
        """Shape and type of tensor `key`; AmkError where there is no such tensor."""
        tensors = self.tensors()
        if key in tensors:
            return tensors[key]
        if not tensors:
            raise AmkError(f"{self.name} holds no weights, only a config: {key} cannot be read")
        raise AmkError(f"{self.name} has no tensor {key}")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a Hugging Face directory (config.json, safetensors) or a .gguf file.

    Reads headers only. Raises AmkError where `path` does not exist, is truncated, or is no model.
    """
    # Late imports: either reader needs this module for the base class.
    from amk.frontend.gguf_checkpoint import GGUFCheckpoint
    from amk.frontend.hf_directory import HFDirectory

    location = Path(path)
    if not location.exists():
        raise AmkError(f"{path} does not exist: give a model directory or a .gguf file")
    try:
        if location.is_dir():
            return HFDirectory(location)
        if location.suffix.lower() == ".gguf":
            return GGUFCheckpoint(location)
    except OSError as error:
        raise AmkError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    if location.name == "config.json" or location.suffix == ".safetensors":
        raise AmkError(f"{path} is one file of a model: give the directory that holds it")
    raise AmkError(f"{path} is no model: give a directory with config.json, or a .gguf file")
