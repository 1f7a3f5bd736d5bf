"""Packet buffers of the `task` interpreter: payloads with epochs, and who has yet to read them."""

from __future__ import annotations

import numpy as np

from amk.errors import AmkError
from amk.interpreters.memory import poisoned


class PacketBuffer:
    """The slots of a packet buffer; arrays have the shape of the buffer.

    `payload` holds what was sent, in storage type, `epoch` when it was sent (0: never), `unread`
    how many of its readers have not polled it yet.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype, uses: int) -> None:
        self.name = name
        self.uses = uses
        self.payload = poisoned(shape, dtype)
        self.epoch = np.zeros(shape, np.int64)
        self.unread = np.zeros(shape, np.int32)

    def clear(self) -> None:
        """Forget everything, as the host does before epochs wrap and after an error."""
        self.epoch[...] = 0
        self.unread[...] = 0

    def epoch_of(self, use: int, iteration: int) -> int:
        """The epoch of a use in an iteration (counted over all launches)."""
        return iteration * self.uses + use + 1

    def ready(self, box: tuple[slice, ...], epoch: int) -> bool:
        """Whether all packets of a region have arrived; AmkError if some are newer already."""
        seen = self.epoch[box]
        if (seen == epoch).all():
            return True
        if (seen > epoch).any():
            raise AmkError(
                f"lost packet: @{self.name}[{box_text(box)}] was overwritten before it was read"
            )
        return False

    def take(self, box: tuple[slice, ...]) -> None:
        """Note that one reader has polled a region."""
        self.unread[box] -= 1

    def send(
        self, box: tuple[slice, ...], values: np.ndarray, epoch: int, readers: np.ndarray
    ) -> None:
        """Publish a region for `readers` (a count for each slot of the buffer)."""
        self._check_pairs(box)
        if (self.epoch[box] >= epoch).any():
            raise AmkError(
                f"@{self.name}[{box_text(box)}] is written twice in one use, or uses are out of "
                "order"
            )
        if (self.unread[box] > 0).any():
            raise AmkError(
                f"lost packet: @{self.name}[{box_text(box)}] is overwritten before every reader "
                "has polled it"
            )
        self.payload[box] = values
        self.epoch[box] = epoch
        self.unread[box] = readers[box]

    def _check_pairs(self, box: tuple[slice, ...]) -> None:
        """A packet carries two bf16 values, so they can only be written together."""
        last, size = box[-1], self.payload.shape[-1]
        if self.payload.dtype != np.uint16 or last.start == last.stop:
            return
        if last.start % 2 or (last.stop % 2 and last.stop != size):
            raise AmkError(
                f"a write to @{self.name}[{box_text(box)}] splits a packet of two bf16 values"
            )


def box_text(box: tuple[slice, ...]) -> str:
    """`0 : 8, 3 : 4`."""
    return ", ".join(f"{part.start} : {part.stop}" for part in box)
