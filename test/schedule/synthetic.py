"""A schedule with the structure of a lowered Llama model, of any size, without the lowering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amk.schedule import Expr, ScheduleTable, TableBuilder


@dataclass(frozen=True)
class Shape:
    """Sizes of a model: heads of `head` elements, `kv` of them for keys and values."""

    layers: int = 30
    workers: int = 132
    hidden: int = 576
    heads: int = 9
    kv: int = 3
    head: int = 64
    inner: int = 1536
    context: int = 2048

    @property
    def splits(self) -> int:
        """Attention splits per key/value head."""
        return self.workers // self.kv


TINY = Shape(2, 4, 32, 4, 2, 8, 64, 12)
SMOLLM2 = Shape()
LLAMA_1B = Shape(16, 132, 2048, 32, 8, 64, 8192, 2048)
LLAMA_70B = Shape(80, 132, 8192, 64, 8, 128, 28672, 2048)


def lowering(shape: Shape, counters: bool = False) -> ScheduleTable:
    """One decode step; with `counters` the products of a layer meet at counters, not packets."""
    return _Lowering(shape, counters).build()


class _Lowering:
    def __init__(self, shape: Shape, counters: bool) -> None:
        self.s = shape
        self.counters = counters
        self.b = TableBuilder(shape.workers, None)
        b, s = self.b, shape
        self.pos = b.scalar("pos", 0, s.context)
        self.all = np.arange(s.workers)
        self.queue = b.queues(self.all)
        uses = s.layers + 1

        def vector(name: str, length: int, count: int) -> int:
            return b.buffer(name, (length,), 8, packet=not counters, uses=count)

        self.x = vector("x", s.hidden, uses)
        self.q = vector("q", s.heads * s.head, s.layers)
        self.o = vector("o", s.heads * s.head, s.layers)
        self.h1 = vector("h1", s.hidden, s.layers)
        self.act = vector("act", s.inner, s.layers)
        self.k = vector("k", s.kv * s.head, s.layers)
        self.v = vector("v", s.kv * s.head, s.layers)
        self.partial = b.buffer(
            "partial", (s.heads, s.splits, s.head + 2), 8, packet=not counters, uses=s.layers
        )
        rows = -(-s.context // s.splits)
        cache = (s.layers, s.kv, s.splits, rows, s.head)
        self.caches = [b.buffer(n, cache, 4, "state", initial=True) for n in ("kc", "vc")]
        self.residual = b.buffer(
            "residual", (s.workers, -(-s.hidden // s.workers) + 8), 4, "state", initial=True,
            space="shared",
        )  # fmt: skip
        self.token = b.buffer("token", (s.workers, 1), 4, "state", initial=True, space="shared")
        self.weights = {
            name: b.buffer(name, (s.layers, out, into), 2, "constant")
            for name, out, into in (
                ("wqkv", (s.heads + 2 * s.kv) * s.head, s.hidden),
                ("wo", s.hidden, s.heads * s.head),
                ("wgu", 2 * s.inner, s.hidden),
                ("wdown", s.hidden, s.inner),
            )
        }
        self.best = b.buffer("best", (s.workers,), 8, packet=True, uses=1)
        self.stop = b.buffer("stop", (1,), 8, packet=True, uses=1)
        self.use = 0
        self.barrier: int | None = None
        self.total = 0

    def rows(self, length: int, count: int | None = None, unit: int = 8):
        """Rows [lo, hi) of each of `count` instances, in whole units."""
        count = self.s.workers if count is None else count
        blocks = -(-length // unit)
        i = np.arange(count)
        lo, hi = unit * (i * blocks // count), unit * ((i + 1) * blocks // count)
        return np.minimum(lo, length), np.minimum(hi, length)

    def phase(self, name: str, layer: int, queue=None, index=None) -> np.ndarray:
        queue = self.queue if queue is None else queue
        columns = [np.arange(len(queue))] if index is None else index
        tasks = self.b.tasks(self.b.origin(name, "model.mlir:1:1"), queue, [layer, *columns])
        if self.counters:
            if self.barrier is not None:
                self.b.waits(tasks, self.barrier, self.total)
            self.barrier = self.b.counter(f"{name}{layer}")
            self.b.signals(tasks, self.barrier)
            self.total = len(tasks)
        return tasks

    def touch(self, tasks, buffer, write, lo, hi, use, **more) -> None:
        self.b.access(tasks, buffer, write, lo, hi, use=-1 if self.counters else use, **more)

    def build(self) -> ScheduleTable:
        s, b = self.s, self.b
        zero = np.zeros(s.workers, np.int64)
        embed = self.phase("embed", 0)
        b.read(embed, self.token, [self.all, 0], [self.all + 1, 1])
        lo, hi = self.rows(s.hidden, unit=1)
        self.touch(embed, self.x, True, [lo], [hi], 0)
        b.write(embed, self.residual, [self.all, 0], [self.all + 1, hi - lo])
        for layer in range(s.layers):
            self.layer(layer)
        head = self.phase("lm_head", s.layers)
        self.touch(head, self.x, False, [zero], [zero + s.hidden], s.layers)
        b.write(head, self.best, [self.all], [self.all + 1], use=0)
        poll = b.tasks(b.origin("stop"), b.queue(0))
        b.write(poll, self.stop, [0], [1], use=0)
        select = self.phase("select", s.layers)
        b.read(select, self.best, [zero], [zero + s.workers], use=0)
        b.read(select, self.stop, [zero], [zero + 1], use=0)
        b.write(select, self.token, [self.all, 0], [self.all + 1, 1])
        return b.build()

    def product(self, name: str, layer: int, weight: str, into: int, source: int, use: int):
        tasks = self.phase(name, layer)
        zero = np.zeros(len(tasks), np.int64)
        self.touch(tasks, source, False, [zero], [zero + into], use)
        return tasks

    def layer(self, layer: int) -> None:
        s, b = self.s, self.b
        every = self.all
        qkv = self.product("qkv", layer, "wqkv", s.hidden, self.x, layer)
        lo, hi = self.rows((s.heads + 2 * s.kv) * s.head)
        b.read(qkv, self.weights["wqkv"], [layer, lo, 0], [layer + 1, hi, s.hidden])
        edges = np.array([0, s.heads * s.head, (s.heads + s.kv) * s.head])
        for number, buffer in enumerate((self.q, self.k, self.v)):
            length = (s.heads if number == 0 else s.kv) * s.head
            first = np.clip(lo - edges[number], 0, length)
            last = np.clip(hi - edges[number], 0, length)
            some = first < last
            self.touch(qkv[some], buffer, True, [first[some]], [last[some]], layer)
        self.attention(layer)
        combine = self.phase("combine", layer)
        lo, hi = self.rows(s.heads * s.head, unit=4)
        zero, some = np.zeros(s.workers, np.int64), lo < hi
        self.touch(
            combine[some], self.partial, False, [(lo // s.head)[some], zero[some], zero[some]],
            [(-(-hi // s.head))[some], zero[some] + s.splits, zero[some] + s.head + 2], layer,
        )  # fmt: skip
        self.touch(combine[some], self.o, True, [lo[some]], [hi[some]], layer)
        for name, weight, source, into, target, use in (
            ("o_proj", "wo", self.o, s.heads * s.head, self.h1, layer),
            ("gate_up", "wgu", self.h1, s.hidden, self.act, layer),
            ("down", "wdown", self.act, s.inner, self.x, layer + 1),
        ):
            tasks = self.product(name, layer, weight, into, source, layer)
            lo, hi = self.rows(s.inner if name == "gate_up" else s.hidden)
            scale = 2 if name == "gate_up" else 1
            b.read(
                tasks, self.weights[weight], [layer, lo * scale, 0], [layer + 1, hi * scale, into]
            )
            some = lo < hi
            self.touch(tasks[some], target, True, [lo[some]], [hi[some]], use)
            if name != "gate_up":
                own = [every[some], 0], [every[some] + 1, (hi - lo)[some]]
                b.read(tasks[some], self.residual, *own)
                b.write(tasks[some], self.residual, *own)

    def attention(self, layer: int) -> None:
        s, b = self.s, self.b
        h, i = (a.ravel() for a in np.meshgrid(np.arange(s.kv), np.arange(s.splits), indexing="ij"))
        queue = self.queue[: len(h)]
        tasks = self.phase("attention", layer, queue, [h, i])
        group = s.heads // s.kv
        self.touch(tasks, self.q, False, [h * group * s.head], [(h + 1) * group * s.head], layer)
        own = (self.pos - Expr.var("i")) % s.splits
        index = {"i": i}
        row = self.pos // s.splits
        for fresh, cache in zip((self.k, self.v), self.caches, strict=True):
            self.touch(
                tasks, fresh, False, [h * s.head], [(h + 1) * s.head], layer, guard=own, index=index
            )
            b.write(
                tasks, cache, [layer, h, i, row, 0], [layer + 1, h + 1, i + 1, row + 1, s.head],
                guard=own, index=index,
            )  # fmt: skip
            rows = (self.pos + s.splits - 1 - Expr.var("i")) // s.splits
            b.read(
                tasks, cache, [layer, h, i, 0, 0], [layer + 1, h + 1, i + 1, rows, s.head],
                index=index,
            )  # fmt: skip
        self.touch(
            tasks,
            self.partial,
            True,
            [h * group, i, 0],
            [(h + 1) * group, i + 1, s.head + 2],
            layer,
        )
