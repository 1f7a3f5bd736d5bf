"""Which worker runs which tiles of a phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amk.schedule.expr import Expr

INSTANCE = "i"


@dataclass(frozen=True)
class Placement:
    """Instances of a phase: `instances` of them, instance i on worker (i + rotation) mod workers.

    Where tiles are dealt to instances (`rows`), instance i runs the tiles
    [i * tiles / instances, (i + 1) * tiles / instances), rounded down; otherwise it runs tile i.
    """

    tiles: int
    instances: int
    workers: int
    rotation: int = 0

    @property
    def first_tile(self) -> Expr:
        return self._bound(Expr.var(INSTANCE))

    @property
    def last_tile(self) -> Expr:
        return self._bound(Expr.var(INSTANCE) + 1) - 1

    def _bound(self, instance: Expr) -> Expr:
        if self.tiles == self.instances:
            return instance
        return instance * self.tiles // self.instances

    @property
    def worker(self) -> Expr:
        """The worker of instance i."""
        shifted = Expr.var(INSTANCE) + self.rotation
        return shifted if self.instances + self.rotation <= self.workers else shifted % self.workers

    @property
    def most_tiles(self) -> int:
        return -(-self.tiles // self.instances)

    def loads(self) -> np.ndarray:
        """Tiles of each worker."""
        bounds = np.arange(self.instances + 1) * self.tiles // self.instances
        result = np.zeros(self.workers, np.int64)
        np.add.at(
            result, (np.arange(self.instances) + self.rotation) % self.workers, np.diff(bounds)
        )
        return result


def worker_counts(most: int) -> range:
    """Numbers of workers among which to look for the best one: up to 3 % fewer than there can be.

    With still fewer, what workers compute counts as well, and their latencies.
    """
    return range(most - most // 32, most + 1)


class Balance:
    """Streamed bytes of each worker so far, to give each phase the rotation that evens them out.

    A worker with one tile more than the others makes all of them wait, in every layer; with rotated
    remainders each worker's stream is equally long, and the copies run ahead over the difference.
    """

    def __init__(self, workers: int) -> None:
        self.bytes = np.zeros(workers, np.int64)

    def add(self, placement: Placement, tile_bytes: int) -> None:
        self.bytes += placement.loads() * tile_bytes

    @property
    def cost(self) -> int:
        """Bytes that memory could deliver to all workers until the busiest one has its own.

        All workers have equally much in flight, so memory serves them equally; a worker with more
        to stream than others makes them wait. On 132 workers, 256 tiles make 124 of them stream two
        and 8 one, which costs 264; with 128 they cost 256.
        """
        return len(self.bytes) * int(self.bytes.max())

    def place(self, placement: Placement, tile_bytes: int) -> Placement:
        """The placement with the rotation that leaves the smallest sum of squares; adds it."""
        base = placement.loads() * tile_bytes
        workers = len(self.bytes)
        turned = np.stack([np.roll(base, r) for r in range(workers)])
        rotation = int(np.argmin(((turned + self.bytes).astype(np.float64) ** 2).sum(1)))
        best = Placement(placement.tiles, placement.instances, workers, rotation)
        self.add(best, tile_bytes)
        return best
