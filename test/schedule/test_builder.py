"""The vectorised table builder."""

from __future__ import annotations

import numpy as np

from amk.schedule import Expr, TableBuilder


def test_blocks_expressions_and_names() -> None:
    b = TableBuilder(workers=3, iterations=None)
    pos = b.scalar("pos", 0, 10)
    i = Expr.var("i")
    cache = b.buffer("cache", (3, 4, 8), 4, "state", initial=True)
    done = b.counter("done")
    n = np.arange(3)
    queues = b.queues(n)
    family = b.origin("attention", "a.mlir:3:5")
    first = b.tasks(family, queues, [7, n])
    b.write(
        first,
        cache,
        [i, pos // 3, 0],
        [i + 1, pos // 3 + 1, 8],
        guard=(pos - i) % 3,
        index={"i": n},
    )
    b.read(first, cache, [n, 0, 0], [n + 1, (pos + 2 - i) // 3, 8], index={"i": n})
    b.signals(first, done, 2)
    second = b.tasks(b.origin("end"), b.single_queues(1))
    b.waits(second, done, 6)
    table = b.build()
    assert table.n_tasks == 4
    assert table.task_name(1) == "attention[7, 1]"
    assert table.task_name(3) == "end"
    assert table.task_location(0) == "a.mlir:3:5"
    assert table.task_location(3) == ""
    assert table.box_text(0) == "cache[0:1, pos floordiv 3:pos floordiv 3 + 1, 0:8]"
    assert table.box_text(4) == "cache[1:2, 0:(pos + 1) floordiv 3, 0:8]"
    assert [str(table.expressions[g]) for g in table.access_guard[:3]] == [
        "pos mod 3",
        "(pos + 2) mod 3",
        "(pos + 1) mod 3",
    ]
    assert list(table.signal_amount) == [2, 2, 2]
    assert list(table.task_queue) == [0, 1, 2, 3]


def test_accesses_that_never_happen_are_dropped() -> None:
    b = TableBuilder(workers=1)
    a = b.buffer("a", (4,), 4)
    tasks = b.tasks(b.origin("t"), b.queue(0), [np.arange(4)])
    b.write(tasks, a, [0], [1], guard=Expr.var("i") % 2, index={"i": np.arange(4)})
    table = b.build()
    assert list(table.access_task) == [0, 2]
    assert list(table.access_guard) == [-1, -1]
