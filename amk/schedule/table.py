"""`ScheduleTable`: the one normal form of a schedule, a struct of numpy arrays.

Families, explicit tasks and dense tables are all expanded into this form; the verifier, the
interpreter and the read-back of printed files see nothing else.  `builder.TableBuilder` fills it.

What the columns mean (docs/verifier.md has the whole model of execution):

* A task belongs to one queue and runs after every earlier task (smaller task number) of that
  queue.  It waits for its conditions, reads, writes, then signals.  The table is the body of a
  loop of `iterations` iterations (`None`: any number).
* `wait counter c >= t` in iteration e means `c >= e * S + t`, where S is the sum of all amounts
  that one iteration signals to c; `t <= S`, and `t <= 0` is back-pressure with lag.
* An access touches the half-open box `[lo, hi)` of a buffer, one pair of bounds per dimension.
  It happens iff its guard and its task's guard are 0 (no guard: always).  A task whose guard is
  not 0 still waits and signals; it only touches nothing.
* On a packet buffer an access has a `use` in `[0, uses)`: a write publishes that use of every
  element in its box, and a read waits until that use of every element was published in the same
  iteration.  At most one task writes a use of an element per iteration.
* A run-time scalar starts anywhere in `[lo, hi)` and advances by `step` each iteration; the loop
  ends at the latest before a scalar would leave its range.  The variable `iter` is the number of
  the iteration in the launch, from 0.
* `scratch` is undefined at the start of every iteration; `state` and `output` keep their contents
  between iterations; `input` and `constant` are defined and read-only; `initial` buffers hold data
  at the start of the launch.
* A `shared` buffer lives in the workers' shared memory: its first dimension is the worker, and a
  task touches only the slab of its own worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from amk.schedule.expr import Expr

COMPUTE = "compute"
STREAM = "stream"
SINGLE = "single"
BUFFER_KINDS = ("input", "constant", "state", "scratch", "output")
SPACES = ("global", "shared", "host")
ITERATION = "iter"
"""The variable that stands for the number of the iteration in bounds and guards."""


@dataclass(frozen=True)
class Queue:
    """An in-order agent: `worker` (-1 for a queue of its own) and its `agent`."""

    worker: int
    agent: str = COMPUTE

    def __str__(self) -> str:
        if self.agent == SINGLE:
            return "a queue of its own"
        return f"worker {self.worker}" + (" (stream)" if self.agent == STREAM else "")


@dataclass(frozen=True)
class Scalar:
    """A run-time scalar: it starts in `[lo, hi)` and advances by `step` each iteration."""

    name: str
    lo: int
    hi: int
    step: int = 1


@dataclass(frozen=True)
class Buffer:
    """A buffer of `shape` elements of `item_bytes` bytes in row-major order.

    `arena` and `offset` (bytes) place it in memory that several buffers share; without an arena
    it has memory of its own.  `uses` counts the uses of each packet slot in one iteration.
    """

    name: str
    shape: tuple[int, ...]
    item_bytes: int
    kind: str = "scratch"
    arena: str | None = None
    offset: int = 0
    initial: bool = False
    space: str = "global"
    packet: bool = False
    uses: int = 1
    location: str = ""

    @property
    def size(self) -> int:
        """The size in bytes."""
        return math.prod(self.shape) * self.item_bytes


@dataclass(frozen=True)
class Origin:
    """Where tasks come from: the name of a family or task, and `file:line:col` if known."""

    name: str
    location: str = ""


def _integers(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int32)


@dataclass(frozen=True, eq=False)
class ScheduleTable:
    """A schedule in normal form; the arrays are columns and must not be written to.

    T tasks, W waits, S signals, A accesses; R is the largest rank of a buffer, K the largest
    number of family indices.  Unused trailing dimensions of a box are `[0, 1)`, unused trailing
    indices are -1.  A bound is `access_lo + value of the expression access_lo_expr` (-1: none).
    """

    name: str
    workers: int
    iterations: int | None
    queues: tuple[Queue, ...]
    scalars: tuple[Scalar, ...]
    buffers: tuple[Buffer, ...]
    counters: tuple[Origin, ...]
    origins: tuple[Origin, ...]
    expressions: tuple[Expr, ...] = ()
    task_queue: np.ndarray = field(default_factory=lambda: _integers(0))  # [T] i32
    task_origin: np.ndarray = field(default_factory=lambda: _integers(0))  # [T] i32
    task_index: np.ndarray = field(default_factory=lambda: _integers(0, 0))  # [T, K] i32
    task_guard: np.ndarray = field(default_factory=lambda: _integers(0))  # [T] i32 expression
    wait_task: np.ndarray = field(default_factory=lambda: _integers(0))  # [W] i32
    wait_counter: np.ndarray = field(default_factory=lambda: _integers(0))  # [W] i32
    wait_threshold: np.ndarray = field(default_factory=lambda: _integers(0))  # [W] i64
    signal_task: np.ndarray = field(default_factory=lambda: _integers(0))  # [S] i32
    signal_counter: np.ndarray = field(default_factory=lambda: _integers(0))  # [S] i32
    signal_amount: np.ndarray = field(default_factory=lambda: _integers(0))  # [S] i64
    access_task: np.ndarray = field(default_factory=lambda: _integers(0))  # [A] i32
    access_buffer: np.ndarray = field(default_factory=lambda: _integers(0))  # [A] i32
    access_write: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # [A]
    access_lo: np.ndarray = field(default_factory=lambda: _integers(0, 0))  # [A, R] i64
    access_hi: np.ndarray = field(default_factory=lambda: _integers(0, 0))  # [A, R] i64
    access_lo_expr: np.ndarray = field(default_factory=lambda: _integers(0, 0))  # [A, R] i32
    access_hi_expr: np.ndarray = field(default_factory=lambda: _integers(0, 0))  # [A, R] i32
    access_guard: np.ndarray = field(default_factory=lambda: _integers(0))  # [A] i32 expression
    access_use: np.ndarray = field(default_factory=lambda: _integers(0))  # [A] i32, -1: plain
    access_rank: np.ndarray = field(default_factory=lambda: _integers(0))  # [A] i32 dims given

    @property
    def n_tasks(self) -> int:
        """The number of tasks in one iteration."""
        return len(self.task_queue)

    def task_name(self, task: int) -> str:
        """The task in family and index terms, for example `qkv[3, 17]`."""
        index = [int(i) for i in self.task_index[task] if i >= 0]
        name = self.origins[self.task_origin[task]].name
        return f"{name}[{', '.join(map(str, index))}]" if index else name

    def task_location(self, task: int) -> str:
        """`file:line:col` of the IR op that the task comes from, or an empty string."""
        return self.origins[self.task_origin[task]].location

    def box_text(self, access: int) -> str:
        """The region of an access as it was declared, for example `q[0:8, pos:pos + 1]`."""
        buffer = self.buffers[self.access_buffer[access]]
        parts = [
            f"{self._bound(self.access_lo, self.access_lo_expr, access, d)}:"
            f"{self._bound(self.access_hi, self.access_hi_expr, access, d)}"
            for d in range(int(self.access_rank[access]))
        ]
        return f"{buffer.name}[{', '.join(parts)}]"

    def _bound(self, constant: np.ndarray, expr: np.ndarray, access: int, dim: int) -> str:
        value = Expr.const(int(constant[access, dim]))
        number = int(expr[access, dim])
        return str(value if number < 0 else value + self.expressions[number])
