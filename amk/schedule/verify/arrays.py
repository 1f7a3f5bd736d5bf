"""Small array helpers: compressed sparse rows and grouped gathers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Rows:
    """Compressed sparse rows: row r holds `items[start[r]:start[r + 1]]`."""

    start: np.ndarray
    items: np.ndarray

    @staticmethod
    def of(rows: np.ndarray, items: np.ndarray, count: int) -> Rows:
        """`items` by their row number in [0, count), order within a row kept."""
        order = np.argsort(rows, kind="stable")
        return Rows(starts(np.bincount(rows, minlength=count)), items[order])

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """The length of each of `rows`."""
        return self.start[rows + 1] - self.start[rows]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The items of `rows`, one row after the other."""
        return self.items[spans(self.start[rows], self.sizes(rows))]

    def row(self, row: int) -> np.ndarray:
        """The items of one row."""
        return self.items[self.start[row] : self.start[row + 1]]


def starts(sizes: np.ndarray) -> np.ndarray:
    """Exclusive prefix sums of `sizes` with the total at the end."""
    result = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=result[1:])
    return result


def spans(first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The concatenation of `arange(first[i], first[i] + sizes[i])`."""
    total = int(sizes.sum())
    if total == 0:
        return np.zeros(0, np.int64)
    shift = first - starts(sizes)[:-1]
    return np.arange(total, dtype=np.int64) + np.repeat(shift, sizes)


def distinct(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers rows of equal columns: (first row of each class, class of each row).

    Columns hold integers; classes are numbered in lexicographic order.
    """
    key = combine(*columns)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def combine(*columns: np.ndarray) -> np.ndarray:
    """One int64 key per row: equal keys iff equal rows, and the order of the rows is kept."""
    key = np.asarray(columns[0], np.int64)
    for column in columns[1:]:
        if len(key) == 0:
            return key
        low = int(column.min())
        span = int(column.max()) - low + 1
        if span > 2**31:
            column = np.unique(column, return_inverse=True)[1].reshape(-1)
            low, span = 0, int(column.max()) + 1
        top = int(np.abs(key).max()) + 1
        if top * span > 2**62:
            key = np.unique(key, return_inverse=True)[1].reshape(-1)
        key = key * span + (column - low)
    return key
