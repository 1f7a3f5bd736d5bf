"""Memory of the `tile` and `task` interpreters: buffers as numpy arrays in their storage type.

f32 and i32 are stored as themselves, bf16 as uint16 bit patterns. A kernel sees each parameter as a
`View`, which converts: bf16 is read as float32 and rounded to nearest even when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
from xdsl.dialects.builtin import BFloat16Type, Float32Type, MemRefType, ModuleOp

from amk.errors import AmkError
from amk.interpreters.numerics import from_bf16, to_bf16
from amk.runtime.constants import Weights, constants_of, is_layered, layer_count, layer_values

Constants = Callable[[str], np.ndarray]
"""The values of a `tile.constant` by symbol name, in storage type, all layers stacked."""

Box = tuple[slice | int | EllipsisType, ...]
"""One region of a buffer: a slice a dimension, or an index that drops the dimension; an ellipsis at
the end makes the region a view even where all dimensions are dropped."""

_POISON = {
    np.dtype(np.float32): np.float32(np.nan),
    np.dtype(np.uint16): np.uint16(0x7FC0),  # a NaN
    np.dtype(np.int32): np.int32(-0x35014542),
}


def storage_of(type_: MemRefType) -> np.dtype[Any]:
    """The numpy type in which elements of `type_` are stored."""
    if isinstance(type_.element_type, Float32Type):
        return np.dtype(np.float32)
    return np.dtype(np.uint16 if isinstance(type_.element_type, BFloat16Type) else np.int32)


def poisoned(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """An array that nothing was written to: NaN, so that reading it spoils the result."""
    return np.full(tuple(shape), _POISON[dtype], dtype)


def poison(array: np.ndarray) -> None:
    """Make the contents of `array` undefined."""
    array[...] = _POISON[array.dtype]


def load_constants(module: ModuleOp, weights: Weights) -> dict[str, np.ndarray]:
    """Every constant of `module` by name; `dict.__getitem__` of it is a `Constants`.

    Raises AmkError where a parameter does not fit.
    """
    loaded: dict[str, np.ndarray] = {}
    for name, op in constants_of(module).items():
        layers = [layer_values(op, weights, layer) for layer in range(layer_count(op))]
        loaded[name] = np.stack(layers) if is_layered(op) else layers[0]
    return loaded


def no_constants(name: str) -> np.ndarray:
    """The `Constants` of a program that has none."""
    raise AmkError(f"there are no values for constant @{name}")


def constant_array(source: str, type_: MemRefType, constants: Constants) -> np.ndarray:
    """The contents of a constant buffer, checked; read-only."""
    values = np.asarray(constants(source))
    expected = storage_of(type_)
    if values.shape != type_.get_shape() or values.dtype != expected:
        raise AmkError(
            f"constant @{source} has {values.dtype} values of shape {values.shape}, "
            f"but its buffer holds {expected} {type_.get_shape()}"
        )
    values = values.view()
    values.flags.writeable = False
    return values


@dataclass
class View:
    """A memref parameter of a kernel: the part of a buffer that it is bound to.

    `data` is None where the access does not happen (its guard does not hold); touching it is an
    error. Indices may be integers or integer arrays and are relative to the region.
    """

    name: str
    data: np.ndarray | None

    @property
    def array(self) -> np.ndarray:
        """The data in its storage type."""
        if self.data is None:
            raise AmkError(f"the kernel touches @{self.name}, which its guard excludes here")
        return self.data

    def read(self) -> np.ndarray:
        """All values; bf16 as float32."""
        return _values(self.array)

    def load(self, indices: Sequence[Any]) -> Any:
        """The values at `indices`, which broadcast."""
        return _values(self.array[self._checked(indices)])

    def write(self, values: np.ndarray) -> None:
        """Store all values, of the shape of the region."""
        data = self.array
        if data.shape != np.shape(values):
            raise AmkError(
                f"the kernel writes {np.shape(values)} values to a region of @{self.name} "
                f"of shape {data.shape}"
            )
        data[...] = self._stored(values)

    def store(self, indices: Sequence[Any], value: Any) -> None:
        """Store one value."""
        self.array[self._checked(indices)] = self._stored(value)

    def _stored(self, values: Any) -> np.ndarray:
        dtype = self.array.dtype
        return to_bf16(values) if dtype == np.uint16 else np.asarray(values, dtype)

    def _checked(self, indices: Sequence[Any]) -> tuple[Any, ...]:
        shape = self.array.shape
        if len(indices) != len(shape):
            raise AmkError(f"{len(indices)} indices for @{self.name} of rank {len(shape)}")
        for index, size in zip(indices, shape, strict=True):
            if np.any((np.asarray(index) < 0) | (np.asarray(index) >= size)):
                raise AmkError(
                    f"index {index} is outside of the region of @{self.name}, which has {size}"
                )
        return tuple(indices)


def _values(data: Any) -> Any:
    return from_bf16(data) if data.dtype == np.uint16 else data
