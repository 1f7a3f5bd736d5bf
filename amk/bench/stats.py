"""Repeated measurements of one time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Microseconds, one for each repetition."""

    us: tuple[float, ...]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Times:
        """From seconds."""
        return cls(tuple(second * 1e6 for second in seconds))

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.us)

    def record(self) -> dict[str, float | int]:
        """What a report keeps."""
        return {
            "us": round(self.median, 3),
            "min_us": round(min(self.us), 3),
            "max_us": round(max(self.us), 3),
            "repeats": len(self.us),
        }

    def __str__(self) -> str:
        return f"{self.median:.1f} ({min(self.us):.1f} to {max(self.us):.1f})"
